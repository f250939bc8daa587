//! Who the calling thread is: user, groups and capabilities, by the bare system calls, which change only
//! that thread. The real and saved user stay what they were, so that nobody inside a sandbox may signal or
//! trace it.

use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// What root inside a sandbox may do to files there; nobody else gets any.
pub const POWERS: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID);

/// What switching from one user to the next needs; effective only during the switch.
pub const SWITCH: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);

/// A user, as the calling thread's user namespace numbers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id that files are made and checked with.
    pub uid: u32,
    /// Id of the main group.
    pub gid: u32,
    /// Ids of the other groups, ascending.
    pub groups: Vec<u32>,
    /// Whether it has the four powers over files that root inside has.
    pub powers: bool,
}

/// Makes the calling thread that user, for good: of its capabilities it keeps only those that the next
/// call of this function needs. After an error the thread is nobody in particular and must run nothing.
pub fn assume(identity: &Identity) -> io::Result<()> {
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
        return Err(io::Error::other("the thread's user or capabilities are not those just set"));
    }
    Ok(())
}

/// Runs `act` without the four powers, then takes them again.
///
/// For files that belong to nobody inside the sandbox: root inside has no power over them, but the
/// host's capabilities would.
pub(crate) fn without_powers<T>(act: impl FnOnce() -> T) -> io::Result<T> {
    let with = rustix::thread::capabilities(None)?;
    let without = CapabilitySets { effective: CapabilitySet::empty(), ..with };
    rustix::thread::set_capabilities(None, without)?;
    let done = act();
    rustix::thread::set_capabilities(None, with)?;
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
