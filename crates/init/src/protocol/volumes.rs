//! Volumes in a request that makes a sandbox.

use super::{Reader, Writer};

/// Volumes of one sandbox; a request with more is malformed.
pub const MAX_VOLUMES: u32 = 64;

/// A folder that a sandbox shares with others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its folder on the host.
    pub folder: Vec<u8>,
    /// Folder in it that is mounted, made where it is missing; empty = the whole.
    pub subpath: Vec<u8>,
    /// Folder in the new root to mount on, made where it is missing; without a leading `/`.
    pub target: Vec<u8>,
    /// Whether nobody inside can change it.
    pub read_only: bool,
}

/// Appends them with their count.
pub(super) fn write(writer: Writer, volumes: &[Volume]) -> Writer {
    let writer = writer.u32(u32::try_from(volumes.len()).unwrap_or(u32::MAX));
    volumes.iter().fold(writer, |writer, volume| {
        writer
            .bytes(&volume.folder)
            .bytes(&volume.subpath)
            .bytes(&volume.target)
            .u8(volume.read_only.into())
    })
}

/// Reads them back.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Vec<Volume>> {
    let count = reader.u32().filter(|count| *count <= MAX_VOLUMES)?;
    let mut volumes = Vec::new();
    for _ in 0..count {
        volumes.push(Volume {
            folder: reader.bytes()?.to_vec(),
            subpath: reader.bytes()?.to_vec(),
            target: reader.bytes()?.to_vec(),
            read_only: reader.flag()?,
        });
    }
    Some(volumes)
}
