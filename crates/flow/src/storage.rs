//! The file that everything lives in: opening it, artifacts, sizes, backup. Rows change through the journal alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mayfly_store::sqlite::Place;

use crate::clock::{Clock, SystemClock};
use crate::error::DagError;
use crate::journal::{Artifact, Body, Journal, Owner, artifact_id, write_file};

/// How a storage is opened.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// Artifacts of this size in bytes and more become files. Default 32,768.
    pub artifact_threshold: usize,
    /// Where the time comes from. Default the machine's clock.
    pub clock: Arc<dyn Clock>,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self { artifact_threshold: 32_768, clock: Arc::new(SystemClock) }
    }
}

/// Sizes of a storage, in bytes and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageStats {
    /// Size of the database without its log, in bytes.
    pub database_bytes: u64,
    /// Number of runs, the finished ones included.
    pub runs: u64,
    /// Number of entries in the logs of all runs.
    pub log_entries: u64,
    /// Number of artifacts.
    pub artifacts: u64,
    /// Size of all artifacts, in bytes.
    pub artifact_bytes: u64,
}

/// State of flows, tasks and channels in one `SQLite` file. A cheap handle; clones share the file's one writer.
///
/// Several processes may open the same file. The file is made when it is not there, with mode 0600.
#[derive(Clone, Debug)]
pub struct SqliteStorage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    journal: Journal,
    owner: Owner,
    clock: Arc<dyn Clock>,
    folder: Option<PathBuf>,
    threshold: usize,
}

impl SqliteStorage {
    /// Opens `sqlite:<path>`, or `sqlite::memory:`, which ends with the last handle; makes file and schema.
    ///
    /// [`DagError::ValidationError`] for another kind of URL, [`DagError::DatabaseError`] for a file that cannot be
    /// opened, belongs to another program or is of a newer version.
    pub async fn new(url: &str) -> Result<Self, DagError> {
        Self::open(url, StorageOptions::default()).await
    }

    /// [`SqliteStorage::new`] with options.
    pub async fn open(url: &str, options: StorageOptions) -> Result<Self, DagError> {
        let place = place(url)?;
        let clock = Arc::clone(&options.clock);
        let opening = tokio::task::spawn_blocking(move || {
            let beside = |ending: &str| match &place {
                Place::File(path) => {
                    let mut name = path.clone().into_os_string();
                    name.push(ending);
                    Some(PathBuf::from(name))
                }
                Place::Memory => None,
            };
            let journal = Journal::open(&place, Arc::clone(&clock))?;
            let owner = Owner::new(beside(".owners"))?;
            let folder = beside(".artifacts");
            Ok(Inner { journal, owner, clock, folder, threshold: options.artifact_threshold })
        });
        let opened = opening.await.map_err(|error| DagError::DatabaseError(error.to_string()))?;
        opened.map(|inner| Self(Arc::new(inner)))
    }

    /// Makes the schema. [`SqliteStorage::new`] has done so already; calling it again changes nothing.
    pub async fn init_database(&self) -> Result<(), DagError> {
        self.0
            .journal
            .read("read the schema", |db| {
                Ok(db.query_row("SELECT count(*) FROM flow_runs", [], |_| Ok(()))?)
            })
            .await
    }

    /// Stores bytes and answers their id, the SHA-256 in lower-case hex. Equal bytes are stored once.
    ///
    /// It is kept as long as the run it is stored for.
    pub async fn store_artifact(
        &self,
        bytes: &[u8],
        kind: &str,
        run_id: &str,
        node_id: &str,
    ) -> Result<String, DagError> {
        let artifact = self.prepare_artifact(bytes.into(), kind).await?;
        let id = artifact.id.clone();
        self.0.journal.put_artifact(artifact, run_id.to_owned(), node_id.to_owned()).await?;
        Ok(id)
    }

    /// Reads an artifact. [`DagError::DatabaseError`] when there is none or when its bytes are damaged.
    pub async fn get_artifact(&self, id: &str) -> Result<Vec<u8>, DagError> {
        let found = self.0.journal.artifact(id).await?;
        found.ok_or_else(|| DagError::DatabaseError(format!("there is no artifact {id}")))
    }

    /// Sizes.
    pub async fn storage_stats(&self) -> Result<StorageStats, DagError> {
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        self.0.journal.read("measure the file", move |db| {
            let row = db.query_row(
                "SELECT (SELECT page_count * page_size FROM pragma_page_count, pragma_page_size),
                        (SELECT count(*) FROM flow_runs), (SELECT count(*) FROM run_log),
                        (SELECT count(*) FROM artifacts), (SELECT coalesce(sum(size_bytes), 0) FROM artifacts)",
                [],
                |row| {
                    Ok(StorageStats {
                        database_bytes: count(row.get(0)?),
                        runs: count(row.get(1)?),
                        log_entries: count(row.get(2)?),
                        artifacts: count(row.get(3)?),
                        artifact_bytes: count(row.get(4)?),
                    })
                },
            )?;
            Ok(row)
        })
        .await
    }

