//! Walks a tree by descriptors, never following a link, within bounds of time and memory.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, RawDir, Stat};

use crate::fault::Fault;
use crate::path::MAX_PATH;
use crate::view::{Node, View, below, holds_files, stat_name};

/// Folders remembered to be entered later.
const PENDING: usize = 100_000;
/// Bytes of their paths.
const PENDING_BYTES: usize = 32 << 20;

/// One entry met on the way.
pub(crate) struct Met<'a> {
    /// The folder it is in.
    pub(crate) folder: BorrowedFd<'a>,
    /// Its name there.
    pub(crate) name: &'a [u8],
    /// Its path below the start.
    pub(crate) path: &'a [u8],
    /// What it is, links not followed.
    pub(crate) stat: &'a Stat,
}

/// Shows every entry below `start` to `visit`, in no order, at most `depth` levels down.
///
/// Folders that cannot be read, vanish or belong to the kernel are passed over, except `start`; so is
/// what lies deeper than a path can name.
pub(crate) fn walk(
    view: &View<'_>,
    start: &Node,
    depth: u32,
    visit: &mut dyn FnMut(&Met<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut pending: Vec<(Vec<u8>, u32)> = Vec::new();
    let mut pending_bytes = 0;
    read_folder(view, start, b"", &mut |met| {
        visit(met)?;
        enter_later(&mut pending, &mut pending_bytes, met, (1, depth))
    })?;
    while let Some((path, level)) = pending.pop() {
        pending_bytes -= path.len();
        let Ok(node) = below(start.fd.as_fd(), &path) else { continue };
        if !holds_files(node.fd.as_fd())? {
            continue;
        }
        let read = read_folder(view, &node, &path, &mut |met| {
            visit(met)?;
            enter_later(&mut pending, &mut pending_bytes, met, (level + 1, depth))
        });
        match read {
            Err(Fault::Os(rustix::io::Errno::ACCESS | rustix::io::Errno::NOENT)) => {}
            read => read?,
        }
    }
    Ok(())
}

fn enter_later(
    pending: &mut Vec<(Vec<u8>, u32)>,
    pending_bytes: &mut usize,
    met: &Met<'_>,
    (level, depth): (u32, u32),
) -> Result<(), Fault> {
    let is_folder = FileType::from_raw_mode(met.stat.st_mode) == FileType::Directory;
    if !is_folder || level >= depth || met.path.len() >= MAX_PATH {
        return Ok(());
    }
    *pending_bytes += met.path.len();
    if pending.len() >= PENDING || *pending_bytes > PENDING_BYTES {
        return Err(Fault::TooMany("100000 folders"));
    }
    pending.push((met.path.to_vec(), level));
    Ok(())
}

/// Shows each entry of one folder, itself and its parent left out.
fn read_folder(
    view: &View<'_>,
    node: &Node,
    path: &[u8],
    visit: &mut dyn FnMut(&Met<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let folder = view.open_folder(node)?;
    let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 16 << 10];
    let mut entries = RawDir::new(folder.as_fd(), &mut buffer);
    let mut entry_path = path.to_vec();
    if !path.is_empty() {
        entry_path.push(b'/');
    }
    let prefix = entry_path.len();
    while let Some(entry) = entries.next() {
        view.check()?;
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let Some(stat) = stat_name(folder.as_fd(), name)? else { continue };
        entry_path.truncate(prefix);
        entry_path.extend_from_slice(name);
        visit(&Met { folder: folder.as_fd(), name, path: &entry_path, stat: &stat })?;
    }
    Ok(())
}
