//! What all use cases share.

use std::sync::Arc;

use mayfly_core::access::{Caller, Permission};
use mayfly_core::id::{OrganizationId, SandboxId, ServerId};
use mayfly_core::ports::entropy::Entropy;
use mayfly_core::ports::runtime::Runtime;
use mayfly_core::ports::store::Store;
use mayfly_core::sandbox::{Desired, Sandbox, State};
use mayfly_core::snapshot::Snapshot;
use mayfly_core::time::Moment;
use mayfly_core::{Error, Kind, Result};
use tokio::sync::{Mutex, Notify, Semaphore};

use crate::audit::Tally;
use crate::key_cache::KeyCache;
use crate::living::{Live, Living};
use crate::metrics::Metrics;
use crate::network;
use crate::ready::Ready;
use crate::refusals::Refusals;
use crate::settings::Settings;
use crate::shelf::Shelf;
use crate::snapshot_cache::SnapshotCache;
use crate::steady::Steady;
use crate::tasks::Tasks;
use crate::tenants::Tenants;

/// Most transitions that timers and reconcilers have under way at once.
pub(crate) const BACKGROUND: usize = 16;

/// The engine's inside.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) clock: Steady,
    pub(crate) settings: Settings,
    pub(crate) server: ServerId,
    pub(crate) organization: OrganizationId,
    pub(crate) living: Arc<Living>,
    pub(crate) snapshots: SnapshotCache,
    pub(crate) keys: KeyCache,
    pub(crate) ready: Ready,
    pub(crate) refusals: Refusals,
    pub(crate) tally: Tally,
    pub(crate) metrics: Metrics,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) tasks: Tasks,
    /// Room for transitions that no caller waits for.
    pub(crate) background: Semaphore,
    /// Held while a backup is under way.
    pub(crate) backing_up: Arc<Mutex<()>>,
    /// Held by the round that reaps.
    pub(crate) reaping: Mutex<()>,
    /// Wakes the warm pool's reconciler.
    pub(crate) warm_nudge: Notify,
}

impl House {
    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// The caller's sandbox; another organization's is as unknown as none.
    pub(crate) fn find(&self, caller: &Caller, id_or_name: &str) -> Result<Arc<Live>> {
        self.living
            .find(caller.organization, id_or_name)
            .ok_or_else(|| not_found("sandbox", id_or_name))
    }

    /// A sandbox of anybody's, by id; what is kept ready for later is as unknown as none.
    pub(crate) fn visible(&self, id: SandboxId) -> Result<Arc<Live>> {
        let found = self.living.get(id).filter(|live| !live.record().warm);
        found.ok_or_else(|| not_found("sandbox", &id.to_string()))
    }

    /// A record of a new sandbox of this snapshot, all else at its default.
    pub(crate) fn blank(&self, id: SandboxId, snapshot: &Snapshot) -> Sandbox {
        let now = self.now();
        Sandbox {
            id,
            organization: self.organization,
            name: id.to_string(),
            snapshot: snapshot.id,
            snapshot_name: snapshot.name.clone(),
            user: snapshot.user.clone(),
            env: std::collections::BTreeMap::new(),
            later_env: std::collections::BTreeMap::new(),
            labels: std::collections::BTreeMap::new(),
            public: false,
            target: self.settings.target.clone(),
            network: network::default(self),
            volumes: Vec::new(),
            resources: snapshot.resources,
            profile: self.runtime.profile(),
            state: State::Creating,
            desired: Desired::Started,
            resume_to: None,
            error_reason: None,
            recoverable: false,
            timers: mayfly_core::sandbox::Timers::default(),
            created: now,
            ttl_from: now,
            last_activity: now,
            stopped_since: None,
            updated_at: now.wall,
            server: self.server,
            idempotency_key: None,
            warm: false,
            version: 0,
        }
    }
}

/// Whoever the operating system vouches for, in this organization.
pub(crate) fn operator(organization: OrganizationId) -> Caller {
    Caller { organization, permissions: [Permission::Admin].into(), key: None, operator: true }
}

/// Refuses whoever the operating system does not vouch for; `what` completes "may ...".
pub(crate) fn need_operator(caller: &Caller, what: &str) -> Result<()> {
    need(caller, Permission::Admin)?;
    if caller.operator {
        return Ok(());
    }
    Err(Error::new(Kind::Denied, format!("only the operator of the server may {what}"))
        .with_hint("use `mayfly` on the server's own machine, as the server's user or root"))
}

/// Refuses a caller without the permission.
pub(crate) fn need(caller: &Caller, permission: Permission) -> Result<()> {
    if caller.may(permission) {
        return Ok(());
    }
    let error = Error::new(
        Kind::Denied,
        format!("this API key lacks the permission {}", permission.as_str()),
    );
    Err(error.with_hint("use a key that has it, or ask an administrator for one"))
}

/// The same words for unknown and for another organization's.
pub(crate) fn not_found(noun: &str, id_or_name: &str) -> Error {
    let shown: String = id_or_name.chars().take(255).collect();
    Error::not_found(format!("{noun} {shown} not found"))
}
