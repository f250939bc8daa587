//! Who works on a file: every open storage is an owner with a lease and a locked file beside the database.
//!
//! The lock ends with its process, so a restart knows at once that the former owner is dead and does not wait for its
//! lease. A process that is stopped keeps its lock; its lease runs out instead.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::params;

use super::{Journal, Synchronous};
use crate::clock::Millis;
use crate::error::DagError;

/// This process, as an owner of runs and tasks.
#[derive(Debug)]
pub(crate) struct Owner {
    name: String,
    folder: Option<PathBuf>,
    _lock: Option<File>,
}

impl Owner {
    /// A new owner; its lock file stands in `folder`, or nowhere for a database in memory.
    pub(crate) fn new(folder: Option<PathBuf>) -> Result<Self, DagError> {
        let name = uuid::Uuid::now_v7().simple().to_string();
        let Some(folder) = folder else { return Ok(Self { name, folder: None, _lock: None }) };
        let failed = |error: std::io::Error| {
            DagError::LockError(format!("cannot lock a file in {}: {error}", folder.display()))
        };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let lock = File::create(lock_path(&folder, &name)).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Self { name, folder: Some(folder), _lock: Some(lock) })
    }

    /// Its name in the tables.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether another owner's process is surely gone: its lock file is free or was never made.
    pub(crate) fn is_dead(&self, other: &str) -> bool {
        if other == self.name {
            return false;
        }
        let Some(folder) = &self.folder else { return true };
        let path = lock_path(folder, other);
        match File::open(&path) {
            Ok(file) if file.try_lock().is_ok() => {
                // Whoever comes next finds no file, which says the same.
                drop(std::fs::remove_file(path));
                true
            }
            Ok(_) => false,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // A file that stays is found to be nobody's.
            drop(std::fs::remove_file(lock_path(folder, &self.name)));
        }
    }
}

fn lock_path(folder: &Path, owner: &str) -> PathBuf {
    folder.join(format!("{owner}.lock"))
}

#[cfg_attr(
    not(feature = "dag"),
    expect(dead_code, reason = "tasks have leases of their own; these are for runs")
)]
impl Journal {
    /// Extends the owner's lease until `until`.
    pub(crate) async fn heartbeat(&self, owner: &str, until: Millis) -> Result<(), DagError> {
        let owner = owner.to_owned();
        self.write(Synchronous::Normal, "extend a lease", move |db| {
            db.prepare_cached(
                "INSERT INTO owners (owner, lease_expires_at) VALUES (?1, ?2)
                 ON CONFLICT (owner) DO UPDATE SET lease_expires_at = excluded.lease_expires_at",
            )?
            .execute(params![owner, until])?;
            Ok(())
        })
        .await
    }

    /// Forgets an owner whose process ended.
    pub(crate) async fn forget_owner(&self, owner: String) -> Result<(), DagError> {
        self.write(Synchronous::Normal, "forget an owner", move |db| {
            db.prepare_cached("DELETE FROM owners WHERE owner = ?1")?.execute([&owner])?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_dead_when_its_lock_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let first = Owner::new(Some(folder.path().to_owned())).unwrap();
        let second = Owner::new(Some(folder.path().to_owned())).unwrap();
        assert!(!second.is_dead(first.name()));
        assert!(!first.is_dead(first.name()));
        let name = first.name().to_owned();
        drop(first);
        assert!(second.is_dead(&name));
        // The file of a killed process stays and is free.
        File::create(lock_path(folder.path(), "killed")).unwrap();
        assert!(second.is_dead("killed"));
        assert!(second.is_dead("never"));
    }
}
