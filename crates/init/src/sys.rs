//! System calls: the only unsafe code of this program.
//!
//! Everything goes through [`raw`], one `syscall` instruction without libc's errno, so that a clone
//! without a new stack behaves exactly like fork. Each wrapper takes references and lengths that Rust
//! has already checked; the `SAFETY` lines say what the kernel reads or writes.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::numbers::{
    ACCEPT4, CAPGET, CAPSET, CHDIR, CLONE, CLONE_INTO_CGROUP, CLONE_PIDFD, CLONE_VM,
    CLONE_VM_VFORK, CLONE3, EPOLL_CREATE1, EPOLL_CTL, EPOLL_PWAIT, EXECVE, IOCTL, LANDLOCK_ADD,
    LANDLOCK_CREATE, LANDLOCK_RESTRICT, MKNODAT, MOUNT, MOUNT_SETATTR, MOVE_MOUNT, OPEN_TREE,
    OPENAT, PIPE2, PIVOT_ROOT, PRLIMIT64, RECVMSG, RT_SIGACTION, RT_SIGPROCMASK, SECCOMP, SENDMSG,
    SETFSGID, SETFSUID, SETGROUPS, SETHOSTNAME, SETRESGID, SETRESUID, SIGCHLD, SIGNALFD4, SOCKET,
    SOCKETPAIR, UMOUNT2, UNLINKAT, WAIT4,
};

pub(crate) use crate::calls::{
    Event, PipeEnd, READABLE, WRITABLE, Watch, close_from, exit, join, kill, listen, place, prctl,
    unshare, word,
};

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

fn owned(descriptor: usize) -> OwnedFd {
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

/// A detached copy of the mount at a path.
pub(crate) fn open_tree(path: &CStr) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: usize = 1;
    const O_CLOEXEC: usize = 0o2_000_000;
    // SAFETY: one NUL-terminated string, read only.
    unsafe { raw(OPEN_TREE, [AT_FDCWD, at(path), OPEN_TREE_CLONE | O_CLOEXEC, 0, 0, 0]) }.map(owned)
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

/// Lowers a resource limit, soft and hard.
pub(crate) fn limit(resource: usize, value: u64) -> Result<()> {
    let pair: [u64; 2] = [value, value];
    // SAFETY: the kernel reads two u64 and writes nothing (old limit is null).
    unsafe { raw(PRLIMIT64, [0, resource, pair.as_ptr() as usize, 0, 0, 0]) }.map(drop)
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

/// A connected pair of packet sockets.
pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    const SEQPACKET_CLOEXEC: usize = 5 | 0o2_000_000;
    let mut ends: [i32; 2] = [-1, -1];
    // SAFETY: the kernel writes two ints.
    unsafe { raw(SOCKETPAIR, [1, SEQPACKET_CLOEXEC, 0, ends.as_mut_ptr() as usize, 0, 0]) }?;
    Ok((owned(word(ends[0])), owned(word(ends[1]))))
}

/// The next client.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    const NONBLOCK_CLOEXEC: usize = 0o2_004_000;
    plain(ACCEPT4, [number(listener), 0, 0, NONBLOCK_CLOEXEC]).map(owned)
}

#[repr(C)]
struct MessageHeader {
    name: usize,
    name_length: u32,
    vectors: usize,
    vector_count: usize,
    control: usize,
    control_length: usize,
    flags: u32,
}

const MSG_NOSIGNAL: usize = 0x4000;
const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
const MSG_TRUNCATED: u32 = 0x20 | 0x8;
/// Descriptors in one message, at most.
const MAX_DESCRIPTORS: usize = 4;
const CONTROL_HEAD: usize = 16;

/// Changes the working folder.
pub(crate) fn enter(path: &CStr) -> Result<()> {
    // SAFETY: one NUL-terminated string, read only.
    unsafe { raw(CHDIR, [at(path), 0, 0, 0, 0, 0]) }.map(drop)
}

