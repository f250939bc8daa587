//! Kept output of a process that stays: one file, a ring of its last bytes behind a head and a note.
//!
//! ```text
//! 0     head   HEAD bytes: what it is, its end, and which bytes of its output are here
//! HEAD  note   what the caller wants back with it
//! DATA  ring   byte n of all output lies at n % size
//!       bits   one per byte of the ring: set = standard error
//! ```
//! Any offset is a place to begin reading at. Before bytes are overwritten the head no longer promises them,
//! so whoever reads the head again after reading knows whether what it read was still whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Length of the head.
pub const HEAD: usize = 64;
/// First bytes of the file.
pub const MAGIC: &[u8; 8] = b"mayflyst";
/// Start of the names of these files; the number follows.
pub const PREFIX: &str = "p";
/// Longest note, bytes.
pub const MAX_NOTE: usize = 16 << 10;
/// Where the ring begins.
pub const DATA: u64 = 20 << 10;
/// Smallest ring, bytes.
pub const MIN_SIZE: u64 = 256 << 10;
/// Largest ring that is believed in, bytes.
pub const MAX_SIZE: u64 = 1 << 30;
/// Kept files per sandbox; the oldest ended ones go first.
pub const MAX_KEPT: usize = 1024;
/// Output kept of ended ones per sandbox, bytes; the oldest go first.
pub const MAX_KEPT_BYTES: u64 = 64 << 20;
/// Where the first and the last offset stand in the head.
pub const SPAN_AT: u64 = 40;
/// Exit code of what has not ended.
const RUNNING: i32 = i32::MIN;

/// What a process that stays has as its standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Pipes.
    Pipes = 1,
    /// A terminal.
    Terminal = 2,
    /// Pipes of a shell that is given commands.
    Shell = 3,
    /// Not a process but a command of a shell.
    Command = 4,
}

impl Kind {
    /// The kind of that number.
    pub fn from_u8(number: u8) -> Option<Self> {
        [Self::Pipes, Self::Terminal, Self::Shell, Self::Command]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// The head of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its standard streams.
    pub kind: Kind,
    /// Exit code; `None` while it waits or runs.
    pub exit: Option<i32>,
    /// Size of its terminal: columns, rows.
    pub window: (u16, u16),
    /// Bytes of the note.
    pub note_length: u32,
    /// The shell that a command is for.
    pub shell: u64,
    /// When it was asked for, milliseconds.
    pub started_at: u64,
    /// First byte of output that is here.
    pub begin: u64,
    /// Behind the last byte of output.
    pub end: u64,
    /// Bytes of the ring.
    pub size: u64,
}

impl Head {
    /// As it is written.
    pub fn encode(&self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(MAGIC);
        head[8] = self.kind as u8;
        head[12..16].copy_from_slice(&self.exit.unwrap_or(RUNNING).to_le_bytes());
        head[16..18].copy_from_slice(&self.window.0.to_le_bytes());
        head[18..20].copy_from_slice(&self.window.1.to_le_bytes());
        head[20..24].copy_from_slice(&self.note_length.to_le_bytes());
        head[24..32].copy_from_slice(&self.shell.to_le_bytes());
        head[32..40].copy_from_slice(&self.started_at.to_le_bytes());
        head[40..48].copy_from_slice(&self.begin.to_le_bytes());
        head[48..56].copy_from_slice(&self.end.to_le_bytes());
        head[56..64].copy_from_slice(&self.size.to_le_bytes());
        head
    }

