//! Sandboxes as the file API sees them, and how to get at their files.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mayfly_core::Result;
use mayfly_core::id::SandboxId;
use mayfly_files::UserIds;
use tokio::sync::Semaphore;

use super::inside::Helpers;
use super::translate;

/// Long calls (find, search, recursive list and delete) of one sandbox at a time; more wait.
const LONG_CALLS: usize = 1;

/// One running sandbox, as the file API sees it. While it lives, the sandbox's mounts stay alive, so it
/// must be dropped before they are taken down.
#[derive(Debug)]
pub struct Root {
    pub(super) way: Way,
    pub(super) long_calls: Arc<Semaphore>,
}

/// Where the calls on a sandbox are made.
#[derive(Debug)]
pub(super) enum Way {
    /// On threads of the server, which is root.
    Here(Arc<mayfly_files::Root>),
    /// In helpers inside the sandbox's user namespace.
    Inside(Helpers),
}

impl Root {
    /// A sandbox of a server that is root: `folder` is its root in its own mount namespace, opened with
    /// `O_PATH`; `id_base` is inside id 0 on the host, `id_count` the number of ids from there; `workdir`
    /// is an absolute path inside.
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
        let root = mayfly_files::Root::new(folder, id_base, id_count, user, workdir);
        Ok(Self::by(Way::Here(Arc::new(root.map_err(translate::error)?))))
    }

    /// A sandbox of a server that is an ordinary user: its calls are made in helper processes, which join
    /// `user_namespace` (`/proc/<pid>/ns/user` of its process 1, opened to be read) and work below
    /// `folder` (`/proc/<pid>/root`, opened with `O_PATH`). `id_count` ids are mapped there, from 0.
    ///
    /// The server must own that namespace or one around it; a helper that may not join says so at the
    /// first call. Helpers start then, end after a minute without one, and with this.
    pub fn joined(
        user_namespace: OwnedFd,
        folder: OwnedFd,
        id_count: u32,
        user: UserIds,
        workdir: String,
    ) -> Self {
        Self::by(Way::Inside(Helpers::new(user_namespace, folder, id_count, user, workdir)))
    }

    fn by(way: Way) -> Self {
        Self { way, long_calls: Arc::new(Semaphore::new(LONG_CALLS)) }
    }
}

/// Finds running sandboxes.
pub trait Roots: Send + Sync + std::fmt::Debug {
    /// The sandbox's root. Give the same `Arc` each time: it caches names and keeps helpers.
    ///
    /// [`mayfly_core::Code::SandboxNotStarted`] when it does not run.
    fn root(&self, id: SandboxId) -> Result<Arc<Root>>;
}
