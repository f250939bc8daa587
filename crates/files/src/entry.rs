//! What a file or folder looks like to the caller.

use std::sync::Arc;

use rustix::fs::{FileType, OFlags, Stat};

use crate::call::{FileKind, Info};
use crate::fault::Fault;
use crate::names::{self, Table};
use crate::path::Asked;
use crate::root::Root;
use crate::view::View;

/// Turns what the kernel says of files into what callers see; names of owners are read once.
pub(crate) struct Describer<'a> {
    root: &'a Root,
    users: Arc<Table>,
    groups: Arc<Table>,
}

impl<'a> Describer<'a> {
    pub(crate) fn new(view: &View<'a>) -> Self {
        Self { root: view.root, users: names::users(view), groups: names::groups(view) }
    }

    pub(crate) fn describe(&self, name: String, path: String, stat: &Stat) -> Info {
        Info {
            name,
            path,
            kind: kind(stat),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode & 0o7777,
            owner: self.users.name(self.root.shown(stat.st_uid)),
            group: self.groups.name(self.root.shown(stat.st_gid)),
            modified: modified(stat),
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

fn modified(stat: &Stat) -> i64 {
    let millis = i64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or(0);
    stat.st_mtime.saturating_mul(1000).saturating_add(millis)
}

/// One file or folder; links are followed inside the root.
pub(crate) fn info(view: &View<'_>, asked: &Asked) -> Result<Info, Fault> {
    let node = view.node(&asked.full, OFlags::empty())?;
    Ok(Describer::new(view).describe(asked.name(), asked.text.clone(), &node.stat))
}
