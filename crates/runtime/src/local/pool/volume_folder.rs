//! Volumes: subvolumes under their ids, with hard limits, that sandboxes mount whole or in part.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use mayfly_core::id::{CaptureId, VolumeId};
use mayfly_core::{Error, Kind, Result};
use rustix::fs::XattrFlags;

use super::{Pool, ensure_mode, failed, subvolume};

/// Holds the size, 8 bytes, and is written last: a volume that has it is whole. Only root of the host sees it.
const ATTRIBUTE: &str = "trusted.mayfly.volume";
/// All who share a volume may write to it, whoever they are inside.
const MODE: u32 = 0o777;

impl Pool {
    /// Makes an empty volume with a hard limit, or completes one that a crash left half made.
    pub fn make_volume(&self, id: VolumeId, bytes: u64) -> Result<()> {
        let volume = match self.empty_volume(id, bytes) {
            Err(error) if error.kind() == Kind::Conflict => self.open_volume(id)?,
            made => made?,
        };
        if self.volume_size(id)?.is_none() {
            ensure_mode(self.volumes.as_fd(), &id.to_string(), MODE)
                .map_err(failed("set the mode of a volume's folder"))?;
        }
        set_size(&volume, bytes)
    }

    /// Makes the subvolume of a volume, with nothing in it. [`Kind::Conflict`] when it is there.
    pub fn empty_volume(&self, id: VolumeId, bytes: u64) -> Result<OwnedFd> {
        subvolume::create(self.volumes.as_fd(), &id.to_string(), bytes)?;
        self.open_volume(id)
    }

    /// Sets the size of a volume and says that it is whole.
    pub fn limit_volume(&self, id: VolumeId, bytes: u64) -> Result<()> {
        set_size(&self.open_volume(id)?, bytes)
    }

    /// Opens a volume; [`Kind::NotFound`] when there is none.
    pub fn open_volume(&self, id: VolumeId) -> Result<OwnedFd> {
        subvolume::open(self.volumes.as_fd(), &id.to_string()).map_err(|error| match error.kind() {
            Kind::NotFound => Error::not_found(format!("volume {id} is not in the storage pool")),
            _ => error,
        })
    }

    /// The size that a volume was made with; `None` while it is half made.
    pub fn volume_size(&self, id: VolumeId) -> Result<Option<u64>> {
        let mut bytes = [0_u8; 8];
        match rustix::fs::fgetxattr(self.open_volume(id)?, ATTRIBUTE, &mut bytes[..]) {
            Ok(_) => Ok(Some(u64::from_le_bytes(bytes))),
            Err(rustix::io::Errno::NODATA) => Ok(None),
            Err(error) => Err(failed("read the size of a volume")(io::Error::from(error))),
        }
    }

    /// Deletes a volume, also one that is gone already or half made.
    pub fn remove_volume(&self, id: VolumeId) -> Result<()> {
        subvolume::delete(self.volumes.as_fd(), &id.to_string())
    }

    /// Bytes that a volume holds, metadata included.
    pub fn volume_usage(&self, id: VolumeId) -> Result<u64> {
        subvolume::usage(self, self.open_volume(id)?.as_fd())
    }

    /// All volumes, in no order; names that are no id are passed over.
    pub fn volumes(&self) -> Result<Vec<VolumeId>> {
        let names = subvolume::names(self.volumes.as_fd())?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Takes a read-only snapshot of a volume; what was written before is in it.
    pub fn capture_volume(&self, from: VolumeId, to: CaptureId) -> Result<()> {
        let source = self.open_volume(from)?;
        subvolume::capture(source.as_fd(), self.captures.as_fd(), &to.to_string())
    }
}

fn set_size(volume: &OwnedFd, bytes: u64) -> Result<()> {
    subvolume::set_limit(volume.as_fd(), bytes)?;
    rustix::fs::fsetxattr(volume, ATTRIBUTE, &bytes.to_le_bytes(), XattrFlags::empty())
        .map_err(|error| failed("write down the size of a volume")(error.into()))
}
