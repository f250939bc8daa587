//! A runtime's processes that stay, where it has none.

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_core::id::SandboxId;
use mayfly_core::ports::processes::{Follower, Processes};
use mayfly_core::process::{Process, ShellCommand, StartRequest, Window};
use mayfly_core::{Error, Kind, Result};

/// Refuses all.
#[derive(Debug)]
pub(crate) struct Absent;

fn absent<T>() -> Result<T> {
    Err(Error::new(Kind::Unsupported, "processes that stay are not supported by this runtime"))
}

#[async_trait]
impl Processes for Absent {
    async fn start(&self, _: SandboxId, _: StartRequest) -> Result<u64> {
        absent()
    }
    async fn queue(&self, _: SandboxId, _: u64, _: ShellCommand) -> Result<u64> {
        absent()
    }
    async fn list(&self, _: SandboxId) -> Result<Vec<Process>> {
        absent()
    }
    async fn follow(&self, _: SandboxId, _: u64, _: u64) -> Result<Box<dyn Follower>> {
        absent()
    }
    async fn write(&self, _: SandboxId, _: u64, _: Bytes) -> Result<()> {
        absent()
    }
    async fn resize(&self, _: SandboxId, _: u64, _: Window) -> Result<()> {
        absent()
    }
    async fn signal(&self, _: SandboxId, _: u64, _: i32) -> Result<()> {
        absent()
    }
    async fn kill(&self, _: SandboxId, _: u64) -> Result<()> {
        absent()
    }
    async fn forget(&self, _: SandboxId, _: u64) -> Result<()> {
        absent()
    }
}
