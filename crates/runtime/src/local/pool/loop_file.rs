//! The pool as a sparse file: made once, attached to a loop device that detaches itself.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mayfly_core::{Error, Kind, Result};

use super::place::mkfs;
use super::{failed, unavailable};
use crate::sys::loopdev;

/// Smallest pool, bytes: below it btrfs has no room for its own metadata.
pub const MIN_SIZE: u64 = 256 << 20;
/// Largest pool by default, bytes.
pub const DEFAULT_MAX: u64 = 100 << 30;
const MAGIC: &[u8; 8] = b"_BHRfS_M";
const MAGIC_OFFSET: u64 = 0x1_0040;
/// Other programs may take a free loop device first; each try is another device.
const ATTACH_TRIES: u32 = 32;

/// A loop device with a file behind it; it detaches when the last descriptor and mount are gone.
#[derive(Debug)]
pub struct LoopDevice {
    /// Keeps it attached until it is mounted.
    pub fd: OwnedFd,
    /// `/dev/loopN`.
    pub path: PathBuf,
    /// Whether it was attached before, by an earlier server or a mount that lives on.
    pub reused: bool,
}

/// Default size of a new pool: half of the free space, at most 100 GiB, the reserve left alone.
///
/// [`Kind::Unavailable`] when that is less than [`MIN_SIZE`].
pub fn default_size(host_free: u64, reserve: u64) -> Result<u64> {
    let size = (host_free / 2).min(DEFAULT_MAX).min(host_free.saturating_sub(reserve));
    if size < MIN_SIZE {
        return Err(unavailable(format!(
            "the storage pool needs {} MiB beyond the reserve of {} MiB, {} MiB are free",
            MIN_SIZE >> 20,
            reserve >> 20,
            host_free >> 20
        ))
        .with_hint("free disk space or move the data directory"));
    }
    // Whole MiB: btrfs and direct I/O need an aligned end.
    Ok(size >> 20 << 20)
}

/// Makes the pool file when there is none: sparse, 0600, formatted under another name and then renamed,
/// so that a crash leaves either no pool or a whole one. An existing pool is kept as it is.
///
/// [`Kind::Invalid`] when `size` is below [`MIN_SIZE`], [`Kind::Conflict`] when the file is not a pool.
pub fn ensure_file(path: &Path, size: u64) -> Result<()> {
    match File::open(path) {
        Ok(file) => return check(path, &file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("open the pool file")(error)),
    }
    if size < MIN_SIZE {
        return Err(Error::invalid(format!(
            "a storage pool of {size} bytes is too small: expected at least {MIN_SIZE}"
        )));
    }
    let draft = path.with_extension("new");
    let made = format_file(&draft, size).and_then(|()| {
        fs::rename(&draft, path).map_err(failed("name the pool file"))?;
        let parent = path.parent().unwrap_or_else(|| Path::new("/"));
        File::open(parent)
            .and_then(|folder| folder.sync_all())
            .map_err(failed("sync the pool file"))
    });
    if made.is_err() {
        let _ = fs::remove_file(&draft);
    }
    made
}

fn check(path: &Path, file: &File) -> Result<()> {
    let mut magic = [0; 8];
    let read = file.read_exact_at(&mut magic, MAGIC_OFFSET);
    if read.is_err() || &magic != MAGIC {
        return Err(Error::conflict(format!("{} is not a btrfs storage pool", path.display()))
            .with_hint("move the file away; a new pool is made in its place"));
    }
    Ok(())
}

fn format_file(draft: &Path, size: u64) -> Result<()> {
    let program = mkfs()?;
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove an unfinished pool file")(error));
        }
        _ => {}
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)
        .and_then(|file| file.set_len(size).map(|()| file))
        .map_err(failed("make the pool file"))?;
    // One copy of metadata: a second one in the same file protects against nothing.
    let output = Command::new(&program)
        .args(["-f", "-q", "-m", "single", "-d", "single", "-L", "mayfly"])
        .arg(draft)
        .stdin(Stdio::null())
        .output()
        .map_err(failed("start mkfs.btrfs"))?;
    if !output.status.success() {
        let said: String = String::from_utf8_lossy(&output.stderr).chars().take(500).collect();
        return Err(Error::new(Kind::Internal, "mkfs.btrfs could not format the pool file")
            .with_source(said));
    }
    file.sync_all().map_err(failed("sync the pool file"))
}

/// Puts the file behind a loop device, or finds the device that already has it.
pub fn attach(path: &Path) -> Result<LoopDevice> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(failed("open the pool file"))?;
    if let Some(device) = attached(path, &file)? {
        return Ok(device);
    }
    let control = File::options().read(true).write(true).open("/dev/loop-control").map_err(|e| {
        unavailable("the storage pool needs loop devices: /dev/loop-control cannot be opened")
            .with_hint("run as root, load the kernel module `loop`, or put the data directory on btrfs")
            .with_source(e)
    })?;
    for _ in 0..ATTACH_TRIES {
        let number = loopdev::free_number(&control).map_err(failed("find a free loop device"))?;
        let device = PathBuf::from(format!("/dev/loop{number}"));
        let opened = match File::options().read(true).write(true).open(&device) {
            Ok(opened) => opened,
            Err(error) => return Err(failed("open a loop device")(error)),
        };
        let configured = match loopdev::configure(&opened, &file, true) {
            // Some file systems refuse direct I/O.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                loopdev::configure(&opened, &file, false)
            }
            result => result,
        };
        match configured {
            Ok(()) => return Ok(LoopDevice { fd: opened.into(), path: device, reused: false }),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            Err(error) => return Err(failed("attach the pool file to a loop device")(error)),
        }
    }
    Err(unavailable("no loop device could be had: other programs took each free one first")
        .with_hint("start again; if it repeats, look at `losetup --list`"))
}

/// Whether the file is behind a loop device; one that is not there is not.
pub fn is_attached(path: &Path) -> Result<bool> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("open the pool file")(error)),
        Ok(file) => attached(path, &file).map(|device| device.is_some()),
    }
}

/// The loop device that has this file, recognised by device and inode number, never by name alone.
fn attached(path: &Path, file: &File) -> Result<Option<LoopDevice>> {
    let wanted = file.metadata().map_err(failed("look at the pool file"))?;
    let name = path.file_name().unwrap_or_default();
    let entries = fs::read_dir("/sys/block").map_err(failed("list block devices"))?;
    for entry in entries.flatten() {
        let Ok(backing) = fs::read_to_string(entry.path().join("loop/backing_file")) else {
            continue;
        };
        if Path::new(backing.trim_end_matches('\n')).file_name() != Some(name) {
            continue;
        }
        let device = Path::new("/dev").join(entry.file_name());
        let Ok(opened) = File::options().read(true).write(true).open(&device) else { continue };
        // A device that detached meanwhile answers with an error.
        if loopdev::backing(&opened).is_ok_and(|found| found == (wanted.dev(), wanted.ino())) {
            return Ok(Some(LoopDevice { fd: opened.into(), path: device, reused: true }));
        }
    }
    Ok(None)
}
