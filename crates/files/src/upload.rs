//! A file that appears under its name only when it is complete.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Access, AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid};
use rustix::io::Errno;
use rustix::path::DecInt;

use crate::fault::Fault;
use crate::refusal::Refusal;
use crate::view::{Node, Place, View, stat_name};

/// Mode of a new file.
const NEW: u32 = 0o644;
/// Largest file that is replaced by a swap.
const SWAPPED: i64 = 1 << 20;
/// Seconds without a change after which an upload's temporary file was left by a killed server.
const LEFT: i64 = 600;
/// Names tried for a temporary link, should others have taken them.
const NAMES: u32 = 16;

/// Content on its way, in the folder of its destination. Where the file system can, it has no name, so
/// that a killed server leaves nothing; dropped, it is gone.
#[derive(Debug)]
pub struct Upload {
    place: Place,
    file: OwnedFd,
    temporary: Option<Vec<u8>>,
}

impl Upload {
    /// Checks the destination, makes its parents and a file without a name there.
    ///
    /// When all content is at hand (`is_whole`) and replaces a small file, the new one has a name at
    /// once, which the swap needs anyway, for the short time until then.
    pub(crate) fn start(view: &View<'_>, full: &[u8], is_whole: bool) -> Result<Self, Fault> {
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
        if is_whole && place.stat.as_ref().is_some_and(is_swapped) {
            return Self::start_named(view, place);
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
        // Never readable by more than the file it replaces.
        let mode = Mode::from_raw_mode(final_mode(&place));
        let (file, name) = with_fresh_name(view, &place, |name| {
            view.on(&place.folder.stat, || rustix::fs::openat(&place.folder.fd, name, flags, mode))
        })?;
        Ok(Self { place, file, temporary: Some(name) })
    }

    /// Appends; all or an error, which names the path given here.
    pub fn append(&self, chunks: &[impl AsRef<[u8]>], path: &str) -> Result<(), Refusal> {
        self.write(chunks).map_err(|fault| fault.at(path))
    }

    /// Puts the file in its place; an error names the path given here.
    pub fn finish(self, view: &View<'_>, path: &str) -> Result<(), Refusal> {
        self.commit(view).map_err(|fault| fault.at(path))
    }

    /// The file that the content goes to.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn write(&self, chunks: &[impl AsRef<[u8]>]) -> Result<(), Fault> {
        write_all(&self.file, chunks)
    }

    /// Gives the new file the owner of another.
    pub(crate) fn own_like(&self, view: &View<'_>, other: &Stat) -> Result<(), Fault> {
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
    pub(crate) fn commit(mut self, view: &View<'_>) -> Result<(), Fault> {
        let mode = final_mode(&self.place);
        let made = rustix::fs::fstat(&self.file)?;
        if made.st_mode & 0o7777 != mode {
            view.on(&made, || rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode)))?;
        }
        if self.place.stat.is_none() && self.temporary.is_none() {
            match self.link(view, &self.place.name) {
                Err(Fault::Exists) => {}
                linked => return linked,
            }
        }
        if self.temporary.is_none() {
            let ((), name) = with_fresh_name(view, &self.place, |name| self.link(view, name))?;
            self.temporary = Some(name);
        }
        if let Some(temporary) = &self.temporary {
            let Place { folder, name, .. } = &self.place;
            if !self.swap(view, temporary)? {
                // The name may have become a folder meanwhile, whose error would name a conflict.
                let now = stat_name(folder.fd.as_fd(), name)?;
                let kind = now.map(|stat| FileType::from_raw_mode(stat.st_mode));
                if kind == Some(FileType::Directory) {
                    return Err(Fault::IsFolder);
                }
                let rename = || rustix::fs::renameat(&folder.fd, temporary, &folder.fd, name);
                view.on(&folder.stat, rename)?;
            }
        }
        self.temporary = None;
        Ok(())
    }

    /// Swaps the file with the one that it replaces, and deletes that one. `false` where only a rename
    /// does.
    ///
    /// Readers see either file whole, as with a rename. But a rename over a file makes btrfs begin to
    /// write the new content to disk, which takes longer than all the rest.
    fn swap(&self, view: &View<'_>, temporary: &[u8]) -> Result<bool, Fault> {
        let Place { folder, name, stat } = &self.place;
        if !stat.as_ref().is_some_and(is_swapped) {
            return Ok(false);
        }
        let exchange = || {
            let flags = RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(&folder.fd, temporary, &folder.fd, name, flags)
        };
        match view.on(&folder.stat, exchange) {
            Err(Fault::Os(Errno::INVAL | Errno::NOENT | Errno::NOSYS)) => return Ok(false),
            exchanged => exchanged?,
        }
        let delete = || rustix::fs::unlinkat(&folder.fd, temporary, AtFlags::empty());
        match view.on(&folder.stat, delete) {
            // The name had become a folder's meanwhile.
            Err(Fault::IsFolder) => {
                view.on(&folder.stat, exchange)?;
                Err(Fault::IsFolder)
            }
            Err(Fault::Os(Errno::NOENT)) => Ok(true),
            deleted => deleted.map(|()| true),
        }
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

/// Appends to a file; all or an error, which names the path given here.
pub fn append(file: impl AsFd, chunks: &[impl AsRef<[u8]>], path: &str) -> Result<(), Refusal> {
    write_all(file, chunks).map_err(|fault| fault.at(path))
}

fn write_all(file: impl AsFd, chunks: &[impl AsRef<[u8]>]) -> Result<(), Fault> {
    for chunk in chunks {
        let mut rest = chunk.as_ref();
        while !rest.is_empty() {
            match rustix::io::write(&file, rest) {
                Ok(0) => return Err(Errno::IO.into()),
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(other) => return Err(other.into()),
            }
        }
    }
    Ok(())
}

fn final_mode(place: &Place) -> u32 {
    place.stat.as_ref().map_or(NEW, |stat| stat.st_mode & 0o777)
}

/// Whether a file is replaced by a swap. A file of the image is copied up for that, hence the bound.
fn is_swapped(stat: &Stat) -> bool {
    let kind = FileType::from_raw_mode(stat.st_mode);
    kind == FileType::RegularFile && stat.st_size <= SWAPPED
}

/// Makes something under a name that nobody has, beside its destination.
///
/// The first name tried is always the same for one destination, so that what a killed server left there
/// is found by the next upload to it.
fn with_fresh_name<T>(
    view: &View<'_>,
    place: &Place,
    mut make: impl FnMut(&[u8]) -> Result<T, Fault>,
) -> Result<(T, Vec<u8>), Fault> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let usual = format!(".mayfly-upload-{:016x}", hash(&place.name)).into_bytes();
    match make(&usual) {
        Err(Fault::Exists) => {}
        made => return Ok((made?, usual)),
    }
    if is_left(&place.folder, &usual)? {
        let folder = &place.folder;
        // Whoever else deletes it at the same time, or has the name by now, is as good.
        let _ =
            view.on(&folder.stat, || rustix::fs::unlinkat(&folder.fd, &usual, AtFlags::empty()));
    }
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

/// Whether a name is no file of an upload under way any more.
fn is_left(folder: &Node, name: &[u8]) -> Result<bool, Fault> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let stat = stat_name(folder.fd.as_fd(), name)?;
    Ok(stat.is_some_and(|stat| now.tv_sec.saturating_sub(stat.st_ctime) > LEFT))
}

/// FNV-1a: the same name must give the same number in every version and process.
fn hash(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
