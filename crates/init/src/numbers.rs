//! Numbers of the kernel: system calls per architecture (`asm/unistd.h`), flags and signals.

pub(crate) use table::*;

#[cfg(target_arch = "x86_64")]
mod table {
    pub(crate) const IOCTL: usize = 16;
    pub(crate) const SOCKET: usize = 41;
    pub(crate) const SENDMSG: usize = 46;
    pub(crate) const RECVMSG: usize = 47;
    pub(crate) const LISTEN: usize = 50;
    pub(crate) const SOCKETPAIR: usize = 53;
    pub(crate) const CLONE: usize = 56;
    pub(crate) const EXECVE: usize = 59;
    pub(crate) const WAIT4: usize = 61;
    pub(crate) const KILL: usize = 62;
    pub(crate) const FCNTL: usize = 72;
    pub(crate) const UMASK: usize = 95;
    pub(crate) const GETPPID: usize = 110;
    pub(crate) const SETSID: usize = 112;
    pub(crate) const SETGROUPS: usize = 116;
    pub(crate) const SETRESUID: usize = 117;
    pub(crate) const SETRESGID: usize = 119;
    pub(crate) const CHDIR: usize = 80;
    pub(crate) const SETFSUID: usize = 122;
    pub(crate) const SETFSGID: usize = 123;
    pub(crate) const CAPGET: usize = 125;
    pub(crate) const CAPSET: usize = 126;
    pub(crate) const PIVOT_ROOT: usize = 155;
    pub(crate) const PRCTL: usize = 157;
    pub(crate) const MOUNT: usize = 165;
    pub(crate) const UMOUNT2: usize = 166;
    pub(crate) const SETHOSTNAME: usize = 170;
    pub(crate) const RT_SIGACTION: usize = 13;
    pub(crate) const RT_SIGPROCMASK: usize = 14;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const EPOLL_CTL: usize = 233;
    pub(crate) const MKNODAT: usize = 259;
    pub(crate) const PPOLL: usize = 271;
    pub(crate) const UNSHARE: usize = 272;
    pub(crate) const EPOLL_PWAIT: usize = 281;
    pub(crate) const ACCEPT4: usize = 288;
    pub(crate) const SIGNALFD4: usize = 289;
    pub(crate) const EPOLL_CREATE1: usize = 291;
    pub(crate) const SPLICE: usize = 275;
    pub(crate) const DUP3: usize = 292;
    pub(crate) const PIPE2: usize = 293;
    pub(crate) const PRLIMIT64: usize = 302;
    pub(crate) const SETNS: usize = 308;
    pub(crate) const SECCOMP: usize = 317;
    pub(crate) const OPENAT: usize = 257;
    pub(crate) const MKDIRAT: usize = 258;
    pub(crate) const UNLINKAT: usize = 263;
}

