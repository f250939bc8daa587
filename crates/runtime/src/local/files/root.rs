//! What the file API needs to know of a running sandbox.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use mayfly_core::id::SandboxId;
use mayfly_core::{Error, Result};
use tokio::sync::Semaphore;

use super::names::Cached;
use crate::sys::creds::Identity;

/// Long calls (find, search, recursive list and delete) of one sandbox at a time; more wait.
const LONG_CALLS: usize = 1;

/// A user by its numbers inside the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserIds {
    /// User.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
    /// Other groups.
    pub groups: Vec<u32>,
}

/// One running sandbox, as the file API sees it. While it lives, the sandbox's mounts stay alive, so it
/// must be dropped before they are taken down.
#[derive(Debug)]
pub struct Root {
    /// The sandbox's root in its own mount namespace, opened as a folder with `O_PATH`.
    pub(super) folder: OwnedFd,
    pub(super) id_base: u32,
    pub(super) id_count: u32,
    pub(super) user: UserIds,
    pub(super) workdir: String,
    pub(super) users: Mutex<Cached>,
    pub(super) groups: Mutex<Cached>,
    pub(super) long_calls: Arc<Semaphore>,
}

impl Root {
    /// Describes a sandbox: `id_base` is inside id 0 on the host, `id_count` the number of ids from
    /// there, `workdir` an absolute path inside.
    ///
    /// [`mayfly_core::Kind::Invalid`] when an id of the user is not among the sandbox's ids or the work
    /// dir is not absolute.
    pub fn new(
        folder: OwnedFd,
        id_base: u32,
        id_count: u32,
        user: UserIds,
        workdir: String,
    ) -> Result<Self> {
        let inside = |id: u32| id < id_count;
        let fits = id_base.checked_add(id_count).is_some_and(|end| end < u32::MAX) && id_base > 0;
        if !fits || ![user.uid, user.gid].into_iter().chain(user.groups.iter().copied()).all(inside)
        {
            return Err(Error::invalid(format!(
                "user {}:{} is not among the {id_count} ids of the sandbox from {id_base}",
                user.uid, user.gid
            )));
        }
        if !workdir.starts_with('/') {
            return Err(Error::invalid(format!("work dir `{workdir}` is not an absolute path")));
        }
        Ok(Self {
            folder,
            id_base,
            id_count,
            user,
            workdir,
            users: Mutex::default(),
            groups: Mutex::default(),
            long_calls: Arc::new(Semaphore::new(LONG_CALLS)),
        })
    }

    /// The user that file calls are made as, in the host's numbers.
    pub(super) fn identity(&self) -> Identity {
        Identity {
            uid: self.id_base + self.user.uid,
            gid: self.id_base + self.user.gid,
            groups: self.user.groups.iter().map(|group| self.id_base + group).collect(),
            powers: self.user.uid == 0,
        }
    }

    /// An id of the host as it shows inside; 65534 when it has no place there.
    pub(super) fn inside(&self, host: u32) -> u32 {
        const NOBODY: u32 = 65_534;
        host.checked_sub(self.id_base).filter(|id| *id < self.id_count).unwrap_or(NOBODY)
    }

    /// An inside id on the host; `None` when the sandbox has no such id.
    pub(super) fn outside(&self, inside: u32) -> Option<u32> {
        (inside < self.id_count).then(|| self.id_base + inside)
    }

    /// Whether a host id is one of the sandbox's.
    pub(super) fn owns(&self, host: u32) -> bool {
        host.checked_sub(self.id_base).is_some_and(|id| id < self.id_count)
    }
}

/// Finds running sandboxes.
pub trait Roots: Send + Sync + std::fmt::Debug {
    /// The sandbox's root. Give the same `Arc` each time: it caches names.
    ///
    /// [`mayfly_core::Code::SandboxNotStarted`] when it does not run.
    fn root(&self, id: SandboxId) -> Result<Arc<Root>>;
}
