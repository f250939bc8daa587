//! Which system calls are allowed, which are refused, and why; ids are cases of the isolation contract.
//!
//! Refusals say `EPERM`, so that a program learns that it may not. Calls this list does not know, and
//! those whose arguments cannot be judged, say `ENOSYS`, so that a C library falls back to older ones.
//! Allowed on purpose: ptrace, `process_vm_*`, `pidfd_getfd` and kcmp, which reach only processes of the
//! sandbox's own pid namespace (E10) and never init, which is not dumpable; prctl and seccomp, because
//! further filters can only tighten; chroot and FIFOs or sockets by mknod, because they give nothing.

use std::collections::BTreeMap;

use super::{Action, Rule, Switch};

const EPERM: Action = Action::Errno(1);
const ENOSYS: Action = Action::Errno(38);
const ENOTTY: Action = Action::Errno(25);
const EPROTONOSUPPORT: Action = Action::Errno(93);
const EAFNOSUPPORT: Action = Action::Errno(97);
const ALLOW: Rule = Rule::Always(Action::Allow);

/// For numbers without a name in the table of the architecture.
pub(super) const UNKNOWN: Rule = Rule::Always(ENOSYS);

/// For calls by another architecture's convention: what a kernel built without it says.
pub(super) const FOREIGN: Action = ENOSYS;

/// Allowed whatever the arguments are.
const ALLOWED: [&str; 8] = [
    // Files and folders.
    "access chdir chmod chown chroot close close_range copy_file_range creat dup dup2 dup3 faccessat \
     faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync \
     fgetxattr file_getattr file_setattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync \
     ftruncate futimesat getcwd getdents getdents64 getxattr getxattrat lchown lgetxattr link linkat \
     listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat newfstatat open \
     openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat \
     readv removexattr removexattrat rename renameat renameat2 rmdir sendfile setxattr setxattrat splice \
     stat statfs statx symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink unlinkat \
     utime utimensat utimes vmsplice write writev",
    // Waiting for descriptors.
    "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 \
     inotify_add_watch inotify_init inotify_init1 inotify_rm_watch poll ppoll pselect6 select signalfd \
     signalfd4 timerfd_create timerfd_gettime timerfd_settime",
    // Memory.
    "brk madvise map_shadow_stack mbind membarrier memfd_create mincore mlock mlock2 mlockall mmap \
     mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect \
     process_madvise process_mrelease remap_file_pages get_mempolicy set_mempolicy \
     set_mempolicy_home_node",
    // Processes, threads and signals.
    "alarm arch_prctl execve execveat exit exit_group fork futex futex_requeue futex_wait futex_waitv \
     futex_wake get_robust_list get_thread_area getcpu getitimer getpgid getpgrp getpid getppid \
     getpriority getrlimit getrusage getsid gettid ioprio_get ioprio_set kcmp kill pause \
     pidfd_getfd pidfd_open pidfd_send_signal prctl prlimit64 process_vm_readv process_vm_writev ptrace \
     restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
     rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min \
     sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
     sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield set_robust_list \
     set_thread_area set_tid_address setitimer setpgid setpriority setrlimit setsid sigaltstack tgkill \
     tkill uprobe uretprobe vfork wait4 waitid",
    // Users and rights, all within the sandbox's own user namespace.
    "capget capset getegid geteuid getgid getgroups getresgid getresuid getuid landlock_add_rule \
     landlock_create_ruleset landlock_restrict_self lsm_get_self_attr lsm_list_modules seccomp setfsgid \
     setfsuid setgid setgroups setregid setresgid setresuid setreuid setuid",
    // Sockets once they are made, and messages between processes.
    "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg \
     sendmmsg sendmsg sendto setsockopt shutdown mq_getsetattr mq_notify mq_open mq_timedreceive \
     mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd pipe pipe2 semctl semget semop semtimedop shmat \
     shmctl shmdt shmget",
    // Reading clocks, and timers.
    "clock_getres clock_gettime clock_nanosleep gettimeofday nanosleep time timer_create timer_delete \
     timer_getoverrun timer_gettime timer_settime times",
    // Facts about the machine and about the sandbox's own mounts.
    "getrandom listmount statmount sysinfo uname",
];

