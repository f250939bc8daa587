//! What process 1 gives up for itself and for all that it starts: limits, ids, capabilities, system calls.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::failure::{Failure, Fault};
use crate::numbers;
use crate::protocol::{
    Create, Hello, WEAK_CAPABILITIES, WEAK_LANDLOCK, WEAK_NEW_PRIVILEGES, WEAK_SECCOMP,
};
use crate::sys;

/// Memory that may be locked, bytes.
const LOCKED_MEMORY: u64 = 64 << 10;
/// Signals that may wait, and bytes of message queues, of a sandbox without control groups.
const WAITING_SIGNALS: u64 = 4096;
const MESSAGE_QUEUES: u64 = 200 << 10;

/// Does something while this process has the limits of one sandbox: a user namespace that is made then
/// keeps them as the most that all inside it may have together.
pub(crate) fn bounded<T>(pids: u64, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let limits = [
        (numbers::RLIMIT_NPROC, pids),
        (numbers::RLIMIT_MEMLOCK, LOCKED_MEMORY),
        (numbers::RLIMIT_SIGPENDING, WAITING_SIGNALS),
        (numbers::RLIMIT_MSGQUEUE, MESSAGE_QUEUES),
    ];
    if pids == 0 {
        return act();
    }
    let mut lowered = Vec::new();
    let mut answer = Ok(());
    for (resource, value) in limits {
        match sys::lower(resource, value) {
            Ok(before) => lowered.push((resource, before)),
            Err(error) => answer = Err(error),
        }
    }
    let done = answer.and_then(|()| act());
    for (resource, before) in lowered {
        sys::restore(resource, before)?;
    }
    done
}

pub(crate) fn limit(create: &Create) -> io::Result<()> {
    sys::limit(numbers::RLIMIT_CORE, 0)?;
    sys::limit(numbers::RLIMIT_MEMLOCK, LOCKED_MEMORY)?;
    if create.pids > 0 {
        sys::limit(numbers::RLIMIT_NPROC, create.pids)?;
    }
    if create.file_bytes > 0 {
        sys::limit(numbers::RLIMIT_FSIZE, create.file_bytes)?;
    }
    sys::limit(numbers::RLIMIT_NOFILE, create.open_files)
}

pub(crate) fn drop(hello: &Hello, namespace: Option<OwnedFd>) -> Result<(), Failure> {
    const PR_SET_DUMPABLE: usize = 4;
    const PR_CAPBSET_DROP: usize = 24;
    const PR_SET_NO_NEW_PRIVS: usize = 38;
    const HIGHEST_CAPABILITY: usize = 63;
    let load = |wanted: bool| -> Result<(), Failure> {
        if wanted && hello.weakened & WEAK_SECCOMP == 0 {
            sys::load_filter(&hello.filter).fault("system call filter")?;
        }
        Ok(())
    };
    if let Some(namespace) = namespace {
        sys::join(namespace.as_fd(), numbers::CLONE_NEWUSER).fault("joining the user namespace")?;
        sys::become_user(0, 0, &[]).fault("root of the user namespace")?;
    }
    if hello.weakened & WEAK_CAPABILITIES == 0 {
        for capability in 0..=HIGHEST_CAPABILITY {
            // Unknown ones beyond the kernel's last answer EINVAL: there is nothing to drop.
            if hello.capabilities & (1 << capability) == 0
                && let Err(error) = sys::prctl(PR_CAPBSET_DROP, capability)
                && error.raw_os_error() != Some(22)
            {
                return Err(error).fault("capability bounding set");
            }
        }
    }
    let locked = !hello.allow_setuid && hello.weakened & WEAK_NEW_PRIVILEGES == 0;
    if locked {
        sys::prctl(PR_SET_NO_NEW_PRIVS, 1).fault("no_new_privs")?;
    }
    if hello.weakened & WEAK_LANDLOCK == 0 {
        landlock()?;
    }
    // Without no_new_privs the filter needs CAP_SYS_ADMIN, which the next step drops.
    load(!locked)?;
    if hello.weakened & WEAK_CAPABILITIES == 0 {
        sys::set_capabilities(hello.capabilities).fault("capabilities")?;
    }
    sys::prctl(PR_SET_DUMPABLE, 0).fault("not dumpable")?;
    load(locked)
}

/// No device nodes anywhere, no abstract sockets or signals to the outside; as a side effect of any
/// ruleset the kernel refuses changes of the mount table.
fn landlock() -> Result<(), Failure> {
    const MAKE_CHAR: u64 = 1 << 6;
    const MAKE_BLOCK: u64 = 1 << 11;
    const REFER: u64 = 1 << 13;
    const ABSTRACT_SOCKETS_AND_SIGNALS: u64 = 3;
    let version = sys::landlock_version().fault("Landlock")?;
    let root = fs::File::open("/").fault("root folder")?;
    let scopes = (version >= 6).then_some(ABSTRACT_SOCKETS_AND_SIGNALS);
    sys::landlock(MAKE_CHAR | MAKE_BLOCK | REFER, scopes, REFER, root.as_fd()).fault("Landlock")
}
