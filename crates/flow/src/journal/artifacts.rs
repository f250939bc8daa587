//! Artifacts: bytes named by their SHA-256, small ones in a row, large ones in a file that is complete before its row.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mayfly_store::sqlite::Fault;
use rusqlite::{Connection, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use super::{Journal, Synchronous};
use crate::clock::Millis;
use crate::error::DagError;

/// Where an artifact's bytes stand.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// In the row.
    Inline(Arc<[u8]>),
    /// In a file of this path.
    File(PathBuf),
}

/// An artifact that is ready to be named by a row.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) size: u64,
    pub(crate) body: Body,
}

/// The name of these bytes: their SHA-256 in lower-case hex.
pub(crate) fn artifact_id(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let letters = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    letters.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Writes large bytes into their file; it is complete and synced when it has its name. Blocks.
pub(crate) fn write_file(folder: &Path, id: &str, bytes: &[u8]) -> Result<PathBuf, DagError> {
    let path = folder.join(id);
    let failed = |error: std::io::Error| {
        DagError::DatabaseError(format!("cannot write the artifact {}: {error}", path.display()))
    };
    if std::fs::metadata(&path).is_ok_and(|found| found.len() == bytes.len() as u64) {
        return Ok(path);
    }
    std::fs::create_dir_all(folder).map_err(failed)?;
    let draft = folder.join(format!("{id}.{}", uuid::Uuid::now_v7().simple()));
    let written = File::create(&draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| std::fs::rename(&draft, &path));
    if let Err(error) = renamed {
        drop(std::fs::remove_file(&draft));
        return Err(failed(error));
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(path)
}

/// Names an artifact by a row; one that is known already stays as it is.
pub(super) fn insert(db: &Connection, artifact: &Artifact, now: Millis) -> Result<(), Fault> {
    let (location, data, path) = match &artifact.body {
        Body::Inline(bytes) => ("inline", Some(bytes.as_ref()), None),
        Body::File(path) => ("file", None, Some(path.to_string_lossy())),
    };
    db.prepare_cached(
        "INSERT INTO artifacts (artifact_id, kind, size_bytes, storage_location, inline_data, file_path, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (artifact_id) DO NOTHING",
    )?
    .execute(params![
        artifact.id,
        artifact.kind,
        i64::try_from(artifact.size).unwrap_or(i64::MAX),
        location,
        data,
        path,
        now
    ])?;
    Ok(())
}

/// Reads an artifact and checks its bytes against its name.
pub(super) fn read(db: &Connection, id: &str) -> Result<Option<Result<Vec<u8>, DagError>>, Fault> {
    let mut statement =
        db.prepare_cached("SELECT inline_data, file_path FROM artifacts WHERE artifact_id = ?1")?;
    let found: Option<(Option<Vec<u8>>, Option<String>)> =
        statement.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((inline, path)) = found else { return Ok(None) };
    let bytes = match (inline, path) {
        (Some(bytes), _) => Ok(bytes),
        (None, Some(path)) => std::fs::read(&path).map_err(|error| {
            DagError::DatabaseError(format!("cannot read artifact {id} from {path}: {error}"))
        }),
        (None, None) => Err(DagError::DatabaseError(format!("artifact {id} has no bytes"))),
    };
    Ok(Some(bytes.and_then(|bytes| {
        if artifact_id(&bytes) == id {
            return Ok(bytes);
        }
        Err(DagError::DatabaseError(format!(
            "artifact {id} is damaged: its bytes have another hash; restore it from a backup"
        )))
    })))
}

impl Journal {
    /// Names an artifact and notes who needs it.
    pub(crate) async fn put_artifact(
        &self,
        artifact: Artifact,
        run: String,
        node: String,
    ) -> Result<(), DagError> {
        let now = self.clock().now();
        self.write(Synchronous::Full, "store an artifact", move |db| {
            insert(db, &artifact, now)?;
            db.prepare_cached(
                "INSERT INTO artifact_uses (artifact_id, run_id, node_id) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO NOTHING",
            )?
            .execute([&artifact.id, &run, &node])?;
            Ok(())
        })
        .await
    }

    /// Reads an artifact; its bytes are checked against its name.
    pub(crate) async fn artifact(&self, id: &str) -> Result<Option<Vec<u8>>, DagError> {
        let id = id.to_owned();
        self.read("read an artifact", move |db| read(db, &id)).await?.transpose()
    }

    /// Forgets artifacts older than `before` that no row names any more; answers the files to delete.
    pub(crate) async fn collect_artifacts(
        &self,
        before: Millis,
        limit: u32,
    ) -> Result<Vec<PathBuf>, DagError> {
        self.write(Synchronous::Full, "collect artifacts", move |db| {
            let mut statement = db.prepare_cached(
                "DELETE FROM artifacts WHERE artifact_id IN (
                     SELECT artifact_id FROM artifacts AS a WHERE created_at < ?1
                     AND NOT EXISTS (SELECT 1 FROM artifact_uses AS u WHERE u.artifact_id = a.artifact_id)
                     AND artifact_id NOT IN (SELECT artifact FROM run_log WHERE artifact IS NOT NULL)
                     AND artifact_id NOT IN (SELECT artifact FROM reusable WHERE artifact IS NOT NULL)
                     LIMIT ?2)
                 RETURNING file_path",
            )?;
            let paths = statement.query_map(params![before, limit], |row| {
                row.get::<_, Option<String>>(0)
            })?;
            let paths = paths.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(paths.into_iter().flatten().map(PathBuf::from).collect())
        })
        .await
    }
}
