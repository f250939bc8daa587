//! Files of sandboxes as they were at one moment, as a port.

use std::io::Write;

use async_trait::async_trait;

use crate::Result;
use crate::id::{CaptureId, SandboxId};

/// Where bytes go.
pub type Sink = Box<dyn Write + Send>;

/// Takes and gives copies of sandboxes' files.
///
/// A capture is whole or not there; it changes nothing in its sandbox and does not change with it. It outlives its
/// sandbox and the server; whoever makes one discards it, and what nobody remembers after a crash is found by
/// [`Captures::list`].
#[async_trait]
pub trait Captures: Send + Sync + std::fmt::Debug {
    /// Copies the files of a sandbox, running or stopped, as they are now: all that was written before the call is
    /// in it. [`crate::Kind::NotFound`] when it has none.
    async fn capture(&self, id: SandboxId, as_id: CaptureId) -> Result<()>;

    /// All that are there, in no order.
    async fn list(&self) -> Result<Vec<CaptureId>>;

    /// Deletes one; one that is gone is a success.
    async fn discard(&self, id: CaptureId) -> Result<()>;

    /// Writes one as tar members, each name below `prefix`, and gives the sink back. The archive's end is the
    /// caller's to write.
    async fn export(&self, id: CaptureId, prefix: &str, out: Sink) -> Result<(Sink, Exported)>;
}

/// What an export wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Files, folders and nodes.
    pub members: u64,
    /// Left out: sockets, which are dead without their process, and what lies too deep to be named.
    pub skipped: u64,
}
