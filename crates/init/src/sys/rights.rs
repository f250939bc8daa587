//! System calls that take rights away for good: users, capabilities, limits, filters.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use super::{Result, number, owned, plain, raw};
use crate::numbers::{
    CAPGET, CAPSET, LANDLOCK_ADD, LANDLOCK_CREATE, LANDLOCK_RESTRICT, PRLIMIT64, SECCOMP, SETFSGID,
    SETFSUID, SETGROUPS, SETRESGID, SETRESUID,
};

/// Takes user, group and supplementary groups for good.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    // SAFETY: pointer and count of one slice, read only.
    unsafe { raw(SETGROUPS, [groups.len(), groups.as_ptr() as usize, 0, 0, 0, 0]) }?;
    plain(SETRESGID, [gid as usize, gid as usize, gid as usize, 0])?;
    plain(SETRESUID, [uid as usize, uid as usize, uid as usize, 0]).map(drop)
}

/// Creates files as this user from here on, with every permitted capability still in effect: the kernel
/// drops those over files when root leaves id 0.
pub(crate) fn create_files_as(id: u32) -> Result<()> {
    plain(SETFSGID, [id as usize, 0, 0, 0])?;
    plain(SETFSUID, [id as usize, 0, 0, 0])?;
    let header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
    let mut data = [0_u32; 6];
    let (head, body) = (header.as_ptr() as usize, data.as_mut_ptr() as usize);
    // SAFETY: header and data have the layout of version 3; the kernel writes 24 bytes to data.
    unsafe { raw(CAPGET, [head, body, 0, 0, 0, 0]) }?;
    (data[0], data[3]) = (data[1], data[4]);
    // SAFETY: as above, read only.
    unsafe { raw(CAPSET, [head, data.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Sets effective and permitted capabilities; inheritable ones become empty.
pub(crate) fn set_capabilities(mask: u64) -> Result<()> {
    let header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
    let (low, high) = ((mask & 0xffff_ffff) as u32, (mask >> 32) as u32);
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: header and data have the layout of version 3, read only.
    unsafe { raw(CAPSET, [header.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Sets a resource limit, soft and hard alike.
pub(crate) fn limit(resource: usize, value: u64) -> Result<()> {
    restore(resource, [value, value])
}

/// Lowers a resource limit, soft only, unless it is lower already; answers what it was.
pub(crate) fn lower(resource: usize, value: u64) -> Result<[u64; 2]> {
    let mut old: [u64; 2] = [0, 0];
    let pointer = old.as_mut_ptr() as usize;
    // SAFETY: the kernel writes two u64 and reads nothing (new limit is null).
    unsafe { raw(PRLIMIT64, [0, resource, 0, pointer, 0, 0]) }?;
    restore(resource, [value.min(old[0]), old[1]]).map(|()| old)
}

/// Sets a resource limit, soft and hard.
pub(crate) fn restore(resource: usize, pair: [u64; 2]) -> Result<()> {
    // SAFETY: the kernel reads two u64 and writes nothing (old limit is null).
    unsafe { raw(PRLIMIT64, [0, resource, pair.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

/// Loads the system call filter for this process and all it starts.
pub(crate) fn load_filter(program: &[u8]) -> Result<()> {
    const SET_MODE_FILTER: usize = 1;
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const u8,
    }
    // The kernel wants eight-byte instructions; the copy gives them their alignment.
    let aligned: Vec<u64> = program
        .chunks_exact(8)
        .map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap_or_default()))
        .collect();
    let filter = Program {
        length: u16::try_from(aligned.len()).unwrap_or(u16::MAX),
        instructions: aligned.as_ptr().cast(),
    };
    let pointer = std::ptr::from_ref(&filter) as usize;
    // SAFETY: the kernel reads the struct and as many instructions as its length says.
    unsafe { raw(SECCOMP, [SET_MODE_FILTER, 0, pointer, 0, 0, 0]) }.map(drop)
}

/// Version of Landlock that the kernel offers; an error when it has none.
pub(crate) fn landlock_version() -> Result<usize> {
    plain(LANDLOCK_CREATE, [0, 0, 1, 0])
}

/// Binds this process and all it starts to a ruleset: `handled` rights are denied except `allowed` ones
/// below `root`; `scopes` closes abstract sockets and signals to the outside.
pub(crate) fn landlock(
    handled: u64,
    scopes: Option<u64>,
    allowed: u64,
    root: BorrowedFd<'_>,
) -> Result<()> {
    let attributes: [u64; 3] = [handled, 0, scopes.unwrap_or(0)];
    let size = if scopes.is_some() { 24 } else { 8 };
    // SAFETY: the kernel reads `size` bytes of attributes.
    let ruleset = unsafe { raw(LANDLOCK_CREATE, [attributes.as_ptr() as usize, size, 0, 0, 0, 0]) }
        .map(owned)?;
    let mut rule = [0_u8; 12];
    rule[..8].copy_from_slice(&allowed.to_ne_bytes());
    rule[8..].copy_from_slice(&root.as_raw_fd().to_ne_bytes());
    // SAFETY: the kernel reads twelve bytes: rights and descriptor, packed.
    unsafe { raw(LANDLOCK_ADD, [number(ruleset.as_fd()), 1, rule.as_ptr() as usize, 0, 0, 0]) }?;
    plain(LANDLOCK_RESTRICT, [number(ruleset.as_fd()), 0, 0, 0]).map(drop)
}
