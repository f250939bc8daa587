//! Sockets in the networks of an ordinary user's sandboxes, made by the network program.
//!
//! One run per socket: it goes through the user namespace that the network belongs to, whichever server's that is,
//! and there is no way back from it.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use mayfly_core::{Error, Kind, Result};

use super::process::program;
use crate::local::forkserver::{PATIENCE, receive, status_pair};

/// The program, ready to be run.
#[derive(Debug)]
pub(in crate::local) struct Lender(OwnedFd);

impl Lender {
    /// Puts the program into memory.
    pub(in crate::local) fn new() -> Result<Self> {
        program().map(Self)
    }

    /// A TCP socket in a network that belongs to a user namespace of this user.
    pub(in crate::local) fn socket(&self, network: OwnedFd, six: bool) -> Result<OwnedFd> {
        let failed =
            |error| Error::internal("no socket could be made in a sandbox's network", error);
        let (ours, theirs) = status_pair(PATIENCE)?;
        let mut child = Command::new(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
            .args(["socket", if six { "6" } else { "4" }])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(File::from(network)))
            .stdout(Stdio::from(theirs))
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let received = receive(&ours);
        // It has answered, or is stuck.
        let _ = child.kill();
        let _ = child.wait();
        let (said, sockets) = received.map_err(failed)?;
        sockets.into_iter().next().ok_or_else(|| {
            let reason = String::from_utf8_lossy(&said).into_owned();
            Error::new(Kind::Unavailable, format!("no socket in a sandbox's network: {reason}"))
                .with_hint("run `mayfly doctor` to see which layer this host lacks")
        })
    }
}