    /// Writes a consistent copy of the database to a new file while work goes on. Artifacts that are files are not
    /// part of it: they never change, so copying their folder afterwards completes the backup.
    pub async fn backup(&self, path: impl AsRef<Path> + Send) -> Result<(), DagError> {
        self.0.journal.backup(path.as_ref()).await
    }

    /// Gives the space of removed rows back to the disk. Writing waits meanwhile.
    pub async fn vacuum(&self) -> Result<(), DagError> {
        self.0.journal.vacuum().await
    }

    /// Removes artifacts older than `age` that nothing names any more, at most 10,000 a call; answers how many files
    /// went.
    pub async fn collect_artifacts(&self, age: Duration) -> Result<usize, DagError> {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let before = self.0.clock.now().saturating_sub(age);
        let paths = self.0.journal.collect_artifacts(before, 10_000).await?;
        let count = paths.len();
        for path in paths {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a file of a removed artifact stays");
            }
        }
        Ok(count)
    }

    /// Pretends that the disk holds so many pages (at least those in use). For tests of a full disk.
    #[doc(hidden)]
    pub async fn limit_pages_for_tests(&self, pages: u32) {
        self.0.journal.limit_pages(pages).await;
    }

    /// Makes bytes ready to be named by a row: large ones are in their file when this returns.
    pub(crate) async fn prepare_artifact(
        &self,
        bytes: Arc<[u8]>,
        kind: &str,
    ) -> Result<Artifact, DagError> {
        let (id, size, kind) = (artifact_id(&bytes), bytes.len() as u64, kind.to_owned());
        let folder = self.0.folder.clone().filter(|_| bytes.len() >= self.0.threshold);
        let Some(folder) = folder else {
            return Ok(Artifact { id, kind, size, body: Body::Inline(bytes) });
        };
        let name = id.clone();
        let writing = tokio::task::spawn_blocking(move || write_file(&folder, &name, &bytes));
        let path = writing.await.map_err(|error| DagError::DatabaseError(error.to_string()))??;
        Ok(Artifact { id, kind, size, body: Body::File(path) })
    }

    /// The journal: the only way in which rows change.
    pub(crate) fn journal(&self) -> &Journal {
        &self.0.journal
    }

    /// This process as an owner of runs and tasks.
    pub(crate) fn owner(&self) -> &Owner {
        &self.0.owner
    }

    /// Where the time comes from.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }
}

fn place(url: &str) -> Result<Place, DagError> {
    let path = url.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
    match path.map(|path| path.split('?').next().unwrap_or(path)) {
        Some(":memory:") => Ok(Place::Memory),
        Some(path) if !path.is_empty() => Ok(Place::File(PathBuf::from(path))),
        _ => Err(DagError::ValidationError(format!(
            "database url `{url}`: expected `sqlite:<path>` or `sqlite::memory:`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_file_or_memory() {
        assert_eq!(place("sqlite::memory:").unwrap(), Place::Memory);
        for url in ["sqlite:f.db", "sqlite://f.db", "sqlite:f.db?mode=rwc"] {
            assert_eq!(place(url).unwrap(), Place::File("f.db".into()), "{url}");
        }
        for url in ["", "sqlite:", "postgres://x", "f.db"] {
            assert!(matches!(place(url), Err(DagError::ValidationError(_))), "{url}");
        }
    }

    #[tokio::test]
    async fn case_10_small_artifacts_stand_in_rows_large_ones_in_files_and_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("f.db").display());
        let storage = SqliteStorage::new(&url).await.unwrap();
        storage.init_database().await.unwrap();
        let (small, large) = (vec![7_u8; 32_767], vec![7_u8; 32_768]);
        let first = storage.store_artifact(&small, "json", "run", "node").await.unwrap();
        let second = storage.store_artifact(&large, "json", "run", "node").await.unwrap();
        assert_eq!(storage.store_artifact(&large, "json", "run", "other").await.unwrap(), second);
        assert_eq!(storage.storage_stats().await.unwrap().artifacts, 2);
        assert_eq!(storage.get_artifact(&first).await.unwrap(), small);
        assert_eq!(storage.get_artifact(&second).await.unwrap(), large);
        let file = folder.path().join("f.db.artifacts").join(&second);
        assert!(!folder.path().join("f.db.artifacts").join(&first).exists());
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let error = storage.get_artifact(&second).await.unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        assert_eq!(storage.collect_artifacts(Duration::ZERO).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_backup_is_a_whole_file_and_a_newer_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
        let storage = SqliteStorage::new(&at("a.db")).await.unwrap();
        let id = storage.store_artifact(b"x", "text", "run", "node").await.unwrap();
        storage.backup(folder.path().join("b.db")).await.unwrap();
        storage.vacuum().await.unwrap();
        let copy = SqliteStorage::new(&at("b.db")).await.unwrap();
        assert_eq!(copy.get_artifact(&id).await.unwrap(), b"x");
        drop(copy);
        let db = rusqlite::Connection::open(folder.path().join("b.db")).unwrap();
        db.pragma_update(None, "user_version", 99).unwrap();
        let error = SqliteStorage::new(&at("b.db")).await.unwrap_err();
        assert!(error.to_string().contains("version 99"), "{error}");
    }
}
