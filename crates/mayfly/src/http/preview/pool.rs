//! Connections into sandboxes: a few are kept open between requests, and their number is bounded.
//!
//! What is kept ends with the service inside, since its end closes it: nothing here outlives a stopped sandbox.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use mayfly_core::id::SandboxId;
use mayfly_core::time::Monotonic;
use mayfly_core::{Error, Kind, Result};
use mayfly_engine::Reach;
use tokio::net::TcpStream;

/// Kept per port.
const KEPT: usize = 16;
/// Kept in all.
const KEPT_IN_ALL: usize = 1024;
/// Longest that one is kept unused; services close theirs after 5 s and more.
const KEEP: Duration = Duration::from_secs(4);
/// Requests and connections under way to one sandbox at once, so that its visitors leave room for others'.
const GUESTS: usize = 1024;
/// The same over all sandboxes: each may hold two descriptors of the server.
const GUESTS_IN_ALL: usize = 4096;
/// Most bytes of the headers of an answer.
const HEADERS: usize = 256 << 10;

type Key = (SandboxId, u16);

/// Open connections that nobody uses at the moment, and who is under way.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    kept: Mutex<HashMap<Key, Vec<Kept>>>,
    guests: Arc<Mutex<Guests>>,
    /// Whether somebody looks after what is kept.
    sweeping: AtomicBool,
}

#[derive(Debug, Default)]
struct Guests {
    by_sandbox: HashMap<SandboxId, usize>,
    all: usize,
}

#[derive(Debug)]
struct Kept {
    sender: SendRequest<Body>,
    since: Monotonic,
}

/// A place among those under way to a sandbox.
#[derive(Debug)]
pub(crate) struct Guest {
    guests: Arc<Mutex<Guests>>,
    sandbox: SandboxId,
}

impl Pool {
    /// A place for one more request or connection.
    pub(crate) fn guest(&self, sandbox: SandboxId) -> Result<Guest> {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let count = guests.by_sandbox.get(&sandbox).copied().unwrap_or_default();
        if count >= GUESTS || guests.all >= GUESTS_IN_ALL {
            let busy = format!("too many requests are under way: {count} to sandbox {sandbox}");
            return Err(Error::new(Kind::Unavailable, busy).with_hint("try again"));
        }
        guests.by_sandbox.insert(sandbox, count + 1);
        guests.all += 1;
        Ok(Guest { guests: Arc::clone(&self.guests), sandbox })
    }

    /// One that was kept and seems to be open still.
    pub(crate) fn take(&self, key: Key, now: Monotonic) -> Option<SendRequest<Body>> {
        let mut kept = self.kept();
        let of_key = kept.get_mut(&key)?;
        let found = loop {
            match of_key.pop() {
                Some(one) if one.sender.is_closed() || now.since(one.since) > KEEP => {}
                found => break found,
            }
        };
        if of_key.is_empty() {
            kept.remove(&key);
        }
        found.map(|one| one.sender)
    }

    /// Keeps one for the next request; dropped where there are enough.
    pub(crate) fn give(&self, key: Key, sender: SendRequest<Body>, now: Monotonic) {
        let mut kept = self.kept();
        let all: usize = kept.values().map(Vec::len).sum();
        if all >= KEPT_IN_ALL {
            kept.clear();
        }
        let of_key = kept.entry(key).or_default();
        of_key.retain(|one| !one.sender.is_closed());
        if of_key.len() < KEPT {
            of_key.push(Kept { sender, since: now });
        }
    }

    /// Whether nobody looks after what is kept, so that the caller must; see [`Pool::sweep`].
    pub(crate) fn begin_sweeping(&self) -> bool {
        !self.sweeping.swap(true, Ordering::AcqRel)
    }

    /// Closes what was not used for long; whether any is left. Where none is, the caller's care ends.
    pub(crate) fn sweep(&self, now: Monotonic) -> bool {
        let mut kept = self.kept();
        kept.retain(|_, of_key| {
            of_key.retain(|one| !one.sender.is_closed() && now.since(one.since) <= KEEP);
            !of_key.is_empty()
        });
        // Under the lock: what is given after this finds nobody and brings its own.
        self.sweeping.store(!kept.is_empty(), Ordering::Release);
        !kept.is_empty()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Key, Vec<Kept>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        guests.all = guests.all.saturating_sub(1);
        match guests.by_sandbox.get_mut(&self.sandbox) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(guests.by_sandbox.remove(&self.sandbox)),
        }
    }
}

/// A new connection to a port inside, ready for a request.
pub(crate) async fn open(reach: &Reach, port: u16) -> Result<SendRequest<Body>> {
    let stream = stream(reach.connect(port).await?)?;
    let failed = |error| Error::internal("a connection into a sandbox broke off", error);
    let (sender, connection) = Builder::new()
        .max_buf_size(HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // Ends with the service inside, or with the last that holds its sender; failures arrive at the request.
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

/// A connection into a sandbox as the event loop's.
pub(crate) fn stream(socket: OwnedFd) -> Result<TcpStream> {
    TcpStream::from_std(socket.into())
        .map_err(|error| Error::internal("a connection into a sandbox cannot be watched", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r11_visitors_of_one_sandbox_leave_room_for_those_of_others() {
        let id = |n| SandboxId::from_uuid(uuid::Uuid::from_u128(n));
        let pool = Pool::default();
        let mut all: Vec<Guest> = (0..GUESTS).map(|_| pool.guest(id(1)).unwrap()).collect();
        assert_eq!(pool.guest(id(1)).unwrap_err().kind(), Kind::Unavailable);
        all.extend(
            (2..5).flat_map(|n| (0..GUESTS).map(move |_| n)).map(|n| pool.guest(id(n)).unwrap()),
        );
        assert_eq!(pool.guest(id(9)).unwrap_err().kind(), Kind::Unavailable, "over all");
        all.clear();
        assert!(pool.guest(id(1)).is_ok());
    }
}
