//! The store on `SQLite`: one database file in the data directory, in write-ahead mode.
//!
//! One thread writes (`writer`), a few read (`reader`), one checkpoints (`checkpoint`). Several
//! servers must not share a file; the data directory's lock sees to that.

mod audit;
mod checkpoint;
mod copy;
mod database;
mod events;
mod fault;
mod keys;
mod migrations;
mod organizations;
mod reader;
mod sandboxes;
mod settings;
mod snapshots;
mod volumes;
mod ways_in;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use mayfly_core::access::{ApiKey, Organization, SshAccess};
use mayfly_core::audit::{Entry, Look, Page};
use mayfly_core::event::Event;
use mayfly_core::id::{OrganizationId, SandboxId, SnapshotId};
use mayfly_core::ports::clock::Clock;
use mayfly_core::ports::store::{Change, Copy, Load, SandboxPage, SandboxQuery, Store, Swap};
use mayfly_core::sandbox::Sandbox;
use mayfly_core::snapshot::Snapshot;
use mayfly_core::time::{Moment, Timestamp};
use mayfly_core::volume::Volume;
use mayfly_core::{Error, Result};

pub use database::{Database, Place};
pub use fault::Fault;
pub use migrations::Schema;
pub use writer::Durability;

/// Platform state in one `SQLite` file. Dropping it commits what is queued and ends its threads.
#[derive(Debug)]
pub struct SqliteStore {
    database: Database,
    path: PathBuf,
}

