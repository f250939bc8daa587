//! Who one worker thread is: user, groups and capabilities, changed for that thread alone.
//!
//! The C library's functions change every thread of a process; these are the bare system calls, which
//! change only the caller. The real and saved user stay those of the server, so that nobody inside a
//! sandbox may signal or trace the thread.

use std::io;
use std::marker::PhantomData;

use rustix::fs::Mode;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

/// What root inside a sandbox may do to files there; nobody else gets any.
const POWERS: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID);

/// What switching from one user to the next needs; effective only during the switch.
const SWITCH: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);

/// A user as the host numbers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Host id that files are made and checked with.
    pub(crate) uid: u32,
    /// Host id of the main group.
    pub(crate) gid: u32,
    /// Host ids of the other groups.
    pub(crate) groups: Vec<u32>,
    /// Whether it has the four powers over files that root inside has.
    pub(crate) powers: bool,
}

/// The calling thread's identity. Stays on its thread, which it has changed for good.
#[derive(Debug)]
pub(crate) struct Worker {
    current: Option<Identity>,
    thread_bound: PhantomData<*const ()>,
}

impl Worker {
    /// Gives the calling thread its own umask (none, so modes are what is asked for) and takes every
    /// capability from it that no later [`Worker::assume`] needs.
    pub(crate) fn prepare() -> io::Result<Self> {
        // SAFETY: only the umask and the working and root folder stop being shared with other threads;
        // memory and descriptors stay shared, so no assumption of safe code changes.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
        rustix::process::umask(Mode::empty());
        set_effective(CapabilitySet::empty())?;
        Ok(Self { current: None, thread_bound: PhantomData })
    }

    /// Makes the thread that user. After an error the thread is nobody in particular and must run
    /// nothing until a later call succeeds.
    pub(crate) fn assume(&mut self, identity: &Identity) -> io::Result<()> {
        if self.current.as_ref() == Some(identity) {
            return Ok(());
        }
        self.current = None;
        let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        let groups: Vec<Gid> = identity.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        set_effective(SWITCH)?;
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(None, gid, None)?;
        rustix::thread::set_thread_res_uid(None, uid, None)?;
        let powers = if identity.powers { POWERS } else { CapabilitySet::empty() };
        set_effective(powers)?;
        let seen = rustix::thread::capabilities(None)?.effective;
        let is_that = rustix::process::geteuid() == uid && rustix::process::getegid() == gid;
        if !is_that || seen != powers {
            return Err(io::Error::other(
                "the thread's user or capabilities are not those just set",
            ));
        }
        self.current = Some(identity.clone());
        Ok(())
    }
}

/// Runs `act` without the four powers, then takes them again.
///
/// For files that belong to nobody inside the sandbox: root inside has no power over them, but the
/// host's capabilities would.
pub(crate) fn without_powers<T>(act: impl FnOnce() -> T) -> io::Result<T> {
    set_effective(CapabilitySet::empty())?;
    let done = act();
    set_effective(POWERS)?;
    Ok(done)
}

fn set_effective(effective: CapabilitySet) -> io::Result<()> {
    let sets = CapabilitySets {
        effective,
        permitted: POWERS | SWITCH,
        inheritable: CapabilitySet::empty(),
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(field: &str) -> String {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn on_a_thread(test: impl FnOnce(&mut Worker) + Send + 'static) {
        std::thread::spawn(|| test(&mut Worker::prepare().unwrap())).join().unwrap();
    }

    #[test]
    fn an_ordinary_user_has_no_capability() {
        on_a_thread(|worker| {
            let groups = vec![100_007, 100_008];
            let user = Identity { uid: 101_000, gid: 101_001, groups, powers: false };
            worker.assume(&user).unwrap();
            assert_eq!(status("Uid:"), "0 101000 0 101000");
            assert_eq!(status("Gid:"), "0 101001 0 101001");
            assert_eq!(status("Groups:"), "100007 100008");
            assert_eq!(status("CapEff:"), "0000000000000000");
            assert_eq!(status("Umask:"), "0000");
        });
        assert!(status("Uid:").starts_with("0 0 0 0"), "other threads keep theirs");
    }

    #[test]
    fn root_inside_has_exactly_four() {
        on_a_thread(|worker| {
            let root = Identity { uid: 100_000, gid: 100_000, groups: vec![], powers: true };
            worker.assume(&root).unwrap();
            // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4.
            assert_eq!(status("CapEff:"), "000000000000001b");
            let inner = without_powers(|| status("CapEff:")).unwrap();
            assert_eq!(inner, "0000000000000000");
            assert_eq!(status("CapEff:"), "000000000000001b");
            let user = Identity { uid: 200_001, gid: 200_001, groups: vec![], powers: false };
            worker.assume(&user).unwrap();
            assert_eq!(status("CapEff:"), "0000000000000000");
            assert_eq!(status("Uid:"), "0 200001 0 200001");
        });
    }
}
