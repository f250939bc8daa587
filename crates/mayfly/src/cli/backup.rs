//! `mayfly backup` and `mayfly restore`.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use mayfly_core::{Error, Kind};
use serde_json::json;

use super::{Ended, Session};
use crate::exit_code;
use crate::wiring;

/// Write everything of the server into one file, while it runs
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// Where to; it must not exist. It holds all secrets of the server
    file: PathBuf,
}

/// Make a data directory from a backup
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// What `mayfly backup` wrote
    file: PathBuf,
}

impl Backup {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        if self.file.exists() {
            return Err(Error::conflict(format!("{} exists", self.file.display()))
                .with_hint("name a new file; backups are never overwritten"));
        }
        let client = session.client().await?;
        let mut draft = self.file.clone().into_os_string();
        draft.push(".part");
        let draft = PathBuf::from(draft);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .map_err(|error| unwritable(&draft, error))?;
        let progress = session.output.waiting("backing up");
        let mut bytes = 0_u64;
        let whole = client
            .download("/api/system/backup", |piece| {
                bytes += piece.len() as u64;
                file.write_all(piece).map_err(|error| unwritable(&draft, error))
            })
            .await
            .and_then(|()| file.sync_all().map_err(|error| unwritable(&draft, error)))
            .and_then(|()| {
                std::fs::rename(&draft, &self.file).map_err(|error| unwritable(&self.file, error))
            });
        drop(progress);
        if let Err(error) = whole {
            // A part is no backup.
            let _ = std::fs::remove_file(&draft);
            return Err(error);
        }
        let name = self.file.display().to_string();
        session.output.show(&json!({ "file": name, "bytes": bytes }), || {
            format!("{name}: {bytes} bytes; keep it as safe as the server, its secrets are in it\n")
        })?;
        Ok(exit_code::SUCCESS)
    }
}

impl Restore {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        let config = session.config(None)?;
        let waiting = session.output.waiting("restoring");
        let restored = wiring::restore(&config, &self.file).await?;
        drop(waiting);
        let data = config.storage.data_dir.display().to_string();
        let value = json!({ "dataDir": data, "sandboxes": restored.sandboxes, "volumes": restored.volumes });
        session.output.show(&value, || {
            let (sandboxes, volumes) = (restored.sandboxes, restored.volumes);
            format!("{data} restored; sandboxes: {sandboxes}, volumes: {volumes}\n")
        })?;
        Ok(exit_code::SUCCESS)
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot write {}: {error}", path.display()))
        .with_hint("choose another place, or make room")
        .with_source(error)
}
