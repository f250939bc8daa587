//! Volumes on this machine: subvolumes of the pool.

use std::sync::Arc;

use async_trait::async_trait;
use mayfly_core::id::{CaptureId, VolumeId};
use mayfly_core::ports::volumes::Volumes;
use mayfly_core::volume::Mount;
use mayfly_core::{Error, Kind, Result};
use mayfly_init::protocol::Volume;

use super::forkserver::path_bytes;
use super::host::Host;
use super::pool::Pool;
use super::runtime::blocking;
use super::storage::Storage;

/// The volumes of a local runtime whose storage is a pool.
#[derive(Debug)]
pub(super) struct LocalVolumes {
    pub(super) host: Arc<Host>,
}

/// Why an ordinary user has none.
pub(super) fn unsupported() -> Error {
    Error::unsupported("volumes in the isolation profile `unprivileged`").with_hint(
        "run the server as root: an ordinary user has no storage pool, so nothing would limit a volume, and the \
         mounts of a sandbox would show folders of the host",
    )
}

impl LocalVolumes {
    async fn in_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Pool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let host = Arc::clone(&self.host);
        blocking(move || work(host.ground.storage.pool().ok_or_else(unsupported)?)).await
    }
}

#[async_trait]
impl Volumes for LocalVolumes {
    async fn create(&self, id: VolumeId, bytes: u64) -> Result<()> {
        let host = Arc::clone(&self.host);
        blocking(move || {
            let pool = host.ground.storage.pool().ok_or_else(unsupported)?;
            host.admit()?;
            pool.make_volume(id, bytes)
        })
        .await
    }

    async fn delete(&self, id: VolumeId) -> Result<()> {
        self.in_pool(move |pool| pool.remove_volume(id)).await
    }

    async fn list(&self) -> Result<Vec<VolumeId>> {
        self.in_pool(Pool::volumes).await
    }

    async fn usage(&self, id: VolumeId) -> Result<u64> {
        self.in_pool(move |pool| pool.volume_usage(id)).await
    }

    async fn capture(&self, id: VolumeId, as_id: CaptureId) -> Result<()> {
        self.in_pool(move |pool| pool.capture_volume(id, as_id)).await
    }
}

/// Refuses a sandbox whose volumes are not all there and whole, before anything of it is made.
pub(super) fn check(storage: &Storage, mounts: &[Mount]) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    let pool = storage.pool().ok_or_else(unsupported)?;
    for mount in mounts {
        if pool.volume_size(mount.volume)?.is_none() {
            let message = format!("volume {} is half made", mount.volume);
            return Err(Error::new(Kind::Unavailable, message).with_hint("try again"));
        }
    }
    Ok(())
}

/// The mounts as the parked process takes them; `sandboxes` is the folder of sandboxes' folders as it sees it.
pub(super) fn request(sandboxes: &std::path::Path, mounts: &[Mount]) -> Vec<Volume> {
    let folder = sandboxes.with_file_name("volumes");
    let one = |mount: &Mount| Volume {
        folder: path_bytes(&folder.join(mount.volume.to_string())).to_vec(),
        subpath: mount.subpath.clone().unwrap_or_default().into_bytes(),
        target: mount.path.trim_start_matches('/').as_bytes().to_vec(),
        read_only: mount.read_only,
    };
    mounts.iter().map(one).collect()
}
