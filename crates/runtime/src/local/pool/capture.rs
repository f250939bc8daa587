//! Captures: read-only snapshots of sandboxes' folders.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mayfly_core::Result;
use mayfly_core::id::{CaptureId, SandboxId};
use mayfly_core::ports::runtime::Share;
use rustix::fs::AtFlags;

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

    /// What lies in the pool beside layers and the folders of sandboxes: one share per folder. What shares its data
    /// with a living sandbox is charged to that.
    pub fn shares(&self) -> Result<Vec<Share>> {
        let mut shares = Vec::new();
        for name in subvolume::names(self.root.as_fd())? {
            if matches!(name.as_str(), "sandboxes" | "layers") {
                continue;
            }
            let Ok(folder) = super::folder_there(self.root.as_fd(), &name) else { continue };
            let members = subvolume::names(folder.as_fd())?;
            let bytes = members.iter().map(|member| self.share_of(folder.as_fd(), member)).sum();
            let count = Some(u64::try_from(members.len()).unwrap_or(u64::MAX));
            shares.push(Share { name, count, bytes: Some(bytes) });
        }
        Ok(shares)
    }

    /// Bytes of a subvolume or a plain file; 0 of what went meanwhile.
    fn share_of(&self, folder: BorrowedFd<'_>, name: &str) -> u64 {
        let counted =
            subvolume::open(folder, name).and_then(|one| subvolume::usage(self, one.as_fd()));
        counted.unwrap_or_else(|_| {
            let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
            stat.map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
        })
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
