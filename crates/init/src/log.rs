//! Kept output of one command: a bounded file in a folder that no process inside can reach.
//!
//! Writing is put off until nothing else is waiting, so that a log never stands between a command and its
//! caller. A full disk or a reached bound cuts the log and marks it; the command itself goes on.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::{File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::{LOG_HEAD, LOG_MAGIC, LOG_RUNNING, MAX_LOGS};
use crate::sys;

/// Bytes held back before they are written even when other work waits.
const HELD: usize = 64 << 10;

/// Numbers of the logs that are kept, in order; one thread has them.
static KEPT: Mutex<VecDeque<u64>> = Mutex::new(VecDeque::new());

/// Logs of an earlier life, in order, are the first to go.
pub(crate) fn begin(found: &[u64]) {
    kept().extend(found);
}

fn kept() -> MutexGuard<'static, VecDeque<u64>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log of one command.
#[derive(Debug)]
pub(crate) struct Log {
    number: u64,
    file: Option<File>,
    /// Where the next byte goes.
    end: u64,
    /// Bytes of output that may still be kept.
    left: u64,
    held: Vec<u8>,
    exit: Option<i32>,
    cut: bool,
    /// Set once writing failed: nothing more is tried.
    broken: bool,
}

impl Log {
    /// A log whose head and title are written with its first output.
    pub(crate) fn new(number: u64, title: &[u8], started_at: u64, limit: u64) -> Self {
        kept().push_back(number);
        let title = &title[..title.len().min(4096)];
        let mut held = Vec::with_capacity(LOG_HEAD + title.len() + 256);
        held.extend_from_slice(LOG_MAGIC);
        held.extend_from_slice(&LOG_RUNNING.to_le_bytes());
        held.extend_from_slice(&u32::try_from(title.len()).unwrap_or(0).to_le_bytes());
        held.extend_from_slice(&started_at.to_le_bytes());
        held.extend_from_slice(&[0; 8]);
        held.extend_from_slice(title);
        Self {
            number,
            file: None,
            end: 0,
            left: limit,
            held,
            exit: None,
            cut: false,
            broken: false,
        }
    }

    /// Its number within the sandbox.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Keeps output, as far as the bound allows.
    pub(crate) fn append(&mut self, folder: &OwnedFd, bytes: &[u8]) {
        let kept = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.cut |= kept < bytes.len();
        self.left -= kept as u64;
        self.held.extend_from_slice(&bytes[..kept]);
        if self.held.len() >= HELD {
            self.flush(folder);
        }
    }

    /// Notes how the command ended.
    pub(crate) fn finish(&mut self, code: i32) {
        self.exit = Some(code);
    }

    /// Writes what is held.
    pub(crate) fn flush(&mut self, folder: &OwnedFd) {
        if self.broken || self.write(folder).is_err() {
            // A full disk: the head already says that the log is cut, or there is no log at all.
            self.broken = true;
        }
        self.held.clear();
    }

    fn write(&mut self, folder: &OwnedFd) -> std::io::Result<()> {
        if let (None, Some(code)) = (&self.file, self.exit)
            && self.held.len() >= LOG_HEAD
        {
            // Ended before anything was written: the head goes out complete, in one write.
            self.held[8..12].copy_from_slice(&code.to_le_bytes());
            self.held[24] = u8::from(self.cut);
            self.exit = None;
            self.cut = false;
        }
        if self.file.is_none() {
            self.file = Some(create(folder, self.number)?);
        }
        let Some(file) = &self.file else { return Ok(()) };
        if !self.held.is_empty() {
            file.write_all_at(&self.held, self.end)?;
            self.end += self.held.len() as u64;
        }
        if let Some(code) = self.exit.take() {
            file.write_all_at(&code.to_le_bytes(), 8)?;
        }
        if std::mem::take(&mut self.cut) {
            file.write_all_at(&[1], 24)?;
        }
        Ok(())
    }
}

fn create(folder: &OwnedFd, number: u64) -> std::io::Result<File> {
    const WRITE_CREATE_TRUNCATE: usize = 0o1101;
    let name = |number: u64| CString::new(number.to_string()).map_err(std::io::Error::other);
    let mut kept = kept();
    while kept.len() > MAX_LOGS
        && let Some(oldest) = kept.pop_front()
    {
        let _ = sys::unlink_at(folder.as_fd(), &name(oldest)?);
    }
    // Newer logs have already taken this one's place.
    if kept.front().is_none_or(|oldest| number < *oldest) {
        return Err(std::io::ErrorKind::StorageFull.into());
    }
    let file = File::from(sys::open_at(folder.as_fd(), &name(number)?, WRITE_CREATE_TRUNCATE)?);
    // The group is the server's, where that is not root.
    file.set_permissions(Permissions::from_mode(0o660))?;
    Ok(file)
}
