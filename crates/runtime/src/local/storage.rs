//! Where the writable folders of sandboxes lie: the pool with its quotas, or plain folders of a user.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use mayfly_core::id::SandboxId;
use mayfly_core::ports::runtime::DiskGuard;
use mayfly_core::{Error, Kind, Result};

use super::folders::Folders;
use super::pool::{Headroom, Part, Pool, Reserve};
use super::spec::Spec;

/// One of the two.
#[derive(Debug)]
pub(super) enum Storage {
    /// Subvolumes with hard limits.
    Pool(Box<Pool>),
    /// Folders without limits.
    Folders(Folders),
}

impl Storage {
    /// The pool, where there is one.
    pub(super) fn pool(&self) -> Option<&Pool> {
        match self {
            Self::Pool(pool) => Some(pool),
            Self::Folders(_) => None,
        }
    }

    /// Makes the folder of a sandbox with its limit and description, or completes what is there.
    pub(super) fn make(&self, id: SandboxId, disk_bytes: u64, spec: &Spec) -> Result<()> {
        match self {
            Self::Pool(pool) => spec.save(pool.make_sandbox(id, disk_bytes)?.fd()),
            Self::Folders(folders) => folders.make(id, &spec.checked()?),
        }
    }

    /// Makes a folder with nothing in it, where folders have limits and keep other users' files.
    pub(super) fn empty(&self, id: SandboxId, disk_bytes: u64) -> Result<OwnedFd> {
        match self {
            Self::Pool(pool) => pool.make_empty(id, disk_bytes),
            Self::Folders(_) => Err(Error::unsupported(
                "restoring sandboxes in the isolation profile `unprivileged`",
            )
            .with_hint("restore as root, where sandboxes lie in a pool")),
        }
    }

    /// [`Kind::NotFound`] when the sandbox has no folder.
    pub(super) fn has(&self, id: SandboxId) -> Result<()> {
        match self {
            Self::Pool(pool) => pool.open_sandbox(id).map(drop),
            Self::Folders(folders) => folders.has(id),
        }
    }

    /// The description of a sandbox.
    pub(super) fn spec(&self, id: SandboxId) -> Result<Spec> {
        match self {
            Self::Pool(pool) => Spec::load(pool.open_sandbox(id)?.fd()),
            Self::Folders(folders) => Spec::read(&folders.spec(id)?.unwrap_or_default()),
        }
    }

    /// Whether the making of a sandbox's folder was cut off before anything could run in it.
    fn is_half_made(&self, id: SandboxId) -> bool {
        match self {
            Self::Pool(pool) => {
                pool.open_sandbox(id).is_ok_and(|folder| Spec::is_missing(folder.fd()))
            }
            Self::Folders(folders) => matches!(folders.spec(id), Ok(None)),
        }
    }

    /// Deletes folders whose making was cut off.
    pub(super) fn remove_half_made(&self) -> Result<()> {
        for id in self.sandboxes()? {
            if self.is_half_made(id) {
                self.remove(id)?;
            }
        }
        Ok(())
    }

    /// The folder of a sandbox's logs.
    pub(super) fn logs(&self, id: SandboxId) -> Result<OwnedFd> {
        match self {
            Self::Pool(pool) => pool.open_sandbox(id)?.part(Part::Logs),
            Self::Folders(folders) => folders.logs(id),
        }
    }

    /// Notes that commands of a sandbox that ended are over, also those that nobody could report.
    pub(super) fn end_logs(&self, id: SandboxId) {
        if let Ok(folder) = self.logs(id) {
            super::logs::end_all(&folder);
            super::stay::end_all(&folder);
        }
    }

    /// Deletes the folder of a sandbox, also when it is gone or half made.
    pub(super) fn remove(&self, id: SandboxId) -> Result<()> {
        match self {
            Self::Pool(pool) => pool.remove_sandbox(id),
            Self::Folders(folders) => folders.remove(id),
        }
    }

    /// Sandboxes that have a folder, in no order.
    pub(super) fn sandboxes(&self) -> Result<Vec<SandboxId>> {
        match self {
            Self::Pool(pool) => pool.sandboxes(),
            Self::Folders(folders) => folders.sandboxes(),
        }
    }

    /// Bytes that a sandbox has written; `None` where nothing counts them.
    pub(super) fn usage(&self, id: SandboxId) -> Result<Option<u64>> {
        match self {
            Self::Pool(pool) => pool.sandbox_usage(id).map(Some),
            Self::Folders(folders) => folders.has(id).map(|()| None),
        }
    }

    /// Lets the files of a stopped sandbox take less room, for at most this long; nothing without a pool.
    pub(super) fn compress(&self, id: SandboxId, most: Duration) -> Result<()> {
        if let Self::Pool(pool) = self {
            let done = pool.compress_sandbox(id, most)?;
            tracing::debug!(sandbox = %id, ?done, "archived");
        }
        Ok(())
    }

    /// Changes the limit of a sandbox, where there are limits.
    pub(super) fn resize(&self, id: SandboxId, disk_bytes: u64) -> Result<()> {
        match self {
            Self::Pool(pool) => pool.resize_sandbox(id, disk_bytes),
            Self::Folders(folders) => folders.has(id),
        }
    }

    /// Whether there is room for one more sandbox; [`Kind::Unavailable`] says what is short.
    pub(super) fn admit(&self, data: &OwnedFd, reserve: Reserve) -> Result<()> {
        match self {
            Self::Pool(pool) => Headroom::measure(pool.root(), data)?.admit(reserve),
            Self::Folders(_) => Headroom::of_disk(data.as_fd())?.admit(reserve),
        }
    }

    /// Lowers limits of sandboxes of these sizes in a nearly full pool, and restores them; nothing without
    /// limits.
    pub(super) fn guard(&self, sizes: &[(SandboxId, u64)]) -> Result<Vec<DiskGuard>> {
        match self {
            Self::Pool(pool) => pool.guard(Headroom::measure(pool.root(), pool.root())?, sizes),
            Self::Folders(_) => Ok(Vec::new()),
        }
    }

    /// Asks for the space of deleted sandboxes, where that comes late; whether there may be more.
    pub(super) fn reclaim(&self) -> Result<bool> {
        match self {
            Self::Pool(pool) => pool.reclaim().map(|_| true),
            Self::Folders(_) => Ok(false),
        }
    }
}

/// Whether an error says that there is none.
pub(super) fn is_absent(found: &Result<()>) -> bool {
    found.as_ref().is_err_and(|error| error.kind() == Kind::NotFound)
}
