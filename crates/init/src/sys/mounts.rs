//! System calls on mounts and on what is mounted.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{AT_EMPTY_PATH, AT_FDCWD, Result, at, number, owned, raw};
use crate::numbers::{
    MKNODAT, MOUNT, MOUNT_SETATTR, MOVE_MOUNT, OPEN_TREE, PIVOT_ROOT, SETHOSTNAME, UMOUNT2,
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
