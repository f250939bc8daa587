//! A store in memory with the port's whole meaning; lists are in `query`.

mod query;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use mayfly_core::access::{ApiKey, Organization, SshAccess};
use mayfly_core::audit::{Entry, Look, Page};
use mayfly_core::event::Event;
use mayfly_core::id::{OrganizationId, SandboxId, SnapshotId, VolumeId};
use mayfly_core::ports::store::{Change, SandboxPage, SandboxQuery, Store, Swap};
use mayfly_core::sandbox::{Sandbox, State};
use mayfly_core::snapshot::Snapshot;
use mayfly_core::time::{Moment, Timestamp};
use mayfly_core::volume::{Volume, VolumeState};
use mayfly_core::{Error, Kind, Result};

use crate::fuse::Fuse;

/// What survives a crash.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    rows: Mutex<Rows>,
    failures: AtomicU32,
}

#[derive(Debug, Default)]
struct Rows {
    sandboxes: BTreeMap<SandboxId, Sandbox>,
    snapshots: BTreeMap<SnapshotId, Snapshot>,
    volumes: BTreeMap<VolumeId, Volume>,
    keys: BTreeMap<(OrganizationId, String), ApiKey>,
    settings: BTreeMap<String, String>,
    ssh: BTreeMap<[u8; 32], SshAccess>,
    links: BTreeMap<[u8; 32], Timestamp>,
    events: Vec<Event>,
    organizations: BTreeMap<OrganizationId, Organization>,
    audit: Vec<Entry>,
    audited: u64,
}

/// A store in memory.
#[derive(Debug)]
pub struct FakeStore {
    tables: Arc<Tables>,
    fuse: Fuse,
}

impl Default for FakeStore {
    fn default() -> Self {
        Self::new(Arc::default(), Fuse::never())
    }
}

impl FakeStore {
    pub(crate) fn new(tables: Arc<Tables>, fuse: Fuse) -> Self {
        Self { tables, fuse }
    }

    /// The next so many writes of sandboxes fail as on a full disk.
    pub fn fail_writes(&self, times: u32) {
        self.tables.failures.store(times, Ordering::SeqCst);
    }

    /// Every sandbox ever kept, destroyed ones included, without a step of the fuse.
    pub fn peek(&self) -> Vec<Sandbox> {
        self.rows().sandboxes.values().cloned().collect()
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.tables.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn with<T>(&self, act: impl FnOnce(&mut Rows) -> T) -> T {
        self.fuse.step().await;
        let out = act(&mut self.rows());
        self.fuse.step().await;
        out
    }
}

impl Rows {
    fn replace(&mut self, change: Change) -> Swap {
        let Change { next, expected, events } = change;
        assert_eq!(next.version, expected.unwrap_or(0) + 1, "a change counts versions by one");
        let current = self.sandboxes.get(&next.id);
        if current.map(|row| row.version) != expected {
            return Swap::Stale;
        }
        let old_key = current.and_then(|row| row.idempotency_key.clone());
        if let Some(key) = &next.idempotency_key
            && old_key.as_ref() != Some(key)
        {
            let made = self.sandboxes.values().find(|row| {
                row.organization == next.organization && row.idempotency_key.as_ref() == Some(key)
            });
            if let Some(made) = made {
                return Swap::Repeated(Box::new(made.clone()));
            }
        }
        let taken = next.state != State::Destroyed
            && self.sandboxes.values().any(|row| {
                row.id != next.id
                    && row.state != State::Destroyed
                    && row.organization == next.organization
                    && row.name == next.name
            });
        if taken {
            return Swap::NameTaken;
        }
        self.sandboxes.insert(next.id, next);
        self.events.extend(events);
        Swap::Done
    }

    fn put_organization(&mut self, organization: &Organization) -> Result<()> {
        let taken =
            |other: &Organization| other.id != organization.id && other.name == organization.name;
        if self.organizations.values().any(taken) {
            let name = &organization.name;
            return Err(Error::conflict(format!("an organization named {name} already exists")));
        }
        self.organizations.insert(organization.id, organization.clone());
        Ok(())
    }

    fn delete_organization(&mut self, id: OrganizationId) -> Result<bool> {
        let lives = |row: &Sandbox| row.organization == id && row.state != State::Destroyed;
        if self.sandboxes.values().any(lives)
            || self.volumes.values().any(|row| row.organization == id && lasts(row))
            || self.snapshots.values().any(|row| row.organization == Some(id))
        {
            return Err(Error::conflict(
                "the organization still has sandboxes, volumes or snapshots",
            ));
        }
        self.keys.retain(|(owner, _), _| *owner != id);
        self.volumes.retain(|_, row| row.organization != id);
        self.audit.retain(|entry| entry.organization != id);
        Ok(self.organizations.remove(&id).is_some())
    }

    fn put_volume(&mut self, volume: &Volume) -> Result<()> {
        let taken = |other: &Volume| {
            other.id != volume.id
                && other.organization == volume.organization
                && other.name == volume.name
                && lasts(other)
        };
        if lasts(volume) && self.volumes.values().any(taken) {
            return Err(Error::conflict(format!("a volume named {} already exists", volume.name)));
        }
        self.volumes.insert(volume.id, volume.clone());
        Ok(())
    }

