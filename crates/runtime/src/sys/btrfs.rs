//! The btrfs ioctls that the storage pool needs: subvolumes, snapshots, quota groups.

#![expect(unsafe_code, reason = "kernel calls that no safe wrapper offers")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::ioctl::{NoArg, Opcode, Updater, ioctl, opcode};

const GROUP: u8 = 0x94;
const NAME_MAX: usize = 255;
/// `BTRFS_FIRST_FREE_OBJECTID`: inode number of every subvolume's root folder.
const ROOT_INODE: u64 = 256;

const FLAG_READ_ONLY: u64 = 1 << 1;
const FLAG_QGROUP_INHERIT: u64 = 1 << 2;
const INHERIT_SET_LIMITS: u64 = 1;
const LIMIT_MAX_REFERENCED: u64 = 1;
const QUOTA_ENABLE: u64 = 1;
const QUOTA_ENABLE_SIMPLE: u64 = 4;

/// `struct btrfs_qgroup_limit`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawLimit {
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    reserved_referenced: u64,
    reserved_exclusive: u64,
}

impl RawLimit {
    fn referenced(bytes: Option<u64>) -> Self {
        // All ones clears the limit.
        Self {
            flags: LIMIT_MAX_REFERENCED,
            max_referenced: bytes.unwrap_or(u64::MAX),
            ..Self::default()
        }
    }
}

