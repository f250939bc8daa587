//! What takes room on this host, and generated layers that nothing needs any more.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd;

use mayfly_core::ports::runtime::{Extent, Leftover, Space};
use mayfly_core::{Error, Result};

use super::host::Host;
use super::image::{HostImage, Keeper as _};
use super::pool::Headroom;
use super::storage::Storage;

/// Room at this moment.
pub(super) fn measure(host: &Host) -> Result<Space> {
    let disk = disk(&host.data)?;
    let (pool, shares) = match &host.ground.storage {
        Storage::Pool(pool) => {
            let room = Headroom::measure(pool.root(), &host.data)?;
            (Some(Extent { size: room.pool_size, free: room.pool_free }), pool.shares()?)
        }
        Storage::Folders(_) => (None, Vec::new()),
    };
    let text = fs::read_to_string("/proc/meminfo")
        .map_err(|error| Error::internal("the memory of the host could not be read", error))?;
    Ok(Space { pool, disk, reserve: host.options.reserve_bytes, memory: memory(&text), shares })
}

fn disk(folder: impl AsFd) -> Result<Extent> {
    let space = rustix::fs::fstatvfs(folder).map_err(|error| {
        Error::internal("the room of the disk could not be read", io::Error::from(error))
    })?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    Ok(Extent { size: bytes(space.f_blocks), free: bytes(space.f_bavail) })
}

/// Reads the text of `/proc/meminfo`.
fn memory(text: &str) -> Extent {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.unwrap_or(0).saturating_mul(1024)
    };
    Extent { size: field("MemTotal"), free: field("MemAvailable") }
}

/// Generated layers of earlier sets of packages, deleted unless `dry`.
///
/// What an earlier server's sandboxes stand on is not known, so while one of them runs all layers stay. Where the
/// folder is a link it may be others' too, and nothing in it is touched.
pub(super) fn old_layers(host: &Host, dry: bool) -> Result<Vec<Leftover>> {
    let root = host.layers();
    if root.is_symlink() {
        return Ok(Vec::new());
    }
    let used = BTreeSet::from([host.image()?.fingerprint]);
    let adopted = host.adopted();
    let mut found = Vec::new();
    for folder in HostImage::old(&root, &used)? {
        let kept = (adopted > 0).then(|| {
            format!("{adopted} sandboxes that an earlier server started may stand on it; stop them first")
        });
        if kept.is_none() && !dry {
            host.delete(&folder)?;
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.push(Leftover { kind: "layer", name, kept });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes_and_what_is_not_told_is_nothing() {
        let text = "MemTotal:        2048 kB\nMemFree: 1 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(memory(text), Extent { size: 2 << 20, free: 1 << 20 });
        assert_eq!(memory("MemTotalX: 5 kB\nMemTotal: x kB\n"), Extent::default());
    }
}
