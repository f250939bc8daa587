//! Folders with all that is in them: given to another id, and deleted.
//!
//! An ordinary user's server cannot touch what belongs to the ids of its sandboxes; a process that is root
//! of the user namespace can. What is deleted was written by hostile code, which is dead by then: names
//! may be anything and folders nest as deep as the disk allows.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Gives a folder and all below it to a user and the group of the same number. For what the server made
/// itself: it remembers every folder.
pub(crate) fn own(folder: &Path, id: u32) -> io::Result<()> {
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        if fs::symlink_metadata(&next)?.is_dir() {
            for entry in fs::read_dir(&next)? {
                waiting.push(entry?.path());
            }
        }
        std::os::unix::fs::lchown(&next, Some(id), Some(id))?;
    }
    Ok(())
}

/// Deletes a folder and all below it; one that is gone is a success, also when another process deletes it at
/// the same time.
///
/// Nested folders are moved to the top before they are emptied, so that no depth and no number of them
/// needs memory, descriptors or long paths.
pub(crate) fn delete(folder: &Path) -> io::Result<()> {
    let mut moved = 0;
    loop {
        let mut progress = false;
        for entry in entries(folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                empty(&path, folder, &mut moved)?;
                match fs::remove_dir(&path) {
                    // The listing missed something; the next round sees it.
                    Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => continue,
                    removed => gone(removed)?,
                }
            } else {
                gone(fs::remove_file(&path))?;
            }
            progress = true;
        }
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && progress => {}
            removed => return gone(removed),
        }
    }
}

/// What is in a folder; nothing when it is gone.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        entries => Ok(Some(entries?).into_iter().flatten()),
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Deletes the files of a folder and moves its folders to `top`.
fn empty(folder: &Path, top: &Path, moved: &mut u64) -> io::Result<()> {
    for entry in entries(folder)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            gone(fs::remove_file(&path))?;
        } else if fs::remove_dir(&path).is_err() {
            move_up(&path, top, moved)?;
        }
    }
    Ok(())
}

/// Names that are taken, by an earlier deletion that was cut off or by another one, are passed over.
fn move_up(path: &Path, top: &Path, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        match fs::rename(path, top.join(format!(".{moved}"))) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty
                        | ErrorKind::AlreadyExists
                        | ErrorKind::NotADirectory
                ) => {}
            renamed => return gone(renamed),
        }
    }
}
