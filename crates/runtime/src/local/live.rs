//! Running sandboxes: what the server holds of each, and how it finds them again after a restart.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mayfly_core::id::SandboxId;
use mayfly_core::{Code, Error, Kind, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::process::{Pid, PidfdFlags};

use super::cgroup::Group;
use super::files::{Root, Roots, UserIds};
use super::ids::{IDS, Ids};
use super::spec::Spec;
use super::users::{Accounts, Identity};

/// Most bytes read of a sandbox's account files.
const MAX_ACCOUNTS: u64 = 1 << 20;

/// A running sandbox. Few descriptors: the pidfd, and the root once files were asked for (with its user
/// namespace and a helper's channel where a helper makes the calls).
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: SandboxId,
    pub(super) slot: u32,
    ids: Ids,
    pub(super) group: Group,
    pub(super) pid: i32,
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) spec: Spec,
    /// Set when its end was asked for, so that it is no surprise.
    pub(super) ending: AtomicBool,
    /// Version of its process 1 where that is not spoken here.
    pub(super) outdated: OnceLock<u32>,
    user: OnceLock<Identity>,
    root: OnceLock<Arc<Root>>,
}

impl Live {
    pub(super) fn new(
        (id, spec): (SandboxId, Spec),
        (slot, ids): (u32, Ids),
        group: Group,
        (pid, pidfd): (i32, Arc<OwnedFd>),
        user: Option<Identity>,
    ) -> Self {
        Self {
            id,
            slot,
            ids,
            group,
            pid,
            pidfd,
            spec,
            ending: AtomicBool::new(false),
            outdated: OnceLock::new(),
            user: user.map_or_else(OnceLock::new, OnceLock::from),
            root: OnceLock::new(),
        }
    }

    /// Host id of inside id 0.
    pub(super) fn id_base(&self) -> u32 {
        self.ids.on_host(self.slot)
    }

    /// Whether its process 1 still lives.
    pub(super) fn is_alive(&self) -> bool {
        !ended(&self.pidfd, 0)
    }

    /// Waits for its end, at most this many milliseconds.
    pub(super) fn await_end(&self, milliseconds: u64) -> bool {
        ended(&self.pidfd, milliseconds)
    }

    /// Kills process 1, and with it everything inside.
    pub(super) fn kill(&self) {
        self.ending.store(true, Ordering::Relaxed);
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }

    /// Its root folder, as process 1 sees it.
    fn open_root(&self) -> Result<OwnedFd> {
        self.open_own("root", OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Something of its process 1 in `/proc`.
    pub(super) fn open_own(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        let path = format!("/proc/{}/{name}", self.pid);
        let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| self.gone().with_source(io::Error::from(error)))?;
        // The number could have passed to another process; the pidfd tells.
        if self.is_alive() { Ok(opened) } else { Err(self.gone()) }
    }

    fn gone(&self) -> Error {
        not_started(self.id)
    }

    /// The user that its commands run as, looked up once in its own account files; a new sandbox's are still
    /// those of its image.
    pub(super) fn user(&self) -> Result<&Identity> {
        if let Some(user) = self.user.get() {
            return Ok(user);
        }
        let root = self.open_root()?;
        let accounts =
            Accounts::parse(&read_small(&root, "etc/passwd"), &read_small(&root, "etc/group"));
        let found = accounts.identity(&self.spec.user)?;
        Ok(self.user.get_or_init(|| found))
    }

    /// Where its commands start.
    pub(super) fn workdir(&self) -> Result<&str> {
        match &self.spec.workdir {
            Some(workdir) => Ok(workdir),
            None => Ok(&self.user()?.home),
        }
    }

    /// What the file API works on.
    pub(super) fn root(&self) -> Result<Arc<Root>> {
        if let Some(root) = self.root.get() {
            return Ok(Arc::clone(root));
        }
        let user = self.user()?;
        let ids = UserIds { uid: user.uid, gid: user.gid, groups: user.groups.clone() };
        let (folder, workdir) = (self.open_root()?, self.workdir()?.to_owned());
        let root = match self.ids {
            Ids::Ranges => Root::new(folder, self.id_base(), IDS, ids, workdir)?,
            Ids::Shared { .. } => {
                Root::joined(self.open_own("ns/user", OFlags::RDONLY)?, folder, IDS, ids, workdir)
            }
        };
        Ok(Arc::clone(self.root.get_or_init(|| Arc::new(root))))
    }
}

/// Whether the process ends within this many milliseconds.
pub(super) fn ended(pidfd: &OwnedFd, milliseconds: u64) -> bool {
    let mut polled = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    let deadline = std::time::Duration::from_millis(milliseconds);
    let timeout = rustix::event::Timespec {
        tv_sec: i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(deadline.subsec_nanos()),
    };
    matches!(rustix::event::poll(&mut polled, Some(&timeout)), Ok(ready) if ready > 0)
}

/// Reads a file of a sandbox without trusting anything about it: no link leaves the root, only a plain
/// file is read, and only its beginning. Missing or odd files read as empty.
fn read_small(root: &OwnedFd, path: &str) -> Vec<u8> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let Ok(file) = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) else {
        return Vec::new();
    };
    let plain = rustix::fs::fstat(&file).ok().filter(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile
    });
    let mut bytes = Vec::new();
    if let Some(stat) = plain {
        let size = u64::try_from(stat.st_size).unwrap_or(0).min(MAX_ACCOUNTS);
        // One more, so that the end is seen without growing.
        bytes.reserve_exact(usize::try_from(size).unwrap_or(0) + 1);
        let _ = io::Read::read_to_end(
            &mut io::Read::take(std::fs::File::from(file), MAX_ACCOUNTS),
            &mut bytes,
        );
    }
    bytes
}

