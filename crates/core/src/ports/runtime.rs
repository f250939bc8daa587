//! Where sandboxes run, as a port.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::id::SandboxId;
use crate::limits::Resources;
use crate::network::{AuditPage, NetworkPolicy};
use crate::ports::captures::Captures;
use crate::ports::files::Files;
use crate::ports::processes::Processes;
use crate::ports::volumes::Volumes;
use crate::process::{ExecOutcome, ExecRequest, ProcessLog};
use crate::snapshot::Source;
use crate::volume::Mount;
use crate::{Error, Result};

/// How much of the isolation this host gives; stored with each sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Every layer, as root.
    Full,
    /// What an ordinary user can have: its own list of required layers.
    Unprivileged,
    /// No isolation; only by explicit configuration.
    None,
}

/// Everything a runtime needs to make or restart a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Its id; also names its host-side folder and inside host name.
    pub id: SandboxId,
    /// Where its root comes from.
    pub source: Source,
    /// Its size.
    pub resources: Resources,
    /// Inside user that commands run as by default.
    pub user: String,
    /// Inside working folder; `None` = the user's home.
    pub workdir: Option<String>,
    /// Environment of every command: the image's, then the caller's.
    pub env: BTreeMap<String, String>,
    /// What it may reach.
    pub network: NetworkPolicy,
    /// Volumes mounted in it, each time that it starts. One that is not there is a refusal.
    pub volumes: Vec<Mount>,
}

/// What a runtime knows of a sandbox, read from the world and not from memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Which.
    pub id: SandboxId,
    /// Whether its first process lives.
    pub running: bool,
    /// Whether it is frozen.
    pub frozen: bool,
    /// Version of its process 1 where that is too old to be spoken with: it can only be stopped.
    pub outdated: Option<u32>,
}

/// A sandbox whose first process ended without being asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Which.
    pub id: SandboxId,
    /// Why, as far as it is known: `out of memory`, `killed`, ...
    pub reason: String,
}

/// Something about the host that the operator should learn of, kept as an audit event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Rule that it is about, such as `network`.
    pub rule: &'static str,
    /// What happened; never a secret.
    pub target: String,
}

/// A disk limit that was changed for the sake of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskGuard {
    /// Of which sandbox.
    pub id: SandboxId,
    /// The limit that holds now, bytes.
    pub limit: u64,
    /// Whether it is below the sandbox's own size.
    pub lowered: bool,
}

/// Use of resources at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time so far, nanoseconds.
    pub cpu_nanos: u64,
    /// Memory in use, without page cache that can be dropped, bytes.
    pub memory_bytes: u64,
    /// Page cache, bytes.
    pub memory_cache_bytes: u64,
    /// Written to disk and not deleted, bytes; `None` where nothing counts it.
    pub disk_bytes: Option<u64>,
    /// Processes and threads alive.
    pub pids: u64,
}

/// Room for sandboxes at one moment, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// The store that sandboxes share; `None` where their folders lie plainly on the disk.
    pub pool: Option<Extent>,
    /// The disk of the data directory.
    pub disk: Extent,
    /// What is always left free on that disk.
    pub reserve: u64,
    /// Memory of the host; free is what new processes could have.
    pub memory: Extent,
    /// What lies in the pool beside the sandboxes' own folders, such as `captures`.
    pub shares: Vec<Share>,
}

/// A size and what is free of it, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Size.
    pub size: u64,
    /// Free.
    pub free: u64,
}

/// Things of one kind and what they take together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Kind, in the plural.
    pub name: String,
    /// How many; `None` where they are not counted.
    pub count: Option<u64>,
    /// Bytes; `None` where nothing counts them.
    pub bytes: Option<u64>,
}

/// What sandboxes reached for since their network was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// TCP connections open now.
    pub connections: u64,
    /// Connections and flows that were allowed.
    pub allowed: u64,
    /// Connections, datagrams and queries that were denied.
    pub denied: u64,
    /// Lines that the audit of connections lost.
    pub audit_lost: u64,
}

/// Something that nothing names any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Kind, in the singular: `capture`, `sandbox`, `layer`, `process`, ...
    pub kind: &'static str,
    /// Which one.
    pub name: String,
    /// Why it stays; `None` = it is taken away.
    pub kept: Option<String>,
}

/// Whether a layer of isolation holds on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerState {
    /// A live probe showed it.
    Holds,
    /// The host lacks it.
    Absent,
    /// There, but less than asked for.
    Weak,
}

/// One line of `mayfly doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Short name: `user namespace`, `seccomp`, `disk quota`, ...
    pub name: String,
    /// What the probe found.
    pub state: LayerState,
    /// Whether sandboxes are refused without it.
    pub required: bool,
    /// What the probe saw.
    pub evidence: String,
    /// What to do when it does not hold.
    pub remedy: Option<String>,
}

/// Where sandboxes run.
///
/// All verbs are idempotent by id and may be repeated after a crash. A verb that fails leaves nothing
/// half made. The adapter keeps nothing that [`Runtime::list`] cannot rebuild after a restart: sandboxes
/// live on when the server dies, with their processes and logs.
#[async_trait]
pub trait Runtime: Send + Sync + std::fmt::Debug {
    /// Which isolation sandboxes get here.
    fn profile(&self) -> Profile;

    /// Whether sandboxes may be promised any network but loopback. Where they may not, one whose maker asks for
    /// nothing is made with all blocked.
    fn has_network(&self) -> bool;

