//! System calls: the only unsafe code of this program.
//!
//! Everything goes through [`raw`], one `syscall` instruction without libc's errno, so that a clone
//! without a new stack behaves exactly like fork. Each wrapper takes references and lengths that Rust
//! has already checked; the `SAFETY` lines say what the kernel reads or writes.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::numbers::{
    CHDIR, CLONE, CLONE_INTO_CGROUP, CLONE_PIDFD, CLONE_VM, CLONE_VM_VFORK, CLONE3, EXECVE, IOCTL,
    OPENAT, PIPE2, RT_SIGACTION, RT_SIGPROCMASK, SIGCHLD, SIGNALFD4, SOCKET, UNLINKAT, WAIT4,
};

mod channel;
mod mounts;
mod rights;
mod terminals;

pub(crate) use crate::calls::{
    Event, PipeEnd, READABLE, WRITABLE, Watch, close_from, close_range, exit, join, kill, listen,
    place, place_number, prctl, unshare, word,
};
pub(crate) use channel::{
    Room, accept, event_queue, receive, room, send, socket_pair, wait, watch,
};
pub(crate) use mounts::{
    confine, detach, device, idmap, make_folder, mount, move_mount, move_mount_on, open_folder,
    open_tree, open_tree_at, pivot_here, set_hostname,
};
pub(crate) use rights::{
    become_user, create_files_as, landlock, landlock_version, limit, load_filter, lower, restore,
    set_capabilities,
};
pub(crate) use terminals::{copy_above, foreground, set_window, swallow, take_terminal, terminal};

/// Errors of the kernel as [`io::Error`].
pub(crate) type Result<T> = io::Result<T>;

/// One system call.
///
/// # Safety
/// Pointers among the arguments must be valid for what this call reads and writes.
#[cfg(target_arch = "x86_64")]
unsafe fn raw(number: usize, args: [usize; 6]) -> Result<usize> {
    let result: isize;
    // SAFETY: the instruction clobbers what is declared; the caller vouches for the arguments.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    answer(result)
}

/// One system call.
///
/// # Safety
/// Pointers among the arguments must be valid for what this call reads and writes.
#[cfg(target_arch = "aarch64")]
unsafe fn raw(number: usize, args: [usize; 6]) -> Result<usize> {
    let result: isize;
    // SAFETY: the instruction clobbers what is declared; the caller vouches for the arguments.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4], in("x5") args[5],
            options(nostack)
        );
    }
    answer(result)
}

fn answer(result: isize) -> Result<usize> {
    match usize::try_from(result) {
        Ok(value) => Ok(value),
        Err(_) => Err(io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(i32::MAX))),
    }
}

/// A system call whose arguments are plain numbers.
pub(crate) fn plain(number: usize, args: [usize; 4]) -> Result<usize> {
    // SAFETY: callers in this program pass numbers only, or null where a pointer is optional.
    unsafe { raw(number, [args[0], args[1], args[2], args[3], 0, 0]) }
}

pub(crate) fn owned(descriptor: usize) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(RawFd::try_from(descriptor).unwrap_or(-1)) }
}

pub(crate) fn number(fd: BorrowedFd<'_>) -> usize {
    usize::try_from(fd.as_raw_fd()).unwrap_or(usize::MAX)
}

fn at(path: &CStr) -> usize {
    path.as_ptr() as usize
}

const AT_FDCWD: usize = (-100_isize).cast_unsigned();
const AT_EMPTY_PATH: usize = 0x1000;

