//! Plain files of fake sandboxes: written, read and shown; everything else is refused.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use mayfly_core::file::{FileInfo, FileKind, Match, Permissions, Replaced};
use mayfly_core::id::SandboxId;
use mayfly_core::ports::files::{FileReader, FileWriter, Files};
use mayfly_core::time::Timestamp;
use mayfly_core::{Code, Error, Result};

use super::Machines;

#[derive(Debug)]
pub(super) struct FakeFiles {
    pub(super) machines: Arc<Machines>,
}

impl FakeFiles {
    fn find(&self, sandbox: SandboxId, path: &str) -> Result<Bytes> {
        let mut state = self.machines.lock();
        let missing =
            || Error::not_found(format!("{path} not found")).with_code(Code::FileNotFound);
        state.file(sandbox, path)?.ok_or_else(missing)
    }
}

fn info(path: &str, size: usize) -> FileInfo {
    FileInfo {
        name: path.rsplit('/').next().unwrap_or_default().to_owned(),
        path: path.to_owned(),
        kind: FileKind::File,
        size: size as u64,
        mode: 0o644,
        owner: "root".to_owned(),
        group: "root".to_owned(),
        modified_at: Timestamp(0),
    }
}

fn refused<T>() -> Result<T> {
    Err(Error::unsupported("this file call of the fake runtime"))
}

#[async_trait]
impl Files for FakeFiles {
    async fn list(&self, _: SandboxId, _: &str, _: u32) -> Result<Vec<FileInfo>> {
        refused()
    }

    async fn info(&self, sandbox: SandboxId, path: &str) -> Result<FileInfo> {
        Ok(info(path, self.find(sandbox, path)?.len()))
    }

    async fn make_folder(&self, _: SandboxId, _: &str, _: u32) -> Result<()> {
        refused()
    }

    async fn delete(&self, sandbox: SandboxId, path: &str, _: bool) -> Result<()> {
        self.find(sandbox, path)?;
        self.machines.lock().set_file(sandbox, path, None)
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

    async fn read(&self, sandbox: SandboxId, path: &str) -> Result<Box<dyn FileReader>> {
        let bytes = self.find(sandbox, path)?;
        Ok(Box::new(Reader { size: bytes.len() as u64, bytes }))
    }

    async fn write(&self, sandbox: SandboxId, path: &str) -> Result<Box<dyn FileWriter>> {
        self.machines.lock().get(sandbox)?;
        let machines = Arc::clone(&self.machines);
        Ok(Box::new(Writer { machines, sandbox, path: path.to_owned(), bytes: BytesMut::new() }))
    }
}

#[derive(Debug)]
struct Reader {
    size: u64,
    bytes: Bytes,
}

#[async_trait]
impl FileReader for Reader {
    fn size(&self) -> u64 {
        self.size
    }

    async fn next(&mut self) -> Result<Bytes> {
        let most = self.bytes.len().min(256 << 10);
        Ok(self.bytes.split_to(most))
    }
}

#[derive(Debug)]
struct Writer {
    machines: Arc<Machines>,
    sandbox: SandboxId,
    path: String,
    bytes: BytesMut,
}

#[async_trait]
impl FileWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let bytes = self.bytes.freeze();
        self.machines.lock().set_file(self.sandbox, &self.path, Some(bytes))
    }
}
