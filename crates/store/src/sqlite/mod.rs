//! The store on `SQLite`: one database file in the data directory, in write-ahead mode.
//!
//! One thread writes (`writer`), a few read (`reader`), one checkpoints (`checkpoint`). Several
//! servers must not share a file; the data directory's lock sees to that.

mod audit;
mod checkpoint;
mod copy;
mod events;
mod fault;
mod keys;
mod migrations;
mod organizations;
mod reader;
mod sandboxes;
mod settings;
mod snapshots;
mod ways_in;
mod writer;

#[cfg(test)]
mod tests;

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use mayfly_core::access::{ApiKey, Organization, SshAccess};
use mayfly_core::audit::{Entry, Look, Page};
use mayfly_core::event::Event;
use mayfly_core::id::{OrganizationId, SandboxId, SnapshotId};
use mayfly_core::ports::clock::Clock;
use mayfly_core::ports::store::{Change, Copy, SandboxPage, SandboxQuery, Store, Swap};
use mayfly_core::sandbox::Sandbox;
use mayfly_core::snapshot::Snapshot;
use mayfly_core::time::{Moment, Timestamp};
use mayfly_core::{Error, Kind, Result};
use rusqlite::{Connection, OpenFlags};

use checkpoint::Checkpointer;
use reader::Readers;
use writer::{Broken, Durability, Writer};

/// How long a connection waits for another one's lock.
const BUSY: Duration = Duration::from_secs(5);
/// Connections for lists and other long reads, and as many for lookups.
const READERS: usize = 2;

/// Platform state in one `SQLite` file. Dropping it commits what is queued and ends its threads.
#[derive(Debug)]
pub struct SqliteStore {
    // Dropped in this order: the writer holds the checkpointer's signal.
    writer: Writer,
    path: PathBuf,
    readers: Readers,
    _checkpointer: Checkpointer,
}

impl SqliteStore {
    /// Opens the database, makes it when it is not there (mode 0600) and brings it to the newest version.
    ///
    /// Moments written in an earlier boot are moved to this one: `mono = now.mono - (now.wall - wall)`,
    /// so every moment read back is comparable with `clock`. Blocks; call it before serving.
    /// [`Kind::Unsupported`] for a database of a newer program, [`Kind::Invalid`] for one of another program, [`Kind::Unavailable`] for a disk
    /// that cannot be read or written.
    pub fn open(path: &Path, clock: &dyn Clock) -> Result<Self> {
        make_private(path)?;
        let failed = |error| fault::explain("open the database", error);
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
        migrations::migrate(&mut connection)?;
        settings::rebase(&mut connection, clock)
            .map_err(|error| fault::explain("move stored times to this boot", error))?;
        let log = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
        let readers = || {
            (0..READERS)
                .map(|_| connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY))
                .collect::<rusqlite::Result<Vec<_>>>()
                .map_err(failed)
        };
        let readers = Readers::start(readers()?, readers()?)?;
        let broken = Broken::default();
        let (checkpointer, nudge) = Checkpointer::start(log, broken.clone())?;
        let writer = Writer::start(connection, broken, nudge)?;
        Ok(Self { writer, path: path.to_owned(), readers, _checkpointer: checkpointer })
    }
}

fn make_private(path: &Path) -> Result<()> {
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|error| {
            Error::new(Kind::Unavailable, format!("cannot open the database {}", path.display()))
                .with_hint("check that its folder exists and is writable by the server's user")
                .with_source(error)
        })
}

fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    if access.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "trusted_schema", false)?;
    }
    Ok(connection)
}

