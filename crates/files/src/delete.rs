//! Deletes a file or a tree, holding a few descriptors however deep it is and following nothing.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, ResolveFlags, SeekFrom, Stat};
use rustix::io::Errno;

use crate::fault::Fault;
use crate::path::Asked;
use crate::view::{Node, View, below, stat_name};

/// Names of folders remembered at once, over all levels; the rest is read again later.
const REMEMBERED: usize = 100_000;
/// Deepest tree.
const DEEPEST: usize = 1_000_000;

/// Deletes what a path names; a link itself, never what it leads to. A folder only if `recursive`.
pub(crate) fn delete(view: &View<'_>, asked: &Asked, recursive: bool) -> Result<(), Fault> {
    let place = view.place(&asked.full)?;
    view.require_files(&place.folder)?;
    let stat = place.stat.ok_or(Errno::NOENT)?;
    let folder = &place.folder;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return view
            .on(&folder.stat, || rustix::fs::unlinkat(&folder.fd, &place.name, AtFlags::empty()));
    }
    if !recursive {
        return Err(Fault::Wrong("is a folder; it is deleted only with recursive=true".into()));
    }
    let top = below(folder.fd.as_fd(), &place.name)?;
    if top.stat.st_dev != folder.stat.st_dev {
        view.require_files(&top)?;
    }
    Emptying::new(view, &top)?.run()?;
    view.on(&folder.stat, || rustix::fs::unlinkat(&folder.fd, &place.name, AtFlags::REMOVEDIR))
}

/// A folder on the way from the top to the one being emptied.
struct Level {
    /// Its name in the folder above.
    name: Vec<u8>,
    stat: Stat,
    /// Folders in it that are still to be emptied.
    inner: Vec<Vec<u8>>,
}

/// Empties a tree from its leaves. Only the current folder is open; the way up is `..`, taken only if
/// it is the very folder the way down came from.
struct Emptying<'a> {
    view: &'a View<'a>,
    current: OwnedFd,
    levels: Vec<Level>,
    remembered: usize,
}

impl<'a> Emptying<'a> {
    fn new(view: &'a View<'a>, top: &Node) -> Result<Self, Fault> {
        let current = view.open_folder(top)?;
        let levels = vec![Level { name: Vec::new(), stat: top.stat, inner: Vec::new() }];
        Ok(Self { view, current, levels, remembered: 0 })
    }

    fn run(mut self) -> Result<(), Fault> {
        loop {
            self.view.check()?;
            if let Some(name) = self.next_inner() {
                self.enter(name)?;
                continue;
            }
            self.sweep()?;
            if self.levels.last().is_some_and(|level| !level.inner.is_empty()) {
                continue;
            }
            let Some(done) = self.levels.pop() else { return Ok(()) };
            let Some(above) = self.levels.last() else { return Ok(()) };
            self.current = self.above(above)?;
            let removed = self.view.on(&above.stat, || {
                rustix::fs::unlinkat(&self.current, &done.name, AtFlags::REMOVEDIR)
            });
            match removed {
                // Filled or replaced meanwhile: reading the folder again, later, finds it.
                Err(Fault::Exists | Fault::NotFolder | Fault::Os(Errno::NOENT)) => {}
                removed => removed?,
            }
        }
    }

    fn next_inner(&mut self) -> Option<Vec<u8>> {
        let name = self.levels.last_mut()?.inner.pop()?;
        self.remembered -= 1;
        Some(name)
    }

    fn enter(&mut self, name: Vec<u8>) -> Result<(), Fault> {
        // Gone or replaced by a link meanwhile: nothing to enter.
        let Ok(node) = below(self.current.as_fd(), &name) else { return Ok(()) };
        if node.kind() != FileType::Directory {
            return Ok(());
        }
        if self.levels.last().is_some_and(|level| level.stat.st_dev != node.stat.st_dev) {
            self.view.require_files(&node)?;
        }
        if self.levels.len() >= DEEPEST {
            return Err(Fault::TooMany("1000000 folders inside each other"));
        }
        self.current = self.view.open_folder(&node)?;
        self.levels.push(Level { name, stat: node.stat, inner: Vec::new() });
        Ok(())
    }

    /// Deletes what is no folder from the current one, and notes its folders.
    fn sweep(&mut self) -> Result<(), Fault> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        rustix::fs::seek(&self.current, SeekFrom::Start(0))?;
        let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 16 << 10];
        let mut entries = RawDir::new(self.current.as_fd(), &mut buffer);
        while let Some(entry) = entries.next() {
            self.view.check()?;
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match stat_name(self.current.as_fd(), name)? {
                    Some(stat) => FileType::from_raw_mode(stat.st_mode),
                    None => continue,
                },
                known => known,
            };
            if kind == FileType::Directory {
                if self.remembered < REMEMBERED || level.inner.is_empty() {
                    level.inner.push(name.to_vec());
                    self.remembered += 1;
                }
                continue;
            }
            let removed = self
                .view
                .on(&level.stat, || rustix::fs::unlinkat(&self.current, name, AtFlags::empty()));
            match removed {
                Err(Fault::IsFolder | Fault::Os(Errno::NOENT)) => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    /// Opens the folder above the current one if it is still the one the way down came through.
    fn above(&self, expected: &Level) -> Result<OwnedFd, Fault> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let up =
            rustix::fs::openat2(&self.current, "..", flags, rustix::fs::Mode::empty(), resolve)?;
        let up = Node::new(up)?;
        if (up.stat.st_dev, up.stat.st_ino) != (expected.stat.st_dev, expected.stat.st_ino) {
            return Err(Fault::Restless);
        }
        self.view.open_folder(&up)
    }
}
