//! What identifies the host's programs: its package database, its own installations, its settings.

use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mayfly_core::{Error, Kind, Result};
use sha2::{Digest, Sha256};

use super::{etc, failed, skeleton};

/// Counted up when the layers made from the same host change.
const FORMAT: &[u8] = b"mayfly host image 2";

/// Package databases hashed by content: dpkg, apk.
const BY_CONTENT: [&str; 2] = ["var/lib/dpkg/status", "lib/apk/db/installed"];

/// Package databases too big for that, hashed by time and size: rpm in two places, pacman.
const BY_CHANGE: [&str; 3] =
    ["var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/pacman/local"];

/// Most of a package database that is read, in bytes.
const DATABASE: u64 = 64 << 20;

/// Most folders below /usr that are looked at.
const FOLDERS: usize = 20_000;

/// The fingerprint of the host whose root is `root`, as 64 hex digits.
pub(super) fn fingerprint(root: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(FORMAT);
    for path in BY_CONTENT.map(|path| root.join(path)) {
        content(&mut hash, &path).map_err(|error| failed("read", &path, error))?;
    }
    for path in BY_CHANGE {
        change(&mut hash, path.as_bytes(), fs::symlink_metadata(root.join(path)).ok().as_ref());
    }
    for (name, target) in skeleton::links(root)? {
        hash.update(name.as_bytes());
        hash.update(target.as_os_str().as_bytes());
    }
    for path in etc::sources(root)? {
        change(&mut hash, path.as_os_str().as_bytes(), fs::symlink_metadata(&path).ok().as_ref());
    }
    folders(&mut hash, &root.join("usr"))?;
    Ok(hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

fn content(hash: &mut Sha256, path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut file = file.take(DATABASE);
    let mut part = vec![0; 64 << 10];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(()),
            read => hash.update(&part[..read]),
        }
    }
}

fn change(hash: &mut Sha256, name: &[u8], metadata: Option<&Metadata>) {
    hash.update(name);
    let Some(metadata) = metadata else { return hash.update(b"absent") };
    for part in [metadata.ctime(), metadata.ctime_nsec(), metadata.mtime(), metadata.mtime_nsec()] {
        hash.update(part.to_le_bytes());
    }
    hash.update(metadata.size().to_le_bytes());
}

/// Times of the upper folders of /usr, and of more of /usr/local, where installs without the package
/// manager show: npm's and pip's folders are among them.
fn folders(hash: &mut Sha256, usr: &Path) -> Result<()> {
    let mut waiting = vec![(usr.to_owned(), 2)];
    let mut count = 0;
    while let Some((folder, depth)) = waiting.pop() {
        count += 1;
        if count > FOLDERS {
            return Err(Error::new(
                Kind::Unsupported,
                format!("`{}` has more than {FOLDERS} folders near its top", usr.display()),
            )
            .with_hint("use another snapshot source than `host`"));
        }
        let metadata = match fs::symlink_metadata(&folder) {
            // Removed meanwhile: its parent's time tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            outcome => outcome.map_err(|error| failed("read", &folder, error))?,
        };
        change(hash, folder.as_os_str().as_bytes(), Some(&metadata));
        let depth = if folder == usr.join("local") { 4 } else { depth };
        if depth == 0 {
            continue;
        }
        // Folders that cannot be read are hidden from sandboxes anyway.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut inner: Vec<_> = entries
            .filter_map(io::Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| (entry.path(), depth - 1))
            .collect();
        inner.sort();
        waiting.append(&mut inner);
    }
    Ok(())
}
