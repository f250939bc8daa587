//! Numbers of the kernel: system calls per architecture (`asm/unistd.h`) and socket options.

pub(super) use table::*;

#[cfg(target_arch = "x86_64")]
mod table {
    pub(in crate::sys) const IOCTL: usize = 16;
    pub(in crate::sys) const SOCKET: usize = 41;
    pub(in crate::sys) const CONNECT: usize = 42;
    pub(in crate::sys) const SENDTO: usize = 44;
    pub(in crate::sys) const RECVFROM: usize = 45;
    pub(in crate::sys) const SENDMSG: usize = 46;
    pub(in crate::sys) const RECVMSG: usize = 47;
    pub(in crate::sys) const SHUTDOWN: usize = 48;
    pub(in crate::sys) const BIND: usize = 49;
    pub(in crate::sys) const LISTEN: usize = 50;
    pub(in crate::sys) const GETSOCKNAME: usize = 51;
    pub(in crate::sys) const SETSOCKOPT: usize = 54;
    pub(in crate::sys) const GETSOCKOPT: usize = 55;
    pub(in crate::sys) const FCNTL: usize = 72;
    pub(in crate::sys) const EPOLL_CTL: usize = 233;
    pub(in crate::sys) const UNSHARE: usize = 272;
    pub(in crate::sys) const SPLICE: usize = 275;
    pub(in crate::sys) const EPOLL_PWAIT: usize = 281;
    pub(in crate::sys) const ACCEPT4: usize = 288;
    pub(in crate::sys) const EPOLL_CREATE1: usize = 291;
    pub(in crate::sys) const PIPE2: usize = 293;
    pub(in crate::sys) const PRLIMIT64: usize = 302;
    pub(in crate::sys) const SETNS: usize = 308;
    pub(in crate::sys) const SETSID: usize = 112;
    pub(in crate::sys) const CLOSE_RANGE: usize = 436;
    pub(in crate::sys) const GETRANDOM: usize = 318;
    pub(in crate::sys) const CLONE: usize = 56;
    pub(in crate::sys) const WAIT4: usize = 61;
    pub(in crate::sys) const GETEUID: usize = 107;
    pub(in crate::sys) const SOCKETPAIR: usize = 53;
    pub(in crate::sys) const EXIT_GROUP: usize = 231;
    pub(in crate::sys) const BPF: usize = 321;
}

#[cfg(target_arch = "aarch64")]
mod table {
    pub(in crate::sys) const IOCTL: usize = 29;
    pub(in crate::sys) const SOCKET: usize = 198;
    pub(in crate::sys) const CONNECT: usize = 203;
    pub(in crate::sys) const SENDTO: usize = 206;
    pub(in crate::sys) const RECVFROM: usize = 207;
    pub(in crate::sys) const SENDMSG: usize = 211;
    pub(in crate::sys) const RECVMSG: usize = 212;
    pub(in crate::sys) const SHUTDOWN: usize = 210;
    pub(in crate::sys) const BIND: usize = 200;
    pub(in crate::sys) const LISTEN: usize = 201;
    pub(in crate::sys) const GETSOCKNAME: usize = 204;
    pub(in crate::sys) const SETSOCKOPT: usize = 208;
    pub(in crate::sys) const GETSOCKOPT: usize = 209;
    pub(in crate::sys) const FCNTL: usize = 25;
    pub(in crate::sys) const EPOLL_CTL: usize = 21;
    pub(in crate::sys) const UNSHARE: usize = 97;
    pub(in crate::sys) const SPLICE: usize = 76;
    pub(in crate::sys) const EPOLL_PWAIT: usize = 22;
    pub(in crate::sys) const ACCEPT4: usize = 242;
    pub(in crate::sys) const EPOLL_CREATE1: usize = 20;
    pub(in crate::sys) const PIPE2: usize = 59;
    pub(in crate::sys) const PRLIMIT64: usize = 261;
    pub(in crate::sys) const SETNS: usize = 268;
    pub(in crate::sys) const SETSID: usize = 157;
    pub(in crate::sys) const CLOSE_RANGE: usize = 436;
    pub(in crate::sys) const GETRANDOM: usize = 278;
    pub(in crate::sys) const CLONE: usize = 220;
    pub(in crate::sys) const WAIT4: usize = 260;
    pub(in crate::sys) const GETEUID: usize = 175;
    pub(in crate::sys) const SOCKETPAIR: usize = 199;
    pub(in crate::sys) const EXIT_GROUP: usize = 94;
    pub(in crate::sys) const BPF: usize = 280;
}

/// Address families and kinds of sockets.
pub(crate) const UNIX: i32 = 1;
pub(crate) const INET: i32 = 2;
pub(crate) const INET6: i32 = 10;
pub(crate) const NETLINK: i32 = 16;
pub(crate) const STREAM: i32 = 1;
pub(crate) const DATAGRAM: i32 = 2;
pub(crate) const RAW: i32 = 3;
pub(crate) const SEQPACKET: i32 = 5;

/// Levels of socket options.
pub(crate) const SOL_IP: i32 = 0;
pub(crate) const SOL_SOCKET: i32 = 1;
pub(crate) const SOL_TCP: i32 = 6;
pub(crate) const SOL_IPV6: i32 = 41;

/// Socket options, by level.
pub(crate) const SO_REUSEADDR: i32 = 2;
pub(crate) const SO_ERROR: i32 = 4;
pub(crate) const SO_KEEPALIVE: i32 = 9;
pub(crate) const SO_LINGER: i32 = 13;
pub(crate) const SO_PEERCRED: i32 = 17;
pub(crate) const TCP_NODELAY: i32 = 1;
pub(crate) const TCP_CONGESTION: i32 = 13;
pub(crate) const IP_FREEBIND: i32 = 15;
pub(crate) const IP_TRANSPARENT: i32 = 19;
pub(crate) const IP_RECVORIGDSTADDR: i32 = 20;
pub(crate) const IPV6_V6ONLY: i32 = 26;
pub(crate) const IPV6_RECVORIGDSTADDR: i32 = 74;
pub(crate) const IPV6_FREEBIND: i32 = 78;

/// Events of a queue.
pub(crate) const READABLE: u32 = 0x1;
pub(crate) const WRITABLE: u32 = 0x4;
pub(crate) const FAILED: u32 = 0x8 | 0x10;
pub(crate) const PEER_CLOSED: u32 = 0x2000;
pub(crate) const EDGE: u32 = 1 << 31;

/// Error numbers that mean something here.
pub(crate) const AGAIN: i32 = 11;
pub(crate) const IN_PROGRESS: i32 = 115;
