//! Where platform state lives, as a port.

use async_trait::async_trait;

use crate::Result;
use crate::access::{ApiKey, Organization, SshAccess};
use crate::audit;
use crate::event::Event;
use crate::id::{OrganizationId, SandboxId, SnapshotId};
use crate::measure::Reading;
use crate::sandbox::{Sandbox, State};
use crate::snapshot::Snapshot;
use crate::time::{Moment, Timestamp};
use crate::volume::Volume;

/// One change of a sandbox: the new record, the version it was decided on, and what happened.
#[derive(Clone, Debug)]
pub struct Change {
    /// The record after the change; its `version` is `expected + 1`.
    pub next: Sandbox,
    /// Version of the record that the decision saw; `None` = the sandbox must not exist yet.
    pub expected: Option<u64>,
    /// Events written in the same transaction.
    pub events: Vec<Event>,
}

/// Outcome of a compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// Written, and durable against a kill of the server.
    Done,
    /// Another change came first; read and decide again.
    Stale,
    /// Another living sandbox of the organization has this name.
    NameTaken,
    /// The organization used this idempotency key before; here is what it made.
    Repeated(Box<Sandbox>),
}

/// Sort order of sandbox lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// By name.
    Name,
    /// By cores.
    Cpu,
    /// By memory.
    Memory,
    /// By disk.
    Disk,
    /// By last use.
    LastActivity,
    /// By creation; the default.
    #[default]
    Created,
}

/// Which sandboxes to list, and from where on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxQuery {
    /// Exact id.
    pub id: Option<SandboxId>,
    /// Prefix of the name, case-insensitive.
    pub name_prefix: Option<String>,
    /// Labels that must all match.
    pub labels: Vec<(String, String)>,
    /// Any of these states; empty = all that are not destroyed.
    pub states: Vec<State>,
    /// Any of these snapshot names; empty = all.
    pub snapshots: Vec<String>,
    /// Any of these targets; empty = all.
    pub targets: Vec<String>,
    /// Only with this value of `public`.
    pub public: Option<bool>,
    /// Only with this value of `recoverable`.
    pub recoverable: Option<bool>,
    /// Inclusive bounds of cores.
    pub cpu: (Option<u32>, Option<u32>),
    /// Inclusive bounds of memory, GiB.
    pub memory_gib: (Option<u32>, Option<u32>),
    /// Inclusive bounds of disk, GiB.
    pub disk_gib: (Option<u32>, Option<u32>),
    /// Made after, before.
    pub created: (Option<Timestamp>, Option<Timestamp>),
    /// Last used after, before.
    pub last_activity: (Option<Timestamp>, Option<Timestamp>),
    /// Time to live over after, before; those without one never match a bound.
    pub destroy_at: (Option<Timestamp>, Option<Timestamp>),
    /// Leave out those that broke while they were being deleted.
    pub without_doomed: bool,
    /// Sort order; ties are broken by id.
    pub sort: SortBy,
    /// Smallest first.
    pub ascending: bool,
    /// Cursor of an earlier page: opaque text made by the store.
    pub cursor: Option<String>,
    /// Rows to skip, for the older paged form; not with `cursor`.
    pub offset: u64,
    /// Most rows, 1 to 200.
    pub limit: u32,
    /// Leave `total` at 0, which saves looking at every row that matches.
    pub uncounted: bool,
}

/// One page of sandboxes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxPage {
    /// The rows.
    pub items: Vec<Sandbox>,
    /// Where the next page begins; `None` at the end. Pages neither repeat nor lose a row that exists
    /// throughout and whose sort key does not change.
    pub next: Option<String>,
    /// Rows that match, over all pages; 0 where the query is `uncounted`.
    pub total: u64,
}

/// A copy of everything that a store holds.
pub struct Copy {
    /// Its size, bytes.
    pub size: u64,
    /// The copy as the adapter's own file.
    pub data: Box<dyn std::io::Read + Send + Sync>,
}

impl std::fmt::Debug for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copy").field("size", &self.size).finish_non_exhaustive()
    }
}

/// How busy a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Writes that wait now.
    pub queued: u64,
    /// How long transactions took to be written.
    pub commits: Reading,
}