    fn add_audit(&mut self, entry: Entry, keep: u32) {
        self.audited += 1;
        let organization = entry.organization;
        self.audit.push(Entry { id: self.audited, ..entry });
        let own = |entry: &Entry| entry.organization == organization;
        let surplus = self.audit.iter().filter(|entry| own(entry)).count();
        if surplus > keep as usize
            && let Some(oldest) = self.audit.iter().position(own)
        {
            self.audit.remove(oldest);
        }
    }

    fn audit(&self, organization: OrganizationId, look: Look) -> Page {
        let own = self.audit.iter().rev().filter(|entry| entry.organization == organization);
        let total = own.clone().count() as u64;
        let behind = own.filter(|entry| look.before.is_none_or(|id| entry.id < id));
        let skip = usize::try_from(look.offset).unwrap_or(usize::MAX);
        let items = behind.skip(skip).take(look.limit as usize).cloned().collect();
        Page { items, total }
    }
}

/// Whether a volume is not deleted.
fn lasts(volume: &Volume) -> bool {
    volume.state != VolumeState::Deleted
}

#[async_trait]
impl Store for FakeStore {
    async fn replace(&self, change: Change) -> Result<Swap> {
        let failures = &self.tables.failures;
        let fails = failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if fails.is_ok() {
            return Err(Error::new(Kind::Unavailable, "the database is full"));
        }
        Ok(self.with(|rows| rows.replace(change)).await)
    }

    async fn touch(&self, id: SandboxId, at: Moment) -> Result<()> {
        self.with(|rows| {
            if let Some(row) = rows.sandboxes.get_mut(&id)
                && row.last_activity.mono < at.mono
            {
                row.last_activity = at;
            }
        })
        .await;
        Ok(())
    }

    async fn sandbox(&self, id: SandboxId) -> Result<Option<Sandbox>> {
        Ok(self.with(|rows| rows.sandboxes.get(&id).cloned()).await)
    }

    async fn sandbox_by_name(
        &self,
        organization: OrganizationId,
        name: &str,
    ) -> Result<Option<Sandbox>> {
        let fits = |row: &&Sandbox| {
            row.organization == organization && row.name == name && row.state != State::Destroyed
        };
        Ok(self.with(|rows| rows.sandboxes.values().find(fits).cloned()).await)
    }

    async fn sandbox_by_key(
        &self,
        organization: OrganizationId,
        key: &str,
    ) -> Result<Option<Sandbox>> {
        let fits = |row: &&Sandbox| {
            row.organization == organization && row.idempotency_key.as_deref() == Some(key)
        };
        Ok(self.with(|rows| rows.sandboxes.values().find(fits).cloned()).await)
    }

    async fn sandboxes(
        &self,
        organization: OrganizationId,
        query: &SandboxQuery,
    ) -> Result<SandboxPage> {
        let mine = |rows: &mut Rows| -> Vec<Sandbox> {
            let mine = rows.sandboxes.values();
            mine.filter(|row| row.organization == organization && !row.warm).cloned().collect()
        };
        let mine = self.with(mine).await;
        query::page(mine, query)
    }

    async fn living(&self) -> Result<Vec<Sandbox>> {
        let lives = |row: &&Sandbox| row.state != State::Destroyed;
        Ok(self.with(|rows| rows.sandboxes.values().filter(lives).cloned().collect()).await)
    }

    async fn forget_destroyed(&self, before: Timestamp) -> Result<u64> {
        let removed = |rows: &mut Rows| {
            let had = rows.sandboxes.len();
            let stays = |row: &Sandbox| row.state != State::Destroyed || row.updated_at >= before;
            rows.sandboxes.retain(|_, row| stays(row));
            had - rows.sandboxes.len()
        };
        Ok(self.with(removed).await as u64)
    }

    async fn put_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        self.with(|rows| rows.snapshots.insert(snapshot.id, snapshot.clone())).await;
        Ok(())
    }

    async fn snapshot(&self, id: SnapshotId) -> Result<Option<Snapshot>> {
        Ok(self.with(|rows| rows.snapshots.get(&id).cloned()).await)
    }

    async fn snapshots(&self, organization: OrganizationId) -> Result<Vec<Snapshot>> {
        let sees = |row: &&Snapshot| row.organization.is_none_or(|owner| owner == organization);
        Ok(self.with(|rows| rows.snapshots.values().filter(sees).cloned().collect()).await)
    }

    async fn use_snapshot(&self, id: SnapshotId, at: Timestamp) -> Result<()> {
        self.with(|rows| {
            if let Some(row) = rows.snapshots.get_mut(&id) {
                row.last_used_at = row.last_used_at.max(Some(at));
            }
        })
        .await;
        Ok(())
    }

    async fn put_volume(&self, volume: &Volume) -> Result<()> {
        self.with(|rows| rows.put_volume(volume)).await
    }

