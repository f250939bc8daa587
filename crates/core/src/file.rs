//! Files inside a sandbox, as the file API shows them.

use crate::time::Timestamp;

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A plain file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A pipe, socket or device.
    Special,
}

/// One file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Last part of the path; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Path as asked for, joined with the entry's name in lists.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits, including set-id and sticky.
    pub mode: u32,
    /// Owner's name inside the sandbox, else its number.
    pub owner: String,
    /// Group's name inside the sandbox, else its number.
    pub group: String,
    /// Last change of its content.
    pub modified_at: Timestamp,
}

/// A line that matched a search in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Path of the file.
    pub file: String,
    /// Line number, from 1.
    pub line: u64,
    /// The line, invalid UTF-8 replaced, cut at 4 KiB.
    pub content: String,
}

/// What replacing text in one file did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Path as asked for.
    pub file: String,
    /// Why it failed; `None` = replaced, also when nothing matched.
    pub error: Option<String>,
}

/// A change of owner, group and mode; `None` leaves that one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// User name or number inside the sandbox.
    pub owner: Option<String>,
    /// Group name or number inside the sandbox.
    pub group: Option<String>,
    /// Permission bits.
    pub mode: Option<u32>,
}
