//! One mounted hierarchy with our parent group, and its files by slot and name.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use mayfly_core::{Error, Kind, Result};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};

use super::Controller;

/// Longest control file that is read, bytes: the lists of processes may be long.
const READ_MAX: u64 = 4 << 20;

/// Which of the kernel's two interfaces a hierarchy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// A hierarchy in use.
#[derive(Debug)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    pub(super) controllers: Vec<Controller>,
    /// Our parent group.
    pub(super) path: PathBuf,
    pub(super) parent: OwnedFd,
}

impl Hierarchy {
    /// Opens the parent group that was made at `path`.
    pub(super) fn open(
        version: Version,
        controllers: Vec<Controller>,
        path: PathBuf,
    ) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(&path, flags, Mode::empty())?;
        Ok(Self { version, controllers, path, parent })
    }

    fn open_file(&self, slot: u32, file: &str, flags: OFlags) -> io::Result<File> {
        let name = format!("{slot}/{file}");
        let fd = rustix::fs::openat(&self.parent, name, flags | OFlags::CLOEXEC, Mode::empty())?;
        Ok(File::from(fd))
    }

    /// Writes a control file in one call, as the kernel demands.
    pub(super) fn write(&self, slot: u32, file: &str, value: &str) -> io::Result<()> {
        self.open_file(slot, file, OFlags::WRONLY)?.write_all(value.as_bytes())
    }

    /// Reads a control file.
    pub(super) fn read(&self, slot: u32, file: &str) -> io::Result<String> {
        let mut text = String::new();
        self.open_file(slot, file, OFlags::RDONLY)?.take(READ_MAX).read_to_string(&mut text)?;
        Ok(text)
    }

    pub(super) fn open_group(&self, slot: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.parent, slot.to_string(), flags, Mode::empty())?)
    }

    pub(super) fn open_procs(&self, slot: u32) -> io::Result<OwnedFd> {
        self.open_file(slot, "cgroup.procs", OFlags::WRONLY).map(OwnedFd::from)
    }

    /// Numbers of the groups below our parent.
    pub(super) fn slots(&self) -> Result<Vec<u32>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listing = rustix::fs::openat(&self.parent, ".", flags, Mode::empty())
            .and_then(Dir::new)
            .map_err(|error| self.refusal("list groups").with_source(io::Error::from(error)))?;
        let number = |name: &std::ffi::CStr| name.to_str().ok()?.parse().ok();
        Ok(listing.flatten().filter_map(|entry| number(entry.file_name())).collect())
    }

    /// Removes our parent group; one that is gone is a success.
    pub(super) fn remove_parent(&self) -> Result<()> {
        match rustix::fs::unlinkat(rustix::fs::CWD, &self.path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(self.refusal("remove the group").with_source(io::Error::from(error))),
        }
    }

    /// The error of a kernel that refuses something in this hierarchy.
    pub(super) fn refusal(&self, verb: &str) -> Error {
        let path = self.path.display();
        Error::new(Kind::Unavailable, format!("the kernel refused to {verb} below {path}"))
            .with_hint(
                "run `mayfly doctor`; it says what the cgroup hierarchies of this host allow",
            )
    }
}
