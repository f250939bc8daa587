//! Who one thread is: user, groups and capabilities, changed for that thread alone, for good
//! ([`Worker`]) or while one piece of work runs ([`lend`]).
//!
//! The real and saved user stay those of the server, so that nobody inside a sandbox may signal or trace
//! the thread.

use std::cell::OnceCell;
use std::io;
use std::marker::PhantomData;

use mayfly_files::{Identity, POWERS, SWITCH};
use rustix::fs::Mode;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

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
        let sets = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: POWERS | SWITCH,
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, sets)?;
        Ok(Self { current: None, thread_bound: PhantomData })
    }

    /// Makes the thread that user. After an error the thread is nobody in particular and must run
    /// nothing until a later call succeeds.
    pub(crate) fn assume(&mut self, identity: &Identity) -> io::Result<()> {
        if self.current.as_ref() == Some(identity) {
            return Ok(());
        }
        self.current = None;
        mayfly_files::assume(identity)?;
        self.current = Some(identity.clone());
        Ok(())
    }
}

/// What a thread of the server is between two loans.
#[derive(Debug)]
struct Own {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    capabilities: CapabilitySets,
}

thread_local! {
    static OWN: OnceCell<Own> = const { OnceCell::new() };
}

impl Own {
    /// Looks at the calling thread, and gives it a umask of its own.
    fn look() -> io::Result<Self> {
        // SAFETY: only the umask and the working and root folder stop being shared with other threads;
        // memory and descriptors stay shared, so no assumption of safe code changes.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
        let own = Self {
            uid: rustix::process::geteuid(),
            gid: rustix::process::getegid(),
            groups: rustix::process::getgroups()?,
            capabilities: rustix::thread::capabilities(None)?,
        };
        if !own.uid.is_root() || !own.capabilities.effective.contains(POWERS | SWITCH) {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        Ok(own)
    }
}

/// Runs `work` as that user on the calling thread, which is the server's own again afterwards, also when
/// `work` panics. A thread that cannot be given back ends the process: it must not serve as anybody else.
///
/// Whatever happens, `work` runs with no more than the user's rights; on an error it did not run.
pub(crate) fn lend<T>(identity: &Identity, work: impl FnOnce() -> T) -> io::Result<T> {
    OWN.with(|own| {
        if own.get().is_none() {
            let _ = own.set(Own::look()?);
        }
        let own = own.get().ok_or(io::ErrorKind::PermissionDenied)?;
        let groups = identity.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        let loan = Loan { own, groups, umask: rustix::process::umask(Mode::empty()) };
        loan.begin(identity)?;
        let done = work();
        drop(loan);
        Ok(done)
    })
}

/// A thread that is somebody else, until this is dropped.
struct Loan<'a> {
    own: &'a Own,
    groups: Vec<Gid>,
    umask: Mode,
}

impl Loan<'_> {
    fn begin(&self, identity: &Identity) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        if self.groups != self.own.groups {
            rustix::thread::set_thread_groups(&self.groups)?;
        }
        rustix::thread::set_thread_res_gid(None, gid, None)?;
        rustix::thread::set_thread_res_uid(None, uid, None)?;
        let powers = if identity.powers { POWERS } else { CapabilitySet::empty() };
        let sets = CapabilitySets { effective: powers, ..self.own.capabilities };
        rustix::thread::set_capabilities(None, sets)?;
        let is_that = rustix::process::geteuid() == uid && rustix::process::getegid() == gid;
        if !is_that || rustix::thread::capabilities(None)?.effective != powers {
            return Err(io::Error::other(
                "the thread's user or capabilities are not those just set",
            ));
        }
        Ok(())
    }

    fn end(&self) -> io::Result<bool> {
        let own = self.own;
        // The real user is still the server's, so taking that one again needs no capability.
        rustix::thread::set_thread_res_uid(None, own.uid, None)?;
        rustix::thread::set_capabilities(None, own.capabilities)?;
        rustix::thread::set_thread_res_gid(None, own.gid, None)?;
        if self.groups != own.groups {
            rustix::thread::set_thread_groups(&own.groups)?;
        }
        rustix::process::umask(self.umask);
        let is_own = (rustix::process::geteuid(), rustix::process::getegid()) == (own.uid, own.gid);
        Ok(is_own && rustix::thread::capabilities(None)? == own.capabilities)
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if !matches!(self.end(), Ok(true)) {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(field: &str) -> String {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let lines = text.lines().filter(|line| line.starts_with(field));
        let values = lines.flat_map(|line| line.split_once(':').unwrap().1.split_whitespace());
        values.collect::<Vec<_>>().join(" ")
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

    fn all_of_status() -> Vec<String> {
        ["Uid:", "Gid:", "Groups:", "Cap", "Umask:"].map(status).to_vec()
    }

    #[test]
    fn a_lent_thread_is_given_back_whatever_happens() {
        std::thread::spawn(|| {
            let before = all_of_status();
            let groups = vec![100_007, 100_008];
            let user = Identity { uid: 101_000, gid: 101_001, groups, powers: false };
            lend(&user, || {
                assert_eq!(status("Uid:"), "0 101000 0 101000");
                assert_eq!(status("Gid:"), "0 101001 0 101001");
                assert_eq!(status("Groups:"), "100007 100008");
                assert_eq!(status("CapEff:"), "0000000000000000");
                assert_eq!(status("Umask:"), "0000");
            })
            .unwrap();
            assert_eq!(all_of_status(), before);
            let root = Identity { uid: 100_000, gid: 100_000, groups: vec![], powers: true };
            lend(&root, || {
                assert_eq!(status("CapEff:"), "000000000000001b");
            })
            .unwrap();
            assert_eq!(all_of_status(), before);
            let panicked = std::panic::catch_unwind(|| lend(&root, || panic!("made to")));
            assert!(panicked.is_err());
            assert_eq!(all_of_status(), before);
            let many = Identity { groups: vec![1; 70_000], ..user };
            assert!(lend(&many, || panic!("must not run")).is_err());
            assert_eq!(all_of_status(), before);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn root_inside_has_exactly_four() {
        on_a_thread(|worker| {
            let root = Identity { uid: 100_000, gid: 100_000, groups: vec![], powers: true };
            worker.assume(&root).unwrap();
            // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4.
            assert_eq!(status("CapEff:"), "000000000000001b");
            let user = Identity { uid: 200_001, gid: 200_001, groups: vec![], powers: false };
            worker.assume(&user).unwrap();
            assert_eq!(status("CapEff:"), "0000000000000000");
            assert_eq!(status("Uid:"), "0 200001 0 200001");
        });
    }
}
