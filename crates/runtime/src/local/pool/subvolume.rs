//! Subvolumes of the pool: made with their limit, copied, measured and deleted by descriptor and name.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use mayfly_core::{Error, Result};
use rustix::fs::{Dir, Mode, OFlags};

use super::{Pool, failed};
use crate::sys::btrfs;

const BTRFS_MAGIC: u64 = 0x9123_683E;
/// Lower numbers are the file system's own trees.
const FIRST_SUBVOLUME: u64 = 256;

/// Whether a descriptor lies on btrfs.
pub fn is_btrfs(fd: impl AsFd) -> Result<bool> {
    let stat =
        rustix::fs::fstatfs(fd).map_err(|error| failed("look at the file system")(error.into()))?;
    Ok(u64::try_from(stat.f_type).is_ok_and(|magic| magic == BTRFS_MAGIC))
}

/// Makes a subvolume whose data and metadata never exceed `bytes`.
/// [`mayfly_core::Kind::Conflict`] when the name is taken.
pub fn create(folder: BorrowedFd<'_>, name: &str, bytes: u64) -> Result<()> {
    btrfs::create_subvolume(folder, name, Some(bytes)).map_err(named("make the subvolume", name))
}

/// Changes the limit of an open subvolume. One below the present use only stops further writing.
pub fn set_limit(subvolume: BorrowedFd<'_>, bytes: u64) -> Result<()> {
    btrfs::set_limit(subvolume, Some(bytes)).map_err(failed("set a disk limit"))
}

/// Takes a copy-on-write snapshot of an open subvolume. What the copy shares stays charged to the
/// subvolume that wrote it; the copy's limit counts what is written after.
pub fn snapshot(
    source: BorrowedFd<'_>,
    folder: BorrowedFd<'_>,
    name: &str,
    bytes: u64,
) -> Result<()> {
    btrfs::snapshot(source, folder, name, Some(bytes), false)
        .map_err(named("take the snapshot", name))
}

/// Takes a read-only snapshot of an open subvolume, without a limit: it cannot grow.
pub fn capture(source: BorrowedFd<'_>, folder: BorrowedFd<'_>, name: &str) -> Result<()> {
    btrfs::snapshot(source, folder, name, None, true).map_err(named("take the snapshot", name))
}

/// Deletes a subvolume; one that is gone is a success. Its space comes back in the background.
pub fn delete(folder: BorrowedFd<'_>, name: &str) -> Result<()> {
    match btrfs::delete_subvolume(folder, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(named("delete the subvolume", name)),
    }
}

/// Opens a subvolume for the calls above.
pub fn open(folder: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
        .map_err(|error| named("open the subvolume", name)(error.into()))
}

/// Bytes that count against the limit now: written, and promised to writes under way.
pub fn usage(pool: &Pool, subvolume: BorrowedFd<'_>) -> Result<u64> {
    let id = btrfs::subvolume_id(subvolume).map_err(failed("identify a subvolume"))?;
    let counter = pool.counters.join(format!("0_{id}"));
    let read = |name: &str| -> Result<u64> {
        let text = fs::read_to_string(counter.join(name)).map_err(failed("read disk use"))?;
        text.trim().parse().map_err(|error| {
            Error::internal(format!("disk use of subvolume {id} is not a number"), error)
        })
    };
    Ok(read("referenced")?.saturating_add(read("rsv_data")?))
}

/// The limit that holds now, bytes; `None` = without limit.
pub fn limit(pool: &Pool, subvolume: BorrowedFd<'_>) -> Result<Option<u64>> {
    let id = btrfs::subvolume_id(subvolume).map_err(failed("identify a subvolume"))?;
    let counter = pool.counters.join(format!("0_{id}/max_referenced"));
    let text = fs::read_to_string(counter).map_err(failed("read a disk limit"))?;
    let limit: u64 = text.trim().parse().map_err(|error| {
        Error::internal(format!("the disk limit of subvolume {id} is not a number"), error)
    })?;
    // The kernel shows none as 0, or as the largest number.
    Ok(Some(limit).filter(|limit| *limit != 0 && *limit != u64::MAX))
}

/// Names in a folder of subvolumes, in no order.
pub fn names(folder: BorrowedFd<'_>) -> Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listing = rustix::fs::openat(folder, ".", flags, Mode::empty())
        .and_then(Dir::new)
        .map_err(|error| failed("list subvolumes")(error.into()))?;
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|error| failed("list subvolumes")(error.into()))?;
        let name = entry.file_name().to_string_lossy();
        if name != "." && name != ".." {
            found.push(name.into_owned());
        }
    }
    Ok(found)
}

/// Numbers of the subvolumes that have a quota group.
pub(super) fn quota_groups(counters: &Path) -> Result<Vec<u64>> {
    let entries = fs::read_dir(counters).map_err(failed("list quota groups"))?;
    let number = |name: &str| name.strip_prefix("0_")?.parse().ok();
    let ids = entries.flatten().filter_map(|entry| number(entry.file_name().to_str()?));
    Ok(ids.filter(|id| *id >= FIRST_SUBVOLUME).collect())
}

/// Removes the groups whose subvolume is gone and whose space is free; returns how many. Groups of
/// living subvolumes must stay, or their limit is lost, and not every kernel refuses to remove them.
pub(super) fn drop_dead_groups(root: BorrowedFd<'_>, counters: &Path, groups: &[u64]) -> usize {
    let is_free = |id: u64| {
        fs::read_to_string(counters.join(format!("0_{id}/referenced")))
            .is_ok_and(|text| text.trim() == "0")
    };
    let is_dead = |id: u64| btrfs::subvolume_lives(root, id).is_ok_and(|lives| !lives);
    let dead = groups.iter().filter(|id| is_free(**id) && is_dead(**id));
    dead.filter(|id| btrfs::delete_quota_group(root, **id).is_ok()).count()
}

fn named<'a>(verb: &'a str, name: &'a str) -> impl FnOnce(io::Error) -> Error + 'a {
    move |error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Error::conflict(format!("failed to {verb} {name}: the name is taken"))
                .with_source(error)
        }
        io::ErrorKind::NotFound => {
            Error::not_found(format!("failed to {verb} {name}: there is none")).with_source(error)
        }
        _ => failed(verb)(error),
    }
}
