//! What a file or folder looks like to the caller.

use std::sync::Arc;

use mayfly_core::file::{FileInfo, FileKind};
use mayfly_core::time::Timestamp;
use rustix::fs::{FileType, OFlags, Stat};

use super::fault::Fault;
use super::names::{self, Table};
use super::path::Asked;
use super::root::Root;
use super::view::View;

/// Turns what the kernel says of files into what callers see; names of owners are read once.
pub(super) struct Describer<'a> {
    root: &'a Root,
    users: Arc<Table>,
    groups: Arc<Table>,
}

impl<'a> Describer<'a> {
    pub(super) fn new(view: &View<'a>) -> Self {
        Self { root: view.root, users: names::users(view), groups: names::groups(view) }
    }

    pub(super) fn describe(&self, name: String, path: String, stat: &Stat) -> FileInfo {
        FileInfo {
            name,
            path,
            kind: kind(stat),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode & 0o7777,
            owner: self.users.name(self.root.inside(stat.st_uid)),
            group: self.groups.name(self.root.inside(stat.st_gid)),
            modified_at: modified(stat),
        }
    }
}

fn kind(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Folder,
        FileType::Symlink => FileKind::Link,
        _ => FileKind::Special,
    }
}

fn modified(stat: &Stat) -> Timestamp {
    let millis = i64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or(0);
    Timestamp(stat.st_mtime.saturating_mul(1000).saturating_add(millis))
}

/// One file or folder; links are followed inside the root.
pub(super) fn info(view: &View<'_>, asked: &Asked) -> Result<FileInfo, Fault> {
    let node = view.node(&asked.full, OFlags::empty())?;
    Ok(Describer::new(view).describe(asked.name(), asked.text.clone(), &node.stat))
}