/// The refusal of what needs a running sandbox.
pub(super) fn not_started(id: SandboxId) -> Error {
    Error::new(Kind::Conflict, format!("sandbox {id} is not started"))
        .with_code(Code::SandboxNotStarted)
        .with_hint("start it first")
}

/// The refusal of what needs words with a process 1 that speaks a version too old.
fn outdated(id: SandboxId, version: u32) -> Error {
    Error::conflict(format!(
        "sandbox {id} was started by an older server: its process 1 speaks version {version}, and this server \
         {} and the one before",
        mayfly_init::protocol::VERSION
    ))
    .with_hint("stop the sandbox and start it again: its files stay, its processes end")
}

/// A descriptor that names the process for ever, if it still lives.
pub(super) fn open_pidfd(pid: i32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// All running sandboxes by id, and one lock per id for the verbs that change it.
#[derive(Debug, Default)]
pub(super) struct Registry {
    live: Mutex<HashMap<SandboxId, Arc<Live>>>,
    verbs: Mutex<HashMap<SandboxId, Arc<Mutex<()>>>>,
}

impl Registry {
    pub(super) fn get(&self, id: SandboxId) -> Option<Arc<Live>> {
        self.live().get(&id).cloned()
    }

    /// A sandbox that must run, and be one that this server speaks with.
    pub(super) fn started(&self, id: SandboxId) -> Result<Arc<Live>> {
        let live = self.get(id).ok_or_else(|| not_started(id))?;
        match live.outdated.get() {
            Some(version) => Err(outdated(id, *version)),
            None => Ok(live),
        }
    }

    pub(super) fn insert(&self, live: Arc<Live>) {
        self.live().insert(live.id, live);
    }

    /// Takes a sandbox out if it is still this one.
    pub(super) fn remove(&self, gone: &Arc<Live>) -> bool {
        let mut live = self.live();
        let same = live.get(&gone.id).is_some_and(|found| Arc::ptr_eq(found, gone));
        if same {
            live.remove(&gone.id);
        }
        same
    }

    pub(super) fn all(&self) -> Vec<Arc<Live>> {
        self.live().values().cloned().collect()
    }

    /// Runs a verb while no other verb of the same sandbox runs.
    pub(super) fn exclusively<T>(&self, id: SandboxId, verb: impl FnOnce() -> T) -> T {
        let lock = Arc::clone(self.verbs().entry(id).or_default());
        let result = {
            let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
            verb()
        };
        let mut verbs = self.verbs();
        // Ours and the map's: nobody waits for it.
        if Arc::strong_count(&lock) == 2 {
            verbs.remove(&id);
        }
        result
    }

    fn live(&self) -> MutexGuard<'_, HashMap<SandboxId, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verbs(&self) -> MutexGuard<'_, HashMap<SandboxId, Arc<Mutex<()>>>> {
        self.verbs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Roots for Registry {
    fn root(&self, id: SandboxId) -> Result<Arc<Root>> {
        self.started(id)?.root()
    }
}
