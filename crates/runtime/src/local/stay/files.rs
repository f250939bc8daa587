//! Files of processes that stay, written by process 1 and read with suspicion.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use mayfly_core::id::SandboxId;
use mayfly_core::process::{Process, Window, Wiring};
use mayfly_core::time::Timestamp;
use mayfly_core::{Error, Kind, Result};
use mayfly_init::protocol::kept::{self, Head, MAX_KEPT, PREFIX};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};

use super::Which;
use super::ask::missing;
use crate::local::host::Host;

/// Exit code of what ended with its sandbox.
pub(super) const KILLED: i32 = 137;
/// Tries to read bytes before newer ones take their place.
const TRIES: u32 = 8;

/// One file.
#[derive(Debug)]
pub(super) struct Kept {
    file: File,
    pub(super) head: Head,
}

/// Output read from a file.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) from: u64,
    /// Runs in order; `true` = standard error.
    pub(super) runs: Vec<(bool, Vec<u8>)>,
    /// Whether this is the last that is there now.
    pub(super) all: bool,
}

impl Kept {
    /// Opens that of a process; missing and odd ones are not there.
    pub(super) fn open(host: &Host, which: Which) -> Result<Self> {
        Self::open_in(&host.ground.storage.logs(which.sandbox)?, which.number, OFlags::RDONLY)
    }

    fn open_in(folder: &OwnedFd, number: u64, access: OFlags) -> Result<Self> {
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = format!("{PREFIX}{number}");
        let file = rustix::fs::openat(folder, name, flags, Mode::empty());
        let file = File::from(file.map_err(|_| missing(number))?);
        let plain = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let head = if plain { Head::read(&file).ok() } else { None };
        head.map(|head| Self { file, head }).ok_or_else(|| missing(number))
    }

    /// As the port describes it.
    fn describe(&self, number: u64) -> Process {
        let head = &self.head;
        let window = Window { columns: head.window.0.max(1), rows: head.window.1.max(1) };
        let wiring = match head.kind {
            kept::Kind::Pipes => Some(Wiring::Pipes),
            kept::Kind::Terminal => Some(Wiring::Terminal(window)),
            kept::Kind::Shell => Some(Wiring::Shell),
            kept::Kind::Command => None,
        };
        Process {
            number,
            note: String::from_utf8_lossy(&head.note(&self.file).unwrap_or_default()).into_owned(),
            started_at: Timestamp(i64::try_from(head.started_at).unwrap_or(i64::MAX)),
            exit_code: head.exit.map(|code| code.clamp(0, 255)),
            wiring,
            shell: wiring.is_none().then_some(head.shell),
        }
    }

    /// Reads output from an offset on. Newer output may take its place meanwhile; then what is left is read.
    pub(super) fn read(&mut self, at: u64, max: usize) -> Result<Read> {
        let failed = |error| Error::internal("kept output could not be read", error);
        for _ in 0..TRIES {
            let from = at.clamp(self.head.begin, self.head.end);
            let runs = self.head.output(&self.file, from, max).map_err(failed)?;
            let now = Head::read(&self.file).map_err(failed)?;
            let length: u64 = runs.iter().map(|(_, bytes)| bytes.len() as u64).sum();
            let end = std::mem::replace(&mut self.head, now).end;
            if now.begin <= from {
                return Ok(Read { from, runs, all: from + length >= end });
            }
        }
        Err(Error::new(Kind::Unavailable, "output is written faster than it can be read"))
    }
}

/// All of a sandbox, oldest first.
pub(super) fn list(host: &Host, sandbox: SandboxId) -> Result<Vec<Process>> {
    let folder = host.ground.storage.logs(sandbox)?;
    let mut found: Vec<Process> = numbers(&folder)?
        .into_iter()
        .filter_map(|number| {
            Some(Kept::open_in(&folder, number, OFlags::RDONLY).ok()?.describe(number))
        })
        .collect();
    found.sort_by_key(|process| process.number);
    Ok(found)
}

fn numbers(folder: &OwnedFd) -> Result<Vec<u64>> {
    let entries = Dir::read_from(folder).map_err(|error| {
        Error::internal("the folder of logs could not be read", io::Error::from(error))
    })?;
    let names = entries.flatten();
    let numbers = names.filter_map(|entry| kept::number(entry.file_name().to_str().ok()?));
    Ok(numbers.take(MAX_KEPT).collect())
}

/// Notes that what has no end was killed: its sandbox ended with it.
pub(in crate::local) fn end_all(folder: &OwnedFd) {
    for number in numbers(folder).unwrap_or_default() {
        if let Ok(Kept { file, head }) = Kept::open_in(folder, number, OFlags::RDWR)
            && head.exit.is_none()
        {
            let ended = Head { exit: Some(KILLED), ..head };
            // On a full disk the end stays unknown.
            let _ = file.write_all_at(&ended.encode(), 0);
        }
    }
}

/// Deletes the file of a process of a sandbox that does not run.
pub(super) fn remove(host: &Host, which: Which) -> Result<()> {
    let folder = host.ground.storage.logs(which.sandbox)?;
    let name = format!("{PREFIX}{}", which.number);
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => {
            Err(Error::internal("kept output could not be deleted", io::Error::from(error)))
        }
    }
}