#[async_trait]
impl Store for SqliteStore {
    async fn copy(&self) -> Result<Copy> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || copy::copy(&path))
            .await
            .map_err(|error| Error::internal("the copy of the database broke off", error))?
    }

    async fn replace(&self, change: Change) -> Result<Swap> {
        self.writer
            .write(Durability::Kill, "write a sandbox", move |db| sandboxes::replace(db, &change))
            .await
    }

    async fn touch(&self, id: SandboxId, at: Moment) -> Result<()> {
        self.writer
            .write(Durability::Kill, "note the use of a sandbox", move |db| {
                sandboxes::touch(db, id, at)
            })
            .await
    }

    async fn sandbox(&self, id: SandboxId) -> Result<Option<Sandbox>> {
        self.readers.lookup("read a sandbox", move |db| sandboxes::by_id(db, id)).await
    }

    async fn sandbox_by_name(
        &self,
        organization: OrganizationId,
        name: &str,
    ) -> Result<Option<Sandbox>> {
        let name = name.to_owned();
        self.readers
            .lookup("read a sandbox", move |db| sandboxes::by_name(db, organization, &name))
            .await
    }

    async fn sandbox_by_key(
        &self,
        organization: OrganizationId,
        key: &str,
    ) -> Result<Option<Sandbox>> {
        let key = key.to_owned();
        self.readers
            .lookup("read a sandbox", move |db| sandboxes::by_key(db, organization, &key))
            .await
    }

    async fn sandboxes(
        &self,
        organization: OrganizationId,
        query: &SandboxQuery,
    ) -> Result<SandboxPage> {
        let query = query.clone();
        self.readers
            .read("list sandboxes", move |db| sandboxes::list(db, organization, &query))
            .await
    }

    async fn living(&self) -> Result<Vec<Sandbox>> {
        self.readers.read("list all sandboxes", sandboxes::living).await
    }

    async fn forget_destroyed(&self, before: Timestamp) -> Result<u64> {
        self.writer
            .write(Durability::Kill, "remove records of destroyed sandboxes", move |db| {
                sandboxes::forget_destroyed(db, before)
            })
            .await
    }

    async fn put_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        let snapshot = snapshot.clone();
        self.writer
            .write(Durability::PowerLoss, "write a snapshot", move |db| {
                snapshots::put(db, &snapshot)
            })
            .await
    }

    async fn snapshot(&self, id: SnapshotId) -> Result<Option<Snapshot>> {
        self.readers.lookup("read a snapshot", move |db| snapshots::by_id(db, id)).await
    }

    async fn snapshots(&self, organization: OrganizationId) -> Result<Vec<Snapshot>> {
        self.readers.read("list snapshots", move |db| snapshots::list(db, organization)).await
    }

    async fn use_snapshot(&self, id: SnapshotId, at: Timestamp) -> Result<()> {
        self.writer
            .write(Durability::Kill, "note the use of a snapshot", move |db| {
                snapshots::mark_used(db, id, at)
            })
            .await
    }

    async fn add_key(&self, key: &ApiKey) -> Result<()> {
        let key = key.clone();
        self.writer.write(Durability::PowerLoss, "add a key", move |db| keys::add(db, &key)).await
    }

    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
        let hash = *hash;
        self.readers.lookup("read a key", move |db| keys::by_hash(db, &hash)).await
    }

    async fn keys(&self, organization: OrganizationId) -> Result<Vec<ApiKey>> {
        self.readers.read("list keys", move |db| keys::list(db, organization)).await
    }

    async fn delete_key(&self, organization: OrganizationId, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.writer
            .write(Durability::PowerLoss, "delete a key", move |db| {
                keys::delete(db, organization, &name)
            })
            .await
    }

    async fn put_organization(&self, organization: &Organization) -> Result<()> {
        let organization = organization.clone();
        self.writer
            .write(Durability::PowerLoss, "write an organization", move |db| {
                organizations::put(db, &organization)
            })
            .await
    }

    async fn organizations(&self) -> Result<Vec<Organization>> {
        self.readers.read("list organizations", organizations::list).await
    }

    async fn delete_organization(&self, id: OrganizationId) -> Result<bool> {
        self.writer
            .write(Durability::PowerLoss, "delete an organization", move |db| {
                organizations::delete(db, id)
            })
            .await
    }

    async fn add_audit(&self, entries: Vec<Entry>, keep: u32) -> Result<()> {
        self.writer
            .write(Durability::Kill, "write the audit log", move |db| {
                entries.iter().try_for_each(|entry| audit::add(db, entry, keep))
            })
            .await
    }

    async fn audit(&self, organization: OrganizationId, look: Look) -> Result<Page> {
        self.readers.read("read the audit log", move |db| audit::page(db, organization, look)).await
    }

    async fn add_ssh_access(&self, access: &SshAccess) -> Result<()> {
        let access = *access;
        self.writer
            .write(Durability::PowerLoss, "add an SSH access", move |db| {
                ways_in::add_ssh(db, &access)
            })
            .await
    }

    async fn ssh_access(&self, hash: &[u8; 32]) -> Result<Option<SshAccess>> {
        let hash = *hash;
        self.readers.lookup("read an SSH access", move |db| ways_in::ssh(db, &hash)).await
    }

    async fn delete_ssh_access(&self, sandbox: SandboxId, hash: Option<[u8; 32]>) -> Result<u64> {
        self.writer
            .write(Durability::PowerLoss, "delete SSH accesses", move |db| {
                ways_in::delete_ssh(db, sandbox, hash)
            })
            .await
    }

    async fn end_link(&self, hash: &[u8; 32], until: Timestamp, now: Timestamp) -> Result<()> {
        let hash = *hash;
        self.writer
            .write(Durability::PowerLoss, "end a link", move |db| {
                ways_in::end_link(db, &hash, until, now)
            })
            .await
    }

    async fn link_ended(&self, hash: &[u8; 32]) -> Result<bool> {
        let hash = *hash;
        self.readers.lookup("read an ended link", move |db| ways_in::link_ended(db, &hash)).await
    }

    async fn setting(&self, name: &str) -> Result<Option<String>> {
        let name = name.to_owned();
        self.readers.lookup("read a setting", move |db| settings::get(db, &name)).await
    }

    async fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.writer
            .write(Durability::PowerLoss, "write a setting", move |db| {
                settings::set(db, &name, &value)
            })
            .await
    }

    async fn add_events(&self, events: Vec<Event>) -> Result<()> {
        self.writer
            .write(Durability::Kill, "write events", move |db| {
                events.iter().try_for_each(|event| events::add(db, event))
            })
            .await
    }

    async fn events(&self, sandbox: SandboxId, limit: u32) -> Result<Vec<Event>> {
        self.readers
            .read("read the events of a sandbox", move |db| events::newest(db, sandbox, limit))
            .await
    }
}
