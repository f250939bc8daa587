//! Volumes of files that sandboxes share, as a port.

use async_trait::async_trait;

use crate::Result;
use crate::id::{CaptureId, VolumeId};

/// Makes and deletes volumes. A sandbox mounts those that its description names.
///
/// Every verb may be repeated after a crash. A volume outlives its sandboxes and the server; nothing but
/// [`Volumes::delete`] takes its files away, and [`Volumes::list`] tells what is there.
#[async_trait]
pub trait Volumes: Send + Sync + std::fmt::Debug {
    /// Makes an empty volume that never holds more than this, or completes what a crash left half made. One that
    /// is whole keeps its files.
    async fn create(&self, id: VolumeId, bytes: u64) -> Result<()>;

    /// Deletes one with its files; one that is gone is a success. No sandbox may mount it.
    async fn delete(&self, id: VolumeId) -> Result<()>;

    /// All that are there, half made ones too, in no order.
    async fn list(&self) -> Result<Vec<VolumeId>>;

    /// Bytes that it holds. [`crate::Kind::NotFound`] when there is none.
    async fn usage(&self, id: VolumeId) -> Result<u64>;

    /// Copies its files as they are now, as [`super::captures::Captures::capture`] does those of a sandbox.
    async fn capture(&self, id: VolumeId, as_id: CaptureId) -> Result<()>;
}
