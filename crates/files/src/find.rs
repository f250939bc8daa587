//! Lines of files that contain a literal text.

use std::os::fd::{AsFd, OwnedFd};

use memchr::memchr;
use memchr::memmem::Finder;
use rustix::fs::{FileType, OFlags};

use crate::call::Match;
use crate::fault::Fault;
use crate::path::Asked;
use crate::view::{View, below, holds_files};
use crate::walk::walk;

/// Most matching lines in one answer.
const MOST: usize = 10_000;
/// Larger files are passed over.
const LARGEST: i64 = 64 << 20;
/// A NUL byte within these first bytes makes a file binary.
const SNIFF: usize = 8 << 10;
/// Most bytes shown of a line.
const LINE: usize = 4 << 10;
/// Longest text to look for.
pub(crate) const TEXT: usize = 4 << 10;

/// Matching lines of a file, or of all plain text files below a folder, sorted by path and line.
pub(crate) fn find(view: &View<'_>, asked: &Asked, text: &str) -> Result<Vec<Match>, Fault> {
    let start = view.node(&asked.full, OFlags::empty())?;
    let finder = Finder::new(text.as_bytes());
    let mut found = Vec::new();
    if start.kind() != FileType::Directory {
        let file = view.open_plain(&start)?;
        scan(view, (&file, start.stat.st_size), &finder, &asked.text, &mut found)?;
        return Ok(found);
    }
    if !holds_files(start.fd.as_fd())? {
        return Err(Fault::KernelFolder);
    }
    walk(view, &start, u32::MAX, &mut |met| {
        let is_plain = FileType::from_raw_mode(met.stat.st_mode) == FileType::RegularFile;
        if !is_plain || met.stat.st_size == 0 || met.stat.st_size > LARGEST {
            return Ok(());
        }
        // What cannot be read, or is no longer there, has no lines.
        let Ok(node) = below(met.folder, met.name) else { return Ok(()) };
        let Ok(file) = view.open_plain(&node) else { return Ok(()) };
        scan(view, (&file, met.stat.st_size), &finder, &asked.join(met.path), &mut found)
    })?;
    found.sort_unstable_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    Ok(found)
}

/// Reads a file in pieces, up to the size it had, and adds its matching lines.
fn scan(
    view: &View<'_>,
    (file, size): (&OwnedFd, i64),
    finder: &Finder<'_>,
    path: &str,
    found: &mut Vec<Match>,
) -> Result<(), Fault> {
    let mut left = usize::try_from(size.min(LARGEST)).unwrap_or(0);
    let mut buffer = vec![0_u8; left.min(128 << 10)];
    let mut line = Line::default();
    let mut is_first = true;
    while left > 0 {
        view.check()?;
        let want = left.min(buffer.len());
        // A read error ends this file, not the search in the others.
        let Ok(got @ 1..) = rustix::io::read(file, &mut buffer[..want]) else { break };
        left -= got;
        let mut piece = &buffer[..got];
        if is_first && memchr(0, &piece[..got.min(SNIFF)]).is_some() {
            return Ok(());
        }
        is_first = false;
        while let Some(end) = memchr(b'\n', piece) {
            line.add(&piece[..end], finder);
            line.finish(path, found)?;
            piece = &piece[end + 1..];
        }
        line.add(piece, finder);
    }
    line.finish(path, found)
}

/// A line that may come in pieces; only what is shown and what a match could span is kept.
#[derive(Default)]
struct Line {
    finished: u64,
    shown: Vec<u8>,
    tail: Vec<u8>,
    is_match: bool,
}

impl Line {
    fn add(&mut self, piece: &[u8], finder: &Finder<'_>) {
        let room = LINE.saturating_sub(self.shown.len()).min(piece.len());
        self.shown.extend_from_slice(&piece[..room]);
        if self.is_match {
            return;
        }
        let span = finder.needle().len() - 1;
        // A match may begin in the piece before: look at the seam, then at the piece itself.
        self.tail.extend_from_slice(&piece[..piece.len().min(span)]);
        self.is_match = finder.find(&self.tail).is_some() || finder.find(piece).is_some();
        if piece.len() >= span {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - span..]);
        } else {
            let surplus = self.tail.len().saturating_sub(span);
            self.tail.drain(..surplus);
        }
    }

    fn finish(&mut self, path: &str, found: &mut Vec<Match>) -> Result<(), Fault> {
        self.finished += 1;
        if self.is_match {
            if found.len() >= MOST {
                return Err(Fault::TooMany("10000 matching lines"));
            }
            let text = self.shown.strip_suffix(b"\r").unwrap_or(&self.shown);
            found.push(Match {
                file: path.to_owned(),
                line: self.finished,
                content: String::from_utf8_lossy(text).into_owned(),
            });
        }
        self.shown.clear();
        self.tail.clear();
        self.is_match = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds lines in pieces of a size and gives the numbers of those that match.
    fn matching(text: &[u8], needle: &str, piece: usize) -> Vec<u64> {
        let finder = Finder::new(needle.as_bytes());
        let (mut line, mut found) = (Line::default(), Vec::new());
        for whole in text.split(|byte| *byte == b'\n') {
            whole.chunks(piece).for_each(|part| line.add(part, &finder));
            line.finish("f", &mut found).unwrap();
        }
        found.into_iter().map(|found| found.line).collect()
    }

    #[test]
    fn matches_over_the_edges_of_pieces() {
        let text = b"one needle here\nnone\nneedleneedle\nneedl\ne\nxxneedle";
        for piece in 1..20 {
            assert_eq!(matching(text, "needle", piece), [1, 3, 6], "pieces of {piece}");
            assert_eq!(matching(text, "e", piece), [1, 2, 3, 4, 5, 6]);
        }
    }

    #[test]
    fn shows_the_beginning_of_a_long_line() {
        let (mut line, mut found) = (Line::default(), Vec::new());
        let finder = Finder::new("end");
        line.add(&vec![b'x'; 1 << 20], &finder);
        line.add(b"end", &finder);
        line.finish("f", &mut found).unwrap();
        assert_eq!(found[0].content.len(), LINE);
        assert!(line.tail.capacity() < 4 * LINE, "{}", line.tail.capacity());
    }
}
