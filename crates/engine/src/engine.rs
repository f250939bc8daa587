//! The engine as its users hold it.

use std::sync::Arc;

use mayfly_core::Result;
use mayfly_core::access::{Caller, Permission};
use mayfly_core::event::Event;
use mayfly_core::id::{OrganizationId, SandboxId, ServerId};
use mayfly_core::ports::clock::Clock;
use mayfly_core::ports::entropy::Entropy;
use mayfly_core::ports::runtime::Runtime;
use mayfly_core::ports::store::Store;
use mayfly_core::sandbox::State;
use mayfly_core::time::Timestamp;
use tokio::sync::{Mutex, Notify, Semaphore};

use crate::access::Access;
use crate::audit::{self, Audit, Tally};
use crate::feed::Listener;
use crate::house::{BACKGROUND, House, need};
use crate::key_cache::KeyCache;
use crate::living::Living;
use crate::metrics::Metrics;
use crate::organizations::Organizations;
use crate::reach::{self, Reach};
use crate::ready::Ready;
use crate::reconcile::{self, activity, refusals, world};
use crate::refusals::{Refusal, Refusals};
use crate::sandboxes::Sandboxes;
use crate::settings::Settings;
use crate::shelf::Shelf;
use crate::snapshot_cache::SnapshotCache;
use crate::snapshots::{self, Snapshots};
use crate::start;
use crate::tasks::Tasks;
use crate::volumes::Volumes;
use crate::{admission, backup, network, warm};

/// The use cases of one server; a cheap handle.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) house: Arc<House>,
}

impl Engine {
    /// Loads the platform's state, brings it and the runtime together, and starts the reconcilers.
    ///
    /// Sandboxes that run are adopted with their processes, interrupted transitions are finished in the
    /// background, what was lost says so in its record, and what no record knows is destroyed.
    pub async fn open(
        store: Arc<dyn Store>,
        runtime: Arc<dyn Runtime>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: Settings,
    ) -> Result<Self> {
        let server = start::identity(&*store, &*entropy, "server", ServerId::from_uuid).await?;
        let organization =
            start::identity(&*store, &*entropy, "organization", OrganizationId::from_uuid).await?;
        let rows = store.living().await?;
        admission::same_profile(&rows, runtime.profile())?;
        let clock = start::clock(clock, &*store, &rows).await?;
        let tenants = Arc::new(start::tenants(&*store, organization, clock.now().wall).await?);
        let shelf = Arc::new(Shelf::new(Arc::clone(&tenants)));
        for volume in store.volumes().await? {
            shelf.publish(volume);
        }
        let (host, renewed) =
            snapshots::host(&*store, &*runtime, &*entropy, organization, clock.now()).await?;
        let house = Arc::new(House {
            store,
            runtime,
            entropy,
            clock,
            settings,
            server,
            organization,
            living: Arc::new(Living::new(Arc::clone(&tenants))),
            snapshots: SnapshotCache::default(),
            keys: KeyCache::default(),
            ready: Ready::default(),
            refusals: Refusals::default(),
            tally: Tally::default(),
            metrics: Metrics::default(),
            tenants,
            shelf,
            tasks: Tasks::new(),
            background: Semaphore::new(BACKGROUND),
            backing_up: Arc::new(Mutex::new(())),
            reaping: Mutex::new(()),
            warm_nudge: Notify::new(),
        });
        house.snapshots.keep(host);
        for row in rows {
            house.living.insert(&Arc::new(row));
        }
        backup::sweep(&house).await;
        // Before anything that mounts them starts.
        reconcile::volumes::pass(&house, Timestamp(0)).await;
        world::compare(&house).await?;
        network::apply_all(&house).await;
        for live in house.living.all() {
            live.commands.unknown();
            let record = live.record();
            if record.warm && renewed {
                warm::retire(&house, &live).await;
            } else if record.warm && record.state == State::Started {
                house.ready.put(live);
            }
        }
        reconcile::start(&house);
        Ok(Self { house })
    }

