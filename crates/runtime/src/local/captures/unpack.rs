//! Tar members as a folder again, below one descriptor that no name leads out of.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use tar::{Entry, EntryType};

use super::member::{Facts, broken};
use super::pack::{MAX_DEPTH, MAX_PATH};

/// Longest path that the kernel takes at once.
const STEP: usize = 4000;
/// Bytes written at once.
const PIECE: usize = 1 << 20;
/// Attributes that are put back; others are the kernel's business or of another host.
const ATTRIBUTES: &[&[u8]] = &[
    b"user.",
    b"security.capability",
    b"system.posix_acl_",
    b"trusted.overlay.",
    b"trusted.mayfly.",
];

/// A folder that is being filled.
#[derive(Debug)]
pub struct Unpacker {
    root: OwnedFd,
    /// Folders under way, outermost first, whose times are set when all in them is there.
    open: Vec<(Vec<u8>, Facts)>,
    piece: Vec<u8>,
}

impl Unpacker {
    /// Fills an empty folder.
    pub fn new(root: OwnedFd) -> Self {
        Self { root, open: Vec::new(), piece: vec![0; PIECE] }
    }

    /// Puts one member at `path` below the root; the empty path is the root itself. `prefix` begins the names that
    /// hard links give.
    pub fn member(
        &mut self,
        path: &[u8],
        prefix: &[u8],
        entry: &mut Entry<'_, impl Read>,
    ) -> io::Result<()> {
        let facts = Facts::of(entry)?;
        let kind = entry.header().entry_type();
        self.leave(path)?;
        if path.is_empty() {
            if kind != EntryType::Directory {
                return Err(broken("a root that is no folder"));
            }
            apply(self.root.as_fd(), &facts)?;
            self.open.push((Vec::new(), facts));
            return Ok(());
        }
        check(path)?;
        let (parent, name) = split(path);
        let folder = self.reach(parent)?;
        match kind {
            EntryType::Directory => {
                rustix::fs::mkdirat(&folder, name, Mode::RWXU)?;
                let made = open_below(folder.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY)?;
                apply(made.as_fd(), &facts)?;
                self.open.push((path.to_vec(), facts));
                Ok(())
            }
            EntryType::Regular => self.file(folder.as_fd(), name, &facts, entry),
            EntryType::Link => {
                let target = entry.link_name_bytes().ok_or_else(|| broken("a link to nothing"))?;
                let target =
                    below(&target, prefix).ok_or_else(|| broken("a link that leads out"))?;
                check(target)?;
                let (from, first) = split(target);
                let from = self.reach(from)?;
                Ok(rustix::fs::linkat(&from, first, &folder, name, AtFlags::empty())?)
            }
            _ => node(folder.as_fd(), name, &facts, entry),
        }
    }

    /// Ends with the times of the folders that are still open.
    pub fn finish(mut self) -> io::Result<()> {
        while let Some(last) = self.open.pop() {
            self.touch(&last)?;
        }
        Ok(())
    }

    /// Sets the times of folders that `path` is not in.
    fn leave(&mut self, path: &[u8]) -> io::Result<()> {
        while let Some((folder, _)) = self.open.last() {
            if folder.is_empty() || below(path, folder).is_some_and(|rest| !rest.is_empty()) {
                return Ok(());
            }
            if let Some(last) = self.open.pop() {
                self.touch(&last)?;
            }
        }
        Ok(())
    }

    fn touch(&self, (path, facts): &(Vec<u8>, Facts)) -> io::Result<()> {
        let folder = self.reach(path)?;
        Ok(rustix::fs::futimens(&folder, &times(facts))?)
    }

    /// Opens a folder below the root, without following a link.
    fn reach(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut at = open_below(self.root.as_fd(), OsStr::from_bytes(b"."), flags)?;
        let mut rest = path;
        while !rest.is_empty() {
            let cut = if rest.len() <= STEP {
                rest.len()
            } else {
                rest[..STEP].iter().rposition(|byte| *byte == b'/').unwrap_or(STEP)
            };
            at = open_below(at.as_fd(), OsStr::from_bytes(&rest[..cut]), flags)?;
            rest = rest.get(cut + 1..).unwrap_or_default();
        }
        Ok(at)
    }