/// Platform state. One writer; every call is one transaction; what returned `Ok` survives kill -9.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Copies everything as it is at one moment, for a backup; writing goes on meanwhile.
    /// [`crate::Kind::Unsupported`] where the state lies elsewhere and is backed up there.
    async fn copy(&self) -> Result<Copy> {
        Err(crate::Error::unsupported("a copy of this store"))
    }

    /// How busy it is; nothing where it is not measured.
    fn load(&self) -> Load {
        Load::default()
    }

    /// Writes a change of a sandbox if the record still has the expected version.
    async fn replace(&self, change: Change) -> Result<Swap>;

    /// Moves only `last_activity` forward; not a change of state, so no version.
    async fn touch(&self, id: SandboxId, at: Moment) -> Result<()>;

    /// By id, whoever owns it; `None` also for destroyed ones that were forgotten.
    async fn sandbox(&self, id: SandboxId) -> Result<Option<Sandbox>>;

    /// By name among an organization's sandboxes that are not destroyed.
    async fn sandbox_by_name(
        &self,
        organization: OrganizationId,
        name: &str,
    ) -> Result<Option<Sandbox>>;

    /// The sandbox that this idempotency key of the organization made.
    async fn sandbox_by_key(
        &self,
        organization: OrganizationId,
        key: &str,
    ) -> Result<Option<Sandbox>>;

    /// A page of an organization's sandboxes; warm ones are never listed.
    async fn sandboxes(
        &self,
        organization: OrganizationId,
        query: &SandboxQuery,
    ) -> Result<SandboxPage>;

    /// Every sandbox that is not destroyed, of all organizations, warm ones included.
    async fn living(&self) -> Result<Vec<Sandbox>>;

    /// Removes records of sandboxes destroyed before this time.
    async fn forget_destroyed(&self, before: Timestamp) -> Result<u64>;

    /// Adds or replaces a snapshot.
    async fn put_snapshot(&self, snapshot: &Snapshot) -> Result<()>;

    /// By id.
    async fn snapshot(&self, id: SnapshotId) -> Result<Option<Snapshot>>;

    /// Snapshots that an organization sees.
    async fn snapshots(&self, organization: OrganizationId) -> Result<Vec<Snapshot>>;

    /// Moves only `last_used_at` forward; unknown ids are passed over.
    async fn use_snapshot(&self, id: SnapshotId, at: Timestamp) -> Result<()>;

    /// Adds or replaces a volume; [`crate::Kind::Conflict`] when another one of the organization that is not
    /// deleted has the name.
    async fn put_volume(&self, volume: &Volume) -> Result<()>;

    /// All volumes of all organizations, deleted ones that are not forgotten included, by id.
    async fn volumes(&self) -> Result<Vec<Volume>>;

    /// Removes records of volumes deleted before this time.
    async fn forget_deleted_volumes(&self, before: Timestamp) -> Result<u64>;

    /// Adds a key; [`crate::Kind::Conflict`] when the name is taken.
    async fn add_key(&self, key: &ApiKey) -> Result<()>;

    /// The key whose value has this hash.
    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>>;

    /// Keys of an organization, by name.
    async fn keys(&self, organization: OrganizationId) -> Result<Vec<ApiKey>>;

    /// Moves only `last_used_at` of the keys of these hashes forward, together; unknown ones are passed over.
    async fn use_keys(&self, uses: Vec<([u8; 32], Timestamp)>) -> Result<()>;

    /// Deletes a key; `false` when there was none.
    async fn delete_key(&self, organization: OrganizationId, name: &str) -> Result<bool>;

    /// Adds or replaces an organization; [`crate::Kind::Conflict`] when another one has the name.
    async fn put_organization(&self, organization: &Organization) -> Result<()>;

    /// All organizations, by name.
    async fn organizations(&self) -> Result<Vec<Organization>>;

    /// Deletes an organization with its keys and its audit log; `false` when there was none.
    /// [`crate::Kind::Conflict`] while it has sandboxes that are not destroyed, volumes that are not deleted, or
    /// snapshots.
    async fn delete_organization(&self, id: OrganizationId) -> Result<bool>;

    /// Writes lines of the audit log; of each organization about the newest `keep` are kept.
    async fn add_audit(&self, entries: Vec<audit::Entry>, keep: u32) -> Result<()>;

    /// Lines of an organization's audit log, newest first.
    async fn audit(&self, organization: OrganizationId, look: audit::Look) -> Result<audit::Page>;

    /// Adds leave to enter by SSH; others that are over by its making are forgotten.
    async fn add_ssh_access(&self, access: &SshAccess) -> Result<()>;

    /// The leave whose token has this hash, also when it is over.
    async fn ssh_access(&self, hash: &[u8; 32]) -> Result<Option<SshAccess>>;

    /// Takes back leave to enter a sandbox: that of one token, else all; how many there were.
    async fn delete_ssh_access(&self, sandbox: SandboxId, hash: Option<[u8; 32]>) -> Result<u64>;

    /// Keeps that the signed link of this hash was ended before its time, until that time; those whose time came
    /// by `now` are forgotten.
    async fn end_link(&self, hash: &[u8; 32], until: Timestamp, now: Timestamp) -> Result<()>;

    /// Whether that link was ended.
    async fn link_ended(&self, hash: &[u8; 32]) -> Result<bool>;

    /// A value of the server itself (its id, its organization), by name.
    async fn setting(&self, name: &str) -> Result<Option<String>>;

    /// Sets such a value.
    async fn set_setting(&self, name: &str, value: &str) -> Result<()>;

    /// Adds events that belong to no change of a record, such as refusals. Those of a sandbox are forgotten
    /// with it; of each sandbox, and of none (the id of zeros), about the newest thousand are kept.
    async fn add_events(&self, events: Vec<Event>) -> Result<()>;

    /// Newest events of a sandbox, newest first.
    async fn events(&self, sandbox: SandboxId, limit: u32) -> Result<Vec<Event>>;
}
