//! The file API of a sandbox, as a port.

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;
use crate::file::{FileInfo, Match, Permissions, Replaced};
use crate::id::SandboxId;

/// Works on a running sandbox's files from outside it, with the ids and rights of its user.
///
/// Paths are the sandbox's own: absolute, or relative to its work dir. No lookup leaves its root,
/// whatever is linked or moved meanwhile. Nothing hangs on pipes, devices or endless files.
/// Errors carry [`crate::Code`] for missing, denied and malformed paths.
#[async_trait]
pub trait Files: Send + Sync + std::fmt::Debug {
    /// Entries of a folder, sorted by name; `depth` 1 = the folder only, more = below it too.
    async fn list(&self, sandbox: SandboxId, path: &str, depth: u32) -> Result<Vec<FileInfo>>;

    /// One file or folder; a link is followed.
    async fn info(&self, sandbox: SandboxId, path: &str) -> Result<FileInfo>;

    /// Makes a folder and its parents; an existing folder is a success.
    async fn make_folder(&self, sandbox: SandboxId, path: &str, mode: u32) -> Result<()>;

    /// Deletes a file or, when `recursive`, a folder; a link is deleted, never followed.
    async fn delete(&self, sandbox: SandboxId, path: &str, recursive: bool) -> Result<()>;

    /// Renames; an existing destination is [`crate::Kind::Conflict`].
    async fn rename(&self, sandbox: SandboxId, source: &str, destination: &str) -> Result<()>;

    /// Lines that contain the literal text, recursive, binary files skipped, bounded.
    async fn find(&self, sandbox: SandboxId, path: &str, text: &str) -> Result<Vec<Match>>;

    /// Paths whose last part matches the glob, recursive, bounded.
    async fn search(&self, sandbox: SandboxId, path: &str, glob: &str) -> Result<Vec<String>>;

    /// Replaces the literal text in each file, atomically per file.
    async fn replace(
        &self,
        sandbox: SandboxId,
        files: &[String],
        from: &str,
        to: &str,
    ) -> Result<Vec<Replaced>>;

    /// Changes owner, group and mode.
    async fn set_permissions(
        &self,
        sandbox: SandboxId,
        path: &str,
        change: &Permissions,
    ) -> Result<()>;

    /// Opens a plain file for reading.
    async fn read(&self, sandbox: SandboxId, path: &str) -> Result<Box<dyn FileReader>>;

    /// Starts writing a file that appears under its name only at [`FileWriter::commit`]; parents are made.
    async fn write(&self, sandbox: SandboxId, path: &str) -> Result<Box<dyn FileWriter>>;
}

/// A file being read.
#[async_trait]
pub trait FileReader: Send + std::fmt::Debug {
    /// Size when it was opened.
    fn size(&self) -> u64;

    /// The next bytes, at most 256 KiB; empty at the end. Never gives more than [`FileReader::size`].
    /// A file that shrank meanwhile ends in an error with [`crate::Code::FileReadFailed`].
    async fn next(&mut self) -> Result<Bytes>;
}

/// A file being written; dropped without commit it leaves nothing behind.
#[async_trait]
pub trait FileWriter: Send + std::fmt::Debug {
    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Puts the file in its place, replacing an earlier one atomically.
    async fn commit(self: Box<Self>) -> Result<()>;
}
