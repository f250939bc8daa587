//! What `mayfly doctor` says of disk quotas: one is made, overrun and removed.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;

use mayfly_core::ports::runtime::{Layer, LayerState};
use mayfly_core::{Error, Result};
use rustix::fs::{Mode, OFlags};

use super::{Pool, failed, subvolume};

const NAME: &str = "probe";
const LIMIT: u64 = 1 << 20;

/// The layer `disk quota`: of an open pool by a live probe, else with the reason why there is none.
pub fn layer(pool: Result<&Pool, &Error>) -> Layer {
    let found = pool.map(|pool| (pool, overrun(pool)));
    let (state, evidence, remedy) = match found {
        Ok((pool, Ok(written))) if written <= LIMIT => {
            let mode = pool.quota_mode();
            let evidence =
                format!("btrfs, {mode:?}: a limit of {LIMIT} bytes stopped a write at {written}");
            (LayerState::Holds, evidence, None)
        }
        Ok((_, Ok(written))) => {
            let evidence = format!("a limit of {LIMIT} bytes let {written} bytes through");
            let remedy = "use Linux 6.7 or newer, where btrfs has simple quotas";
            (LayerState::Absent, evidence, Some(remedy.to_owned()))
        }
        Ok((_, Err(error))) => absent(&error),
        Err(error) => absent(error),
    };
    Layer { name: "disk quota".to_owned(), state, required: true, evidence, remedy }
}

fn absent(error: &Error) -> (LayerState, String, Option<String>) {
    let remedy = error.hint().unwrap_or("look at the server's log for the cause");
    (LayerState::Absent, error.message().to_owned(), Some(remedy.to_owned()))
}

/// Bytes that could be written under the limit, at most four times as many.
fn overrun(pool: &Pool) -> Result<u64> {
    subvolume::delete(pool.root(), NAME)?;
    subvolume::create(pool.root(), NAME, LIMIT)?;
    let written = write_all(pool);
    subvolume::delete(pool.root(), NAME)?;
    written
}

fn write_all(pool: &Pool) -> Result<u64> {
    let folder = subvolume::open(pool.root(), NAME)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder.as_fd(), "file", flags, Mode::from_raw_mode(0o600))
        .map_err(|error| failed("make a probe file")(error.into()))?;
    let mut file = File::from(file);
    let block = vec![0x5a_u8; 64 << 10];
    let mut written = 0;
    while written < 4 * LIMIT {
        match file.write(&block) {
            Ok(size) => written += size as u64,
            Err(error) if error.kind() == ErrorKind::QuotaExceeded => break,
            Err(error) => return Err(failed("write a probe file")(error)),
        }
    }
    Ok(written)
}
