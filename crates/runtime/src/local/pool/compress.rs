//! Archived sandboxes take less room: the kernel rewrites their files compressed, each extent in one transaction.
//!
//! What is cut off midway is whole: every file reads as before at every moment, compressed so far or not. Reading needs
//! nothing, since the kernel decompresses; what is written later is stored as it is.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use mayfly_core::Result;
use mayfly_core::id::SandboxId;
use rustix::fs::{Dir, FileType, Mode, OFlags, SeekFrom};

use super::{Part, Pool, failed};
use crate::sys::btrfs;

/// Files up to this size lie within metadata or one block and gain nothing, bytes.
const SMALL: i64 = 4096;
/// What is rewritten between two looks at the clock, bytes.
const PIECE: u64 = 32 << 20;
/// Folders within folders that are entered; what lies deeper stays as it is.
const MAX_DEPTH: usize = 64;

/// What compressing came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compressed {
    /// Files that were rewritten, or tried.
    pub files: u64,
    /// Whether the time was over before the end.
    pub cut_short: bool,
}

impl Pool {
    /// Compresses the files of a stopped sandbox, for at most this long; the rest stays as it is. May be repeated.
    pub fn compress_sandbox(&self, id: SandboxId, most: Duration) -> Result<Compressed> {
        let folder = self.open_sandbox(id)?;
        let mut work = Work { until: Instant::now() + most, done: Compressed::default() };
        for part in [Part::Upper, Part::UsrUpper, Part::Logs] {
            work.folder(folder.part(part)?);
        }
        // What the old extents held comes back with the commit.
        btrfs::sync(self.root()).map_err(failed("write a compressed sandbox back"))?;
        Ok(work.done)
    }
}

struct Work {
    until: Instant,
    done: Compressed,
}

impl Work {
    /// One folder and all below it. What cannot be opened, read or rewritten stays as it is: nothing depends on it.
    fn folder(&mut self, top: OwnedFd) {
        let mut open: Vec<Dir> = Dir::new(top).into_iter().collect();
        while let Some(folder) = open.last_mut() {
            if self.is_over() {
                return;
            }
            let Some(Ok(entry)) = folder.read() else {
                open.pop();
                continue;
            };
            let name = entry.file_name().to_owned();
            if matches!(name.as_bytes(), b"." | b"..") {
                continue;
            }
            let Some(within) = folder.fd().ok().and_then(|fd| fd.try_clone_to_owned().ok()) else {
                return;
            };
            match entry.file_type() {
                FileType::Directory if open.len() < MAX_DEPTH => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                    open.extend(
                        entered(within.as_fd(), &name, flags).and_then(|fd| Dir::new(fd).ok()),
                    );
                }
                FileType::RegularFile => {
                    // Never waits, whatever it has become meanwhile.
                    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
                    if let Some(file) = entered(within.as_fd(), &name, flags) {
                        self.file(file.as_fd());
                    }
                }
                _ => {}
            }
        }
    }

    fn file(&mut self, file: BorrowedFd<'_>) {
        let Ok(found) = rustix::fs::fstat(file) else { return };
        if found.st_size <= SMALL {
            return;
        }
        self.done.files += 1;
        let mut start = 0;
        while !self.is_over() {
            // Holes are passed over; behind the last data there is nothing.
            let Ok(data) = rustix::fs::seek(file, SeekFrom::Data(start)) else { return };
            // A full sandbox has no room to rewrite in.
            if btrfs::compress(file, data, PIECE).is_err() {
                return;
            }
            start = data.saturating_add(PIECE);
        }
    }

    fn is_over(&mut self) -> bool {
        self.done.cut_short |= Instant::now() >= self.until;
        self.done.cut_short
    }
}

fn entered(folder: BorrowedFd<'_>, name: &CString, flags: OFlags) -> Option<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty()).ok()
}
