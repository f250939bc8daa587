//! Files of sandboxes as they were at one moment: read-only snapshots in the pool, and their form as tar members.

mod member;
mod pack;
mod unpack;

use std::os::fd::AsFd as _;
use std::sync::Arc;

use async_trait::async_trait;
use mayfly_core::id::{CaptureId, SandboxId};
use mayfly_core::ports::captures::{Captures, Exported, Sink};
use mayfly_core::{Error, Kind, Result};

use super::host::Host;
use super::pool::Pool;
use super::runtime::blocking;
use super::storage::Storage;
pub use unpack::{Unpacker, below};

/// The captures of a local runtime.
#[derive(Debug)]
pub(super) struct LocalCaptures {
    pub(super) host: Arc<Host>,
}

impl LocalCaptures {
    async fn in_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Pool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let host = Arc::clone(&self.host);
        blocking(move || match &host.ground.storage {
            Storage::Pool(pool) => work(pool),
            Storage::Folders(_) => Err(Error::unsupported(
                "copying files of sandboxes in the isolation profile `unprivileged`",
            )
            .with_hint(
                "run the server as root, where sandboxes lie in a pool that takes snapshots",
            )),
        })
        .await
    }
}

#[async_trait]
impl Captures for LocalCaptures {
    async fn capture(&self, id: SandboxId, as_id: CaptureId) -> Result<()> {
        self.in_pool(move |pool| pool.capture(id, as_id)).await
    }

    async fn list(&self) -> Result<Vec<CaptureId>> {
        self.in_pool(Pool::captures).await
    }

    async fn discard(&self, id: CaptureId) -> Result<()> {
        self.in_pool(move |pool| pool.discard(id)).await
    }

    async fn export(&self, id: CaptureId, prefix: &str, mut out: Sink) -> Result<(Sink, Exported)> {
        let prefix = prefix.to_owned();
        self.in_pool(move |pool| {
            let folder = pool.open_capture(id)?;
            let exported = pack::pack(folder.as_fd(), &prefix, &mut *out).map_err(|error| {
                Error::new(
                    Kind::Unavailable,
                    format!("the files of {prefix} could not be written: {error}"),
                )
                .with_source(error)
            })?;
            Ok((out, exported))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
