//! Every living sandbox in memory: written through by `commit`, rebuilt from the store at start.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use mayfly_core::id::{OrganizationId, SandboxId};
use mayfly_core::sandbox::{Sandbox, State};
use mayfly_core::time::{Moment, Monotonic, Timestamp};

use crate::feed::Feed;
use crate::lsp::Lanes;
use crate::minding::{Commands, Turns};
use crate::telemetry::Samples;
use crate::tenants::Tenants;

/// One living sandbox.
#[derive(Debug)]
pub(crate) struct Live {
    id: SandboxId,
    record: Mutex<Arc<Sandbox>>,
    used_mono: AtomicU64,
    used_wall: AtomicI64,
    flushed: AtomicU64,
    running: AtomicU32,
    queued: AtomicBool,
    /// Held by whoever performs an effect on it.
    pub(crate) lane: tokio::sync::Mutex<()>,
    /// Held by whoever tells the runtime what it may reach.
    pub(crate) wire: tokio::sync::Mutex<()>,
    /// Held by whoever gives one of its processes a name.
    pub(crate) naming: tokio::sync::Mutex<()>,
    /// Whether commands of its sessions run.
    pub(crate) commands: Commands,
    /// Who is next at its interpreters.
    pub(crate) turns: Turns,
    /// Its language servers that somebody talks to.
    pub(crate) languages: Lanes,
    /// What it used of late.
    pub(crate) samples: Samples,
}

