//! The file that keeps the last output of one process that stays; how it looks is in `protocol/kept.rs`.
//!
//! A full disk loses output and never stops the process: readers see a gap.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};

use crate::protocol::kept::{DATA, HEAD, Head, PREFIX, SPAN_AT};
use crate::sys;

/// Bytes that the head stops promising at a time, so that it is not written before each piece.
const STEP: u64 = 256 << 10;

/// The ring of one process or command.
#[derive(Debug)]
pub(crate) struct Ring {
    file: File,
    /// As it would be now; the file promises `promised` instead of `begin`.
    head: Head,
    promised: u64,
    /// Some byte came from standard error, so bits are written.
    marked: bool,
}

/// Name of the file of a number.
pub(crate) fn name(number: u64) -> CString {
    CString::new(format!("{PREFIX}{number}")).unwrap_or_default()
}

impl Ring {
    /// Makes the file, with its head and note.
    pub(crate) fn new(
        folder: &OwnedFd,
        number: u64,
        head: Head,
        note: &[u8],
    ) -> std::io::Result<Self> {
        const READ_WRITE_CREATE_TRUNCATE: usize = 0o1102;
        let name = name(number);
        let file = File::from(sys::open_at(folder.as_fd(), &name, READ_WRITE_CREATE_TRUNCATE)?);
        let written = file
            // The group is the server's, where that is not root.
            .set_permissions(Permissions::from_mode(0o660))
            .and_then(|()| file.write_all_at(&[&head.encode(), note].concat(), 0));
        if let Err(error) = written {
            let _ = sys::unlink_at(folder.as_fd(), &name);
            return Err(error);
        }
        Ok(Self { file, head, promised: head.begin, marked: false })
    }

    /// What it is and holds.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        DATA + self.head.end.min(self.head.size)
    }

    /// Keeps output in the place of the oldest.
    pub(crate) fn append(&mut self, error: bool, bytes: &[u8]) {
        // More than all: only the end of it can stay.
        let skipped = bytes.len().saturating_sub(usize::try_from(self.head.size).unwrap_or(0));
        let from = self.head.end + skipped as u64;
        let end = self.head.end + bytes.len() as u64;
        let begin = self.head.begin.max(end.saturating_sub(self.head.size));
        if begin > self.promised {
            self.promised = (begin + STEP).min(self.head.end);
            self.write_span(self.promised, self.head.end);
        }
        (self.head.begin, self.head.end) = (begin, end);
        if self.write(error, from, &bytes[skipped..]).is_err() {
            self.head.begin = end;
        }
        // An empty disk's worth later the promise is behind again.
        self.promised = self.promised.max(self.head.begin);
        self.write_span(self.promised, end);
    }

    fn write(&mut self, error: bool, from: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.marked |= error;
        let mut rest = bytes;
        for (place, length) in self.head.parts(from, bytes.len() as u64) {
            let (part, after) = rest.split_at(usize::try_from(length).unwrap_or(0));
            rest = after;
            self.file.write_all_at(part, DATA + place)?;
            if self.marked && length > 0 {
                self.mark(error, place, length)?;
            }
        }
        Ok(())
    }

    /// Sets the bits of a part of the ring.
    fn mark(&self, error: bool, place: u64, length: u64) -> std::io::Result<()> {
        let at = DATA + self.head.size + place / 8;
        let (first, last) = (place % 8, place % 8 + length);
        let mut bits = vec![0; usize::try_from(last.div_ceil(8)).unwrap_or(0)];
        // What its neighbours have in the bytes at both ends stays; behind the file's end all is zero.
        if let Some(end) = bits.len().checked_sub(1) {
            let _ = self.file.read_at(&mut bits[..1], at)?;
            let _ = self.file.read_at(&mut bits[end..], at + end as u64)?;
            bits[1..].iter_mut().rev().skip(1).for_each(|byte| *byte = u8::from(error) * 0xff);
        }
        for bit in (first..last.min(8)).chain(last.saturating_sub(8).max(first)..last) {
            let (byte, mask) = (usize::try_from(bit / 8).unwrap_or(0), 1_u8 << (bit % 8));
            if error {
                bits[byte] |= mask;
            } else {
                bits[byte] &= !mask;
            }
        }
        self.file.write_all_at(&bits, at)
    }

    /// Changes the size of the terminal that it names.
    pub(crate) fn set_window(&mut self, window: (u16, u16)) {
        self.head.window = window;
        self.write_head();
    }

    /// Notes how it ended.
    pub(crate) fn finish(&mut self, code: i32) {
        self.head.exit = Some(code);
        self.promised = self.head.begin;
        self.write_head();
    }

    fn write_head(&self) {
        let head = Head { begin: self.promised, ..self.head };
        let _ = self.file.write_all_at(&head.encode(), 0);
    }

    fn write_span(&self, begin: u64, end: u64) {
        let mut span = [0; 16];
        span[..8].copy_from_slice(&begin.to_le_bytes());
        span[8..].copy_from_slice(&end.to_le_bytes());
        let _ = self.file.write_all_at(&span, SPAN_AT);
    }

    /// Output from an offset on, at most `max` bytes.
    pub(crate) fn read(&self, from: u64, max: usize) -> Vec<(bool, Vec<u8>)> {
        self.head.output(&self.file, from, max).unwrap_or_default()
    }
}

const _: () = assert!(HEAD as u64 == SPAN_AT + 24, "the span stands in the head");