impl SqliteStore {
    /// Opens the database, makes it when it is not there (mode 0600) and brings it to the newest version.
    ///
    /// Moments written in an earlier boot are moved to this one: `mono = now.mono - (now.wall - wall)`,
    /// so every moment read back is comparable with `clock`. Blocks; call it before serving.
    /// Fails as [`Database::open`] does.
    pub fn open(path: &Path, clock: &dyn Clock) -> Result<Self> {
        let place = Place::File(path.to_owned());
        let database = Database::open(&place, &migrations::PLATFORM, |connection| {
            settings::rebase(connection, clock)
                .map_err(|error| fault::explain("move stored times to this boot", error))
        })?;
        Ok(Self { database, path: path.to_owned() })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn copy(&self) -> Result<Copy> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || copy::copy(&path))
            .await
            .map_err(|error| Error::internal("the copy of the database broke off", error))?
    }

    fn load(&self) -> Load {
        self.database.load()
    }

    async fn replace(&self, change: Change) -> Result<Swap> {
        self.database
            .write(Durability::Kill, "write a sandbox", move |db| sandboxes::replace(db, &change))
            .await
    }

    async fn touch(&self, id: SandboxId, at: Moment) -> Result<()> {
        self.database
            .write(Durability::Kill, "note the use of a sandbox", move |db| {
                sandboxes::touch(db, id, at)
            })
            .await
    }

    async fn sandbox(&self, id: SandboxId) -> Result<Option<Sandbox>> {
        self.database.lookup("read a sandbox", move |db| sandboxes::by_id(db, id)).await
    }

    async fn sandbox_by_name(
        &self,
        organization: OrganizationId,
        name: &str,
    ) -> Result<Option<Sandbox>> {
        let name = name.to_owned();
        self.database
            .lookup("read a sandbox", move |db| sandboxes::by_name(db, organization, &name))
            .await
    }

    async fn sandbox_by_key(
        &self,
        organization: OrganizationId,
        key: &str,
    ) -> Result<Option<Sandbox>> {
        let key = key.to_owned();
        self.database
            .lookup("read a sandbox", move |db| sandboxes::by_key(db, organization, &key))
            .await
    }

    async fn sandboxes(
        &self,
        organization: OrganizationId,
        query: &SandboxQuery,
    ) -> Result<SandboxPage> {
        let query = query.clone();
        self.database
            .read("list sandboxes", move |db| sandboxes::list(db, organization, &query))
            .await
    }

    async fn living(&self) -> Result<Vec<Sandbox>> {
        self.database.read("list all sandboxes", sandboxes::living).await
    }

    async fn forget_destroyed(&self, before: Timestamp) -> Result<u64> {
        self.database
            .write(Durability::Kill, "remove records of destroyed sandboxes", move |db| {
                sandboxes::forget_destroyed(db, before)
            })
            .await
    }

    async fn put_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        let snapshot = snapshot.clone();
        self.database
            .write(Durability::PowerLoss, "write a snapshot", move |db| {
                snapshots::put(db, &snapshot)
            })
            .await
    }

    async fn snapshot(&self, id: SnapshotId) -> Result<Option<Snapshot>> {
        self.database.lookup("read a snapshot", move |db| snapshots::by_id(db, id)).await
    }

    async fn snapshots(&self, organization: OrganizationId) -> Result<Vec<Snapshot>> {
        self.database.read("list snapshots", move |db| snapshots::list(db, organization)).await
    }

    async fn use_snapshot(&self, id: SnapshotId, at: Timestamp) -> Result<()> {
        self.database
            .write(Durability::Kill, "note the use of a snapshot", move |db| {
                snapshots::mark_used(db, id, at)
            })
            .await
    }

    async fn put_volume(&self, volume: &Volume) -> Result<()> {
        let volume = volume.clone();
        self.database
            .write(Durability::PowerLoss, "write a volume", move |db| volumes::put(db, &volume))
            .await
    }

    async fn volumes(&self) -> Result<Vec<Volume>> {
        self.database.read("list all volumes", volumes::all).await
    }

    async fn forget_deleted_volumes(&self, before: Timestamp) -> Result<u64> {
        self.database
            .write(Durability::Kill, "remove records of deleted volumes", move |db| {
                volumes::forget_deleted(db, before)
            })
            .await
    }

    async fn add_key(&self, key: &ApiKey) -> Result<()> {
        let key = key.clone();
        self.database.write(Durability::PowerLoss, "add a key", move |db| keys::add(db, &key)).await
    }

    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
        let hash = *hash;
        self.database.lookup("read a key", move |db| keys::by_hash(db, &hash)).await
    }

    async fn keys(&self, organization: OrganizationId) -> Result<Vec<ApiKey>> {
        self.database.read("list keys", move |db| keys::list(db, organization)).await
    }

    async fn use_keys(&self, uses: Vec<([u8; 32], Timestamp)>) -> Result<()> {
        self.database
            .write(Durability::Kill, "note the use of keys", move |db| keys::mark_used(db, &uses))
            .await
    }

    async fn delete_key(&self, organization: OrganizationId, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.database
            .write(Durability::PowerLoss, "delete a key", move |db| {
                keys::delete(db, organization, &name)
            })
            .await
    }

    async fn put_organization(&self, organization: &Organization) -> Result<()> {
        let organization = organization.clone();
        self.database
            .write(Durability::PowerLoss, "write an organization", move |db| {
                organizations::put(db, &organization)
            })
            .await
    }

    async fn organizations(&self) -> Result<Vec<Organization>> {
        self.database.read("list organizations", organizations::list).await
    }

    async fn delete_organization(&self, id: OrganizationId) -> Result<bool> {
        self.database
            .write(Durability::PowerLoss, "delete an organization", move |db| {
                organizations::delete(db, id)
            })
            .await
    }

    async fn add_audit(&self, entries: Vec<Entry>, keep: u32) -> Result<()> {
        self.database
            .write(Durability::Kill, "write the audit log", move |db| {
                entries.iter().try_for_each(|entry| audit::add(db, entry, keep))
            })
            .await
    }

    async fn audit(&self, organization: OrganizationId, look: Look) -> Result<Page> {
        self.database
            .read("read the audit log", move |db| audit::page(db, organization, look))
            .await
    }

    async fn add_ssh_access(&self, access: &SshAccess) -> Result<()> {
        let access = *access;
        self.database
            .write(Durability::PowerLoss, "add an SSH access", move |db| {
                ways_in::add_ssh(db, &access)
            })
            .await
    }

    async fn ssh_access(&self, hash: &[u8; 32]) -> Result<Option<SshAccess>> {
        let hash = *hash;
        self.database.lookup("read an SSH access", move |db| ways_in::ssh(db, &hash)).await
    }

    async fn delete_ssh_access(&self, sandbox: SandboxId, hash: Option<[u8; 32]>) -> Result<u64> {
        self.database
            .write(Durability::PowerLoss, "delete SSH accesses", move |db| {
                ways_in::delete_ssh(db, sandbox, hash)
            })
            .await
    }

    async fn end_link(&self, hash: &[u8; 32], until: Timestamp, now: Timestamp) -> Result<()> {
        let hash = *hash;
        self.database
            .write(Durability::PowerLoss, "end a link", move |db| {
                ways_in::end_link(db, &hash, until, now)
            })
            .await
    }

    async fn link_ended(&self, hash: &[u8; 32]) -> Result<bool> {
        let hash = *hash;
        self.database.lookup("read an ended link", move |db| ways_in::link_ended(db, &hash)).await
    }

    async fn setting(&self, name: &str) -> Result<Option<String>> {
        let name = name.to_owned();
        self.database.lookup("read a setting", move |db| settings::get(db, &name)).await
    }

    async fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.database
            .write(Durability::PowerLoss, "write a setting", move |db| {
                settings::set(db, &name, &value)
            })
            .await
    }

    async fn add_events(&self, events: Vec<Event>) -> Result<()> {
        self.database
            .write(Durability::Kill, "write events", move |db| {
                events.iter().try_for_each(|event| events::add(db, event))
            })
            .await
    }

    async fn events(&self, sandbox: SandboxId, limit: u32) -> Result<Vec<Event>> {
        self.database
            .read("read the events of a sandbox", move |db| events::newest(db, sandbox, limit))
            .await
    }
}
