//! What is kept of a sandbox.

use std::collections::BTreeMap;
use std::fmt;

use crate::id::{OrganizationId, SandboxId, ServerId, SnapshotId};
use crate::limits::Resources;
use crate::network::NetworkPolicy;
use crate::ports::runtime::Profile;
use crate::time::{Moment, Timestamp};
use crate::volume::Mount;

/// Where a sandbox is in its life; the contract's words (Daytona contract, section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Being made.
    Creating,
    /// Running.
    Started,
    /// Being stopped.
    Stopping,
    /// Processes gone, files kept.
    Stopped,
    /// Being started again.
    Starting,
    /// Being put away.
    Archiving,
    /// Put away.
    Archived,
    /// Being brought back from the archive.
    Restoring,
    /// Being frozen.
    Pausing,
    /// Frozen.
    Paused,
    /// Being thawed.
    Resuming,
    /// Limits are being changed.
    Resizing,
    /// Broken; see the reason.
    Error,
    /// Being deleted.
    Destroying,
    /// Gone.
    Destroyed,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Creating,
        Self::Started,
        Self::Stopping,
        Self::Stopped,
        Self::Starting,
        Self::Archiving,
        Self::Archived,
        Self::Restoring,
        Self::Pausing,
        Self::Paused,
        Self::Resuming,
        Self::Resizing,
        Self::Error,
        Self::Destroying,
        Self::Destroyed,
    ];

    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Archiving => "archiving",
            Self::Archived => "archived",
            Self::Restoring => "restoring",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Resuming => "resuming",
            Self::Resizing => "resizing",
            Self::Error => "error",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
        }
    }

    /// The state of that word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether something is being done to the sandbox that ends by itself.
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Creating
            | Self::Stopping
            | Self::Starting
            | Self::Archiving
            | Self::Restoring
            | Self::Pausing
            | Self::Resuming
            | Self::Resizing
            | Self::Destroying => true,
            Self::Started
            | Self::Stopped
            | Self::Archived
            | Self::Paused
            | Self::Error
            | Self::Destroyed => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the owner wants it to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Desired {
    /// Running.
    Started,
    /// Stopped.
    Stopped,
    /// Put away.
    Archived,
    /// Frozen.
    Paused,
    /// At its new size.
    Resized,
    /// Gone.
    Destroyed,
}

impl Desired {
    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Archived => "archived",
            Self::Paused => "paused",
            Self::Resized => "resized",
            Self::Destroyed => "destroyed",
        }
    }
}

/// Automatic ends of phases, in minutes (Daytona contract, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timers {
    /// Idle minutes until it is stopped; 0 = never. Default 15.
    pub auto_stop: u32,
    /// Idle minutes until it is paused; 0 = never. Default 0.
    pub auto_pause: u32,
    /// Minutes stopped until it is archived; 0 = the maximum. Default 10080.
    pub auto_archive: u32,
    /// Minutes stopped until it is deleted; negative = never, 0 = at once. Default -1.
    pub auto_delete: i32,
    /// Minutes after creation until it is deleted in any state; 0 = never. Default 0.
    pub ttl: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self { auto_stop: 15, auto_pause: 0, auto_archive: 10_080, auto_delete: -1, ttl: 0 }
    }
}

/// Everything kept of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// Unique among the organization's sandboxes that are not destroyed.
    pub name: String,
    /// Snapshot it was made from.
    pub snapshot: SnapshotId,
    /// The snapshot's name as the caller asked for it.
    pub snapshot_name: String,
    /// Inside user of its commands.
    pub user: String,
    /// Environment of its commands.
    pub env: BTreeMap<String, String>,
    /// What was set later, over `env`, for what starts from then on.
    pub later_env: BTreeMap<String, String>,
    /// Labels of the caller.
    pub labels: BTreeMap<String, String>,
    /// Whether previews need no token.
    pub public: bool,
    /// Region label.
    pub target: String,
    /// Its size.
    pub resources: Resources,
    /// What it may reach.
    pub network: NetworkPolicy,
    /// Volumes mounted in it, as long as it is.
    pub volumes: Vec<Mount>,
    /// Isolation it got.
    pub profile: Profile,
    /// Where it is.
    pub state: State,
    /// Where it shall be.
    pub desired: Desired,
    /// State to return to after resizing.
    pub resume_to: Option<State>,
    /// Why it is in [`State::Error`] or stopped unasked.
    pub error_reason: Option<String>,
    /// Whether recover may be tried.
    pub recoverable: bool,
    /// Its timers.
    pub timers: Timers,
    /// When it was made.
    pub created: Moment,
    /// When its time to live began to count.
    pub ttl_from: Moment,
    /// Last use by anyone.
    pub last_activity: Moment,
    /// Since when it has been stopped without a break.
    pub stopped_since: Option<Moment>,
    /// Last change of this record.
    pub updated_at: Timestamp,
    /// Server that runs it.
    pub server: ServerId,
    /// The caller's idempotency key.
    pub idempotency_key: Option<String>,
    /// Set while it waits, unclaimed, in the warm pool of its snapshot.
    pub warm: bool,
    /// Counts changes; a change names the version it was decided on.
    pub version: u64,
}
