//! One database and its threads: one writer, some readers, one that checkpoints. Whoever keeps tables of its own
//! opens it with its schema.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mayfly_core::ports::store::Load;
use mayfly_core::{Error, Kind, Result};
use rusqlite::{Connection, OpenFlags};

use super::checkpoint::Checkpointer;
use super::fault::{self, Fault};
use super::migrations::{self, Schema};
use super::reader::Readers;
use super::writer::{Broken, Durability, Writer};

/// How long a connection waits for another one's lock.
const BUSY: Duration = Duration::from_secs(5);
/// Connections for lists and other long reads, and as many for lookups.
const READERS: usize = 2;

/// Where a database lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file, made with mode 0600 when it is not there.
    File(PathBuf),
    /// In memory, gone when it is closed. Reads run on the writer's thread.
    Memory,
}

/// An open database. Dropping it commits what is queued and ends its threads.
#[derive(Debug)]
pub struct Database {
    // Dropped in this order: the writer holds the checkpointer's signal.
    writer: Writer,
    readers: Option<Readers>,
    _checkpointer: Option<Checkpointer>,
}

impl Database {
    /// Opens the database, makes it when it is not there, brings it to the newest version, and lets `prepare`
    /// change it before anybody reads. Blocks.
    ///
    /// [`Kind::Unsupported`] for a database of a newer program, [`Kind::Invalid`] for one of another program,
    /// [`Kind::Unavailable`] for a disk that cannot be read or written.
    pub fn open(
        place: &Place,
        schema: &Schema,
        prepare: impl FnOnce(&mut Connection) -> Result<()>,
    ) -> Result<Self> {
        let failed = |error| fault::explain("open the database", error);
        let broken = Broken::default();
        let Place::File(path) = place else {
            let mut connection = Connection::open_in_memory().map_err(failed)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            migrations::migrate(&mut connection, schema)?;
            prepare(&mut connection)?;
            let writer = Writer::start(connection, broken, None)?;
            return Ok(Self { writer, readers: None, _checkpointer: None });
        };
        make_private(path)?;
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
        migrations::migrate(&mut connection, schema)?;
        prepare(&mut connection)?;
        let log = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
        let readers = || {
            (0..READERS)
                .map(|_| connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY))
                .collect::<rusqlite::Result<Vec<_>>>()
                .map_err(failed)
        };
        let readers = Readers::start(readers()?, readers()?)?;
        let (checkpointer, nudge) = Checkpointer::start(log, broken.clone())?;
        let writer = Writer::start(connection, broken, Some(nudge))?;
        Ok(Self { writer, readers: Some(readers), _checkpointer: Some(checkpointer) })
    }

    /// How busy its writer is.
    pub fn load(&self) -> Load {
        self.writer.load()
    }

    /// Runs the work inside the next transaction and answers after its commit; `operation` completes
    /// "cannot ..." in errors. Work that fails is undone alone. It may run twice, so it must depend only on
    /// what it captured and reads.
    pub async fn write<T, F>(
        &self,
        durability: Durability,
        operation: &'static str,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.writer.write(durability, operation, work).await
    }

    /// Runs the work on the next free reading connection; it sees one state of the database throughout.
    pub async fn read<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        match &self.readers {
            Some(readers) => readers.read(operation, work).await,
            None => self.writer.write(Durability::Kill, operation, work).await,
        }
    }

    /// Runs work that cannot stand inside of a transaction on the writer's connection, between two of them.
    pub async fn outside<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.writer.outside(operation, work).await
    }

    /// Finds one row by its key, on the caller's thread when a connection is free.
    pub async fn lookup<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        match &self.readers {
            Some(readers) => readers.lookup(operation, work).await,
            None => self.writer.write(Durability::Kill, operation, work).await,
        }
    }
}

/// Prepared statements kept per connection.
const STATEMENTS: usize = 64;

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

pub(super) fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    if access.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "trusted_schema", false)?;
    }
    Ok(connection)
}
