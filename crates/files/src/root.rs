//! What the file API needs to know of a running sandbox.

use std::os::fd::OwnedFd;
use std::sync::Mutex;

use crate::identity::Identity;
use crate::names::Cached;
use crate::refusal::Refusal;

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
    pub(crate) folder: OwnedFd,
    pub(crate) id_base: u32,
    pub(crate) id_count: u32,
    pub(crate) user: UserIds,
    pub(crate) workdir: String,
    pub(crate) users: Mutex<Cached>,
    pub(crate) groups: Mutex<Cached>,
    /// Whether the process is in the sandbox's user namespace, where the kernel maps ids and judges powers.
    is_inside: bool,
}

impl Root {
    /// Describes a sandbox: `id_base` is inside id 0 on the host, `id_count` the number of ids from
    /// there, `workdir` an absolute path inside.
    ///
    /// [`crate::Kind::Invalid`] when an id of the user is not among the sandbox's ids or the work
    /// dir is not absolute.
    pub fn new(
        folder: OwnedFd,
        id_base: u32,
        id_count: u32,
        user: UserIds,
        workdir: String,
    ) -> Result<Self, Refusal> {
        let inside = |id: u32| id < id_count;
        let fits = id_base.checked_add(id_count).is_some_and(|end| end < u32::MAX) && id_base > 0;
        if !fits || ![user.uid, user.gid].into_iter().chain(user.groups.iter().copied()).all(inside)
        {
            return Err(Refusal::invalid(format!(
                "user {}:{} is not among the {id_count} ids of the sandbox from {id_base}",
                user.uid, user.gid
            )));
        }
        if !workdir.starts_with('/') {
            return Err(Refusal::invalid(format!("work dir `{workdir}` is not an absolute path")));
        }
        Ok(Self {
            folder,
            id_base,
            id_count,
            user,
            workdir,
            users: Mutex::default(),
            groups: Mutex::default(),
            is_inside: false,
        })
    }

    /// The same for a process that has joined the sandbox's user namespace: ids are the sandbox's own.
    pub fn inside_namespace(
        folder: OwnedFd,
        id_count: u32,
        user: UserIds,
        workdir: String,
    ) -> Result<Self, Refusal> {
        // Any base passes the checks; with the true one, none is added.
        let root = Self::new(folder, 1, id_count, user, workdir)?;
        Ok(Self { id_base: 0, is_inside: true, ..root })
    }

    /// Where relative paths begin.
    pub fn workdir(&self) -> &str {
        &self.workdir
    }

    /// The user that file calls are made as, in the numbers of this process.
    pub fn identity(&self) -> Identity {
        Identity {
            uid: self.id_base + self.user.uid,
            gid: self.id_base + self.user.gid,
            groups: self.user.groups.iter().map(|group| self.id_base + group).collect(),
            powers: self.user.uid == 0,
        }
    }

    /// An id of the host as it shows inside; 65534 when it has no place there.
    pub(crate) fn shown(&self, host: u32) -> u32 {
        const NOBODY: u32 = 65_534;
        host.checked_sub(self.id_base).filter(|id| *id < self.id_count).unwrap_or(NOBODY)
    }

    /// An inside id on the host; `None` when the sandbox has no such id.
    pub(crate) fn outside(&self, inside: u32) -> Option<u32> {
        (inside < self.id_count).then(|| self.id_base + inside)
    }

    /// Whether root inside has its powers over what this id owns. Inside the user namespace the kernel says.
    pub(crate) fn owns(&self, host: u32) -> bool {
        self.is_inside || host.checked_sub(self.id_base).is_some_and(|id| id < self.id_count)
    }
}
