//! System calls: the only unsafe code of this program.
//!
//! Everything goes through [`raw`]. Each wrapper takes references and lengths that Rust has already checked;
//! the `SAFETY` lines say what the kernel reads or writes.

mod address;
mod numbers;
mod process;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use numbers::{
    ACCEPT4, BIND, BPF, CLOSE_RANGE, CONNECT, EPOLL_CREATE1, EPOLL_CTL, EPOLL_PWAIT, FCNTL,
    GETRANDOM, GETSOCKNAME, GETSOCKOPT, IOCTL, LISTEN, PIPE2, PRLIMIT64, RECVFROM, RECVMSG,
    SENDMSG, SENDTO, SETNS, SETSID, SETSOCKOPT, SHUTDOWN, SOCKET, SPLICE, UNSHARE,
};
pub(crate) use numbers::{
    AGAIN, DATAGRAM, EDGE, FAILED, IN_PROGRESS, INET, INET6, IP_FREEBIND, IP_RECVORIGDSTADDR,
    IP_TRANSPARENT, IPV6_FREEBIND, IPV6_RECVORIGDSTADDR, IPV6_V6ONLY, NETLINK, PEER_CLOSED, RAW,
    READABLE, SEQPACKET, SO_ERROR, SO_KEEPALIVE, SO_LINGER, SO_PEERCRED, SO_REUSEADDR, SOL_IP,
    SOL_IPV6, SOL_SOCKET, SOL_TCP, STREAM, TCP_CONGESTION, TCP_NODELAY, UNIX, WRITABLE,
};

pub(crate) use process::{
    in_child, is_root, join_user, own_user, owner_of, packet_pair, unshare_for_probe,
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
fn plain(number: usize, args: [usize; 4]) -> Result<usize> {
    // SAFETY: callers in this file pass numbers only, or null where a pointer is optional.
    unsafe { raw(number, [args[0], args[1], args[2], args[3], 0, 0]) }
}

fn owned(descriptor: usize) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(RawFd::try_from(descriptor).unwrap_or(-1)) }
}

fn number(fd: BorrowedFd<'_>) -> usize {
    usize::try_from(fd.as_raw_fd()).unwrap_or(usize::MAX)
}

/// An `int` argument, its sign carried to the whole register.
fn word(value: i32) -> usize {
    (value as isize).cast_unsigned()
}

const CLOEXEC: usize = 0o2_000_000;
const NONBLOCK_CLOEXEC: usize = 0o2_004_000;
const DONTWAIT: usize = 0x40;
const NOSIGNAL: usize = 0x4000;

/// Takes over descriptor 0, the listening control socket that the parent placed there.
pub(crate) fn inherited_listener() -> OwnedFd {
    // SAFETY: called once, at start, before anything else could own descriptor 0.
    unsafe { OwnedFd::from_raw_fd(0) }
}

/// Closes every descriptor above the standard streams. To be called at the very start: this process outlives
/// whoever left them open, who may wait for their end.
pub(crate) fn close_inherited() -> Result<()> {
    plain(CLOSE_RANGE, [3, u32::MAX as usize, 0, 0]).map(drop)
}

/// A socket that never blocks; closed on exec.
pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    plain(SOCKET, [word(family), word(kind) | NONBLOCK_CLOEXEC, word(protocol), 0]).map(owned)
}

/// Binds to an address.
pub(crate) fn bind(socket: BorrowedFd<'_>, to: SocketAddr) -> Result<()> {
    bind_raw(socket, address::encode(to).as_ref())
}

/// Binds to an address in the kernel's form.
pub(crate) fn bind_raw(socket: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    // SAFETY: pointer and length of one slice, read only.
    unsafe { raw(BIND, [number(socket), name.as_ptr() as usize, name.len(), 0, 0, 0]) }.map(drop)
}

/// Begins to connect; an error of [`IN_PROGRESS`] is success to come.
pub(crate) fn connect(socket: BorrowedFd<'_>, to: SocketAddr) -> Result<()> {
    connect_raw(socket, address::encode(to).as_ref())
}

/// Connects to a unix socket by its path, at most 107 bytes.
pub(crate) fn connect_unix(socket: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
    connect_raw(socket, &unix_name(path)?)
}

