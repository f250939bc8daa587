//! Loop devices: a file as a block device that detaches itself with its last user.

#![expect(unsafe_code, reason = "kernel calls that no safe wrapper offers")]

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl};

const GET_FREE: Opcode = 0x4C82;
const CONFIGURE: Opcode = 0x4C0A;
const GET_STATUS: Opcode = 0x4C05;
const FLAG_AUTOCLEAR: u32 = 4;
const FLAG_DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    special_device: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Info {
    const EMPTY: Self = Self {
        device: 0,
        inode: 0,
        special_device: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// `LOOP_CTL_GET_FREE`: the number comes back as the call's result.
struct GetFree;

// SAFETY: the call takes no argument; its result is a device number that is never negative on success.
unsafe impl Ioctl for GetFree {
    type Output = u32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<u32> {
        u32::try_from(output).map_err(|_| rustix::io::Errno::RANGE)
    }
}

/// Number of a loop device that nobody uses at this moment; another process may take it first.
pub(crate) fn free_number(control: impl AsFd) -> io::Result<u32> {
    // SAFETY: `GetFree` passes no pointer; a wrong descriptor answers ENOTTY.
    unsafe { ioctl(control, GetFree) }.map_err(io::Error::from)
}

/// Puts a file behind a free loop device. It detaches itself when the last user closes it.
///
/// `ResourceBusy` when the device was taken meanwhile. With `direct` the host's page cache is passed by.
pub(crate) fn configure(device: impl AsFd, file: impl AsFd, direct: bool) -> io::Result<()> {
    let fd = u32::try_from(file.as_fd().as_raw_fd())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut config = Config { fd, block_size: 0, info: Info::EMPTY, reserved: [0; 8] };
    config.info.flags = FLAG_AUTOCLEAR | if direct { FLAG_DIRECT_IO } else { 0 };
    // SAFETY: LOOP_CONFIGURE reads a `loop_config`, whose layout `Config` has.
    let request = unsafe { Updater::<CONFIGURE, Config>::new(&mut config) };
    // SAFETY: as above; both descriptors are open for the time of the call.
    unsafe { ioctl(device, request) }.map_err(io::Error::from)
}

/// Device and inode number of the file behind a loop device; an error when it has none.
pub(crate) fn backing(device: impl AsFd) -> io::Result<(u64, u64)> {
    let mut info = Info::EMPTY;
    // SAFETY: LOOP_GET_STATUS64 writes a `loop_info64`, whose layout `Info` has.
    let request = unsafe { Updater::<GET_STATUS, Info>::new(&mut info) };
    // SAFETY: as above.
    unsafe { ioctl(device, request) }.map_err(io::Error::from)?;
    Ok((info.device, info.inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_the_kernel() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(size_of::<Config>(), 304);
    }
}
