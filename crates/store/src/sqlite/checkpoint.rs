//! Moves the write-ahead log into the database file on a thread and connection of its own.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mayfly_core::{Error, Result};
use rusqlite::Connection;

use super::fault::Fault;
use super::writer::Broken;

/// Committed jobs between two looks at the log.
const EVERY: usize = 1000;
/// A quiet store is checkpointed this long after its last jobs.
const QUIET: Duration = Duration::from_secs(30);
/// Pages in the log from which on a busy store is checkpointed: 16 MiB.
const WORTH: i64 = 4_096;
/// Pages in the log above which writers wait until it is empty: 64 MiB.
const TOO_LONG: i64 = 16_384;

/// The writer's end: says that jobs were committed.
#[derive(Debug)]
pub(super) struct Nudge {
    signal: SyncSender<()>,
    since: usize,
}

impl Nudge {
    /// Counts jobs and wakes the checkpointer when there are enough.
    pub(super) fn committed(&mut self, jobs: usize) {
        self.since += jobs;
        if self.since >= EVERY {
            self.since = 0;
            // A full channel means that a checkpoint is due already.
            let _ = self.signal.try_send(());
        }
    }
}

/// The checkpointer's thread; it ends when the [`Nudge`] is dropped.
#[derive(Debug)]
pub(super) struct Checkpointer(Option<JoinHandle<()>>);

impl Checkpointer {
    /// Starts the thread on its own connection.
    pub(super) fn start(connection: Connection, broken: Broken) -> Result<(Self, Nudge)> {
        let (signal, nudges) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || run(&connection, &nudges, &broken))
            .map_err(|error| {
                Error::internal("cannot start the store's checkpoint thread", error)
            })?;
        Ok((Self(Some(thread)), Nudge { signal, since: 0 }))
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's checkpoint thread panicked");
        }
    }
}

fn run(connection: &Connection, nudges: &Receiver<()>, broken: &Broken) {
    loop {
        match nudges.recv_timeout(QUIET) {
            Ok(()) if !is_due(connection) => continue,
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if let Err(error) = checkpoint(connection) {
            let fault = Fault::from(error);
            if fault.is_failed_sync() {
                broken.set();
                return;
            }
            // Nothing is lost: the log keeps what it holds and the next round tries again.
            tracing::warn!(error = ?fault, "the store's log could not be checkpointed");
        }
    }
}

/// Whether the log is worth it: pages that are written again and again are moved once. A log that cannot be measured is due.
fn is_due(connection: &Connection) -> bool {
    let pages = connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| {
        Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?)
    });
    pages.map_or(true, |pages| pages >= WORTH)
}

/// Without waiting for anybody, unless the log has grown too long.
fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    let pages: i64 =
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
    if pages > TOO_LONG {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_due_when_it_has_grown_and_not_once_it_is_moved() {
        let folder = tempfile::tempdir().unwrap();
        let db = Connection::open(folder.path().join("x.db")).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        db.execute_batch("CREATE TABLE t (x BLOB)").unwrap();
        assert!(!is_due(&db));
        db.execute_batch("INSERT INTO t VALUES (zeroblob(17000000))").unwrap();
        assert!(is_due(&db));
        checkpoint(&db).unwrap();
        assert!(!is_due(&db));
    }

    #[test]
    fn nudges_come_once_per_interval_and_never_block() {
        let (signal, nudges) = sync_channel(1);
        let mut nudge = Nudge { signal, since: 0 };
        nudge.committed(EVERY - 1);
        assert!(nudges.try_recv().is_err());
        nudge.committed(1);
        nudge.committed(EVERY);
        assert!(nudges.try_recv().is_ok());
        assert!(nudges.try_recv().is_err());
    }
}