/// Binds a unix socket to a path, at most 107 bytes.
pub(crate) fn bind_unix(socket: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
    bind_raw(socket, &unix_name(path)?)
}

fn unix_name(path: &[u8]) -> Result<Vec<u8>> {
    if path.len() > 107 || path.contains(&0) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok([&1_u16.to_ne_bytes(), path, &[0]].concat())
}

fn connect_raw(socket: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    // SAFETY: pointer and length of one slice, read only.
    unsafe { raw(CONNECT, [number(socket), name.as_ptr() as usize, name.len(), 0, 0, 0]) }.map(drop)
}

/// Lets peers connect.
pub(crate) fn listen(socket: BorrowedFd<'_>, backlog: i32) -> Result<()> {
    plain(LISTEN, [number(socket), word(backlog), 0, 0]).map(drop)
}

/// Connections to a control socket that may wait.
pub(crate) const BACKLOG: i32 = 16;

/// Makes this process the leader of a session of its own.
pub(crate) fn new_session() -> Result<()> {
    plain(SETSID, [0; 4]).map(drop)
}

/// The next connection, never blocking.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    plain(ACCEPT4, [number(listener), 0, 0, NONBLOCK_CLOEXEC]).map(owned)
}

/// The address that a socket is bound to; of an accepted connection, the one that was dialled.
pub(crate) fn local_address(socket: BorrowedFd<'_>) -> Result<SocketAddr> {
    let mut name = [0_u8; 28];
    let mut length: u32 = 28;
    let (to, size) = (name.as_mut_ptr() as usize, std::ptr::from_mut(&mut length) as usize);
    // SAFETY: the kernel writes at most 28 bytes to name and one u32 to length.
    unsafe { raw(GETSOCKNAME, [number(socket), to, size, 0, 0, 0]) }?;
    address::decode(&name).ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

/// Sets an option whose value is an int.
pub(crate) fn set(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> Result<()> {
    set_bytes(socket, level, option, &value.to_ne_bytes())
}

/// Sets an option of any value.
pub(crate) fn set_bytes(
    socket: BorrowedFd<'_>,
    level: i32,
    option: i32,
    value: &[u8],
) -> Result<()> {
    let (pointer, length) = (value.as_ptr() as usize, value.len());
    let args = [number(socket), word(level), word(option), pointer, length, 0];
    // SAFETY: pointer and length of one slice, read only.
    unsafe { raw(SETSOCKOPT, args) }.map(drop)
}

/// Reads an option of three ints at most.
fn get(socket: BorrowedFd<'_>, option: i32) -> Result<[i32; 3]> {
    let mut value = [0_i32; 3];
    let mut length: u32 = 12;
    let (to, size) = (value.as_mut_ptr() as usize, std::ptr::from_mut(&mut length) as usize);
    // SAFETY: the kernel writes at most 12 bytes to value and one u32 to length.
    unsafe { raw(GETSOCKOPT, [number(socket), word(SOL_SOCKET), word(option), to, size, 0]) }?;
    Ok(value)
}

/// What became of a connection in progress.
pub(crate) fn pending_error(socket: BorrowedFd<'_>) -> Result<()> {
    match get(socket, SO_ERROR)?[0] {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// User id of the process at the other end of a unix socket.
pub(crate) fn peer_user(socket: BorrowedFd<'_>) -> Result<u32> {
    get(socket, SO_PEERCRED).map(|credentials| credentials[1].cast_unsigned())
}

/// Says that no more will be written.
pub(crate) fn shutdown_write(socket: BorrowedFd<'_>) -> Result<()> {
    plain(SHUTDOWN, [number(socket), 1, 0, 0]).map(drop)
}

/// Sends on a connected socket, never blocking.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    let flags = DONTWAIT | NOSIGNAL;
    // SAFETY: pointer and length of one slice, read only; no address.
    unsafe { raw(SENDTO, [number(socket), bytes.as_ptr() as usize, bytes.len(), flags, 0, 0]) }
}

/// Sends one datagram to an address, never blocking.
pub(crate) fn send_to(socket: BorrowedFd<'_>, bytes: &[u8], to: SocketAddr) -> Result<usize> {
    let encoded = address::encode(to);
    let name = encoded.as_ref();
    let (data, target) = (bytes.as_ptr() as usize, name.as_ptr() as usize);
    // SAFETY: two slices by pointer and length, read only.
    unsafe {
        raw(SENDTO, [number(socket), data, bytes.len(), DONTWAIT | NOSIGNAL, target, name.len()])
    }
}

/// Receives on a connected socket, never blocking; zero = the peer has ended.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    let to = buffer.as_mut_ptr() as usize;
    // SAFETY: the kernel writes at most the buffer's length; no address is asked for.
    unsafe { raw(RECVFROM, [number(socket), to, buffer.len(), DONTWAIT, 0, 0]) }
}

/// Looks at what would be received, and leaves it there.
pub(crate) fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    const PEEK: usize = 2;
    let to = buffer.as_mut_ptr() as usize;
    // SAFETY: the kernel writes at most the buffer's length; no address is asked for.
    unsafe { raw(RECVFROM, [number(socket), to, buffer.len(), DONTWAIT | PEEK, 0, 0]) }
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

/// A message as it came: length, sender's address in the kernel's form, control bytes, whether it was cut.
struct Received {
    length: usize,
    name: [u8; 28],
    control: Vec<u8>,
    is_cut: bool,
}

fn receive_message(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received> {
    const CMSG_CLOEXEC: usize = 0x4000_0000;
    let vectors: [[usize; 2]; 1] = [[buffer.as_mut_ptr() as usize, buffer.len()]];
    let mut name = [0_u8; 28];
    let mut control = [0_u64; 16];
    let mut header = MessageHeader {
        name: name.as_mut_ptr() as usize,
        name_length: 28,
        vectors: vectors.as_ptr() as usize,
        vector_count: 1,
        control: control.as_mut_ptr() as usize,
        control_length: size_of_val(&control),
        flags: 0,
    };
    let pointer = std::ptr::from_mut(&mut header) as usize;
    let flags = CMSG_CLOEXEC | DONTWAIT;
    // SAFETY: the kernel writes at most the lengths given to buffer, name and control, and the header.
    let length = unsafe { raw(RECVMSG, [number(socket), pointer, flags, 0, 0, 0]) }?;
    let control: Vec<u8> = control.iter().flat_map(|part| part.to_ne_bytes()).collect();
    let used = header.control_length.min(control.len());
    let is_cut = header.flags & (0x20 | 0x8) != 0;
    Ok(Received { length, name, control: control[..used].to_vec(), is_cut })
}

/// The control messages of one packet: level, kind, data.
fn control_messages(mut control: &[u8]) -> Vec<(i32, i32, Vec<u8>)> {
    let mut messages = Vec::new();
    while control.len() >= 16 {
        let length = u64::from_ne_bytes(control[..8].try_into().unwrap_or_default());
        let length = usize::try_from(length).unwrap_or(0);
        if length < 16 || length > control.len() {
            break;
        }
        let level = i32::from_ne_bytes(control[8..12].try_into().unwrap_or_default());
        let kind = i32::from_ne_bytes(control[12..16].try_into().unwrap_or_default());
        messages.push((level, kind, control[16..length].to_vec()));
        control = control.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    messages
}

/// Receives one packet with its descriptors; zero bytes = the other end is gone. A cut packet is an error.
pub(crate) fn receive_packet(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>)> {
    let message = receive_message(socket, buffer)?;
    let mut descriptors = Vec::new();
    for (level, kind, data) in control_messages(&message.control) {
        if (level, kind) == (SOL_SOCKET, 1) {
            let numbers = data
                .chunks_exact(4)
                .map(|four| u32::from_ne_bytes(four.try_into().unwrap_or_default()) as usize);
            descriptors.extend(numbers.map(owned));
        }
    }
    if message.is_cut {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    Ok((message.length, descriptors))
}

/// Sends one packet with at most one descriptor.
pub(crate) fn send_packet(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let vectors: [[usize; 2]; 1] = [[packet.as_ptr() as usize, packet.len()]];
    let value = descriptor.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned()));
    let control: [u64; 3] = [20, 1 | (1 << 32), value];
    let header = MessageHeader {
        name: 0,
        name_length: 0,
        vectors: vectors.as_ptr() as usize,
        vector_count: 1,
        control: if descriptor.is_some() { control.as_ptr() as usize } else { 0 },
        control_length: if descriptor.is_some() { size_of_val(&control) } else { 0 },
        flags: 0,
    };
    let pointer = std::ptr::from_ref(&header) as usize;
    // SAFETY: header, vectors, packet and control live through the call and are only read.
    unsafe { raw(SENDMSG, [number(socket), pointer, NOSIGNAL, 0, 0, 0]) }.map(drop)
}

/// One datagram: length, who sent it, and the address that it was sent to.
pub(crate) fn receive_datagram(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<(usize, SocketAddr, SocketAddr)> {
    let message = receive_message(socket, buffer)?;
    let unknown = || io::Error::from(io::ErrorKind::InvalidData);
    let source = address::decode(&message.name).ok_or_else(unknown)?;
    let wanted = [(SOL_IP, IP_RECVORIGDSTADDR), (SOL_IPV6, IPV6_RECVORIGDSTADDR)];
    let target = control_messages(&message.control)
        .into_iter()
        .find(|(level, kind, _)| wanted.contains(&(*level, *kind)))
        .and_then(|(_, _, data)| address::decode(&data))
        .ok_or_else(unknown)?;
    if message.is_cut {
        return Err(unknown());
    }
    Ok((message.length, source, target))
}

/// A pipe that never blocks, of about this many bytes, or of the kernel's own size where a user's share of
/// pipes is spent: reading end, writing end.
pub(crate) fn pipe(capacity: usize) -> Result<(OwnedFd, OwnedFd)> {
    const F_SETPIPE_SZ: usize = 1031;
    let mut ends: [i32; 2] = [-1, -1];
    // SAFETY: the kernel writes two ints.
    unsafe { raw(PIPE2, [ends.as_mut_ptr() as usize, NONBLOCK_CLOEXEC, 0, 0, 0, 0]) }?;
    let (read, write) = (owned(word(ends[0])), owned(word(ends[1])));
    let _ = plain(FCNTL, [number(write.as_fd()), F_SETPIPE_SZ, capacity, 0]);
    Ok((read, write))
}

/// Moves bytes between a pipe and a socket without copying them; never blocks.
pub(crate) fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, length: usize) -> Result<usize> {
    const MOVE_NONBLOCK: usize = 1 | 2;
    let args = [number(from), 0, number(to), 0, length, MOVE_NONBLOCK];
    // SAFETY: both offsets are null, so the kernel touches no memory of ours.
    unsafe { raw(SPLICE, args) }
}

/// One event as the kernel writes it.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
pub(crate) struct Event {
    pub(crate) events: u32,
    pub(crate) key: u64,
}

/// An event queue.
pub(crate) fn event_queue() -> Result<OwnedFd> {
    plain(EPOLL_CREATE1, [CLOEXEC, 0, 0, 0]).map(owned)
}

/// Begins to watch a descriptor; closing it ends the watch.
pub(crate) fn watch(
    queue: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    events: u32,
    key: u64,
) -> Result<()> {
    let event = Event { events, key };
    let pointer = std::ptr::from_ref(&event) as usize;
    // SAFETY: the kernel reads one event.
    unsafe { raw(EPOLL_CTL, [number(queue), 1, number(fd), pointer, 0, 0]) }.map(drop)
}

/// Waits for events; `timeout` in milliseconds, -1 = for ever.
pub(crate) fn wait(queue: BorrowedFd<'_>, events: &mut [Event], timeout: i32) -> Result<usize> {
    let pointer = events.as_mut_ptr() as usize;
    // SAFETY: the kernel writes at most as many events as the slice holds; no signal mask is given.
    unsafe { raw(EPOLL_PWAIT, [number(queue), pointer, events.len(), word(timeout), 0, 8]) }
}

const NEW_NETWORK: usize = 0x4000_0000;

/// Moves this thread to another network namespace.
pub(crate) fn join_network(namespace: BorrowedFd<'_>) -> Result<()> {
    plain(SETNS, [number(namespace), NEW_NETWORK, 0, 0]).map(drop)
}

/// Moves this thread to a fresh network namespace.
pub(crate) fn unshare_network() -> Result<()> {
    plain(UNSHARE, [NEW_NETWORK, 0, 0, 0]).map(drop)
}

/// The network namespace that a socket belongs to.
pub(crate) fn network_of(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    const SIOCGSKNS: usize = 0x894c;
    plain(IOCTL, [number(socket), SIOCGSKNS, 0, 0]).map(owned)
}

/// Raises the number of open files to the hard limit and returns it.
pub(crate) fn raise_open_files() -> Result<u64> {
    const NOFILE: usize = 7;
    let mut limit: [u64; 2] = [0, 0];
    // SAFETY: the kernel writes two u64 to limit; no new limit is given.
    unsafe { raw(PRLIMIT64, [0, NOFILE, 0, limit.as_mut_ptr() as usize, 0, 0]) }?;
    limit[0] = limit[1];
    // SAFETY: the kernel reads two u64; no old limit is asked for.
    unsafe { raw(PRLIMIT64, [0, NOFILE, limit.as_ptr() as usize, 0, 0, 0]) }?;
    Ok(limit[1])
}

/// Random bytes of the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0_u8; N];
    // SAFETY: the kernel writes at most N bytes.
    let filled = unsafe { raw(GETRANDOM, [bytes.as_mut_ptr() as usize, N, 0, 0, 0, 0]) }?;
    if filled == N { Ok(bytes) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) }
}

const BPF_MAP_CREATE: usize = 0;
const BPF_MAP_UPDATE: usize = 2;
const BPF_PROGRAM_LOAD: usize = 5;
const BPF_LINK_CREATE: usize = 28;

/// An array of sockets for a BPF program.
pub(crate) fn bpf_socket_map(entries: u32) -> Result<OwnedFd> {
    const SOCKMAP: u32 = 15;
    let attributes: [u32; 5] = [SOCKMAP, 4, 8, entries, 0];
    // SAFETY: the kernel reads 20 bytes of attributes.
    unsafe { raw(BPF, [BPF_MAP_CREATE, attributes.as_ptr() as usize, 20, 0, 0, 0]) }.map(owned)
}

/// Puts a socket into such an array.
pub(crate) fn bpf_place(map: BorrowedFd<'_>, key: u32, socket: BorrowedFd<'_>) -> Result<()> {
    let value = number(socket) as u64;
    let (key, value) = (std::ptr::from_ref(&key) as u64, std::ptr::from_ref(&value) as u64);
    let attributes: [u64; 4] = [number(map) as u64, key, value, 0];
    // SAFETY: the kernel reads 32 bytes of attributes, a key of 4 and a value of 8 bytes.
    unsafe { raw(BPF, [BPF_MAP_UPDATE, attributes.as_ptr() as usize, 32, 0, 0, 0]) }.map(drop)
}

/// Loads a program that chooses the socket of incoming connections.
pub(crate) fn bpf_socket_lookup(instructions: &[u64]) -> Result<OwnedFd> {
    const SK_LOOKUP: u32 = 30;
    const ATTACH_SK_LOOKUP: u32 = 36;
    const LICENSE: &std::ffi::CStr = c"Apache-2.0";
    let count = u32::try_from(instructions.len()).unwrap_or(u32::MAX);
    let mut attributes = [0_u64; 9];
    attributes[0] = u64::from(SK_LOOKUP) | u64::from(count) << 32;
    attributes[1] = instructions.as_ptr() as u64;
    attributes[2] = LICENSE.as_ptr() as u64;
    attributes[8] = u64::from(ATTACH_SK_LOOKUP) << 32;
    // SAFETY: the kernel reads 72 bytes of attributes, the instructions and the licence text.
    unsafe { raw(BPF, [BPF_PROGRAM_LOAD, attributes.as_ptr() as usize, 72, 0, 0, 0]) }.map(owned)
}

/// Ties a program to a network namespace for as long as the answer stays open.
pub(crate) fn bpf_link(program: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    const ATTACH_SK_LOOKUP: usize = 36;
    let fields = [number(program), number(namespace), ATTACH_SK_LOOKUP, 0];
    let attributes = fields.map(|field| u32::try_from(field).unwrap_or(u32::MAX));
    // SAFETY: the kernel reads 16 bytes of attributes.
    unsafe { raw(BPF, [BPF_LINK_CREATE, attributes.as_ptr() as usize, 16, 0, 0, 0]) }.map(owned)
}