    async fn volumes(&self) -> Result<Vec<Volume>> {
        Ok(self.with(|rows| rows.volumes.values().cloned().collect()).await)
    }

    async fn forget_deleted_volumes(&self, before: Timestamp) -> Result<u64> {
        let removed = |rows: &mut Rows| {
            let had = rows.volumes.len();
            rows.volumes.retain(|_, row| lasts(row) || row.updated_at >= before);
            had - rows.volumes.len()
        };
        Ok(self.with(removed).await as u64)
    }

    async fn add_key(&self, key: &ApiKey) -> Result<()> {
        let at = (key.organization, key.name.clone());
        self.with(|rows| match rows.keys.entry(at) {
            std::collections::btree_map::Entry::Occupied(_) => {
                Err(Error::conflict(format!("an API key named {} already exists", key.name)))
            }
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(key.clone());
                Ok(())
            }
        })
        .await
    }

    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
        Ok(self.with(|rows| rows.keys.values().find(|key| key.hash == *hash).cloned()).await)
    }

    async fn keys(&self, organization: OrganizationId) -> Result<Vec<ApiKey>> {
        let mine = |key: &&ApiKey| key.organization == organization;
        Ok(self.with(|rows| rows.keys.values().filter(mine).cloned().collect()).await)
    }

    async fn use_keys(&self, uses: Vec<([u8; 32], Timestamp)>) -> Result<()> {
        self.with(|rows| {
            for key in rows.keys.values_mut() {
                let used =
                    uses.iter().filter(|(hash, _)| *hash == key.hash).map(|(_, at)| *at).max();
                key.last_used_at = key.last_used_at.max(used);
            }
        })
        .await;
        Ok(())
    }

    async fn delete_key(&self, organization: OrganizationId, name: &str) -> Result<bool> {
        let at = (organization, name.to_owned());
        Ok(self.with(|rows| rows.keys.remove(&at).is_some()).await)
    }

    async fn put_organization(&self, organization: &Organization) -> Result<()> {
        self.with(|rows| rows.put_organization(organization)).await
    }

    async fn organizations(&self) -> Result<Vec<Organization>> {
        let mut all: Vec<_> =
            self.with(|rows| rows.organizations.values().cloned().collect()).await;
        all.sort_by(|left: &Organization, right| left.name.cmp(&right.name));
        Ok(all)
    }

    async fn delete_organization(&self, id: OrganizationId) -> Result<bool> {
        self.with(|rows| rows.delete_organization(id)).await
    }

    async fn add_audit(&self, entries: Vec<Entry>, keep: u32) -> Result<()> {
        self.with(|rows| entries.into_iter().for_each(|entry| rows.add_audit(entry, keep))).await;
        Ok(())
    }

    async fn audit(&self, organization: OrganizationId, look: Look) -> Result<Page> {
        if !(1..=200).contains(&look.limit) {
            return Err(Error::invalid(format!("limit must be 1 to 200, not {}", look.limit)));
        }
        Ok(self.with(|rows| rows.audit(organization, look)).await)
    }

    async fn add_ssh_access(&self, access: &SshAccess) -> Result<()> {
        self.with(|rows| {
            rows.ssh.retain(|_, other| other.expires_at > access.created_at);
            rows.ssh.insert(access.hash, *access);
        })
        .await;
        Ok(())
    }

    async fn ssh_access(&self, hash: &[u8; 32]) -> Result<Option<SshAccess>> {
        Ok(self.with(|rows| rows.ssh.get(hash).copied()).await)
    }

    async fn delete_ssh_access(&self, sandbox: SandboxId, hash: Option<[u8; 32]>) -> Result<u64> {
        self.with(|rows| {
            let before = rows.ssh.len();
            rows.ssh.retain(|own, access| {
                access.sandbox != sandbox || hash.is_some_and(|hash| hash != *own)
            });
            Ok((before - rows.ssh.len()) as u64)
        })
        .await
    }

    async fn end_link(&self, hash: &[u8; 32], until: Timestamp, now: Timestamp) -> Result<()> {
        self.with(|rows| {
            rows.links.retain(|_, until| *until > now);
            rows.links.insert(*hash, until);
        })
        .await;
        Ok(())
    }

    async fn link_ended(&self, hash: &[u8; 32]) -> Result<bool> {
        Ok(self.with(|rows| rows.links.contains_key(hash)).await)
    }

    async fn setting(&self, name: &str) -> Result<Option<String>> {
        Ok(self.with(|rows| rows.settings.get(name).cloned()).await)
    }

    async fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        self.with(|rows| rows.settings.insert(name.to_owned(), value.to_owned())).await;
        Ok(())
    }

    async fn add_events(&self, events: Vec<Event>) -> Result<()> {
        self.with(|rows| rows.events.extend(events)).await;
        Ok(())
    }

    async fn events(&self, sandbox: SandboxId, limit: u32) -> Result<Vec<Event>> {
        let newest = |rows: &mut Rows| -> Vec<Event> {
            let all = rows.events.iter().rev();
            all.filter(|event| event.sandbox == sandbox).take(limit as usize).cloned().collect()
        };
        Ok(self.with(newest).await)
    }
}
