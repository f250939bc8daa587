//! Where the pool can live on this host, and what is missing when it cannot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mayfly_core::Result;

use super::{subvolume, unavailable};

/// Where the pool lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder below the data directory, which is btrfs already.
    Folder(PathBuf),
    /// A sparse file below the data directory, to be attached to a loop device and mounted.
    File(PathBuf),
}

/// Decides where the pool of this data directory lives; an existing pool file is kept for ever.
pub fn place(data_dir: &Path) -> Result<Place> {
    let file = data_dir.join("pool.btrfs");
    if file.exists() {
        return Ok(Place::File(file));
    }
    let folder = fs::File::open(data_dir).map_err(super::failed("open the data directory"))?;
    if subvolume::is_btrfs(&folder)? {
        return Ok(Place::Folder(data_dir.join("pool")));
    }
    Ok(Place::File(file))
}

/// Checks that a pool file can be made and mounted here; the error names what is missing and the remedy.
pub fn requirements() -> Result<()> {
    if !Path::new("/dev/loop-control").exists() {
        return Err(unavailable("the storage pool needs loop devices: /dev/loop-control is missing")
            .with_hint("load the kernel module `loop`, pass /dev/loop-control into the container, or put the data directory on btrfs"));
    }
    if !kernel_has_btrfs() {
        return Err(unavailable("the storage pool needs btrfs, which this kernel does not offer")
            .with_hint("use a kernel with btrfs (module `btrfs`)"));
    }
    mkfs().map(|_| ())
}

fn kernel_has_btrfs() -> bool {
    let listed = || {
        fs::read_to_string("/proc/filesystems")
            .is_ok_and(|text| text.lines().any(|line| line.trim() == "btrfs"))
    };
    if listed() {
        return true;
    }
    // Only an attempt: the list is read again whatever the loader says.
    let _ = Command::new("modprobe")
        .arg("btrfs")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    listed()
}

/// The formatter; services often run without the sbin folders in their path.
pub(super) fn mkfs() -> Result<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join("mkfs.btrfs"))
        .find(|path| path.exists())
        .ok_or_else(|| {
            unavailable("the storage pool needs mkfs.btrfs, which is not installed")
                .with_hint("install the package btrfs-progs")
        })
}
