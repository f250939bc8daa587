//! What lies in a data directory beside the folders of sandboxes, measured without a server.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use mayfly_core::ports::runtime::{Extent, Share};
use mayfly_core::{Error, Kind, Result};

/// Files and folders that are looked at; beyond it the sum is what was seen.
const MOST: usize = 1_000_000;
/// Folders of sandboxes: counted by the server, which knows them.
const SANDBOXES: &[&str] = &["pool", "sandboxes"];

/// Kinds, with the names that belong to each. Everything else is `other`.
const KINDS: &[(&str, &[&str])] = &[
    ("database", &["state.db", "state.db-wal", "state.db-shm", "state.copy"]),
    ("layers", &["layers"]),
    ("logs", &["server.log"]),
    ("network audit", &["audit"]),
    ("pool file", &["pool.btrfs"]),
];
const OTHER: &str = "other";

/// Blocks on disk of each kind; holes take none. No link is followed. What goes meanwhile is passed over.
pub(crate) fn parts(data_dir: &Path) -> Result<Vec<Share>> {
    let entries = fs::read_dir(data_dir).map_err(|error| {
        Error::new(Kind::Unavailable, format!("cannot read {}: {error}", data_dir.display()))
            .with_hint("name the data directory with --data-dir, and read it as the server's user")
            .with_source(error)
    })?;
    let mut sums: Vec<(&str, u64)> =
        KINDS.iter().map(|(kind, _)| *kind).chain([OTHER]).map(|kind| (kind, 0)).collect();
    let mut left = MOST;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if SANDBOXES.contains(&name.as_ref()) {
            continue;
        }
        let kind = KINDS.iter().find(|(_, names)| names.contains(&name.as_ref()));
        let kind = kind.map_or(OTHER, |(kind, _)| kind);
        let bytes = blocks(&entry.path(), &mut left);
        if let Some((_, sum)) = sums.iter_mut().find(|(name, _)| *name == kind) {
            *sum += bytes;
        }
    }
    Ok(sums
        .into_iter()
        .map(|(name, bytes)| Share { name: name.to_owned(), count: None, bytes: Some(bytes) })
        .collect())
}

/// The disk of the folder.
pub(crate) fn disk(data_dir: &Path) -> Result<Extent> {
    let space = rustix::fs::statvfs(data_dir)
        .map_err(|error| Error::internal("the room of the disk could not be read", error))?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    Ok(Extent { size: bytes(space.f_blocks), free: bytes(space.f_bavail) })
}

fn blocks(path: &Path, left: &mut usize) -> u64 {
    let (mut sum, mut waiting) = (0, vec![path.to_owned()]);
    while let Some(path) = waiting.pop() {
        if *left == 0 {
            return sum;
        }
        *left -= 1;
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        sum += found.blocks() * 512;
        if found.is_dir() {
            let below = fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(below.map(|entry| entry.path()));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_counts_its_own_blocks_and_links_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let big = folder.path().join("elsewhere");
        fs::create_dir_all(data.join("layers/a/b")).unwrap();
        fs::create_dir(data.join("sandboxes")).unwrap();
        fs::write(&big, vec![1; 1 << 20]).unwrap();
        fs::write(data.join("layers/a/b/file"), vec![1; 100_000]).unwrap();
        fs::write(data.join("sandboxes/file"), vec![1; 100_000]).unwrap();
        fs::write(data.join("state.db"), vec![1; 50_000]).unwrap();
        fs::write(data.join("state.db-wal"), vec![1; 50_000]).unwrap();
        std::os::unix::fs::symlink(&big, data.join("server.log")).unwrap();
        fs::File::create(data.join("pool.btrfs")).unwrap().set_len(1 << 30).unwrap();
        let found = parts(&data).unwrap();
        let of = |kind: &str| {
            found.iter().find(|share| share.name == kind).and_then(|share| share.bytes).unwrap()
        };
        assert!((100_000..200_000).contains(&of("layers")), "{found:?}");
        assert!((100_000..200_000).contains(&of("database")), "{found:?}");
        assert!(of("logs") < 50_000, "the link's own: {found:?}");
        assert!(of("pool file") < 1 << 20, "holes take nothing: {found:?}");
        assert!(of("other") < 50_000, "sandboxes are the server's to count: {found:?}");
        let missing = parts(&data.join("nowhere")).unwrap_err();
        assert!(missing.message().contains("nowhere") && missing.hint().is_some());
    }
}