#[cfg(target_arch = "aarch64")]
mod table {
    pub(crate) const IOCTL: usize = 29;
    pub(crate) const SOCKET: usize = 198;
    pub(crate) const SENDMSG: usize = 211;
    pub(crate) const RECVMSG: usize = 212;
    pub(crate) const LISTEN: usize = 201;
    pub(crate) const SOCKETPAIR: usize = 199;
    pub(crate) const CLONE: usize = 220;
    pub(crate) const EXECVE: usize = 221;
    pub(crate) const WAIT4: usize = 260;
    pub(crate) const KILL: usize = 129;
    pub(crate) const FCNTL: usize = 25;
    pub(crate) const UMASK: usize = 166;
    pub(crate) const GETPPID: usize = 173;
    pub(crate) const SETSID: usize = 157;
    pub(crate) const SETGROUPS: usize = 159;
    pub(crate) const SETRESUID: usize = 147;
    pub(crate) const SETRESGID: usize = 149;
    pub(crate) const CHDIR: usize = 49;
    pub(crate) const SETFSUID: usize = 151;
    pub(crate) const SETFSGID: usize = 152;
    pub(crate) const CAPGET: usize = 90;
    pub(crate) const CAPSET: usize = 91;
    pub(crate) const PIVOT_ROOT: usize = 41;
    pub(crate) const PRCTL: usize = 167;
    pub(crate) const MOUNT: usize = 40;
    pub(crate) const UMOUNT2: usize = 39;
    pub(crate) const SETHOSTNAME: usize = 161;
    pub(crate) const RT_SIGACTION: usize = 134;
    pub(crate) const RT_SIGPROCMASK: usize = 135;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const EPOLL_CTL: usize = 21;
    pub(crate) const MKNODAT: usize = 33;
    pub(crate) const PPOLL: usize = 73;
    pub(crate) const UNSHARE: usize = 97;
    pub(crate) const EPOLL_PWAIT: usize = 22;
    pub(crate) const ACCEPT4: usize = 242;
    pub(crate) const SIGNALFD4: usize = 74;
    pub(crate) const EPOLL_CREATE1: usize = 20;
    pub(crate) const SPLICE: usize = 76;
    pub(crate) const DUP3: usize = 24;
    pub(crate) const PIPE2: usize = 59;
    pub(crate) const PRLIMIT64: usize = 261;
    pub(crate) const SETNS: usize = 268;
    pub(crate) const SECCOMP: usize = 277;
    pub(crate) const OPENAT: usize = 56;
    pub(crate) const MKDIRAT: usize = 34;
    pub(crate) const UNLINKAT: usize = 35;
}

// The same on every architecture.
pub(crate) const OPEN_TREE: usize = 428;
pub(crate) const MOVE_MOUNT: usize = 429;
pub(crate) const CLONE3: usize = 435;
pub(crate) const CLOSE_RANGE: usize = 436;
pub(crate) const OPENAT2: usize = 437;
pub(crate) const MOUNT_SETATTR: usize = 442;
pub(crate) const LANDLOCK_CREATE: usize = 444;
pub(crate) const LANDLOCK_ADD: usize = 445;
pub(crate) const LANDLOCK_RESTRICT: usize = 446;

pub(crate) const CLONE_NEWNS: u64 = 0x0002_0000;
pub(crate) const CLONE_NEWCGROUP: u64 = 0x0200_0000;
pub(crate) const CLONE_NEWUTS: u64 = 0x0400_0000;
pub(crate) const CLONE_NEWIPC: u64 = 0x0800_0000;
pub(crate) const CLONE_NEWUSER: u64 = 0x1000_0000;
pub(crate) const CLONE_NEWPID: u64 = 0x2000_0000;
pub(crate) const CLONE_NEWNET: u64 = 0x4000_0000;
pub(crate) const CLONE_VM: u64 = 0x100;
pub(crate) const CLONE_VM_VFORK: usize = 0x4100;
pub(crate) const CLONE_PIDFD: u64 = 0x1000;
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

pub(crate) const MS_RDONLY: usize = 1;
pub(crate) const MS_NOSUID: usize = 2;
pub(crate) const MS_NODEV: usize = 4;
pub(crate) const MS_NOEXEC: usize = 8;
pub(crate) const MS_REMOUNT: usize = 32;
pub(crate) const MS_BIND: usize = 4096;
pub(crate) const MS_REC: usize = 16384;
pub(crate) const MS_PRIVATE: usize = 1 << 18;

pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGPIPE: i32 = 13;
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGCHLD: i32 = 17;
pub(crate) const SIGSTOP: i32 = 19;

pub(crate) const RLIMIT_FSIZE: usize = 1;
pub(crate) const RLIMIT_CORE: usize = 4;
pub(crate) const RLIMIT_NPROC: usize = 6;
pub(crate) const RLIMIT_NOFILE: usize = 7;
pub(crate) const RLIMIT_MEMLOCK: usize = 8;
pub(crate) const RLIMIT_SIGPENDING: usize = 11;
pub(crate) const RLIMIT_MSGQUEUE: usize = 12;