    fn file(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        facts: &Facts,
        entry: &mut Entry<'_, impl Read>,
    ) -> io::Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file =
            File::from(rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?);
        if let Some((size, extents)) = &facts.sparse {
            for extent in extents {
                file.seek(io::SeekFrom::Start(extent.offset))?;
                self.copy(&mut file, extent.length, entry)?;
            }
            file.set_len(*size)?;
        } else {
            self.copy(&mut file, entry.header().entry_size()?, entry)?;
        }
        apply(file.as_fd(), facts)?;
        Ok(rustix::fs::futimens(&file, &times(facts))?)
    }

    fn copy(&mut self, file: &mut File, length: u64, from: &mut impl Read) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let wanted = usize::try_from(left.min(PIECE as u64)).unwrap_or(PIECE);
            from.read_exact(&mut self.piece[..wanted])?;
            file.write_all(&self.piece[..wanted])?;
            left -= wanted as u64;
        }
        Ok(())
    }
}

/// A link, pipe or device.
fn node(
    folder: BorrowedFd<'_>,
    name: &OsStr,
    facts: &Facts,
    entry: &mut Entry<'_, impl Read>,
) -> io::Result<()> {
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Symlink => {
            let target = entry.link_name_bytes().ok_or_else(|| broken("a link to nothing"))?;
            rustix::fs::symlinkat(OsStr::from_bytes(&target), folder, name)?;
            return dress(folder, name, facts, false);
        }
        EntryType::Fifo => FileType::Fifo,
        // The only device that a sandbox can have: the overlay's mark of a deleted name.
        EntryType::Char
            if (header.device_major()?, header.device_minor()?) == (Some(0), Some(0)) =>
        {
            FileType::CharacterDevice
        }
        _ => return Err(broken("a member of a kind that no sandbox has")),
    };
    rustix::fs::mknodat(folder, name, kind, Mode::from_raw_mode(facts.mode), 0)?;
    dress(folder, name, facts, true)
}

/// Owner, rights and times of a name that cannot be opened.
fn dress(folder: BorrowedFd<'_>, name: &OsStr, facts: &Facts, has_mode: bool) -> io::Result<()> {
    let (uid, gid) = owner(facts);
    rustix::fs::chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if has_mode {
        rustix::fs::chmodat(folder, name, Mode::from_raw_mode(facts.mode), AtFlags::empty())?;
    }
    for (attribute, value) in put_back(facts) {
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        rustix::fs::lsetxattr(&path, attribute.as_slice(), value, XattrFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(folder, name, &times(facts), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Owner, rights and attributes of what is open; the owner first, since a change takes rights away.
fn apply(fd: BorrowedFd<'_>, facts: &Facts) -> io::Result<()> {
    let (uid, gid) = owner(facts);
    rustix::fs::fchown(fd, uid, gid)?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(facts.mode))?;
    for (name, value) in put_back(facts) {
        rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty())?;
    }
    Ok(())
}

fn owner(facts: &Facts) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(facts.uid)), Some(Gid::from_raw(facts.gid)))
}

fn put_back(facts: &Facts) -> impl Iterator<Item = &(Vec<u8>, Vec<u8>)> {
    let known = |name: &[u8]| ATTRIBUTES.iter().any(|known| name.starts_with(known));
    facts.attributes.iter().filter(move |(name, _)| known(name))
}

fn times(facts: &Facts) -> Timestamps {
    let time = Timespec { tv_sec: facts.modified.0, tv_nsec: facts.modified.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn open_below(folder: BorrowedFd<'_>, path: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(folder, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Refuses names that no folder has.
fn check(path: &[u8]) -> io::Result<()> {
    let is_plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
    let parts = path.split(|byte| *byte == b'/');
    if path.len() > MAX_PATH
        || parts.clone().count() > MAX_DEPTH + 1
        || !parts.clone().all(is_plain)
    {
        return Err(broken("a name that no folder has"));
    }
    Ok(())
}

fn split(path: &[u8]) -> (&[u8], &OsStr) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(cut) => (&path[..cut], OsStr::from_bytes(&path[cut + 1..])),
        None => (b"", OsStr::from_bytes(path)),
    }
}

/// What is behind `prefix/` in a path; empty for the prefix itself.
pub fn below<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    match path.strip_prefix(prefix)? {
        b"" => Some(b""),
        rest => rest.strip_prefix(b"/"),
    }
}
