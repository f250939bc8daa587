//! One visitor: who is let in, and which channels.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use mayfly_core::id::SandboxId;
use mayfly_engine::Reach;
use russh::keys::Certificate;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelOpenFailure, MethodSet};
use tokio::task::AbortHandle;

use super::{Gateway, PREFIX, digest, forward, program};

/// Channels of one connection at once.
const CHANNELS: usize = 32;
/// Ports inside that one connection listens on.
const FORWARDS: usize = 16;
/// Longest user name that is looked at.
const LONGEST: usize = 128;

/// What a visitor has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    /// Of the token.
    pub(super) hash: [u8; 32],
    /// The one sandbox that it opens.
    pub(super) sandbox: SandboxId,
}

/// The visitor's side of the gateway. Its tasks end with it.
#[derive(Debug)]
pub(super) struct Door {
    gateway: Arc<Gateway>,
    from: String,
    passed: Arc<OnceLock<Pass>>,
    channels: Arc<AtomicUsize>,
    forwards: HashMap<u32, AbortHandle>,
}

/// A channel among those of its connection.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        for task in self.forwards.values() {
            task.abort();
        }
    }
}

impl Door {
    /// A visitor from an address; the second half learns who it is.
    pub(super) fn new(gateway: Arc<Gateway>, from: String) -> (Self, Arc<OnceLock<Pass>>) {
        let passed = Arc::new(OnceLock::new());
        let (channels, forwards) = (Arc::default(), HashMap::new());
        let door = Self { gateway, from, passed: Arc::clone(&passed), channels, forwards };
        (door, passed)
    }

    /// Judges a user name; how it came does not matter.
    async fn judge(&mut self, user: &str) -> Result<Auth, russh::Error> {
        let rejected = Auth::Reject {
            // No key or password would make it better, so nobody is asked for one.
            proceed_with_methods: Some(MethodSet::empty()),
            partial_success: false,
        };
        let now = self.gateway.clock.now().mono;
        if self.gateway.attempts.check(&self.from, now).is_err() {
            return Ok(rejected);
        }
        let looks_right = user.starts_with(PREFIX) && user.len() <= LONGEST;
        let hash = digest(user);
        let leave = if looks_right { self.gateway.leave(&hash).await } else { Ok(None) };
        match leave {
            Ok(Some(leave)) => {
                let pass = Pass { hash, sandbox: leave.sandbox };
                Ok(if *self.passed.get_or_init(|| pass) == pass { Auth::Accept } else { rejected })
            }
            Ok(None) => {
                // Only counted: the answer is a refusal already.
                let _ = self.gateway.attempts.take(&self.from, now);
                tracing::info!(
                    from = self.from,
                    "an SSH visitor without a valid token was refused"
                );
                Ok(rejected)
            }
            Err(error) => {
                tracing::warn!(%error, "an SSH token could not be judged");
                Ok(rejected)
            }
        }
    }

    /// The inside of the visitor's sandbox.
    fn reach(&self) -> mayfly_core::Result<Reach> {
        let pass = self.passed.get().ok_or_else(|| {
            mayfly_core::Error::new(mayfly_core::Kind::Unauthenticated, "no token was shown")
        })?;
        self.gateway.engine.enter(pass.sandbox)
    }

    fn place(&self) -> Option<Place> {
        let place = Place(Arc::clone(&self.channels));
        (self.channels.fetch_add(1, Ordering::AcqRel) < CHANNELS).then_some(place)
    }
}

impl Handler for Door {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, russh::Error> {
        self.judge(user).await
    }

    async fn auth_password(&mut self, user: &str, _: &str) -> Result<Auth, russh::Error> {
        self.judge(user).await
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        _: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        self.judge(user).await
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        _: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        self.judge(user).await
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        _: &Certificate,
    ) -> Result<Auth, russh::Error> {
        self.judge(user).await
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        _: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        self.judge(user).await
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        match self.place() {
            Some(place) => {
                reply.accept().await;
                tokio::spawn(program::serve(channel, session.handle(), self.reach(), place));
            }
            None => reply.reject(ChannelOpenFailure::ResourceShortage).await,
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        let (Ok(reach), Some(port)) = (self.reach(), forward::port(host, port)) else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        match self.place() {
            Some(place) => drop(tokio::spawn(forward::out(channel, reach, port, reply, place))),
            None => reply.reject(ChannelOpenFailure::ResourceShortage).await,
        }
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        let Ok(wanted) = u16::try_from(*port) else { return Ok(false) };
        if self.forwards.len() >= FORWARDS || !forward::may_bind(address) {
            return Ok(false);
        }
        let Ok(reach) = self.reach() else { return Ok(false) };
        let (channels, handle) = (Arc::clone(&self.channels), session.handle());
        let place = move || {
            let place = Place(Arc::clone(&channels));
            (channels.fetch_add(1, Ordering::AcqRel) < CHANNELS).then_some(place)
        };
        match forward::back(reach, address.to_owned(), wanted, handle, place).await {
            Ok((bound, task)) => {
                *port = bound.into();
                self.forwards.insert(bound.into(), task);
                Ok(true)
            }
            Err(error) => {
                tracing::debug!(%error, "a port inside could not be bound for an SSH visitor");
                Ok(false)
            }
        }
    }

    async fn cancel_tcpip_forward(
        &mut self,
        _: &str,
        port: u32,
        _: &mut Session,
    ) -> Result<bool, russh::Error> {
        let task = self.forwards.remove(&port);
        if let Some(task) = &task {
            task.abort();
        }
        Ok(task.is_some())
    }
}