/// Takes over a descriptor of a known number that this process was started with.
pub(crate) fn inherited(descriptor: RawFd) -> OwnedFd {
    // SAFETY: called once per number, for descriptors that the parent placed for us.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// `fork`; `Ok(0)` in the child.
pub(crate) fn clone() -> Result<i32> {
    // SAFETY: without CLONE_VM the child has its own copy of everything, stack included.
    let pid = unsafe { raw(CLONE, [word(SIGCHLD), 0, 0, 0, 0, 0]) }?;
    Ok(i32::try_from(pid).unwrap_or(-1))
}

/// Starts a child on a stack of its own in this process's memory, and waits until it has become another
/// program or left: no page is copied. What `child` allocates is never freed, so it must not allocate.
pub(crate) fn vfork(stack: &mut [u128], child: &mut dyn FnMut()) -> Result<i32> {
    extern "C" fn run(child: *mut &mut dyn FnMut()) -> ! {
        // SAFETY: points at the caller's `child`, and the caller waits until this process is done with it.
        let child = unsafe { &mut *child };
        child();
        exit(127)
    }
    let flags = CLONE_VM_VFORK | word(SIGCHLD);
    let top = stack.as_mut_ptr_range().end as usize;
    let mut child = child;
    let argument = std::ptr::from_mut(&mut child);
    // SAFETY: the child begins on the given stack, aligned to 16 bytes, and never returns from `run`; this
    // thread, the only one, is held by the kernel meanwhile, so nothing is shared at the same time.
    let result = unsafe { clone_onto(flags, top, argument as usize, run as *const () as usize) };
    answer(result).map(|pid| i32::try_from(pid).unwrap_or(-1))
}

/// Starts a child in this process's memory, on a stack of its own, and goes on beside it: no page is copied.
pub(crate) fn clone_beside(
    flags: u64,
    stack: &mut [u128],
    child: extern "C" fn() -> !,
) -> Result<i32> {
    let flags = usize::try_from(flags | CLONE_VM).unwrap_or(0) | word(SIGCHLD);
    let top = stack.as_mut_ptr_range().end as usize;
    // SAFETY: as in `vfork`, but both run at once: `child` is given nothing and makes system calls only, so
    // that all it writes is its own stack, which is never freed nor used for anything else.
    let result = unsafe { clone_onto(flags, top, 0, child as *const () as usize) };
    answer(result).map(|pid| i32::try_from(pid).unwrap_or(-1))
}

/// # Safety
/// As for its callers, [`vfork`] and [`clone_beside`].
#[cfg(target_arch = "x86_64")]
unsafe fn clone_onto(flags: usize, top: usize, argument: usize, run: usize) -> isize {
    let result: isize;
    // SAFETY: see the caller; the parent's registers and stack are as before the instruction.
    unsafe {
        std::arch::asm!(
            "syscall", "test rax, rax", "jnz 2f", "xor ebp, ebp", "mov rdi, r12", "call r13", "ud2", "2:",
            inlateout("rax") CLONE => result,
            in("rdi") flags, in("rsi") top, in("rdx") 0, in("r10") 0, in("r8") 0,
            in("r12") argument, in("r13") run, lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// # Safety
/// As for its callers, [`vfork`] and [`clone_beside`].
#[cfg(target_arch = "aarch64")]
unsafe fn clone_onto(flags: usize, top: usize, argument: usize, run: usize) -> isize {
    let result: isize;
    // SAFETY: see the caller; the parent's registers and stack are as before the instruction.
    unsafe {
        std::arch::asm!(
            "svc 0", "cbnz x0, 2f", "mov x29, xzr", "mov x0, x20", "blr x21", "brk 1", "2:",
            in("x8") CLONE, inlateout("x0") flags => result,
            in("x1") top, in("x2") 0, in("x3") 0, in("x4") 0, in("x20") argument, in("x21") run,
        );
    }
    result
}

/// `fork` into namespaces and a version 2 control group; the parent also gets a pidfd.
pub(crate) fn clone_into(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<(i32, Option<OwnedFd>)> {
    #[repr(C)]
    #[derive(Default)]
    struct Args {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    let mut pidfd: i32 = -1;
    let mut args = Args {
        flags: flags | CLONE_PIDFD,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: SIGCHLD as u64,
        ..Args::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = number(cgroup) as u64;
    }
    let pointer = std::ptr::from_ref(&args) as usize;
    // SAFETY: args and pidfd live through the call; without CLONE_VM the child has its own copies.
    let pid = unsafe { raw(CLONE3, [pointer, size_of::<Args>(), 0, 0, 0, 0]) }?;
    let pidfd = (pid != 0).then(|| owned(usize::try_from(pidfd).unwrap_or(usize::MAX)));
    Ok((i32::try_from(pid).unwrap_or(-1), pidfd))
}

/// A child that ended: its id and wait status.
pub(crate) fn reap() -> Result<Option<(i32, i32)>> {
    const WNOHANG: usize = 1;
    let mut status: i32 = 0;
    let pointer = std::ptr::from_mut(&mut status) as usize;
    // SAFETY: the kernel writes one int to status.
    let pid = unsafe { raw(WAIT4, [usize::MAX, pointer, WNOHANG, 0, 0, 0]) }?;
    Ok((pid != 0).then(|| (i32::try_from(pid).unwrap_or(-1), status)))
}

/// Opens relative to a folder, never through a link at the end.
pub(crate) fn open_at(folder: BorrowedFd<'_>, name: &CStr, flags: usize) -> Result<OwnedFd> {
    const NOFOLLOW_CLOEXEC: usize = 0o2_400_000;
    // SAFETY: one NUL-terminated string, read only.
    unsafe { raw(OPENAT, [number(folder), at(name), flags | NOFOLLOW_CLOEXEC, 0o600, 0, 0]) }
        .map(owned)
}

/// Deletes a file relative to a folder.
pub(crate) fn unlink_at(folder: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: one NUL-terminated string, read only.
    unsafe { raw(UNLINKAT, [number(folder), at(name), 0, 0, 0, 0]) }.map(drop)
}

/// A pipe: reading end, writing end; closed on exec.
pub(crate) fn pipe(nonblocking_end: PipeEnd) -> Result<(OwnedFd, OwnedFd)> {
    const O_CLOEXEC: usize = 0o2_000_000;
    let mut ends: [i32; 2] = [-1, -1];
    let pointer = ends.as_mut_ptr() as usize;
    // SAFETY: the kernel writes two ints.
    unsafe { raw(PIPE2, [pointer, O_CLOEXEC, 0, 0, 0, 0]) }?;
    let (read, write) = (owned(word(ends[0])), owned(word(ends[1])));
    let ours = match nonblocking_end {
        PipeEnd::Read => &read,
        PipeEnd::Write => &write,
    };
    set_nonblocking(ours)?;
    Ok((read, write))
}

fn set_nonblocking(fd: &OwnedFd) -> Result<()> {
    const FIONBIO: usize = 0x5421;
    let on: i32 = 1;
    let pointer = std::ptr::from_ref(&on) as usize;
    // SAFETY: the kernel reads one int.
    unsafe { raw(IOCTL, [number(fd.as_fd()), FIONBIO, pointer, 0, 0, 0]) }.map(drop)
}

/// Replaces this process by a program; returns only on failure.
pub(crate) fn exec(
    path: &CStr,
    argv: &[*const std::ffi::c_char],
    env: &[*const std::ffi::c_char],
) -> io::Error {
    // SAFETY: both lists end with null and their strings outlive the call.
    match unsafe { raw(EXECVE, [at(path), argv.as_ptr() as usize, env.as_ptr() as usize, 0, 0, 0]) }
    {
        Err(error) => error,
        Ok(_) => io::Error::other("exec returned"),
    }
}

/// Sets a signal to its default or to be ignored.
pub(crate) fn set_signal(signal: i32, ignore: bool) -> Result<()> {
    let action: [u64; 4] = [u64::from(ignore), 0, 0, 0];
    let pointer = action.as_ptr() as usize;
    // SAFETY: the kernel reads one struct sigaction (handler, flags, restorer, mask), writes nothing.
    unsafe { raw(RT_SIGACTION, [word(signal), pointer, 0, 8, 0, 0]) }.map(drop)
}

/// Blocks exactly these signals.
pub(crate) fn block_signals(signals: &[i32]) -> Result<()> {
    const SIG_SETMASK: usize = 2;
    let mask: u64 = signals.iter().fold(0, |mask, signal| mask | 1 << (signal - 1));
    let pointer = std::ptr::from_ref(&mask) as usize;
    // SAFETY: the kernel reads eight bytes.
    unsafe { raw(RT_SIGPROCMASK, [SIG_SETMASK, pointer, 0, 8, 0, 0]) }.map(drop)
}

/// A descriptor that becomes readable when a child ends.
pub(crate) fn child_signals() -> Result<OwnedFd> {
    const NONBLOCK_CLOEXEC: usize = 0o2_004_000;
    let mask: u64 = 1 << (SIGCHLD - 1);
    let pointer = std::ptr::from_ref(&mask) as usize;
    // SAFETY: the kernel reads eight bytes.
    unsafe { raw(SIGNALFD4, [usize::MAX, pointer, 8, NONBLOCK_CLOEXEC, 0, 0]) }.map(owned)
}

/// Changes the working folder.
pub(crate) fn enter(path: &CStr) -> Result<()> {
    // SAFETY: one NUL-terminated string, read only.
    unsafe { raw(CHDIR, [at(path), 0, 0, 0, 0, 0]) }.map(drop)
}

/// Brings the loopback device of this network namespace up.
pub(crate) fn loopback_up() -> Result<()> {
    const SIOCSIFFLAGS: usize = 0x8914;
    const UP_RUNNING: u16 = 0x41;
    let socket = owned(plain(SOCKET, [2, 2 | 0o2_000_000, 0, 0])?);
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&UP_RUNNING.to_ne_bytes());
    // SAFETY: request is a struct ifreq of 40 bytes: name, then flags.
    unsafe {
        raw(IOCTL, [number(socket.as_fd()), SIOCSIFFLAGS, request.as_ptr() as usize, 0, 0, 0])
    }
    .map(drop)
}
