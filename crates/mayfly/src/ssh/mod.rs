//! The SSH gateway: one sandbox per connection, opened by a token that is the user name.
//!
//! ```text
//! connection -> door (token, channels) -> program (shell, command)  -> processes that stay
//!                                      -> sftp                      -> file port
//!                                      -> forward (-L, -R)          -> ports inside
//! ```
//! Nothing is dialled or bound outside the sandbox's own network, and no agent, display or socket of the visitor
//! is let in.

mod door;
mod forward;
mod host_key;
mod program;
mod sftp;
mod started;

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use mayfly_core::Result;
use mayfly_core::access::SshAccess;
use mayfly_core::ports::clock::Clock;
use mayfly_core::ports::store::Store;
use mayfly_core::time::Timestamp;
use mayfly_engine::Engine;
use russh::server::Config;
use russh::{Disconnect, MethodKind, MethodSet, SshId};
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::http::Rate;
use door::{Door, Pass};

pub(crate) use host_key::public as host_key;

/// Connections at once.
const CONNECTIONS: usize = 256;
/// Longest time until a visitor has shown a token.
const LOGIN: Duration = Duration::from_secs(30);
/// Between two looks whether a connection may go on.
const LOOK: Duration = Duration::from_secs(5);
/// Failed attempts per second and address, sustained; the burst is twice that.
const ATTEMPTS: u32 = 2;
/// Delay of an answer to a wrong token.
const REJECTION: Duration = Duration::from_millis(500);
/// A silent visitor is asked for a sign of life this often, and given up after three without one.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long a connection may take to end once it was told to.
const FAREWELL: Duration = Duration::from_secs(2);
/// How every token begins.
const PREFIX: &str = "mf_ssh_";

/// What connections work with.
#[derive(Debug)]
pub(crate) struct Gateway {
    engine: Engine,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    attempts: Rate,
    config: Arc<Config>,
}

impl Gateway {
    /// A gateway whose host key follows from the master key.
    pub(crate) fn new(
        engine: Engine,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        master: &[u8; 32],
    ) -> Self {
        use MethodKind::{KeyboardInteractive, None, Password, PublicKey};
        let config = Config {
            server_id: SshId::Standard("SSH-2.0-mayfly".into()),
            methods: MethodSet::from(&[None, PublicKey, Password, KeyboardInteractive][..]),
            auth_rejection_time: REJECTION,
            auth_rejection_time_initial: Some(REJECTION),
            keys: vec![host_key::private(master)],
            max_auth_attempts: 4,
            inactivity_timeout: Option::None,
            keepalive_interval: Some(KEEPALIVE),
            nodelay: true,
            ..Config::default()
        };
        let (attempts, config) = (Rate::new(ATTEMPTS), Arc::new(config));
        Self { engine, store, clock, attempts, config }
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// The leave that a token gives now.
    async fn leave(&self, hash: &[u8; 32]) -> Result<Option<SshAccess>> {
        let leave = self.store.ssh_access(hash).await?;
        let now = self.now();
        Ok(leave.filter(|leave| leave.expires_at > now && self.engine.owner(leave.sandbox).is_ok()))
    }

    /// Whether a connection that was let in may go on.
    async fn still(&self, pass: &Pass) -> bool {
        // A store that does not answer takes nothing back.
        let leave = self.leave(&pass.hash).await.map_or(true, |leave| leave.is_some());
        leave && self.engine.is_started(pass.sandbox)
    }
}

/// A new token: 160 random bits.
pub(crate) fn token(random: [u8; 20]) -> String {
    use std::fmt::Write as _;
    random.iter().fold(PREFIX.to_owned(), |mut token, byte| {
        let _ = write!(token, "{byte:02x}");
        token
    })
}

/// What is stored of a token.
pub(crate) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Serves connections until `stop` turns true, then ends them.
pub(crate) async fn serve(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stop) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, from)) => {
                let visit = connection(stream, from, Arc::clone(&gateway), stop.clone());
                connections.spawn(async move {
                    visit.await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Mostly no descriptors left; trying again at once would spin.
                tracing::warn!(%error, "an SSH connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn told(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever could tell is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    gateway: Arc<Gateway>,
    mut stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    // Ends the connection also when the other end does not play along.
    let Ok(wire) = stream.as_fd().try_clone_to_owned() else { return };
    let (door, passed) = Door::new(Arc::clone(&gateway), from.ip().to_string());
    let config = Arc::clone(&gateway.config);
    let session =
        tokio::time::timeout(LOGIN, russh::server::run_stream(config, stream, door)).await;
    let Ok(Ok(session)) = session else { return };
    let handle = session.handle();
    let until = tokio::time::Instant::now() + LOGIN;
    tokio::pin!(session);
    let why = loop {
        let pause = if passed.get().is_some() { LOOK } else { LOGIN / 10 };
        tokio::select! {
            ended = &mut session => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an SSH connection ended early");
                }
                return;
            }
            () = told(&mut stop) => break "the server stops",
            () = tokio::time::sleep(pause) => {}
        }
        match passed.get() {
            Some(pass) if !gateway.still(pass).await => {
                break "the token is over, or the sandbox stopped";
            }
            None if tokio::time::Instant::now() > until => break "no token was shown",
            _ => {}
        }
    };
    let farewell = handle.disconnect(Disconnect::ByApplication, why.to_owned(), String::new());
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
    if tokio::time::timeout(FAREWELL, &mut session).await.is_err() {
        let _ = rustix::net::shutdown(&wire, rustix::net::Shutdown::Both);
        let _ = tokio::time::timeout(FAREWELL, session).await;
    }
}
