//! A file that appears under its name only when it is complete.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::{Access, AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use rustix::path::DecInt;

use super::fault::Fault;
use super::view::{Place, View, stat_name};

/// Mode of a new file.
const NEW: u32 = 0o644;
/// Names tried for a temporary link, should others have taken them.
const NAMES: u32 = 16;

/// Content on its way, in the folder of its destination. Where the file system can, it has no name, so
/// that a killed server leaves nothing; dropped, it is gone.
#[derive(Debug)]
pub(super) struct Upload {
    place: Place,
    file: OwnedFd,
    temporary: Option<Vec<u8>>,
}

impl Upload {
    /// Checks the destination, makes its parents and a file without a name there.
    pub(super) fn start(view: &View<'_>, full: &[u8]) -> Result<Self, Fault> {
        let place = view.destination(full)?;
        if let Some(stat) = &place.stat {
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => view.on_all(&[&place.folder.stat, stat], || {
                    let flags = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW;
                    rustix::fs::accessat(&place.folder.fd, &place.name, Access::WRITE_OK, flags)
                })?,
                FileType::Directory => return Err(Fault::IsFolder),
                _ => return Err(Fault::NotPlain),
            }
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let folder = &place.folder;
        let nameless = view.on(&folder.stat, || {
            let mode = Mode::from_raw_mode(NEW);
            rustix::fs::openat(&folder.fd, ".", flags | OFlags::TMPFILE, mode)
        });
        match nameless {
            Ok(file) => Ok(Self { place, file, temporary: None }),
            // The answers of file systems that cannot.
            Err(Fault::IsFolder | Fault::Os(Errno::OPNOTSUPP | Errno::INVAL)) => {
                Self::start_named(view, place)
            }
            Err(other) => Err(other),
        }
    }

    fn start_named(view: &View<'_>, place: Place) -> Result<Self, Fault> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
        let (file, name) = with_fresh_name(|name| {
            view.on(&place.folder.stat, || {
                rustix::fs::openat(&place.folder.fd, name, flags, Mode::from_raw_mode(NEW))
            })
        })?;
        Ok(Self { place, file, temporary: Some(name) })
    }

    /// Appends; all or an error.
    pub(super) fn write(&self, chunks: &[Bytes]) -> Result<(), Fault> {
        for chunk in chunks {
            let mut rest = chunk.as_ref();
            while !rest.is_empty() {
                match rustix::io::write(&self.file, rest) {
                    Ok(0) => return Err(Errno::IO.into()),
                    Ok(written) => rest = &rest[written..],
                    Err(Errno::INTR) => {}
                    Err(other) => return Err(other.into()),
                }
            }
        }
        Ok(())
    }

    /// Gives the new file the owner of another.
    pub(super) fn own_like(&self, view: &View<'_>, other: &Stat) -> Result<(), Fault> {
        let mine = rustix::fs::fstat(&self.file)?;
        if (mine.st_uid, mine.st_gid) == (other.st_uid, other.st_gid) {
            return Ok(());
        }
        view.on_all(&[&mine, other], || {
            let (uid, gid) = (Uid::from_raw(other.st_uid), Gid::from_raw(other.st_gid));
            rustix::fs::fchown(&self.file, Some(uid), Some(gid))
        })
    }

    /// Puts the file in its place. A replaced file's permission bits are kept, without set-id bits, as
    /// an ordinary write would.
    pub(super) fn commit(mut self, view: &View<'_>) -> Result<Stat, Fault> {
        let mode = self.place.stat.as_ref().map_or(NEW, |stat| stat.st_mode & 0o777);
        let made = rustix::fs::fstat(&self.file)?;
        if made.st_mode & 0o7777 != mode {
            view.on(&made, || rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode)))?;
        }
        if self.place.stat.is_none() && self.temporary.is_none() {
            match self.link(view, &self.place.name) {
                Err(Fault::Exists) => {}
                linked => {
                    linked?;
                    return Ok(rustix::fs::fstat(&self.file)?);
                }
            }
        }
        if self.temporary.is_none() {
            let ((), name) = with_fresh_name(|name| self.link(view, name))?;
            self.temporary = Some(name);
        }
        if let Some(temporary) = &self.temporary {
            let folder = &self.place.folder;
            // The name may have become a folder meanwhile, whose error would name a conflict.
            if stat_name(folder.fd.as_fd(), &self.place.name)?
                .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
            {
                return Err(Fault::IsFolder);
            }
            view.on(&folder.stat, || {
                rustix::fs::renameat(&folder.fd, temporary, &folder.fd, &self.place.name)
            })?;
        }
        self.temporary = None;
        Ok(rustix::fs::fstat(&self.file)?)
    }

    fn link(&self, view: &View<'_>, name: &[u8]) -> Result<(), Fault> {
        let folder = &self.place.folder;
        view.on(&folder.stat, || {
            let nameless = DecInt::from_fd(&self.file);
            rustix::fs::linkat(
                view.descriptors,
                nameless,
                &folder.fd,
                name,
                AtFlags::SYMLINK_FOLLOW,
            )
        })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(name) = self.temporary.take() {
            // Nobody is left to tell; the name says what it is.
            let _ = rustix::fs::unlinkat(&self.place.folder.fd, name, AtFlags::empty());
        }
    }
}

fn with_fresh_name<T>(
    mut make: impl FnMut(&[u8]) -> Result<T, Fault>,
) -> Result<(T, Vec<u8>), Fault> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..NAMES {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".mayfly-upload-{:x}{:08x}-{count:x}", now.tv_sec, now.tv_nsec);
        match make(name.as_bytes()) {
            Err(Fault::Exists) => {}
            made => return Ok((made?, name.into_bytes())),
        }
    }
    Err(Fault::Restless)
}
