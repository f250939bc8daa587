//! Which ids of the host sandboxes have, and who owns their user namespaces.
//!
//! ```text
//! full          each sandbox has a range of its own        inside 0.. = FIRST_ID + slot * 65536 ..
//! unprivileged  all have the one range that the user has   inside 0.. = first subordinate id ..
//!               outer user namespace: 0 = the server's user, 1.. = the subordinate ids
//! ```
//! The owner of a sandbox's user namespace is always an id that no other sandbox's has: the kernel adds up
//! there what all that is inside uses.

use std::fs;
use std::os::fd::AsFd;

use rustix::process::Pid;

use super::live::open_pidfd;

/// First host id handed out by root; below lie the ids of people and services.
const FIRST_ID: u32 = 0x2000_0000;
/// Ids of one sandbox.
pub(super) const IDS: u32 = 65_536;
/// Sandboxes whose ids fit below the end of 32 bits.
pub(super) const SLOTS: u32 = 50_000;
/// First subordinate id as the outer user namespace counts.
const OUTER_BASE: u32 = 1;

/// How ids are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    /// A range for each sandbox.
    Ranges,
    /// One range for all, beginning at these ids of the host.
    Shared {
        /// First subordinate user id.
        user: u32,
    },
}

impl Ids {
    /// Host id of inside id 0 of a slot.
    pub(super) const fn on_host(self, slot: u32) -> u32 {
        match self {
            Self::Ranges => FIRST_ID + slot * IDS,
            Self::Shared { user } => user,
        }
    }

    /// The same as the forkserver counts.
    pub(super) const fn in_forkserver(self, slot: u32) -> u32 {
        match self {
            Self::Ranges => FIRST_ID + slot * IDS,
            Self::Shared { .. } => OUTER_BASE,
        }
    }

    /// Owner of the user namespace of a slot, as the forkserver counts.
    pub(super) const fn owner(self, slot: u32) -> u32 {
        match self {
            Self::Ranges => FIRST_ID + slot * IDS,
            Self::Shared { .. } => OUTER_BASE + slot,
        }
    }

    /// Slot of the user namespace that begins at host id `base` and belongs to host id `owner`.
    const fn slot(self, base: u32, owner: u32) -> Option<u32> {
        let slot = match self {
            Self::Ranges
                if base == owner && base >= FIRST_ID && (base - FIRST_ID).is_multiple_of(IDS) =>
            {
                (base - FIRST_ID) / IDS
            }
            Self::Shared { user } if base == user && owner >= user => owner - user,
            _ => return None,
        };
        if slot < SLOTS { Some(slot) } else { None }
    }
}

/// Finds out who listens on a socket: the pid of process 1, a pidfd, and its slot; `None` for whoever is no
/// sandbox of these ids.
pub(super) fn identify(
    socket: impl AsFd,
    ids: Ids,
) -> Option<(i32, std::os::fd::OwnedFd, Option<u32>)> {
    let pid = rustix::net::sockopt::socket_peercred(&socket).ok()?.pid;
    let number = Pid::as_raw(Some(pid));
    let pidfd = open_pidfd(number)?;
    Some((number, pidfd, slot_of(number, ids)))
}

fn slot_of(pid: i32, ids: Ids) -> Option<u32> {
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).ok()?;
    let base = map.split_whitespace().nth(1)?.parse().ok()?;
    let namespace = fs::File::open(format!("/proc/{pid}/ns/user")).ok()?;
    ids.slot(base, crate::sys::namespaces::owner(namespace).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_again_by_ids_and_owner() {
        for ids in [Ids::Ranges, Ids::Shared { user: 100_000 }] {
            for slot in [0, 1, SLOTS - 1] {
                let shift = ids.on_host(slot) - ids.in_forkserver(slot);
                let owner = ids.owner(slot) + shift;
                assert_eq!(ids.slot(ids.on_host(slot), owner), Some(slot), "{ids:?} {slot}");
            }
        }
    }

    #[test]
    fn ids_of_others_have_no_slot() {
        assert_eq!(Ids::Ranges.slot(0, 0), None);
        assert_eq!(Ids::Ranges.slot(FIRST_ID + 1, FIRST_ID + 1), None);
        assert_eq!(Ids::Ranges.slot(FIRST_ID, 0), None);
        let shared = Ids::Shared { user: 100_000 };
        assert_eq!(shared.slot(200_000, 100_000), None);
        assert_eq!(shared.slot(100_000, 1000), None);
        assert_eq!(shared.slot(100_000, 100_000 + SLOTS), None);
    }
}
