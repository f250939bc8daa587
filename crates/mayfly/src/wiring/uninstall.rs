//! Takes everything of a data directory off this host: sandboxes, mounts, devices, groups, files.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mayfly_core::ports::runtime::Runtime;
use mayfly_core::{Error, Kind, Result};
use tokio::task::JoinSet;

use super::{LocalRuntime, runtime_options};
use crate::config::Config;
use crate::lock::{self, DataLock};

/// What a server makes in its data directory. Anything else there is somebody else's and stays.
const FILES: &[&str] = &[
    "state.db",
    "state.db-wal",
    "state.db-shm",
    "state.copy",
    "state.db.restored",
    "state.db.restored-wal",
    "state.db.restored-shm",
    "restore-unfinished",
    "master.key",
    "initial-key",
    "server.log",
];
const FOLDERS: &[&str] = &["stage", "layers", "sandboxes", "pool", "audit"];
const POOL_FILE: &str = "pool.btrfs";
/// The lock lies here, so it goes last.
const RUN: &str = "run";
/// Sandboxes that are ended at once.
const AT_ONCE: usize = 16;
/// Looks for the pool's device after its last user has gone, 10 ms apart.
const DETACH_LOOKS: u32 = 500;
const DETACH_PAUSE: Duration = Duration::from_millis(10);

/// What was taken away.
#[derive(Debug)]
pub(crate) struct Removed {
    /// Sandboxes, running or not.
    pub(crate) sandboxes: usize,
    /// Names in the data directory that are not ours, so that it stays; empty = it is gone too.
    pub(crate) left: Vec<String>,
}

/// Ends a background server and all sandboxes of the data directory, and deletes it.
///
/// [`Kind::Conflict`] while a server runs in the foreground; [`Kind::NotFound`] where no server ever ran. After any
/// failure it may be repeated.
pub(crate) async fn uninstall(config: &Config) -> Result<Removed> {
    let data = &config.storage.data_dir;
    let is_ours = [config.database(), data.join(super::restore::UNFINISHED)];
    if !is_ours.iter().any(|path| path.exists()) {
        return Err(Error::not_found(format!("{} is no data directory", data.display()))
            .with_hint("name the one to remove with --data-dir"));
    }
    let lock = DataLock::take(config, false).await?;
    let entry = super::register::enter(config).await;
    let mut options = runtime_options(config)?;
    options.namespaces = 0;
    let runtime = std::sync::Arc::new(LocalRuntime::open(options).await?);
    let sandboxes = destroy_all(&runtime).await?;
    runtime.clear_layers().await?;
    // Ends the forkserver, and with it the pool's mount, and every network process.
    tokio::task::spawn_blocking(move || drop(runtime))
        .await
        .map_err(|error| Error::internal("closing the runtime broke off", error))?;
    detached(&data.join(POOL_FILE)).await?;
    let left = delete(data)?;
    drop(lock);
    lock::delete_folder(config)?;
    // Fails where something of somebody else is left, which is told.
    let _ = fs::remove_dir(data);
    if let Some(entry) = entry {
        entry.erase();
    }
    Ok(Removed { sandboxes, left })
}

async fn destroy_all(runtime: &std::sync::Arc<LocalRuntime>) -> Result<usize> {
    let found = runtime.list().await?;
    let count = found.len();
    let mut under_way = JoinSet::new();
    for sandbox in found {
        if under_way.len() >= AT_ONCE {
            ended(under_way.join_next().await)?;
        }
        let runtime = std::sync::Arc::clone(runtime);
        under_way.spawn(async move { runtime.destroy(sandbox.id).await });
    }
    while let Some(one) = under_way.join_next().await {
        ended(Some(one))?;
    }
    Ok(count)
}

fn ended(one: Option<std::result::Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    match one {
        Some(Err(error)) => Err(Error::internal("the removal of a sandbox broke off", error)),
        Some(Ok(result)) => result,
        None => Ok(()),
    }
}

/// The kernel lets go of the pool's device some time after the last process that had it mounted.
async fn detached(pool: &Path) -> Result<()> {
    for _ in 0..DETACH_LOOKS {
        if !mayfly_runtime::local::pool::loop_file::is_attached(pool)? {
            return Ok(());
        }
        tokio::time::sleep(DETACH_PAUSE).await;
    }
    Err(Error::new(
        Kind::Timeout,
        format!(
            "{} is still behind a loop device 5 s after its last sandbox ended",
            pool.display()
        ),
    )
    .with_hint("find who uses it with `losetup -a`, then repeat"))
}

/// Deletes what is ours and lists the rest.
fn delete(data: &Path) -> Result<Vec<String>> {
    let failed = |path: &Path, error: std::io::Error| {
        Error::new(Kind::Unavailable, format!("cannot delete {}: {error}", path.display()))
            .with_hint("repeat as the user that the server ran as")
    };
    for name in FILES.iter().chain([&POOL_FILE]) {
        let path = data.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&path, error));
            }
            _ => {}
        }
    }
    for name in FOLDERS {
        let path = data.join(name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&path, error));
            }
            _ => {}
        }
    }
    let entries = fs::read_dir(data).map_err(|error| failed(data, error))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name != RUN).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    #[tokio::test]
    async fn a_folder_that_is_no_data_directory_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("diary"), "mine").unwrap();
        let overrides = Overrides { data_dir: Some(data.clone()), ..Overrides::default() };
        let config = Config::load(&overrides).unwrap();
        let refused = uninstall(&config).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::NotFound);
        assert!(refused.message().contains(data.to_str().unwrap()), "{refused}");
        assert_eq!(fs::read_to_string(data.join("diary")).unwrap(), "mine");
        assert!(!data.join("run").exists(), "nothing is made there either");
    }

    #[test]
    fn what_is_not_ours_stays_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["state.db", "diary"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir_all(folder.path().join("layers/a/b")).unwrap();
        assert_eq!(delete(folder.path()).unwrap(), ["diary"]);
        assert!(!folder.path().join("state.db").exists());
        assert!(!folder.path().join("layers").exists());
    }
}