impl Live {
    pub(crate) fn new(record: Arc<Sandbox>) -> Self {
        let used = record.last_activity;
        Self {
            id: record.id,
            record: Mutex::new(record),
            used_mono: AtomicU64::new(used.mono.0),
            used_wall: AtomicI64::new(used.wall.0),
            flushed: AtomicU64::new(used.mono.0),
            running: AtomicU32::new(0),
            queued: AtomicBool::new(false),
            lane: tokio::sync::Mutex::new(()),
            wire: tokio::sync::Mutex::new(()),
            naming: tokio::sync::Mutex::new(()),
            commands: Commands::default(),
            turns: Turns::default(),
            languages: Lanes::default(),
            samples: Samples::default(),
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> SandboxId {
        self.id
    }

    /// The record as last written.
    pub(crate) fn record(&self) -> Arc<Sandbox> {
        Arc::clone(&self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The record with the last use that is only known here.
    pub(crate) fn shown(&self) -> Sandbox {
        let mut record = Sandbox::clone(&self.record());
        record.last_activity = self.last_use().max_of(record.last_activity);
        record
    }

    /// Marks a use.
    pub(crate) fn touch(&self, at: Moment) {
        self.used_mono.fetch_max(at.mono.0, Ordering::Relaxed);
        self.used_wall.fetch_max(at.wall.0, Ordering::Relaxed);
    }

    /// The last use; now while a command runs, waited for or not.
    pub(crate) fn used(&self, now: Moment) -> Moment {
        let busy = self.running.load(Ordering::Relaxed) > 0 || self.commands.are_use();
        if busy { now } else { self.last_use() }
    }

    /// The last use, if it was not written down yet; it counts as written from here on.
    pub(crate) fn take_unflushed(&self, now: Moment) -> Option<Moment> {
        let used = self.used(now);
        (self.flushed.swap(used.mono.0, Ordering::Relaxed) < used.mono.0).then_some(used)
    }

    pub(crate) fn begin(&self, now: Moment) {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.touch(now);
    }

    pub(crate) fn end(&self, now: Moment) {
        self.touch(now);
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// A place in the queue of background work, of which each sandbox has one.
    pub(crate) fn enqueue(self: &Arc<Self>) -> Option<Queued> {
        (!self.queued.swap(true, Ordering::AcqRel)).then(|| Queued(Arc::clone(self)))
    }

    fn last_use(&self) -> Moment {
        Moment {
            wall: Timestamp(self.used_wall.load(Ordering::Relaxed)),
            mono: Monotonic(self.used_mono.load(Ordering::Relaxed)),
        }
    }

    /// Takes over a newer record, and then tells of it before the next one can come; an older one (a slower
    /// writer's) is dropped.
    fn publish(&self, next: &Arc<Sandbox>, tell: impl FnOnce(&Sandbox)) {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if next.version <= record.version {
            return;
        }
        self.touch(next.last_activity);
        if next.state != State::Started {
            self.turns.clear();
            self.languages.clear();
        }
        let old = std::mem::replace(&mut *record, Arc::clone(next));
        tell(&old);
    }
}

/// The later of two moments.
trait Later {
    fn max_of(self, other: Self) -> Self;
}

impl Later for Moment {
    fn max_of(self, other: Self) -> Self {
        if other.mono > self.mono { other } else { self }
    }
}

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<SandboxId, Arc<Live>>,
    by_name: HashMap<(OrganizationId, String), SandboxId>,
}

/// All of them, by id and by name.
#[derive(Debug, Default)]
pub(crate) struct Living {
    index: RwLock<Index>,
    reserved: AtomicUsize,
    tenants: Arc<Tenants>,
    /// Who listens.
    pub(crate) feed: Feed,
}

impl Living {
    /// None yet; use is counted there.
    pub(crate) fn new(tenants: Arc<Tenants>) -> Self {
        Self { tenants, ..Self::default() }
    }

    pub(crate) fn get(&self, id: SandboxId) -> Option<Arc<Live>> {
        self.read(|index| index.by_id.get(&id).cloned())
    }

    /// By id, else by name, among what the organization sees.
    pub(crate) fn find(&self, organization: OrganizationId, text: &str) -> Option<Arc<Live>> {
        let sees = |live: &Arc<Live>| {
            let record = live.record();
            record.organization == organization && !record.warm
        };
        let by_id = text.parse().ok().and_then(|id| self.get(id)).filter(sees);
        by_id.or_else(|| {
            self.read(|index| {
                let id = index.by_name.get(&(organization, text.to_owned()))?;
                index.by_id.get(id).cloned()
            })
            .filter(sees)
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.read(|index| index.by_id.len())
    }

    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        self.read(|index| index.by_id.values().cloned().collect())
    }

    /// Room for one more below the limit, until the guard is dropped.
    pub(crate) fn reserve(self: &Arc<Self>, most: usize) -> Option<Reserved> {
        let living = self.count();
        let guard = Reserved(Arc::clone(self));
        (self.reserved.fetch_add(1, Ordering::Relaxed) + living < most).then_some(guard)
    }

    pub(crate) fn insert(&self, record: &Arc<Sandbox>) -> Arc<Live> {
        let live = Arc::new(Live::new(Arc::clone(record)));
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.by_id.insert(record.id, Arc::clone(&live));
        index.by_name.insert((record.organization, record.name.clone()), record.id);
        // Told before anybody can find it, so that nothing about it is told earlier.
        self.tenants.count(None, record);
        self.feed.tell(None, record);
        live
    }

    /// Shows a written record to everyone; a destroyed one leaves.
    pub(crate) fn publish(&self, live: &Live, next: &Arc<Sandbox>) {
        live.publish(next, |old| {
            self.reindex(old, next);
            self.tenants.count(Some(old), next);
            self.feed.tell(Some(old), next);
        });
    }

    fn reindex(&self, old: &Sandbox, next: &Sandbox) {
        let renamed = old.name != next.name || old.organization != next.organization;
        let gone = next.state == State::Destroyed;
        if !renamed && !gone {
            return;
        }
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let key = (old.organization, old.name.clone());
        if index.by_name.get(&key) == Some(&next.id) {
            index.by_name.remove(&key);
        }
        if gone {
            index.by_id.remove(&next.id);
        } else {
            index.by_name.insert((next.organization, next.name.clone()), next.id);
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A sandbox's place in the queue of background work.
#[derive(Debug)]
pub(crate) struct Queued(Arc<Live>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.queued.store(false, Ordering::Release);
    }
}

/// Room for one sandbox that is being made.
#[derive(Debug)]
pub(crate) struct Reserved(Arc<Living>);

impl Drop for Reserved {
    fn drop(&mut self) {
        self.0.reserved.fetch_sub(1, Ordering::Relaxed);
    }
}
