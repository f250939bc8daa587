//! Folders that a sandbox shares with others, mounted in its root.
//!
//! Both ends of such a mount can be hostile: who shares the folder may swap what is in it at any time, and an
//! earlier life of the sandbox may have left anything where it is mounted. So both are walked part by part from an
//! open folder, and a link is a refusal.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use crate::failure::{Failure, Fault, path, text};
use crate::protocol::Volume;
use crate::stage::set_umask;
use crate::sys;

/// Tries to open a folder that others make and take away meanwhile.
const TRIES: u32 = 16;

/// Mounts one volume in the new root, its ids shifted.
pub(crate) fn mount(volume: &Volume, namespace: Option<&OwnedFd>) -> Result<(), Failure> {
    let whole = fs::File::open(path(&volume.folder)).fault("folder of a volume")?;
    // All who share it may write there, whoever they are; the host's root is root inside on this disk.
    set_umask(0);
    let folder =
        walk(whole.as_fd(), &volume.subpath, |parent, name| sys::make_folder(parent, name, 0o777));
    set_umask(0o022);
    let folder = folder.fault("subpath of a volume")?;
    let tree = sys::open_tree_at(folder.as_fd()).fault("copy of a volume's mount")?;
    sys::confine(tree.as_fd(), volume.read_only, namespace.map(AsFd::as_fd))
        .fault("idmapped mount of a volume")?;
    let root = fs::File::open("root").fault("root folder")?;
    let target =
        walk(root.as_fd(), &volume.target, make_as_parent).fault("mount path of a volume")?;
    sys::move_mount_on(tree.as_fd(), target.as_fd()).fault("mount of a volume")
}

/// The folder at the end of a path, each missing one made on the way.
fn walk(
    from: BorrowedFd<'_>,
    path: &[u8],
    make: impl Fn(BorrowedFd<'_>, &CString) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let mut folder = from.try_clone_to_owned()?;
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let name = text(part).map_err(|failure| failure.error)?;
        folder = enter(folder.as_fd(), &name, &make)?;
    }
    Ok(folder)
}

fn enter(
    folder: BorrowedFd<'_>,
    name: &CString,
    make: &impl Fn(BorrowedFd<'_>, &CString) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    for _ in 0..TRIES {
        match sys::open_folder(folder, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        match make(folder, name) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Makes a folder that belongs to whom the one around it belongs to: an id that the overlay knows.
fn make_as_parent(parent: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
    let around = fs::File::from(parent.try_clone_to_owned()?).metadata()?;
    sys::create_files_as(around.uid())?;
    let made = sys::make_folder(parent, name, 0o755);
    sys::create_files_as(0)?;
    made
}