    /// The `host` source as it stands now.
    async fn host_source(&self) -> Result<Source>;

    /// Makes and starts a sandbox. A needed layer that is missing is a typed refusal, never a downgrade.
    async fn create(&self, spec: &SandboxSpec) -> Result<()>;

    /// Starts a stopped sandbox with the files it had.
    async fn start(&self, spec: &SandboxSpec) -> Result<()>;

    /// Ends its processes: terminate signal, then kill after the grace (zero = kill at once). Files stay.
    async fn stop(&self, id: SandboxId, grace: Duration) -> Result<()>;

    /// Ends it and deletes everything of it; also when it is half there or gone.
    async fn destroy(&self, id: SandboxId) -> Result<()>;

    /// Lets the files of a stopped sandbox take less room, in bounded time; starting it gives them back as they were.
    /// Where nothing can be saved, nothing happens. Cut off midway, every file is whole.
    async fn archive(&self, id: SandboxId) -> Result<()> {
        let _ = id;
        Ok(())
    }

    /// Stops the clock of all its processes.
    async fn freeze(&self, id: SandboxId) -> Result<()>;

    /// Lets them run on.
    async fn thaw(&self, id: SandboxId) -> Result<()>;

    /// Changes its limits, live when it runs.
    async fn resize(&self, id: SandboxId, resources: Resources) -> Result<()>;

    /// Changes what it may reach, live: when this returns, what is no longer allowed is cut. A sandbox that
    /// does not run gets it with its next start. What this was last told of a running sandbox stays in force
    /// whatever dies. A server that starts tells it again of every sandbox that runs.
    async fn set_network(&self, id: SandboxId, policy: &NetworkPolicy) -> Result<()>;

    /// What it reached for, oldest first, at most `limit` entries behind the cursor of an earlier page.
    /// [`crate::Kind::Invalid`] for a cursor that is none.
    async fn network_audit(
        &self,
        id: SandboxId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<AuditPage>;

    /// Waits for the next notice. Cancel-safe.
    async fn next_notice(&self) -> Notice {
        std::future::pending().await
    }

    /// Lowers the disk limits of sandboxes while their common store is nearly full, and restores them when
    /// there is room again; gives those that changed. Takes the full size in bytes of each sandbox.
    ///
    /// A runtime whose sandboxes share no store changes nothing.
    async fn guard_disk(&self, sizes: &[(SandboxId, u64)]) -> Result<Vec<DiskGuard>> {
        let _ = sizes;
        Ok(Vec::new())
    }

    /// Room at this moment, and what takes it.
    async fn space(&self) -> Result<Space> {
        Ok(Space::default())
    }

    /// What sandboxes reached for, together. It begins anew when their network does.
    async fn traffic(&self) -> Result<Traffic> {
        Ok(Traffic::default())
    }

    /// Finds what was generated for sandboxes and is of no use to any now or later, and deletes it unless `dry`.
    async fn leftovers(&self, dry: bool) -> Result<Vec<Leftover>> {
        let _ = dry;
        Ok(Vec::new())
    }

    /// Everything that is there, running or stopped.
    async fn list(&self) -> Result<Vec<Observed>>;

    /// Waits for the next unasked end of a sandbox. Cancel-safe.
    async fn next_exit(&self) -> Exit;

    /// What it uses.
    async fn usage(&self, id: SandboxId) -> Result<Usage>;

    /// Home of its default user and its work dir.
    async fn places(&self, id: SandboxId) -> Result<Places>;

    /// Runs a program to its end. Its output is also kept in a log that outlives the server.
    /// [`crate::Code::ProcessExecutionTimeout`] after the time limit, all its processes killed.
    async fn exec(&self, id: SandboxId, request: ExecRequest) -> Result<ExecOutcome>;

    /// Commands whose output is kept, newest last.
    async fn logs(&self, id: SandboxId) -> Result<Vec<ProcessLog>>;

    /// Kept output of one command from an offset, at most `max` bytes.
    async fn read_log(&self, id: SandboxId, process: u64, offset: u64, max: usize)
    -> Result<Bytes>;

    /// Its files.
    fn files(&self) -> &dyn Files;

    /// Its processes that stay.
    fn processes(&self) -> &dyn Processes;

    /// Copies of sandboxes' files; [`crate::Kind::Unsupported`] where none can be taken.
    fn captures(&self) -> Result<&dyn Captures> {
        Err(Error::unsupported("copying files of sandboxes"))
    }

    /// Volumes; [`crate::Kind::Unsupported`], with the reason, where there are none.
    fn volumes(&self) -> Result<&dyn Volumes> {
        Err(Error::unsupported("volumes"))
    }

    /// Connects to a TCP port inside, from within its own network, and gives the non-blocking socket.
    /// [`crate::Kind::Unavailable`] when nothing listens there.
    async fn connect(&self, id: SandboxId, port: u16) -> Result<OwnedFd>;

    /// Listens on a TCP port inside (0 = any) on its loopback address, and gives the non-blocking socket.
    async fn bind(&self, id: SandboxId, port: u16) -> Result<OwnedFd>;

    /// TCP ports that something inside listens on, ascending.
    async fn ports(&self, id: SandboxId) -> Result<Vec<u16>>;

    /// Probes the host's layers, live.
    async fn doctor(&self) -> Vec<Layer>;
}

/// Folders inside a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Home of the default user.
    pub home: String,
    /// Where commands start and relative paths begin.
    pub workdir: String,
}
