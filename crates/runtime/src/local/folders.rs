//! Sandboxes' folders on the data directory's own file system, for a server without root.
//!
//! ```text
//! sandboxes/<id>/        the server's own: spec, and what process 1 takes over or makes when it starts:
//!   logs                            the sandbox root's, open to the server's group
//!   upper work usr-upper usr-work   the sandbox root's, an id that is not the server's
//! sandboxes/.gone-<id>/  being deleted, by a process in the outer user namespace
//! ```
//! Nothing limits what a sandbox writes here; that is said where limits are asked for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use mayfly_core::id::SandboxId;
use mayfly_core::{Error, Result};
use rustix::fs::{Dir, Mode, OFlags};

use super::forkserver::Forkserver;
use super::pool::Part;

/// Name of a sandbox's description in its folder, and of one that is being written.
const SPEC: &str = "spec";
const UNFINISHED_SPEC: &str = "spec.new";
/// Start of the names of folders that are being deleted.
const GONE: &str = ".gone-";
/// Longest description that is read, bytes.
const MAX_SPEC: u64 = 64 << 10;

/// The folder of sandboxes' folders.
#[derive(Debug)]
pub(super) struct Folders {
    folder: OwnedFd,
    path: PathBuf,
    forkserver: Arc<Forkserver>,
}

impl Folders {
    /// Opens the folder at a path, which must be closed to other users, and deletes what an earlier server
    /// was deleting.
    pub(super) fn open(path: PathBuf, forkserver: Arc<Forkserver>) -> Result<Self> {
        let folder = File::open(&path).map_err(failed("open the folder of sandboxes"))?.into();
        let folders = Self { folder, path, forkserver };
        for name in folders.names()?.iter().filter(|name| name.starts_with(GONE)) {
            folders.forkserver.delete(&folders.path.join(name))?;
        }
        Ok(folders)
    }

    /// Makes the folder of a sandbox, or completes one that is there, and writes its description.
    pub(super) fn make(&self, id: SandboxId, spec: &[u8]) -> Result<()> {
        let name = id.to_string();
        make_folder(&self.folder, &name)?;
        let folder = self.inner(&name)?;
        // There from the first moment, so that logs can be asked for; process 1 takes it over.
        make_folder(&folder, Part::Logs.name())?;
        let write = || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            let file = rustix::fs::openat(&folder, UNFINISHED_SPEC, flags, mode)?;
            File::from(file).write_all(spec)?;
            Ok(rustix::fs::renameat(&folder, UNFINISHED_SPEC, &folder, SPEC)?)
        };
        write().map_err(failed("write the description of a sandbox"))
    }

    /// The description of a sandbox; `None` when it was never written.
    pub(super) fn spec(&self, id: SandboxId) -> Result<Option<Vec<u8>>> {
        let folder = self.inner(&id.to_string())?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&folder, SPEC, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            file => file.map_err(|error| failed("open a sandbox's description")(error.into()))?,
        };
        let mut bytes = Vec::new();
        File::from(file)
            .take(MAX_SPEC)
            .read_to_end(&mut bytes)
            .map_err(failed("read a sandbox's description"))?;
        Ok(Some(bytes))
    }

    /// The folder of a sandbox's logs.
    pub(super) fn logs(&self, id: SandboxId) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.inner(&id.to_string())?, Part::Logs.name(), flags, Mode::empty())
            .map_err(|error| failed("open a sandbox's logs")(error.into()))
    }

    /// Whether a sandbox has a folder.
    pub(super) fn has(&self, id: SandboxId) -> Result<()> {
        self.inner(&id.to_string()).map(drop)
    }

    /// Deletes the folder of a sandbox, also when it is gone or half made. Its processes are gone.
    pub(super) fn remove(&self, id: SandboxId) -> Result<()> {
        let gone = format!("{GONE}{id}");
        match rustix::fs::renameat(&self.folder, id.to_string(), &self.folder, &gone) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(failed("take a sandbox's folder away")(error.into())),
        }
        // Also what an earlier call could not finish.
        self.forkserver.delete(&self.path.join(gone))
    }

    /// Sandboxes that have a folder, in no order; other names are passed over.
    pub(super) fn sandboxes(&self) -> Result<Vec<SandboxId>> {
        Ok(self.names()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn names(&self) -> Result<Vec<String>> {
        let listing = Dir::read_from(&self.folder)
            .map_err(|error| failed("list the folder of sandboxes")(error.into()))?;
        Ok(listing
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
            .filter(|name| name != "." && name != "..")
            .collect())
    }

    fn inner(&self, name: &str) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.folder, name, flags, Mode::empty()).map_err(|error| match error {
            rustix::io::Errno::NOENT => {
                Error::not_found(format!("sandbox {name} has no folder here"))
            }
            error => failed("open the folder of a sandbox")(error.into()),
        })
    }
}

fn make_folder(parent: &OwnedFd, name: &str) -> Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(failed("make a folder of a sandbox")(error.into())),
    }
}

fn failed(verb: &str) -> impl FnOnce(io::Error) -> Error + '_ {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::new(
            mayfly_core::Kind::Unavailable,
            format!("no space left on the disk of the data directory to {verb}"),
        )
        .with_hint("delete sandboxes or free disk space")
        .with_source(error),
        _ => Error::internal(format!("failed to {verb}"), error),
    }
}
