//! A copy of the database as it is at one moment, while it is written.

use std::fs::File;
use std::path::Path;

use mayfly_core::ports::store::Copy;
use mayfly_core::{Error, Kind, Result};
use rusqlite::OpenFlags;

use super::database::connect;
use super::fault::explain;

/// Copies the database beside it and opens the copy, which has no name by then: it goes when it is closed, and with
/// the process.
pub(super) fn copy(database: &Path) -> Result<Copy> {
    let target = database.with_extension("copy");
    let failed = |error: std::io::Error| {
        Error::new(Kind::Unavailable, format!("cannot use {}: {error}", target.display()))
            .with_hint("check that the data directory's disk has room")
            .with_source(error)
    };
    // Of a server that died in the middle: only one copies at a time.
    match std::fs::remove_file(&target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let made = connect(database, OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(|connection| {
        connection.execute("VACUUM INTO ?1", [target.to_string_lossy()]).map(drop)
    });
    let opened = made
        .map_err(|error| explain("copy the database", error))
        .and_then(|()| File::open(&target).map_err(failed));
    // Whatever was made must not stay.
    let _ = std::fs::remove_file(&target);
    let file = opened?;
    let size = file.metadata().map_err(failed)?.len();
    Ok(Copy { size, data: Box::new(file) })
}
