//! One call's view of a sandbox: lookups that the kernel keeps inside its root, and what was found.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::path::DecInt;

use crate::fault::Fault;
use crate::identity;
use crate::path::{MAX_PATH, split};
use crate::root::Root;

/// Lookups repeated when something is renamed meanwhile, before giving up.
const RETRIES: u32 = 128;
/// Links followed at the end of a path, as many as the kernel does.
const LINKS: u32 = 40;

/// File systems that hold files and never wait for anybody. All others (proc, sysfs, cgroups, debugfs,
/// FUSE, ...) are left to the processes inside: their files act when touched, and judge by the
/// toucher's real user, which is the server's.
const HOLD_FILES: [u64; 13] = [
    0x9123_683e, // btrfs
    0x794c_7630, // overlayfs
    0x0102_1994, // tmpfs
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0xe0f5_e1e2, // erofs
    0x7371_7368, // squashfs
    0x2fc1_2fc1, // zfs
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
    0x8584_58f6, // ramfs
    0x4d44,      // vfat
    0x2011_bab0, // exfat
];
const TMPFS: u64 = 0x0102_1994;

/// Something found in the sandbox, held by descriptor (`O_PATH`): it stays that thing whatever is
/// renamed.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) fd: OwnedFd,
    pub(crate) stat: Stat,
}

impl Node {
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Fault> {
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Self { fd, stat })
    }

    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// A name in a folder; the name may not exist.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) folder: Node,
    pub(crate) name: Vec<u8>,
    /// What the name is now, links not followed.
    pub(crate) stat: Option<Stat>,
}

/// The sandbox as one call sees it, on a thread that has its user's identity.
#[derive(Debug)]
pub struct View<'a> {
    /// The sandbox.
    pub root: &'a Root,
    /// The process's own `/proc/self/fd`: the kernel's way to open again what is held by descriptor.
    pub descriptors: BorrowedFd<'a>,
    /// When the call must have ended.
    pub deadline: Instant,
    /// Set when the process is ending.
    pub stopping: &'a AtomicBool,
}

