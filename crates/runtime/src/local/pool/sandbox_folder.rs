//! The folder of one sandbox: a subvolume under its id with the writable parts of its root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mayfly_core::id::SandboxId;
use mayfly_core::{Kind, Result};
use rustix::fs::{Mode, OFlags};

use super::{Pool, ensure_mode, failed, make_folder, subvolume};

/// A part of a sandbox's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Upper folder of the root.
    Upper,
    /// Overlay's work folder of the root.
    Work,
    /// Upper folder of `/usr`, for the `host` image.
    UsrUpper,
    /// Overlay's work folder of `/usr`.
    UsrWork,
    /// Output of its processes; never visible inside.
    Logs,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Upper, Self::Work, Self::UsrUpper, Self::UsrWork, Self::Logs];

    /// Name of the folder.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upper => "upper",
            Self::Work => "work",
            Self::UsrUpper => "usr-upper",
            Self::UsrWork => "usr-work",
            Self::Logs => "logs",
        }
    }

    const fn mode(self) -> u32 {
        match self {
            Self::Logs => 0o700,
            _ => 0o755,
        }
    }
}

/// An open sandbox folder.
#[derive(Debug)]
pub struct SandboxFolder {
    fd: OwnedFd,
}

impl SandboxFolder {
    /// The subvolume's root.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens a part of it.
    pub fn part(&self, part: Part) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, part.name(), flags, Mode::empty())
            .map_err(|error| failed("open a part of a sandbox's folder")(error.into()))
    }
}

impl Pool {
    /// Makes a sandbox's folder with a hard limit, or completes one that a crash left half made.
    /// When it fails, nothing of a new folder stays.
    pub fn make_sandbox(&self, id: SandboxId, disk_bytes: u64) -> Result<SandboxFolder> {
        let name = id.to_string();
        let parent = self.sandboxes.as_fd();
        let made = match subvolume::create(parent, &name, disk_bytes) {
            Ok(()) => true,
            Err(error) if error.kind() == Kind::Conflict => false,
            Err(error) => return Err(error),
        };
        let filled = self.fill(&name, (!made).then_some(disk_bytes));
        if filled.is_err() && made {
            let _ = subvolume::delete(parent, &name);
        }
        filled
    }

    fn fill(&self, name: &str, limit: Option<u64>) -> Result<SandboxFolder> {
        let fd = subvolume::open(self.sandboxes.as_fd(), name)?;
        if let Some(bytes) = limit {
            subvolume::set_limit(fd.as_fd(), bytes)?;
        }
        ensure_mode(self.sandboxes.as_fd(), name, 0o755)
            .map_err(failed("set the mode of a sandbox's folder"))?;
        for part in Part::ALL {
            make_folder(fd.as_fd(), part.name(), part.mode())
                .map_err(failed("make a part of a sandbox's folder"))?;
        }
        Ok(SandboxFolder { fd })
    }

    /// Makes a sandbox's folder with nothing in it. [`Kind::Conflict`] when it is there.
    pub fn make_empty(&self, id: SandboxId, disk_bytes: u64) -> Result<OwnedFd> {
        let name = id.to_string();
        subvolume::create(self.sandboxes.as_fd(), &name, disk_bytes)?;
        subvolume::open(self.sandboxes.as_fd(), &name)
    }

    /// Opens a sandbox's folder; [`Kind::NotFound`] when there is none.
    pub fn open_sandbox(&self, id: SandboxId) -> Result<SandboxFolder> {
        let fd = subvolume::open(self.sandboxes.as_fd(), &id.to_string())?;
        Ok(SandboxFolder { fd })
    }

    /// Changes the disk limit of a sandbox, also while it runs.
    pub fn resize_sandbox(&self, id: SandboxId, disk_bytes: u64) -> Result<()> {
        subvolume::set_limit(self.open_sandbox(id)?.fd(), disk_bytes)
    }

    /// Copies a sandbox's folder as it is on disk now, copy-on-write, with a limit of its own.
    pub fn fork_sandbox(&self, from: SandboxId, to: SandboxId, disk_bytes: u64) -> Result<()> {
        let source = self.open_sandbox(from)?;
        subvolume::snapshot(source.fd(), self.sandboxes.as_fd(), &to.to_string(), disk_bytes)
    }

    /// Deletes a sandbox's folder, also when it is gone already or half made.
    pub fn remove_sandbox(&self, id: SandboxId) -> Result<()> {
        subvolume::delete(self.sandboxes.as_fd(), &id.to_string())
    }

    /// Bytes that a sandbox has written and not deleted, metadata included.
    pub fn sandbox_usage(&self, id: SandboxId) -> Result<u64> {
        subvolume::usage(self, self.open_sandbox(id)?.fd())
    }

    /// Sandboxes that have a folder, in no order; names that are no id are passed over.
    pub fn sandboxes(&self) -> Result<Vec<SandboxId>> {
        let names = subvolume::names(self.sandboxes.as_fd())?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}
