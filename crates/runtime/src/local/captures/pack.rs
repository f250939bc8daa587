//! A folder as a stream of tar members, read by descriptor.
//!
//! The folder must not change meanwhile: a read-only snapshot.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use mayfly_core::ports::captures::Exported;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat};
use tar::EntryType;

use super::member::{self, Extent, Facts, MAX_ATTRIBUTES, MAX_EXTENTS};

/// Longest path, bytes: four times what programs can name at once.
pub(super) const MAX_PATH: usize = 16 << 10;
/// Deepest folder; each level holds a descriptor.
pub(super) const MAX_DEPTH: usize = 1000;
/// Files with several names that are remembered; those behind are packed once per name.
const MAX_LINKS: usize = 1 << 20;
/// Bytes read at once.
const PIECE: usize = 1 << 20;

struct Packer<'a> {
    out: &'a mut (dyn Write + Send),
    /// First name of each file that has several, by inode number.
    links: HashMap<u64, Vec<u8>>,
    packed: Exported,
    piece: Vec<u8>,
}

/// Writes the folder under `prefix`, its own attributes first.
pub(super) fn pack(
    root: BorrowedFd<'_>,
    prefix: &str,
    out: &mut (dyn Write + Send),
) -> io::Result<Exported> {
    let mut packer =
        Packer { out, links: HashMap::new(), packed: Exported::default(), piece: vec![0; PIECE] };
    let stat = rustix::fs::fstat(root)?;
    let mut path = prefix.as_bytes().to_vec();
    packer.folder(&path, &facts(&stat, root, b".")?)?;
    let mut levels = vec![(Dir::read_from(root)?, path.len())];
    let mut depth = 1;
    while let Some((dir, length)) = levels.last_mut() {
        path.truncate(*length);
        let Some(entry) = dir.next() else {
            levels.pop();
            depth -= 1;
            continue;
        };
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        path.push(b'/');
        path.extend_from_slice(name);
        let folder = dir.fd()?;
        if path.len() > MAX_PATH || depth > MAX_DEPTH {
            packer.packed.skipped += 1;
            continue;
        }
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let facts = facts(&stat, folder, name)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            packer.folder(&path, &facts)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = rustix::fs::openat(folder, name, flags, Mode::empty())?;
            levels.push((Dir::new(below)?, path.len()));
            depth += 1;
        } else {
            packer.node(folder, (&path, name), &stat, facts)?;
        }
    }
    Ok(packer.packed)
}

impl Packer<'_> {
    fn folder(&mut self, path: &[u8], facts: &Facts) -> io::Result<()> {
        self.packed.members += 1;
        member::begin(self.out, EntryType::Directory, (path, b""), facts, (0, None))
    }

    fn node(
        &mut self,
        folder: BorrowedFd<'_>,
        (path, name): (&[u8], &[u8]),
        stat: &Stat,
        facts: Facts,
    ) -> io::Result<()> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryType::Regular,
            FileType::Symlink => EntryType::Symlink,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            FileType::Fifo => EntryType::Fifo,
            _ => {
                self.packed.skipped += 1;
                return Ok(());
            }
        };
        self.packed.members += 1;
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                let link = (path, first.as_slice());
                return member::begin(self.out, EntryType::Link, link, &facts, (0, None));
            }
            if self.links.len() < MAX_LINKS {
                self.links.insert(stat.st_ino, path.to_vec());
            }
        }
        match kind {
            EntryType::Regular => self.file(folder, (path, name), stat, facts),
            EntryType::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
                member::begin(self.out, kind, (path, target.as_bytes()), &facts, (0, None))
            }
            EntryType::Fifo => member::begin(self.out, kind, (path, b""), &facts, (0, None)),
            _ => {
                let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                member::begin(self.out, kind, (path, b""), &facts, (0, Some(device)))
            }
        }
    }

    fn file(
        &mut self,
        folder: BorrowedFd<'_>,
        (path, name): (&[u8], &[u8]),
        stat: &Stat,
        mut facts: Facts,
    ) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let stored = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let mut extents = vec![Extent { offset: 0, length: size }];
        if stored < size {
            extents = data(&file, size)?;
            facts.sparse = Some((size, extents.clone()));
        }
        let length = extents.iter().map(|extent| extent.length).sum();
        let member = (path, &b""[..]);
        member::begin(self.out, EntryType::Regular, member, &facts, (length, None))?;
        for extent in extents {
            self.copy(&file, extent)?;
        }
        member::pad(self.out, length)
    }

    fn copy(&mut self, file: &File, extent: Extent) -> io::Result<()> {
        let mut done = 0;
        while done < extent.length {
            let wanted = (extent.length - done).min(PIECE as u64);
            let piece = &mut self.piece[..usize::try_from(wanted).unwrap_or(PIECE)];
            file.read_exact_at(piece, extent.offset + done)?;
            self.out.write_all(piece)?;
            done += wanted;
        }
        Ok(())
    }
}

/// Where a file with holes has data.
fn data(file: &File, size: u64) -> io::Result<Vec<Extent>> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut at = 0;
    while at < size {
        let offset = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(rustix::io::Errno::NXIO) => break,
            offset => offset?.min(size),
        };
        let end = if extents.len() + 1 >= MAX_EXTENTS {
            size
        } else {
            rustix::fs::seek(file, SeekFrom::Hole(offset))?.min(size)
        };
        extents.push(Extent { offset, length: end - offset });
        at = end;
    }
    Ok(extents)
}

fn facts(stat: &Stat, folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<Facts> {
    Ok(Facts {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        attributes: attributes(folder, name)?,
        sparse: None,
    })
}

/// Attributes of a name in a folder, which is not followed. The folder's own path is the kernel's.
fn attributes(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(path.as_slice(), &mut names[..]) {
        Ok(0) | Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        length => length?,
    };
    let mut found = Vec::new();
    let mut total = 0;
    let mut value = vec![0; 64 << 10];
    for attribute in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let size = match rustix::fs::lgetxattr(path.as_slice(), attribute, &mut value[..]) {
            Err(rustix::io::Errno::NODATA) => continue,
            size => size?,
        };
        total += attribute.len() + size;
        if total > MAX_ATTRIBUTES {
            break;
        }
        found.push((attribute.to_vec(), value[..size].to_vec()));
    }
    Ok(found)
}
