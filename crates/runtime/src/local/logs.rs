//! Kept output of commands: files that init wrote into the sandbox's own folder, read with suspicion.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use mayfly_core::process::ProcessLog;
use mayfly_core::time::Timestamp;
use mayfly_core::{Code, Error, Kind, Result};
use mayfly_init::protocol::{LOG_HEAD, LOG_MAGIC, LOG_RUNNING};
use rustix::fs::{Dir, Mode, OFlags};

/// Longest title that is read back.
pub(super) const MAX_TITLE: u64 = 4096;
/// Exit code of what was killed, and its place in a log.
const KILLED: i32 = 137;
const EXIT_AT: u64 = 8;
/// Most logs listed; init keeps fewer.
const MAX_LISTED: usize = 1024;

/// All logs in a folder, oldest first.
pub(super) fn list(folder: &OwnedFd) -> Result<Vec<ProcessLog>> {
    let entries = Dir::read_from(folder).map_err(|error| {
        Error::internal("the folder of logs could not be read", io::Error::from(error))
    })?;
    let mut logs: Vec<ProcessLog> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok())
        .take(MAX_LISTED)
        .filter_map(|number| open(folder, number).ok())
        .map(|opened| opened.log)
        .collect();
    logs.sort_by_key(|log| log.process);
    Ok(logs)
}

/// Bytes of one log from an offset.
pub(super) fn read(folder: &OwnedFd, number: u64, offset: u64, max: usize) -> Result<Bytes> {
    let opened = open(folder, number)?;
    let length = opened.log.size.saturating_sub(offset).min(max as u64);
    if length == 0 {
        // Nor is it asked for: the kernel knows no offsets beyond a signed number.
        return Ok(Bytes::new());
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = opened
        .file
        .read_at(&mut bytes, opened.start.saturating_add(offset))
        .map_err(|error| Error::internal(format!("log {number} could not be read"), error))?;
    bytes.truncate(read);
    Ok(Bytes::from(bytes))
}

/// Notes that commands without an end were killed: their sandbox ended with them.
pub(super) fn end_all(folder: &OwnedFd) {
    for log in list(folder).unwrap_or_default() {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if log.exit_code.is_none()
            && let Ok(file) =
                rustix::fs::openat(folder, log.process.to_string(), flags, Mode::empty())
        {
            // On a full disk the end stays unknown.
            let _ = File::from(file).write_all_at(&KILLED.to_le_bytes(), EXIT_AT);
        }
    }
}

struct Opened {
    file: File,
    /// Where output begins.
    start: u64,
    log: ProcessLog,
}

/// The fixed beginning of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// `None` while the command runs.
    pub(super) exit_code: Option<i32>,
    /// Bytes of the title behind the head, at most [`MAX_TITLE`].
    pub(super) title_length: u64,
    pub(super) started_at: Timestamp,
}

impl Head {
    /// `None` = this is no log.
    pub(super) fn read(head: &[u8; LOG_HEAD]) -> Option<Self> {
        let field = |from: usize| -> u32 {
            u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]])
        };
        if head[..8] != LOG_MAGIC[..] {
            return None;
        }
        let exit = field(8).cast_signed();
        let started = u64::from(field(16)) | u64::from(field(20)) << 32;
        Some(Self {
            exit_code: (exit != LOG_RUNNING).then_some(exit),
            title_length: u64::from(field(12)).min(MAX_TITLE),
            started_at: Timestamp(i64::try_from(started).unwrap_or(i64::MAX)),
        })
    }
}

fn open(folder: &OwnedFd, number: u64) -> Result<Opened> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let missing = || {
        Error::new(Kind::NotFound, format!("no log of command {number} is kept"))
            .with_code(Code::ProcessNotFound)
    };
    let file = rustix::fs::openat(folder, number.to_string(), flags, Mode::empty())
        .map_err(|_| missing())?;
    let file = File::from(file);
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file).ok_or_else(missing)?.len();
    let mut head = [0_u8; LOG_HEAD];
    file.read_exact_at(&mut head, 0).map_err(|_| missing())?;
    let Head { exit_code, title_length, started_at } = Head::read(&head).ok_or_else(missing)?;
    let mut title = vec![0; usize::try_from(title_length).unwrap_or(0)];
    file.read_exact_at(&mut title, LOG_HEAD as u64).map_err(|_| missing())?;
    let start = LOG_HEAD as u64 + title_length;
    let log = ProcessLog {
        process: number,
        title: String::from_utf8_lossy(&title).into_owned(),
        started_at,
        exit_code,
        size: size.saturating_sub(start),
    };
    Ok(Opened { file, start, log })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_the_end_of_a_log_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = vec![0; LOG_HEAD];
        log[..8].copy_from_slice(&LOG_MAGIC[..]);
        log.extend_from_slice(b"output");
        std::fs::write(folder.path().join("1"), log).unwrap();
        let folder = OwnedFd::from(File::open(folder.path()).unwrap());
        assert_eq!(read(&folder, 1, 3, 1024).unwrap(), "put");
        for offset in [6, 7, i64::MAX.unsigned_abs() + 1, u64::MAX] {
            assert_eq!(read(&folder, 1, offset, 1024).unwrap(), "", "{offset}");
        }
    }
}