/// Sends one packet made of several parts, with descriptors.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    parts: &[&[u8]],
    descriptors: &[BorrowedFd<'_>],
) -> Result<()> {
    let vectors: Vec<[usize; 2]> =
        parts.iter().map(|part| [part.as_ptr() as usize, part.len()]).collect();
    let count = descriptors.len().min(MAX_DESCRIPTORS);
    let mut control = [0_u64; 4];
    control[0] = (CONTROL_HEAD + 4 * count) as u64;
    control[1] = 1 | (1 << 32); // SOL_SOCKET, SCM_RIGHTS
    for (index, descriptor) in descriptors.iter().take(count).enumerate() {
        let value = u64::from(descriptor.as_raw_fd().cast_unsigned());
        control[2 + index / 2] |= value << (32 * (index % 2));
    }
    let header = MessageHeader {
        name: 0,
        name_length: 0,
        vectors: vectors.as_ptr() as usize,
        vector_count: vectors.len(),
        control: if count == 0 { 0 } else { control.as_ptr() as usize },
        control_length: if count == 0 { 0 } else { (CONTROL_HEAD + 4 * count).next_multiple_of(8) },
        flags: 0,
    };
    let pointer = std::ptr::from_ref(&header) as usize;
    // SAFETY: header, vectors, parts and control live through the call and are only read.
    unsafe { raw(SENDMSG, [number(socket), pointer, MSG_NOSIGNAL, 0, 0, 0]) }.map(drop)
}

/// Receives one packet with its descriptors; zero bytes = the other end is gone. A cut packet is an error.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let vectors: [[usize; 2]; 1] = [[buffer.as_mut_ptr() as usize, buffer.len()]];
    let mut control = [0_u64; 4];
    let mut header = MessageHeader {
        name: 0,
        name_length: 0,
        vectors: vectors.as_ptr() as usize,
        vector_count: 1,
        control: control.as_mut_ptr() as usize,
        control_length: size_of_val(&control),
        flags: 0,
    };
    let pointer = std::ptr::from_mut(&mut header) as usize;
    // SAFETY: the kernel writes at most the buffer's length, the control length and the header.
    let length = unsafe { raw(RECVMSG, [number(socket), pointer, MSG_CMSG_CLOEXEC, 0, 0, 0]) }?;
    let mut descriptors = Vec::new();
    if header.control_length > CONTROL_HEAD && control[1] == 1 | (1 << 32) {
        let bytes = usize::try_from(control[0]).unwrap_or(0).saturating_sub(CONTROL_HEAD);
        for index in 0..(bytes / 4).min(MAX_DESCRIPTORS) {
            let value = (control[2 + index / 2] >> (32 * (index % 2))) & 0xffff_ffff;
            descriptors.push(owned(usize::try_from(value).unwrap_or(usize::MAX)));
        }
    }
    if header.flags & MSG_TRUNCATED != 0 {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    Ok((length, descriptors))
}

/// An event queue.
pub(crate) fn event_queue() -> Result<OwnedFd> {
    const CLOEXEC: usize = 0o2_000_000;
    plain(EPOLL_CREATE1, [CLOEXEC, 0, 0, 0]).map(owned)
}

/// Begins, changes (`events` as given) or, with zero events, keeps silent a watch on a descriptor.
pub(crate) fn watch(
    queue: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    change: Watch,
    events: u32,
    key: u64,
) -> Result<()> {
    let event = Event { events, key };
    let pointer = std::ptr::from_ref(&event) as usize;
    // SAFETY: the kernel reads one event.
    unsafe { raw(EPOLL_CTL, [number(queue), change as usize, number(fd), pointer, 0, 0]) }.map(drop)
}

/// Waits for events; `timeout` in milliseconds, -1 = for ever.
pub(crate) fn wait<'a>(
    queue: BorrowedFd<'_>,
    events: &'a mut [Event],
    timeout: i32,
) -> Result<&'a [Event]> {
    let pointer = events.as_mut_ptr() as usize;
    let timeout = word(timeout);
    // SAFETY: the kernel writes at most as many events as the slice holds; no signal mask is given.
    let count = unsafe { raw(EPOLL_PWAIT, [number(queue), pointer, events.len(), timeout, 0, 8]) }?;
    Ok(&events[..count])
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
