//! The layer of whiteouts over /usr: what not everybody on the host may read, no sandbox sees.
//!
//! Root inside a sandbox owns root's files of the layers and overrides their modes, so modes protect
//! nothing there.

use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mayfly_core::{Error, Kind, Result};
use rustix::fs::{CWD, Mode};

use super::{failed, make_folder, set_mode};

/// Most entries of /usr that are looked at.
const ENTRIES: u64 = 20_000_000;

/// Depth below /usr of the folders that are copied, and of those below /usr/local: the ones that installs
/// put things into.
const UPPER: usize = 3;
const LOCAL: usize = 5;

/// Writes the layer to `target`, which must not exist. With `folders`, the upper folders of /usr are in
/// it too: where the host's files belong to nobody inside, root can install into these.
pub(super) fn generate(usr: &Path, target: &Path, folders: bool) -> Result<()> {
    let top = fs::symlink_metadata(usr).map_err(|error| failed("read", usr, error))?;
    if !top.is_dir() || !readable(&top, top.dev()) {
        return Err(unfit(usr, "is not a folder that everybody may read"));
    }
    make_folder(target, 0o755)?;
    like(&top, target)?;
    let mut count = 0;
    let mut waiting = vec![PathBuf::new()];
    while let Some(folder) = waiting.pop() {
        let path = usr.join(&folder);
        let depth = if folder.starts_with("local") { LOCAL } else { UPPER };
        if folders && folder.components().count() <= depth {
            copy_folders(usr, target, &folder)?;
        }
        let entries = match fs::read_dir(&path) {
            // Removed by a package manager meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            outcome => outcome.map_err(|error| failed("read", &path, error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| failed("read", &path, error))?;
            count += 1;
            if count > ENTRIES {
                return Err(unfit(usr, &format!("has more than {ENTRIES} entries")));
            }
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                outcome => outcome.map_err(|error| failed("read", &entry.path(), error))?,
            };
            let inner = folder.join(entry.file_name());
            if !readable(&metadata, top.dev()) {
                hide(usr, target, &inner)?;
            } else if metadata.is_dir() {
                waiting.push(inner);
            }
        }
    }
    Ok(())
}

/// Whether everybody on the host may read it. Folders of another file system count as unreadable: an
/// overlay shows not them but what they cover, which cannot be looked at.
fn readable(metadata: &Metadata, device: u64) -> bool {
    let needed = if metadata.is_dir() { 0o005 } else { 0o004 };
    let kind = metadata.file_type();
    kind.is_symlink()
        || (!is_special(kind) && metadata.dev() == device && metadata.mode() & needed == needed)
}

fn is_special(kind: FileType) -> bool {
    kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device()
}

fn hide(usr: &Path, target: &Path, inner: &Path) -> Result<()> {
    copy_folders(usr, target, inner.parent().unwrap_or(inner))?;
    let path = target.join(inner);
    let whiteout = rustix::fs::makedev(0, 0);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(CWD, &path, kind, Mode::empty(), whiteout)
        .map_err(|error| failed("make the whiteout", &path, error.into()))
}

/// Makes a folder and those above it where they are missing. A folder of this layer stands before the one
/// of /usr that it merges with, mode and owner included.
fn copy_folders(usr: &Path, target: &Path, inner: &Path) -> Result<()> {
    let mut above: Vec<_> = inner.ancestors().collect();
    above.reverse();
    for folder in above {
        let copy = target.join(folder);
        if !copy.is_dir() {
            let original = usr.join(folder);
            let metadata = fs::symlink_metadata(&original)
                .map_err(|error| failed("read", &original, error))?;
            make_folder(&copy, 0o755)?;
            like(&metadata, &copy)?;
        }
    }
    Ok(())
}

fn like(metadata: &Metadata, copy: &Path) -> Result<()> {
    // Without root nothing can be given to others, and the layer's ids mean nothing.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(copy, Some(metadata.uid()), Some(metadata.gid()))
            .map_err(|error| failed("set the owner of", copy, error))?;
    }
    set_mode(copy, metadata.mode() & 0o7777)
}

fn unfit(usr: &Path, why: &str) -> Error {
    Error::new(Kind::Unsupported, format!("`{}` {why}", usr.display()))
        .with_hint("use another snapshot source than `host`")
}
