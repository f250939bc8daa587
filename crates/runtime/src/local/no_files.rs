//! The file API where it is not built yet: every call is refused by name.

use async_trait::async_trait;
use mayfly_core::file::{FileInfo, Match, Permissions, Replaced};
use mayfly_core::id::SandboxId;
use mayfly_core::ports::files::{FileReader, FileWriter, Files};
use mayfly_core::{Error, Result};

/// Refuses with [`mayfly_core::Kind::Unsupported`].
#[derive(Debug)]
pub(super) struct NoFiles;

fn refused<T>() -> Result<T> {
    Err(Error::unsupported("the file API in the isolation profile `unprivileged`")
        .with_hint("use commands for it, such as `cat`, or run the server as root"))
}

#[async_trait]
impl Files for NoFiles {
    async fn list(&self, _: SandboxId, _: &str, _: u32) -> Result<Vec<FileInfo>> {
        refused()
    }

    async fn info(&self, _: SandboxId, _: &str) -> Result<FileInfo> {
        refused()
    }

    async fn make_folder(&self, _: SandboxId, _: &str, _: u32) -> Result<()> {
        refused()
    }

    async fn delete(&self, _: SandboxId, _: &str, _: bool) -> Result<()> {
        refused()
    }

    async fn rename(&self, _: SandboxId, _: &str, _: &str) -> Result<()> {
        refused()
    }

    async fn find(&self, _: SandboxId, _: &str, _: &str) -> Result<Vec<Match>> {
        refused()
    }

    async fn search(&self, _: SandboxId, _: &str, _: &str) -> Result<Vec<String>> {
        refused()
    }

    async fn replace(&self, _: SandboxId, _: &[String], _: &str, _: &str) -> Result<Vec<Replaced>> {
        refused()
    }

    async fn set_permissions(&self, _: SandboxId, _: &str, _: &Permissions) -> Result<()> {
        refused()
    }

    async fn read(&self, _: SandboxId, _: &str) -> Result<Box<dyn FileReader>> {
        refused()
    }

    async fn write(&self, _: SandboxId, _: &str) -> Result<Box<dyn FileWriter>> {
        refused()
    }
}