    /// `None` = this is no such file, or its numbers contradict each other.
    pub fn decode(head: &[u8; HEAD]) -> Option<Self> {
        let word = |at: usize| -> u64 {
            head[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
        };
        let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let exit = i32::from_le_bytes([head[12], head[13], head[14], head[15]]);
        let note_length = u32::from_le_bytes([head[20], head[21], head[22], head[23]]);
        let found = Self {
            kind: Kind::from_u8(head[8])?,
            exit: (exit != RUNNING).then_some(exit),
            window: (short(16), short(18)),
            note_length,
            shell: word(24),
            started_at: word(32),
            begin: word(40),
            end: word(48),
            size: word(56),
        };
        let sound = head[..8] == MAGIC[..]
            && note_length as usize <= MAX_NOTE
            && (MIN_SIZE..=MAX_SIZE).contains(&found.size)
            && found.begin <= found.end
            && found.end - found.begin <= found.size;
        sound.then_some(found)
    }

    /// Reads the head of a file.
    pub fn read(file: &File) -> io::Result<Self> {
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, 0)?;
        Self::decode(&head).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Reads the note of a file; bytes that are missing are left out.
    pub fn note(&self, file: &File) -> io::Result<Vec<u8>> {
        let mut note = vec![0; (self.note_length as usize).min(MAX_NOTE)];
        let read = file.read_at(&mut note, HEAD as u64)?;
        note.truncate(read);
        Ok(note)
    }

    /// Parts of the ring that hold `length` bytes from offset `from`: at most two, as offset and length.
    pub fn parts(&self, from: u64, length: u64) -> [(u64, u64); 2] {
        let place = from % self.size;
        let first = length.min(self.size - place);
        [(place, first), (0, length - first)]
    }

    /// Reads output from an offset that the head promises, at most `max` bytes: runs of one stream, in order;
    /// `true` = standard error.
    pub fn output(&self, file: &File, from: u64, max: usize) -> io::Result<Vec<(bool, Vec<u8>)>> {
        let from = from.clamp(self.begin, self.end);
        let length = (self.end - from).min(max as u64);
        let mut runs: Vec<(bool, Vec<u8>)> = Vec::new();
        for (place, length) in self.parts(from, length).into_iter().filter(|part| part.1 > 0) {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            file.read_exact_at(&mut bytes, DATA + place)?;
            let (first, last) = (place / 8, (place + length - 1) / 8);
            let mut bits = vec![0; usize::try_from(last - first + 1).unwrap_or(0)];
            // Behind the file's end no bit was ever set.
            let mut filled = 0;
            while filled < bits.len() {
                match file.read_at(&mut bits[filled..], DATA + self.size + first + filled as u64)? {
                    0 => break,
                    read => filled += read,
                }
            }
            split(&bytes, &bits, usize::try_from(place % 8).unwrap_or(0), &mut runs);
        }
        Ok(runs)
    }
}

/// Appends bytes as runs of one stream; bit `skip` of `bits` belongs to the first byte.
fn split(bytes: &[u8], bits: &[u8], skip: usize, runs: &mut Vec<(bool, Vec<u8>)>) {
    let is_error = |index: usize| {
        let bit = index + skip;
        bits[bit / 8] >> (bit % 8) & 1 == 1
    };
    let all_output = bits.iter().all(|byte| *byte == 0);
    let mut start = 0;
    while start < bytes.len() {
        let error = !all_output && is_error(start);
        let end = if all_output {
            bytes.len()
        } else {
            (start..bytes.len()).find(|index| is_error(*index) != error).unwrap_or(bytes.len())
        };
        match runs.last_mut() {
            Some((last, run)) if *last == error => run.extend_from_slice(&bytes[start..end]),
            _ => runs.push((error, bytes[start..end].to_vec())),
        }
        start = end;
    }
}

/// Number in a file's name.
pub fn number(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            kind: Kind::Terminal,
            exit: Some(3),
            window: (80, 24),
            note_length: 5,
            shell: 7,
            started_at: 8,
            begin: 9,
            end: 10,
            size: MIN_SIZE,
        }
    }

    #[test]
    fn a_head_comes_back_and_a_contradiction_does_not() {
        assert_eq!(Head::decode(&head().encode()), Some(head()));
        let lies = [
            Head { begin: 11, ..head() },
            Head { end: 10 + MIN_SIZE, ..head() },
            Head { size: 0, ..head() },
            Head { size: u64::MAX, ..head() },
            Head { note_length: u32::MAX, ..head() },
        ];
        assert!(lies.iter().all(|lie| Head::decode(&lie.encode()).is_none()));
    }

    #[test]
    fn bytes_are_split_where_their_stream_changes() {
        let mut runs = Vec::new();
        split(b"abcdef", &[0b0110_0000, 0b1], 4, &mut runs);
        split(b"gh", &[0b10], 0, &mut runs);
        let expected: [(bool, &[u8]); 5] =
            [(false, b"a"), (true, b"bc"), (false, b"d"), (true, b"e"), (false, b"fg")];
        let found: Vec<(bool, &[u8])> = runs.iter().map(|(e, run)| (*e, run.as_slice())).collect();
        assert_eq!(found[..5], expected);
        assert_eq!(found[5], (true, &b"h"[..]));
    }
}