/// `struct btrfs_qgroup_inherit` without parent groups.
#[repr(C)]
struct RawInherit {
    flags: u64,
    groups: u64,
    referenced_copies: u64,
    exclusive_copies: u64,
    limit: RawLimit,
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolumeArgs {
    fd: i64,
    transaction: u64,
    flags: u64,
    size: u64,
    inherit: *const RawInherit,
    unused: [u64; 2],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct LimitArgs {
    group: u64,
    limit: RawLimit,
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct LookupArgs {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_search_args`; ranges are lowest and highest.
#[repr(C)]
struct SearchArgs {
    tree: u64,
    objects: [u64; 2],
    offsets: [u64; 2],
    transactions: [u64; 2],
    types: [u32; 2],
    items: u32,
    rest: [u8; 4028],
}

/// `struct btrfs_ioctl_fs_info_args`.
#[repr(C)]
struct InfoArgs {
    max_id: u64,
    devices: u64,
    fsid: [u8; 16],
    rest: [u8; 992],
}

/// `struct btrfs_ioctl_defrag_range_args`.
#[repr(C)]
struct DefragArgs {
    start: u64,
    length: u64,
    flags: u64,
    extent_threshold: u32,
    compression: u32,
    unused: [u32; 4],
}

const DEFRAG: Opcode = opcode::write::<DefragArgs>(GROUP, 16);
const SYNC: Opcode = opcode::none(GROUP, 8);
const SNAPSHOT: Opcode = opcode::write::<VolumeArgs>(GROUP, 23);
const CREATE: Opcode = opcode::write::<VolumeArgs>(GROUP, 24);
const DESTROY: Opcode = opcode::write::<VolumeArgs>(GROUP, 63);
const QUOTA: Opcode = opcode::read_write::<[u64; 2]>(GROUP, 40);
const GROUP_CREATE: Opcode = opcode::write::<[u64; 2]>(GROUP, 42);
const GROUP_LIMIT: Opcode = opcode::read::<LimitArgs>(GROUP, 43);
const LOOKUP: Opcode = opcode::read_write::<LookupArgs>(GROUP, 18);
const SEARCH: Opcode = opcode::read_write::<SearchArgs>(GROUP, 17);
const INFO: Opcode = opcode::read::<InfoArgs>(GROUP, 31);

impl VolumeArgs {
    fn named(name: &str) -> io::Result<Self> {
        let valid = !name.is_empty()
            && name.len() <= NAME_MAX
            && !name.bytes().any(|byte| byte == b'/' || byte == 0);
        if !valid {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let mut args = Self {
            fd: 0,
            transaction: 0,
            flags: 0,
            size: 0,
            inherit: std::ptr::null(),
            unused: [0; 2],
            name: [0; 4040],
        };
        args.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(args)
    }

    fn run<const OP: Opcode>(mut self, folder: impl AsFd, limit: Option<u64>) -> io::Result<()> {
        let inherit = RawInherit {
            flags: INHERIT_SET_LIMITS,
            groups: 0,
            referenced_copies: 0,
            exclusive_copies: 0,
            limit: RawLimit::referenced(limit),
        };
        if limit.is_some() {
            self.flags |= FLAG_QGROUP_INHERIT;
            self.size = size_of::<RawInherit>() as u64;
            self.inherit = &raw const inherit;
        }
        // SAFETY: OP is a btrfs opcode that takes `btrfs_ioctl_vol_args_v2`, whose layout `VolumeArgs`
        // has; `inherit` is null or points to a live value whose size is in `size`.
        unsafe { call::<OP, Self>(folder, &mut self) }
    }
}

/// # Safety
/// `T` has the layout that the kernel expects for `OP`, and every pointer in it is valid for the call.
unsafe fn call<const OP: Opcode, T>(fd: impl AsFd, value: &mut T) -> io::Result<()> {
    // SAFETY: the caller vouches that OP reads and writes a `T`.
    let request = unsafe { Updater::<OP, T>::new(value) };
    // SAFETY: as above; the kernel answers ENOTTY when the file system is not btrfs.
    unsafe { ioctl(fd, request) }.map_err(io::Error::from)
}

/// Makes a subvolume; with `limit` its quota group has that limit in bytes from the first moment.
///
/// `AlreadyExists` when the name is taken; quotas must be on for a limit to count.
pub(crate) fn create_subvolume(
    folder: impl AsFd,
    name: &str,
    limit: Option<u64>,
) -> io::Result<()> {
    VolumeArgs::named(name)?.run::<CREATE>(folder, limit)
}

/// Takes a copy-on-write snapshot of the subvolume `source` under `name`, with a limit as above.
pub(crate) fn snapshot(
    source: impl AsFd,
    folder: impl AsFd,
    name: &str,
    limit: Option<u64>,
    read_only: bool,
) -> io::Result<()> {
    let mut args = VolumeArgs::named(name)?;
    args.fd = i64::from(source.as_fd().as_raw_fd());
    args.flags = if read_only { FLAG_READ_ONLY } else { 0 };
    args.run::<SNAPSHOT>(folder, limit)
}

/// Deletes a subvolume by name; the kernel frees its space in the background.
pub(crate) fn delete_subvolume(folder: impl AsFd, name: &str) -> io::Result<()> {
    VolumeArgs::named(name)?.run::<DESTROY>(folder, None)
}

/// Turns quotas on: simple ones, or ordinary quota groups. Idempotent.
pub(crate) fn enable_quota(root: impl AsFd, simple: bool) -> io::Result<()> {
    let mut args = [if simple { QUOTA_ENABLE_SIMPLE } else { QUOTA_ENABLE }, 0];
    // SAFETY: the kernel reads and writes `btrfs_ioctl_quota_ctl_args`, two 64-bit numbers.
    unsafe { call::<QUOTA, _>(root, &mut args) }
}

/// Limits the subvolume that `subvolume` lies in, in bytes; `None` removes the limit.
pub(crate) fn set_limit(subvolume: impl AsFd, bytes: Option<u64>) -> io::Result<()> {
    // Group 0 means the one of the subvolume behind the descriptor.
    let mut args = LimitArgs { group: 0, limit: RawLimit::referenced(bytes) };
    // SAFETY: `LimitArgs` has the layout of `btrfs_ioctl_qgroup_limit_args` and holds no pointer.
    unsafe { call::<GROUP_LIMIT, _>(subvolume, &mut args) }
}

/// Removes the quota group of a subvolume that is gone; `ResourceBusy` while it still holds space.
pub(crate) fn delete_quota_group(root: impl AsFd, subvolume_id: u64) -> io::Result<()> {
    let mut args = [0, subvolume_id];
    // SAFETY: the kernel reads `btrfs_ioctl_qgroup_create_args`, two 64-bit numbers.
    unsafe { call::<GROUP_CREATE, _>(root, &mut args) }
}

/// Writes everything back and wakes the kernel's cleaner, which frees deleted subvolumes.
///
/// A plain sync does not wake it; without this it runs only once per commit interval.
pub(crate) fn sync(root: impl AsFd) -> io::Result<()> {
    // SAFETY: BTRFS_IOC_SYNC takes no argument.
    let request = unsafe { NoArg::<SYNC>::new() };
    // SAFETY: as above; the kernel answers ENOTTY when the file system is not btrfs.
    unsafe { ioctl(root, request) }.map_err(io::Error::from)
}

/// Number of the subvolume that the descriptor lies in.
pub(crate) fn subvolume_id(fd: impl AsFd) -> io::Result<u64> {
    let mut args = LookupArgs { tree: 0, object: ROOT_INODE, name: [0; 4080] };
    // SAFETY: `LookupArgs` has the layout of `btrfs_ioctl_ino_lookup_args` and holds no pointer.
    unsafe { call::<LOOKUP, _>(fd, &mut args)? };
    Ok(args.tree)
}

/// Whether a subvolume of this number lives; a deleted one does not, even while it is being freed.
pub(crate) fn subvolume_lives(root: impl AsFd, id: u64) -> io::Result<bool> {
    let mut args = SearchArgs {
        tree: id,
        objects: [0, u64::MAX],
        offsets: [0, u64::MAX],
        transactions: [0, u64::MAX],
        types: [0, u32::MAX],
        items: 1,
        rest: [0; 4028],
    };
    // SAFETY: `SearchArgs` has the layout of `btrfs_ioctl_search_args` and holds no pointer.
    match unsafe { call::<SEARCH, _>(root, &mut args) } {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.map(|()| true),
    }
}

/// Rewrites a part of a file compressed (zstd), and begins to write it back.
pub(crate) fn compress(file: impl AsFd, start: u64, length: u64) -> io::Result<()> {
    const COMPRESS: u64 = 1;
    const START_IO: u64 = 2;
    const ZSTD: u32 = 3;
    // No extent is too large to be rewritten.
    let (flags, extent_threshold) = (COMPRESS | START_IO, u32::MAX);
    let mut args =
        DefragArgs { start, length, flags, extent_threshold, compression: ZSTD, unused: [0; 4] };
    // SAFETY: `DefragArgs` has the layout of `btrfs_ioctl_defrag_range_args` and holds no pointer.
    unsafe { call::<DEFRAG, _>(file, &mut args) }
}

/// Identity of the file system, as `/sys/fs/btrfs` spells it.
pub(crate) fn file_system_id(fd: impl AsFd) -> io::Result<String> {
    let mut args = InfoArgs { max_id: 0, devices: 0, fsid: [0; 16], rest: [0; 992] };
    // SAFETY: `InfoArgs` has the layout of `btrfs_ioctl_fs_info_args` and holds no pointer.
    unsafe { call::<INFO, _>(fd, &mut args)? };
    let mut text = String::with_capacity(36);
    for (index, byte) in args.fsid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_the_kernel() {
        assert_eq!(size_of::<VolumeArgs>(), 4096);
        assert_eq!(size_of::<RawInherit>(), 72);
        assert_eq!(size_of::<LimitArgs>(), 48);
        assert_eq!(size_of::<DefragArgs>(), 48);
        assert_eq!(size_of::<LookupArgs>(), 4096);
        assert_eq!(size_of::<SearchArgs>(), 4096);
        assert_eq!(size_of::<InfoArgs>(), 1024);
    }

    #[test]
    fn names_that_are_no_single_path_part_are_refused() {
        let folder = std::fs::File::open("/").unwrap();
        for name in ["", "a/b", "a\0b", &"x".repeat(256)] {
            let error = create_subvolume(&folder, name, None).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }
}