/// Refused whatever the arguments are.
const REFUSED: [(&str, Action); 13] = [
    // Namespaces, also when hidden in a struct that a filter cannot read (E10, E17).
    ("setns unshare", EPERM),
    ("clone3", ENOSYS),
    // Mounts: a sandbox's are as they were made, and mount code is a wide attack surface (E3, E5, E9).
    (
        "fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree open_tree_attr \
         pivot_root umount2",
        EPERM,
    ),
    // Subsystems with a history of holes, and ways round this filter (E11).
    (
        "add_key bpf io_uring_enter io_uring_register io_uring_setup keyctl lookup_dcookie \
         perf_event_open request_key userfaultfd",
        EPERM,
    ),
    // The kernel itself and the machine (E2, E11).
    (
        "acct delete_module finit_module init_module ioperm iopl kexec_file_load kexec_load \
         lsm_set_self_attr modify_ldt reboot swapoff swapon syslog vhangup",
        EPERM,
    ),
    // Contexts come out of one small number for the whole host, which a sandbox could use up (R4); programs
    // that know these calls do without them.
    ("io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit", ENOSYS),
    // Files by handle instead of by path, past every mount and chroot (E11).
    ("name_to_handle_at open_by_handle_at", EPERM),
    // Watching whole file systems and changing their quotas (E11).
    ("fanotify_init fanotify_mark quotactl quotactl_fd", EPERM),
    // Host clocks (E20) and names (E19).
    ("adjtimex clock_adjtime clock_settime settimeofday setdomainname sethostname", EPERM),
    // Page-cache state of files shared with the host and neighbours (E19).
    ("cachestat", EPERM),
    // Memory that freezing, snapshots and moving cannot handle; where pages lie on the host (E19).
    ("memfd_secret migrate_pages move_pages", EPERM),
    // Obsolete, with information on the host's devices and file systems (E19).
    ("sysfs uselib ustat", EPERM),
    // No longer in any kernel.
    (
        "_sysctl afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms getpmsg \
         nfsservctl putpmsg query_module security tuxcall vserver",
        ENOSYS,
    ),
];

/// Decided by arguments.
const JUDGED: [(&str, Rule); 7] = [
    ("clone", Rule::Switch(CLONE)),
    ("socket", Rule::Switch(SOCKET)),
    ("socketpair", Rule::Switch(SOCKET_PAIR)),
    ("ioctl", Rule::Switch(IOCTL)),
    ("personality", Rule::Switch(PERSONALITY)),
    ("mknod", Rule::Switch(mknod(1))),
    ("mknodat", Rule::Switch(mknod(2))),
];

/// No new namespace: every `CLONE_NEW*` bit that clone knows, time excepted, which clone cannot make (E17).
const CLONE: Switch =
    Switch { argument: 0, mask: 0x7e02_0000, cases: &[(&[0], ALLOW)], otherwise: EPERM };

/// Unix sockets, TCP and UDP over both IPs, and route netlink, which programs list interfaces with.
/// Packet, vsock, key, crypto and all other families are closed, as are raw sockets (E12) and other
/// protocols over IP (N7).
const SOCKET: Switch = Switch {
    argument: 0,
    mask: u32::MAX,
    cases: &[(&[1], ALLOW), (&[2, 10], Rule::Switch(IP_TYPE)), (&[16], Rule::Switch(NETLINK))],
    otherwise: EAFNOSUPPORT,
};

/// The low four bits are the type: stream, datagram, raw, and the old packet type, which makes raw ones.
const IP_TYPE: Switch = Switch {
    argument: 1,
    mask: 0xf,
    cases: &[
        (&[1], Rule::Switch(protocols(&[(&[0, 6], ALLOW)]))),
        (&[2], Rule::Switch(protocols(&[(&[0, 17], ALLOW)]))),
        (&[3, 10], Rule::Always(EPERM)),
    ],
    otherwise: EPROTONOSUPPORT,
};

