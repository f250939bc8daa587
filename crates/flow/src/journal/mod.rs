//! The only way in which rows of this library change: jobs for the store's one writer, answered after commit.
//!
//! Each subject has its file here: runs, artifacts; tasks and messages come beside them. A job is all or nothing.

mod artifacts;
#[cfg(feature = "dag")]
mod codec;
#[cfg(feature = "pubsub")]
mod cursors;
#[cfg(feature = "pubsub")]
mod messages;
#[cfg(feature = "tasks")]
pub(crate) mod outbox;
mod owner;
#[cfg(feature = "dag")]
mod runs;
#[cfg(feature = "tasks")]
pub(crate) mod shared_state;
#[cfg(feature = "tasks")]
pub(crate) mod tasks;

use std::path::Path;
use std::sync::Arc;

use mayfly_store::sqlite::{Database, Durability, Fault, Place, Schema};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

pub(crate) use artifacts::{Artifact, Body, artifact_id, write_file};
#[cfg(feature = "dag")]
pub(crate) use codec::{Row, decode, encode};
#[cfg(feature = "pubsub")]
pub(crate) use cursors::CursorRow;
#[cfg(feature = "pubsub")]
pub(crate) use messages::{
    ChannelRow, Move, NewMessage, Outcome, Posted, Posting, Retention, Room,
};
pub(crate) use owner::Owner;
#[cfg(feature = "dag")]
pub(crate) use runs::{Batch, Committed, NewRun, Reusable, RunRow, lease_ended};

use crate::clock::Clock;
use crate::error::DagError;

const SCHEMA: Schema = Schema {
    // "mflw"
    application_id: 0x6d66_6c77,
    migrations: &[
        include_str!("migrations/0001_start.sql"),
        include_str!("migrations/0002_tasks.sql"),
        include_str!("migrations/0003_messages.sql"),
    ],
    hint: "give the flow library a file of its own",
};

/// What must survive of a committed step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// Power loss and `kill -9`: the disk confirms before anything is acknowledged.
    #[default]
    Full,
    /// `kill -9`; power loss may take the last commits, and never leaves half of one.
    Normal,
}

impl From<Synchronous> for Durability {
    fn from(mode: Synchronous) -> Self {
        match mode {
            Synchronous::Full => Self::PowerLoss,
            Synchronous::Normal => Self::Kill,
        }
    }
}

/// The open file with its writer and readers.
#[derive(Debug)]
pub(crate) struct Journal {
    database: Database,
    clock: Arc<dyn Clock>,
}

impl Journal {
    /// Opens or makes the file; blocks.
    pub(crate) fn open(place: &Place, clock: Arc<dyn Clock>) -> Result<Self, DagError> {
        Ok(Self { database: Database::open(place, &SCHEMA, |_| Ok(()))?, clock })
    }

    /// The clock that times in the file are read from.
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// One job for the writer; answered when it is committed. The work may run twice.
    pub(crate) async fn write<T, F>(
        &self,
        mode: Synchronous,
        operation: &'static str,
        work: F,
    ) -> Result<T, DagError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let _hold = self.clock.hold();
        Ok(self.database.write(mode.into(), operation, work).await?)
    }

    /// One look at the file by a reader.
    pub(crate) async fn read<T, F>(&self, operation: &'static str, work: F) -> Result<T, DagError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let _hold = self.clock.hold();
        Ok(self.database.read(operation, work).await?)
    }

    /// Writes a copy of the whole file, as of one moment, while work goes on. The target must not exist.
    pub(crate) async fn backup(&self, to: &Path) -> Result<(), DagError> {
        let to = to.to_string_lossy().into_owned();
        let work = move |db: &Connection| Ok(db.execute("VACUUM INTO ?1", [&to]).map(drop)?);
        let _hold = self.clock.hold();
        Ok(self.database.outside("back the file up", work).await?)
    }

    /// Moves the log into the file, which syncs both: everything that was acknowledged survives power loss then.
    #[cfg(feature = "tasks")]
    pub(crate) async fn flush(&self) -> Result<(), DagError> {
        let _hold = self.clock.hold();
        let work =
            |db: &Connection| Ok(db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?);
        self.database.outside("flush the file", work).await.map_err(Into::into)
    }

    /// Gives space of deleted rows back to the disk; writers wait.
    pub(crate) async fn vacuum(&self) -> Result<(), DagError> {
        let _hold = self.clock.hold();
        let work = |db: &Connection| Ok(db.execute_batch("VACUUM")?);
        Ok(self.database.outside("vacuum the file", work).await?)
    }

    /// The most pages that the file may have.
    pub(crate) async fn limit_pages(&self, pages: u32) {
        let _hold = self.clock.hold();
        let work = move |db: &Connection| {
            Ok(db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?)
        };
        if let Err(error) = self.database.outside("limit the file", work).await {
            tracing::warn!(%error, "the file keeps its former limit");
        }
    }
}
