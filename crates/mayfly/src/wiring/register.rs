//! Where servers of this host leave word of themselves, for `mayfly gc`.

use std::path::PathBuf;

use mayfly_core::{Error, Result};
use mayfly_runtime::local::register::{self, Entry, Gone};

use crate::config::Config;

/// For root; it goes with the boot, as everything that it tells of does.
const OF_ROOT: &str = "/run/mayfly";

/// The register of the caller; an ordinary user has one where his session has a folder for such things.
fn folder() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(OF_ROOT.into());
    }
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    session.filter(|folder| folder.is_absolute()).map(|folder| folder.join("mayfly"))
}

/// Enters the server of this data directory, for as long as it lives. One that cannot be entered serves all the same.
pub(super) async fn enter(config: &Config) -> Option<Entry> {
    let (register, data_dir) = (folder()?, config.storage.data_dir.clone());
    let entered = tokio::task::spawn_blocking(move || Entry::write(&register, &data_dir)).await;
    match entered {
        Ok(Ok(entry)) => Some(entry),
        Ok(Err(error)) => {
            tracing::warn!(%error, "`mayfly gc` will not know what this server leaves");
            None
        }
        Err(_) => None,
    }
}

/// Finds what killed servers left whose data directory is gone, and takes it away unless `dry`.
pub(crate) async fn clear_gone(dry: bool) -> Result<Vec<Gone>> {
    let Some(register) = folder() else { return Ok(Vec::new()) };
    tokio::task::spawn_blocking(move || register::clear(&register, dry))
        .await
        .map_err(|error| Error::internal("the look at gone servers broke off", error))?
}
