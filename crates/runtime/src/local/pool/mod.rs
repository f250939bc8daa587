//! The storage pool: a btrfs file system whose subvolumes are the sandboxes' writable folders.
//!
//! It is the data directory itself where that is btrfs, else one sparse file on a loop device, mounted
//! only in the forkserver's private mount namespace. The server reaches it by the descriptor of its root
//! folder, so everything here works relative to descriptors.
//!
//! ```text
//! layers/            immutable layers, plain folders
//! captures/<id>/     one read-only subvolume each: a sandbox's folder as it was
//! volumes/<id>/      one subvolume each, hard quota: files that sandboxes share
//! sandboxes/<id>/    one subvolume each, hard quota: upper work usr-upper usr-work logs
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use mayfly_core::{Error, Kind, Result};
use rustix::fs::{AtFlags, Mode, OFlags};

use crate::sys::btrfs;

mod capture;
mod compress;
pub mod guard;
pub mod loop_file;
mod place;
pub mod probe;
pub mod sandbox_folder;
pub mod subvolume;
mod volume_folder;

pub use compress::Compressed;
pub use guard::{Headroom, Reserve};
pub use place::{Place, place, requirements};
pub use sandbox_folder::{Part, SandboxFolder};

/// Data argument of the pool's mount. Compression stays off: a quota counts stored bytes, and sandboxes
/// expect it to count theirs. Archived ones are compressed, see [`Pool::compress_sandbox`].
pub const MOUNT_DATA: &str = "discard=async,commit=30";

/// How the kernel counts what each subvolume uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaMode {
    /// Simple quotas (kernel 6.7): constant cost; space is charged to the subvolume that wrote it.
    Simple,
    /// Ordinary quota groups: exact sharing, slower deletion of large subvolumes.
    Groups,
}

/// An open pool with quotas on.
#[derive(Debug)]
pub struct Pool {
    root: OwnedFd,
    sandboxes: OwnedFd,
    captures: OwnedFd,
    volumes: OwnedFd,
    layers: OwnedFd,
    mode: QuotaMode,
    counters: PathBuf,
    /// Whether limits may stand below their sandboxes' sizes; an earlier server may have left them so.
    tightened: AtomicBool,
}

impl Pool {
    /// Takes over the descriptor of the pool's root folder: turns quotas on and makes the folders.
    ///
    /// Idempotent. [`Kind::Unavailable`] when the folder is not on btrfs or its quotas cannot be turned on.
    pub fn open(root: OwnedFd) -> Result<Self> {
        if !subvolume::is_btrfs(&root)? {
            return Err(unavailable("the storage pool's folder is not on btrfs").with_hint(
                "mount the pool before it is opened, or use tmpfs for writable folders",
            ));
        }
        let id = btrfs::file_system_id(&root).map_err(failed("read the pool's identity"))?;
        let counters = PathBuf::from(format!("/sys/fs/btrfs/{id}/qgroups"));
        let mode = enable_quota(&root, &counters)?;
        let sandboxes = folder(root.as_fd(), "sandboxes")?;
        let captures = folder(root.as_fd(), "captures")?;
        let volumes = folder(root.as_fd(), "volumes")?;
        let layers = folder(root.as_fd(), "layers")?;
        let tightened = AtomicBool::new(true);
        Ok(Self { root, sandboxes, captures, volumes, layers, mode, counters, tightened })
    }

    /// The pool's root folder.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The folder of layers.
    pub fn layers(&self) -> BorrowedFd<'_> {
        self.layers.as_fd()
    }

    /// How use is counted.
    pub fn quota_mode(&self) -> QuotaMode {
        self.mode
    }

    /// Makes the kernel free deleted subvolumes now instead of at its next commit (30 s), and removes
    /// the quota groups that older kernels leave behind. Returns how many groups were removed.
    ///
    /// It writes everything back, so call it from a background task after deletions, not per deletion;
    /// what is still being freed goes with a later call.
    pub fn reclaim(&self) -> Result<usize> {
        // Listed before the sync: whatever is being made at this moment is whole after it.
        let groups = subvolume::quota_groups(&self.counters)?;
        btrfs::sync(&self.root).map_err(failed("write the storage pool back"))?;
        Ok(subvolume::drop_dead_groups(self.root.as_fd(), &self.counters, &groups))
    }
}

/// Turns quotas on, simple ones where the kernel has them; one that is already on is kept.
fn enable_quota(root: &OwnedFd, counters: &std::path::Path) -> Result<QuotaMode> {
    let mode = || std::fs::read_to_string(counters.join("mode")).unwrap_or_default();
    match mode().trim() {
        "squota" => return Ok(QuotaMode::Simple),
        "qgroup" => return Ok(QuotaMode::Groups),
        _ => {}
    }
    if btrfs::enable_quota(root, true).is_ok() {
        return Ok(QuotaMode::Simple);
    }
    btrfs::enable_quota(root, false).map_err(|error| {
        unavailable("quotas cannot be turned on in the storage pool, so no disk limit would hold")
            .with_hint("run as root on Linux 6.1 or newer with btrfs quotas")
            .with_source(error)
    })?;
    Ok(QuotaMode::Groups)
}

/// Makes the folder if needed, with mode 0755 whatever the umask, and opens it.
fn folder(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    make_folder(parent, name, 0o755).map_err(failed("make a folder of the pool"))?;
    folder_there(parent, name)
}

/// Opens a folder.
fn folder_there(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
        .map_err(|error| failed("open a folder of the pool")(error.into()))
}

fn make_folder(parent: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    ensure_mode(parent, name, mode)
}

/// The process's umask may be strict, but these folders become `/` inside sandboxes. Looking first is
/// cheaper than a change, which is a write to the file system.
fn ensure_mode(parent: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<()> {
    let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if found.st_mode & 0o7777 == mode {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(mode);
    rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).map_err(io::Error::from)
}

fn unavailable(message: impl Into<String>) -> Error {
    Error::new(Kind::Unavailable, message)
}

/// Turns an error of the pool into the platform's: a full pool is a limit, the rest is ours.
fn failed(verb: &str) -> impl FnOnce(io::Error) -> Error + '_ {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            unavailable(format!("no space left in the storage pool to {verb}"))
                .with_hint("delete sandboxes or give the pool more space")
                .with_source(error)
        }
        _ => Error::internal(format!("failed to {verb}"), error),
    }
}

#[cfg(test)]
mod tests;
