//! System calls on mounts and on what is mounted.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{AT_EMPTY_PATH, AT_FDCWD, Result, at, number, owned, raw};
use crate::numbers::{
    MKDIRAT, MKNODAT, MOUNT, MOUNT_SETATTR, MOVE_MOUNT, OPEN_TREE, OPENAT2, PIVOT_ROOT,
    SETHOSTNAME, UMOUNT2,
};

/// Mounts by path; `data` is the file system's own option text.
pub(crate) fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: usize,
    data: &CStr,
) -> Result<()> {
    // SAFETY: five NUL-terminated strings or numbers, read only.
    unsafe { raw(MOUNT, [at(source), at(target), at(kind), flags, at(data), 0]) }.map(drop)
}

/// Unmounts lazily.
pub(crate) fn detach(target: &CStr) -> Result<()> {
    const MNT_DETACH: usize = 2;
    // SAFETY: one NUL-terminated string, read only.
    unsafe { raw(UMOUNT2, [at(target), MNT_DETACH, 0, 0, 0, 0]) }.map(drop)
}

/// Makes the current folder the root; the old root ends up mounted over it.
pub(crate) fn pivot_here() -> Result<()> {
    let here = c".";
    // SAFETY: two NUL-terminated strings, read only.
    unsafe { raw(PIVOT_ROOT, [at(here), at(here), 0, 0, 0, 0]) }.map(drop)
}

/// A detached copy of the mount at a path, with what is mounted below it if wanted.
pub(crate) fn open_tree(path: &CStr, recursive: bool) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: usize = 1;
    const O_CLOEXEC: usize = 0o2_000_000;
    const AT_RECURSIVE: usize = 0x8000;
    let flags = OPEN_TREE_CLONE | O_CLOEXEC | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: one NUL-terminated string, read only.
    unsafe { raw(OPEN_TREE, [AT_FDCWD, at(path), flags, 0, 0, 0]) }.map(owned)
}

/// Maps the ids of a detached mount through a user namespace.
pub(crate) fn idmap(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let attributes: [u64; 4] = [MOUNT_ATTR_IDMAP, 0, 0, number(user_namespace) as u64];
    let pointer = attributes.as_ptr() as usize;
    let empty = c"";
    // SAFETY: the attributes are four u64 of the kernel's struct mount_attr, read only.
    unsafe { raw(MOUNT_SETATTR, [number(tree), at(empty), AT_EMPTY_PATH, pointer, 32, 0]) }
        .map(drop)
}

/// Attaches a detached mount at a path.
pub(crate) fn move_mount(tree: BorrowedFd<'_>, target: &CStr) -> Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: usize = 4;
    let empty = c"";
    // SAFETY: two NUL-terminated strings, read only.
    unsafe {
        raw(MOVE_MOUNT, [number(tree), at(empty), AT_FDCWD, at(target), MOVE_MOUNT_F_EMPTY_PATH, 0])
    }
    .map(drop)
}

/// Opens one folder within another as a place, never through a link nor out of it.
pub(crate) fn open_folder(folder: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    const O_PATH: u64 = 0o10_000_000;
    const O_DIRECTORY: u64 = 0o200_000;
    const O_DIRECTORY_ARM: u64 = 0o40_000;
    const O_CLOEXEC: u64 = 0o2_000_000;
    const RESOLVE_NO_MAGICLINKS: u64 = 2;
    const RESOLVE_NO_SYMLINKS: u64 = 4;
    const RESOLVE_BENEATH: u64 = 8;
    let directory = if cfg!(target_arch = "aarch64") { O_DIRECTORY_ARM } else { O_DIRECTORY };
    let how: [u64; 3] = [
        O_PATH | directory | O_CLOEXEC,
        0,
        RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
    ];
    let pointer = how.as_ptr() as usize;
    // SAFETY: a NUL-terminated string and the three u64 of the kernel's struct open_how, read only.
    unsafe { raw(OPENAT2, [number(folder), at(name), pointer, 24, 0, 0]) }.map(owned)
}

/// Makes a folder within another.
pub(crate) fn make_folder(folder: BorrowedFd<'_>, name: &CStr, mode: usize) -> Result<()> {
    // SAFETY: one NUL-terminated string, read only.
    unsafe { raw(MKDIRAT, [number(folder), at(name), mode, 0, 0, 0]) }.map(drop)
}

/// A detached copy of the mount of an open folder, from that folder on.
pub(crate) fn open_tree_at(folder: BorrowedFd<'_>) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: usize = 1;
    const O_CLOEXEC: usize = 0o2_000_000;
    let flags = OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH;
    // SAFETY: one NUL-terminated string, read only.
    unsafe { raw(OPEN_TREE, [number(folder), at(c""), flags, 0, 0, 0]) }.map(owned)
}

/// Closes a detached mount to devices and set-id programs, to changes if wanted, and maps its ids.
pub(crate) fn confine(
    tree: BorrowedFd<'_>,
    read_only: bool,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<()> {
    const MOUNT_ATTR_RDONLY: u64 = 1;
    const MOUNT_ATTR_NOSUID: u64 = 2;
    const MOUNT_ATTR_NODEV: u64 = 4;
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let mut set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    if read_only {
        set |= MOUNT_ATTR_RDONLY;
    }
    if user_namespace.is_some() {
        set |= MOUNT_ATTR_IDMAP;
    }
    let namespace = user_namespace.map_or(0, |namespace| number(namespace) as u64);
    let attributes: [u64; 4] = [set, 0, 0, namespace];
    let pointer = attributes.as_ptr() as usize;
    // SAFETY: the attributes are four u64 of the kernel's struct mount_attr, read only.
    unsafe { raw(MOUNT_SETATTR, [number(tree), at(c""), AT_EMPTY_PATH, pointer, 32, 0]) }.map(drop)
}

/// Attaches a detached mount on an open folder.
pub(crate) fn move_mount_on(tree: BorrowedFd<'_>, folder: BorrowedFd<'_>) -> Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: usize = 4;
    const MOVE_MOUNT_T_EMPTY_PATH: usize = 0x40;
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: two NUL-terminated strings, read only.
    unsafe { raw(MOVE_MOUNT, [number(tree), at(c""), number(folder), at(c""), flags, 0]) }.map(drop)
}

/// Makes a device node.
pub(crate) fn device(path: &CStr, major: usize, minor: usize) -> Result<()> {
    const CHARACTER: usize = 0o020_000;
    // SAFETY: one NUL-terminated string, read only.
    unsafe { raw(MKNODAT, [AT_FDCWD, at(path), CHARACTER | 0o666, (major << 8) | minor, 0, 0]) }
        .map(drop)
}

/// Sets the host name of this namespace.
pub(crate) fn set_hostname(name: &[u8]) -> Result<()> {
    // SAFETY: pointer and length of one slice, read only.
    unsafe { raw(SETHOSTNAME, [name.as_ptr() as usize, name.len(), 0, 0, 0, 0]) }.map(drop)
}
