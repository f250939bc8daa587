//! Captures: read-only snapshots of sandboxes' folders.

use std::os::fd::{AsFd, OwnedFd};

use mayfly_core::Result;
use mayfly_core::id::{CaptureId, SandboxId};

use super::{Pool, subvolume};

impl Pool {
    /// Takes a read-only snapshot of a sandbox's folder; what was written before is in it.
    pub fn capture(&self, from: SandboxId, to: CaptureId) -> Result<()> {
        let source = self.open_sandbox(from)?;
        subvolume::capture(source.fd(), self.captures.as_fd(), &to.to_string())
    }

    /// Opens a capture; [`mayfly_core::Kind::NotFound`] when there is none.
    pub fn open_capture(&self, id: CaptureId) -> Result<OwnedFd> {
        subvolume::open(self.captures.as_fd(), &id.to_string())
    }

    /// Deletes a capture; one that is gone is a success.
    pub fn discard(&self, id: CaptureId) -> Result<()> {
        subvolume::delete(self.captures.as_fd(), &id.to_string())
    }

    /// All captures, in no order.
    pub fn captures(&self) -> Result<Vec<CaptureId>> {
        let names = subvolume::names(self.captures.as_fd())?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}
