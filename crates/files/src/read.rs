//! Opens plain files to be read in pieces.

use std::os::fd::AsFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::call::Content;
use crate::fault::Fault;
use crate::path::Asked;
use crate::refusal::Refusal;
use crate::view::View;

/// Most bytes of one piece.
pub const CHUNK: usize = 256 << 10;
/// Largest content that comes with opening a file, or goes with its path.
pub const SMALL: usize = 64 << 10;

/// Opens a plain file; gives its size too.
pub(crate) fn open(view: &View<'_>, asked: &Asked) -> Result<(u64, Content), Fault> {
    let node = view.node(&asked.full, OFlags::empty())?;
    let file = view.open_plain(&node)?;
    let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
    if !usize::try_from(size).is_ok_and(|size| size <= SMALL) {
        return Ok((size, Content::File(file)));
    }
    let whole = piece(&file, 0, size)?;
    // A file that shrank in between ends in an error when the rest is read.
    let is_whole = u64::try_from(whole.len()).is_ok_and(|length| length == size);
    Ok((size, if is_whole { Content::Whole(whole) } else { Content::File(file) }))
}

/// The next piece of a file that had `left` more bytes from `offset` when it was opened; empty only at
/// its end. The path is for errors.
pub fn read_at(file: impl AsFd, offset: u64, left: u64, path: &str) -> Result<Vec<u8>, Refusal> {
    let got = piece(file, offset, left).map_err(|fault| fault.at(path))?;
    if got.is_empty() && left > 0 { Err(Fault::Shrank.at(path)) } else { Ok(got) }
}

fn piece(file: impl AsFd, offset: u64, left: u64) -> Result<Vec<u8>, Fault> {
    let want = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
    let mut chunk = vec![0; want];
    if want == 0 {
        return Ok(chunk);
    }
    loop {
        match rustix::io::pread(&file, &mut chunk[..], offset) {
            Err(Errno::INTR) => {}
            got => {
                chunk.truncate(got?);
                return Ok(chunk);
            }
        }
    }
}