impl View<'_> {
    /// Fails when the call has lasted too long or the server is ending; asked in every long loop.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Fault::Stopping);
        }
        if Instant::now() >= self.deadline { Err(Fault::TimeOver) } else { Ok(()) }
    }

    /// Does `act` on something with this owner: with root's powers only where root inside has them.
    ///
    /// The thread's capabilities count for all owners, those of root inside only for the sandbox's ids.
    pub(crate) fn on<T>(
        &self,
        owner: &Stat,
        act: impl FnOnce() -> rustix::io::Result<T>,
    ) -> Result<T, Fault> {
        self.on_all(&[owner], act)
    }

    /// Does `act` on several things, with powers only if root inside has them over each.
    pub(crate) fn on_all<T>(
        &self,
        owners: &[&Stat],
        act: impl FnOnce() -> rustix::io::Result<T>,
    ) -> Result<T, Fault> {
        let ours = |stat: &&Stat| self.root.owns(stat.st_uid) && self.root.owns(stat.st_gid);
        if self.root.user.uid != 0 || owners.iter().all(ours) {
            return Ok(act()?);
        }
        Ok(identity::without_powers(act)??)
    }

    /// Looks up an absolute path inside; the last link is followed unless `flags` has `NOFOLLOW`.
    pub(crate) fn node(&self, full: &[u8], flags: OFlags) -> Result<Node, Fault> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Node::new(lookup(self.root.folder.as_fd(), full, flags, resolve)?)
    }

    /// Opens what was found. Only for plain files and folders: opening anything else acts.
    fn reopen(&self, node: &Node, flags: OFlags) -> Result<OwnedFd, Fault> {
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        self.on(&node.stat, || {
            rustix::fs::openat(self.descriptors, DecInt::from_fd(&node.fd), flags, Mode::empty())
        })
    }

    /// Opens a plain file to read it.
    pub(crate) fn open_plain(&self, node: &Node) -> Result<OwnedFd, Fault> {
        match node.kind() {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Fault::IsFolder),
            _ => return Err(Fault::NotPlain),
        }
        if !holds_files(node.fd.as_fd())? {
            return Err(Fault::KernelFolder);
        }
        self.reopen(node, OFlags::RDONLY)
    }

    /// Opens a folder to read its entries.
    pub(crate) fn open_folder(&self, node: &Node) -> Result<OwnedFd, Fault> {
        if node.kind() != FileType::Directory {
            return Err(Fault::NotFolder);
        }
        self.reopen(node, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Folder and name that a path ends in; the folder must exist.
    pub(crate) fn place(&self, full: &[u8]) -> Result<Place, Fault> {
        let (folder, name) = split(full).ok_or(Fault::NoName)?;
        let folder = self.node(folder, OFlags::DIRECTORY)?;
        let stat = stat_name(folder.fd.as_fd(), name)?;
        Ok(Place { folder, name: name.to_vec(), stat })
    }

    /// Where writing to a path ends up: links at its end are followed inside the root, also to a name
    /// that does not exist yet; missing parents are made.
    pub(crate) fn destination(&self, full: &[u8]) -> Result<Place, Fault> {
        let mut full = full.to_vec();
        if full.ends_with(b"/") {
            return Err(Fault::IsFolder);
        }
        for _ in 0..LINKS {
            let (folder, name) = split(&full).ok_or(Fault::IsFolder)?;
            let folder = match self.node(folder, OFlags::DIRECTORY) {
                Err(fault) if fault.is_missing() => self.make_folders(folder, 0o755)?,
                found => found?,
            };
            let stat = stat_name(folder.fd.as_fd(), name)?;
            let is_link =
                stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
            if !is_link {
                let place = Place { name: name.to_vec(), folder, stat };
                self.require_files(&place.folder)?;
                return Ok(place);
            }
            let target = rustix::fs::readlinkat(&folder.fd, name, Vec::new())?.into_bytes();
            let begin = if target.starts_with(b"/") { 0 } else { full.len() - name.len() };
            full.truncate(begin);
            full.extend_from_slice(&target);
            if full.len() > MAX_PATH {
                return Err(Errno::NAMETOOLONG.into());
            }
        }
        Err(Errno::LOOP.into())
    }

    /// Makes a folder and its parents (0755); gives the last one. Existing ones are fine.
    pub(crate) fn make_folders(&self, full: &[u8], mode: u32) -> Result<Node, Fault> {
        let mut at = self.node(b"/", OFlags::DIRECTORY)?;
        let mut end = 0;
        let trimmed = full.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        while end < trimmed {
            let start = end + full[end..].iter().take_while(|byte| **byte == b'/').count();
            end = start + full[start..].iter().take_while(|byte| **byte != b'/').count();
            self.check()?;
            // The whole prefix each time: only the kernel knows where `..` and links lead.
            at = match self.node(&full[..end], OFlags::DIRECTORY) {
                Err(fault) if fault.is_missing() => {
                    let mode = if end == trimmed { mode } else { 0o755 };
                    self.make_one(&at, &full[start..end], mode)?;
                    self.node(&full[..end], OFlags::DIRECTORY)?
                }
                found => found?,
            };
        }
        Ok(at)
    }

    fn make_one(&self, parent: &Node, name: &[u8], mode: u32) -> Result<(), Fault> {
        self.require_files(parent)?;
        let made = self.on(&parent.stat, || {
            rustix::fs::mkdirat(&parent.fd, name, Mode::from_raw_mode(mode & 0o1777))
        });
        match made {
            // Somebody was faster, or a link leads nowhere; the lookup that follows tells.
            Err(Fault::Exists) => Ok(()),
            made => made,
        }
    }

    /// Refuses to change anything in folders that are not for files: kernel file systems, and /dev.
    pub(crate) fn require_files(&self, node: &Node) -> Result<(), Fault> {
        let magic = magic(node.fd.as_fd())?;
        if !HOLD_FILES.contains(&magic) {
            return Err(Fault::KernelFolder);
        }
        if magic == TMPFS
            && let Ok(devices) = self.node(b"/dev", OFlags::DIRECTORY)
            && devices.stat.st_dev == node.stat.st_dev
            && self.node(b"/", OFlags::DIRECTORY)?.stat.st_dev != node.stat.st_dev
        {
            return Err(Fault::KernelFolder);
        }
        Ok(())
    }
}

/// Looks up a path below a folder, without links anywhere in it.
pub(crate) fn below(folder: BorrowedFd<'_>, path: &[u8]) -> Result<Node, Fault> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { b".".as_slice() } else { path };
    Node::new(lookup(folder, path, OFlags::NOFOLLOW, resolve)?)
}

/// All of a file, cut at `most` bytes.
pub(crate) fn read_up_to(file: &OwnedFd, most: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let file = std::fs::File::from(file.try_clone()?);
    std::io::Read::read_to_end(&mut std::io::Read::take(file, most), &mut bytes)?;
    Ok(bytes)
}

/// Whether a file system holds files, rather than faces of the kernel.
pub(crate) fn holds_files(fd: BorrowedFd<'_>) -> Result<bool, Fault> {
    Ok(HOLD_FILES.contains(&magic(fd)?))
}

/// What a name in a folder is, links not followed; `None` when there is nothing.
pub(crate) fn stat_name(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Fault> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

fn magic(fd: BorrowedFd<'_>) -> Result<u64, Fault> {
    // Magic numbers are 32 bits wide; some kernels sign-extend them.
    Ok(rustix::fs::fstatfs(fd)?.f_type.cast_unsigned() & 0xffff_ffff)
}

fn lookup(
    base: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Fault> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    for _ in 0..RETRIES {
        match rustix::fs::openat2(base, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            found => return Ok(found?),
        }
    }
    Err(Fault::Restless)
}