const NETLINK: Switch = protocols(&[(&[0], ALLOW)]);

const fn protocols(cases: &'static [(&'static [u32], Rule)]) -> Switch {
    Switch { argument: 2, mask: u32::MAX, cases, otherwise: EPROTONOSUPPORT }
}

/// The kernel pairs Unix sockets only, in effect.
const SOCKET_PAIR: Switch =
    Switch { argument: 0, mask: u32::MAX, cases: &[(&[1], ALLOW)], otherwise: EAFNOSUPPORT };

/// By the group of the request, its second byte.
const IOCTL: Switch = Switch {
    argument: 1,
    mask: 0xff00,
    cases: &[(&[0x5400], Rule::Switch(TERMINAL)), (&[0x9400], Rule::Switch(BTRFS))],
    otherwise: Action::Allow,
};

/// All but TIOCSTI and TIOCLINUX, which type into a terminal (E14), and TIOCSETD, which loads terminal
/// drivers (E11).
const TERMINAL: Switch = Switch {
    argument: 1,
    mask: u32::MAX,
    cases: &[(&[0x5412, 0x541c, 0x5423], Rule::Always(EPERM))],
    otherwise: Action::Allow,
};

/// Sharing of blocks between files (FICLONE, FICLONERANGE, FIDEDUPERANGE), and nothing else that btrfs offers to
/// everybody: in a volume, which is no overlay, a subvolume made inside would have no limit (R3), and others tell
/// about the whole pool (E19) or make it write everything back (R6).
const BTRFS: Switch = Switch {
    argument: 1,
    mask: u32::MAX,
    cases: &[(&[0x4004_9409, 0x4020_940d, 0xc018_9436], ALLOW)],
    otherwise: ENOTTY,
};

/// Linux with and without 32-bit and old version names, fixed addresses for debuggers, and asking (E17).
const PERSONALITY: Switch = Switch {
    argument: 0,
    mask: u32::MAX,
    cases: &[(&[0, 0x8, 0x2_0000, 0x2_0008, 0x4_0000, u32::MAX], ALLOW)],
    otherwise: EPERM,
};

/// Everything but character and block devices (E4).
const fn mknod(mode: u8) -> Switch {
    Switch {
        argument: mode,
        mask: 0xf000,
        cases: &[(&[0x2000, 0x6000], Rule::Always(EPERM))],
        otherwise: Action::Allow,
    }
}

/// The rule of every call with a name.
pub(super) fn rules() -> BTreeMap<&'static str, Rule> {
    let allowed =
        ALLOWED.iter().flat_map(|names| names.split_whitespace()).map(|name| (name, ALLOW));
    let refused = REFUSED.iter().flat_map(|(names, action)| {
        names.split_whitespace().map(|name| (name, Rule::Always(*action)))
    });
    allowed.chain(refused).chain(JUDGED).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::numbers;
    use super::*;

    #[test]
    fn every_call_of_the_tables_is_decided_exactly_once() {
        let mut decided = Vec::new();
        decided.extend(ALLOWED.iter().flat_map(|names| names.split_whitespace()));
        decided.extend(REFUSED.iter().flat_map(|(names, _)| names.split_whitespace()));
        decided.extend(JUDGED.map(|(name, _)| name));
        let known: BTreeSet<_> = [numbers::X86_64, numbers::AARCH64]
            .into_iter()
            .flatten()
            .flat_map(|(_, names)| names.split_whitespace())
            .collect();
        let unique: BTreeSet<_> = decided.iter().copied().collect();
        assert_eq!(
            unique.difference(&known).collect::<Vec<_>>(),
            Vec::<&&str>::new(),
            "in no table"
        );
        assert_eq!(known.difference(&unique).collect::<Vec<_>>(), Vec::<&&str>::new(), "undecided");
        assert_eq!(decided.len(), unique.len(), "decided twice");
    }
}