    /// Keys and callers.
    pub fn access(&self) -> Access<'_> {
        Access(&self.house)
    }

    /// Organizations.
    pub fn organizations(&self) -> Organizations<'_> {
        Organizations(&self.house)
    }

    /// The audit log.
    pub fn audit_log(&self) -> Audit<'_> {
        Audit(&self.house)
    }

    /// What happens to the sandboxes of an organization from now on.
    pub fn listen(&self, organization: OrganizationId) -> Listener {
        self.house.living.feed.listen(organization)
    }

    /// Sandboxes.
    pub fn sandboxes(&self) -> Sandboxes<'_> {
        Sandboxes(&self.house)
    }

    /// Volumes.
    pub fn volumes(&self) -> Volumes<'_> {
        Volumes(&self.house)
    }

    /// Snapshots.
    pub fn snapshots(&self) -> Snapshots<'_> {
        Snapshots(&self.house)
    }

    /// The inside of a started sandbox; counts as a use of it.
    /// [`mayfly_core::Code::SandboxNotStarted`] with the state when it is not started.
    #[expect(clippy::unused_async, reason = "a store shared by several servers will be asked here")]
    pub async fn reach(&self, caller: &Caller, id_or_name: &str) -> Result<Reach> {
        reach::reach(&self.house, caller, id_or_name)
    }

    /// The inside of a started sandbox, for whoever holds a token that opens it: nothing is judged here.
    /// Otherwise like [`Engine::reach`].
    pub fn enter(&self, id: SandboxId) -> Result<Reach> {
        reach::enter(&self.house, id)
    }

    /// Whether its previews need no token; an unknown one's do.
    pub fn is_public(&self, id: SandboxId) -> bool {
        self.house.visible(id).is_ok_and(|live| live.record().public)
    }

    /// Whether it is started.
    pub fn is_started(&self, id: SandboxId) -> bool {
        self.house.visible(id).is_ok_and(|live| live.record().state == State::Started)
    }

    /// Whose it is.
    pub fn owner(&self, id: SandboxId) -> Result<OrganizationId> {
        self.house.visible(id).map(|live| live.record().organization)
    }

    /// Counts a refused call. The counts are written down as audit events every half a minute, of the sandbox
    /// that the text names where the organization has it; see [`Engine::audit`] for the others.
    pub fn refused(&self, mut refusal: Refusal, id_or_name: Option<&str>) {
        refusal.sandbox = refusal
            .organization
            .zip(id_or_name)
            .and_then(|(organization, text)| self.house.living.find(organization, text))
            .map(|live| live.id());
        self.house.refusals.note(refusal);
    }

    /// Newest audit events that concern no sandbox, newest first. Needs `admin`.
    pub async fn audit(&self, caller: &Caller, limit: u32) -> Result<Vec<Event>> {
        need(caller, Permission::Admin)?;
        let mut events = self.house.store.events(Event::NO_SANDBOX, limit).await?;
        events.retain(|event| event.organization == caller.organization);
        Ok(events)
    }

    /// Where sandboxes run, for `doctor`.
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.house.runtime
    }

    /// This server's id, the same for the life of its data directory.
    pub fn server(&self) -> ServerId {
        self.house.server
    }

    /// Whether there is a sandbox of this id that is not destroyed.
    pub fn is_living(&self, id: SandboxId) -> bool {
        self.house.living.get(id).is_some()
    }

    /// Sandboxes that are not destroyed, of all organizations, warm ones included.
    pub fn living(&self) -> usize {
        self.house.living.count()
    }

    /// Stops the reconcilers, waits for transitions under way (at most for as long as an effect may take),
    /// writes down last uses. Sandboxes live on; what was not finished is finished at the next start.
    pub async fn shutdown(&self) {
        let settings = &self.house.settings;
        let limit = settings.effect_timeout + settings.stop_grace;
        if tokio::time::timeout(limit, self.house.tasks.drain()).await.is_err() {
            tracing::warn!(?limit, "transitions were still under way at shutdown");
        }
        activity::pass(Arc::clone(&self.house)).await;
        reconcile::volumes::flush(&self.house).await;
        refusals::write(&self.house).await;
        audit::flush(&self.house).await;
    }
}
