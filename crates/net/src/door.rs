//! How the network process gets into the network of a sandbox, to make sockets there.
//!
//! As root of the host it goes there and comes back. An ordinary user's process has rights over the network only
//! inside the user namespace that the network belongs to, and from there is no way back: a child goes, and hands
//! the sockets that it made to its parent. Nothing comes from what runs in the sandbox.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::namespace::{self, SetUpError, visit};
use crate::sys::{self, Result};

/// Sockets that are made at once, at most.
const MAX_SOCKETS: usize = 4;

/// The way in.
#[derive(Debug)]
pub(crate) enum Door {
    /// There and back to this namespace.
    Root(OwnedFd),
    /// By a child.
    User,
}

impl Door {
    /// The way in that the caller has.
    pub(crate) fn of_caller() -> io::Result<Self> {
        if sys::is_root() { namespace::current().map(Self::Root) } else { Ok(Self::User) }
    }

    /// Makes sockets inside of a namespace.
    pub(crate) fn make(
        &self,
        namespace: BorrowedFd<'_>,
        act: impl FnOnce() -> std::result::Result<Vec<OwnedFd>, SetUpError>,
    ) -> std::result::Result<Vec<OwnedFd>, SetUpError> {
        let made = match self {
            Self::Root(home) => visit(home.as_fd(), namespace, act),
            Self::User => by_child(namespace, act),
        };
        made.map_err(SetUpError::at("enter the namespace"))?
    }
}

/// Takes this process, which must have one thread, into a network through the user namespace that it belongs to.
pub(crate) fn one_way(network: BorrowedFd<'_>) -> Result<()> {
    let owner = sys::owner_of(network)?;
    sys::join_user(owner.as_fd())?;
    sys::join_network(network)
}

/// What a child says: zeros and the number of its sockets, which follow one per packet; or the error that it met.
fn by_child(
    namespace: BorrowedFd<'_>,
    act: impl FnOnce() -> std::result::Result<Vec<OwnedFd>, SetUpError>,
) -> Result<std::result::Result<Vec<OwnedFd>, SetUpError>> {
    let (ours, theirs) = sys::packet_pair()?;
    sys::in_child(|| {
        let entered = one_way(namespace);
        let made = entered.map_err(SetUpError::at("enter the namespace")).and_then(|()| act());
        let _ = match made {
            Ok(sockets) => sockets.iter().try_for_each(|socket| {
                sys::send_packet(theirs.as_fd(), b"socket", Some(socket.as_fd()))
            }),
            Err(error) => sys::send_packet(theirs.as_fd(), &error.encode(), None),
        };
    })?;
    drop(theirs);
    let mut sockets = Vec::new();
    let mut buffer = [0_u8; 256];
    for _ in 0..=MAX_SOCKETS {
        match sys::receive_packet(ours.as_fd(), &mut buffer)? {
            (0, _) => break,
            (_, found) if !found.is_empty() => sockets.extend(found),
            (length, _) => return Ok(Err(SetUpError::decode(&buffer[..length]))),
        }
    }
    Ok(Ok(sockets))
}
