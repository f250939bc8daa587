//! What an SFTP visitor holds open.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use mayfly_core::file::{FileInfo, Permissions};
use mayfly_core::ports::files::{FileReader, FileWriter};
use mayfly_core::{Error, Result};
use mayfly_engine::Reach;
use russh_sftp::protocol::{FileAttributes, StatusCode};
use russh_sftp::server::StatusReply;

/// Files and folders that one visitor may hold open at once.
const OPEN: usize = 64;
/// Most bytes of one answer to a read.
const READ: usize = 128 << 10;

/// What is open, by the number that the visitor knows.
#[derive(Debug, Default)]
pub(super) struct Handles {
    next: u64,
    open: HashMap<String, Held>,
}

/// One of them.
#[derive(Debug)]
pub(super) enum Held {
    Reading(Reading),
    Writing(Writing),
    /// A folder and its entries that were not told yet.
    Folder(String, VecDeque<FileInfo>),
}

impl Handles {
    /// Keeps one more.
    pub(super) fn add(&mut self, held: Held) -> Result<String, StatusReply> {
        if self.open.len() >= OPEN {
            return Err(StatusCode::Failure.with_message(format!("{OPEN} files are open already")));
        }
        self.next += 1;
        let name = self.next.to_string();
        self.open.insert(name.clone(), held);
        Ok(name)
    }

    pub(super) fn get(&mut self, name: &str) -> Result<&mut Held, StatusReply> {
        self.open.get_mut(name).ok_or_else(unknown)
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<Held, StatusReply> {
        self.open.remove(name).ok_or_else(unknown)
    }
}

fn unknown() -> StatusReply {
    StatusCode::Failure.with_message("nothing is open under this handle")
}

/// A file being read, mostly from its beginning to its end; other orders cost another look at the file.
#[derive(Debug)]
pub(super) struct Reading {
    path: String,
    reader: Box<dyn FileReader>,
    /// Where `rest` begins.
    at: u64,
    rest: Bytes,
}

impl Reading {
    pub(super) async fn open(reach: &Reach, path: String) -> Result<Self> {
        let reader = reach.files().read(reach.id(), &path).await?;
        Ok(Self { path, reader, at: 0, rest: Bytes::new() })
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Bytes from an offset on, at most so many; empty at the end.
    pub(super) async fn read(&mut self, reach: &Reach, offset: u64, most: usize) -> Result<Bytes> {
        if offset < self.at {
            *self = Self::open(reach, std::mem::take(&mut self.path)).await?;
        }
        let most = most.min(READ);
        let mut read = BytesMut::new();
        while read.len() < most {
            if self.rest.is_empty() {
                self.rest = self.reader.next().await?;
                if self.rest.is_empty() {
                    break;
                }
            }
            let skipped = (offset - self.at.min(offset)).min(self.rest.len() as u64);
            let skipped = usize::try_from(skipped).unwrap_or(0);
            let _ = self.rest.split_to(skipped);
            self.at += skipped as u64;
            if self.at < offset || self.rest.is_empty() {
                continue;
            }
            let wanted = (most - read.len()).min(self.rest.len());
            let piece = self.rest.split_to(wanted);
            self.at += wanted as u64;
            if wanted == most {
                return Ok(piece);
            }
            read.extend_from_slice(&piece);
            // What was read stands before the offset that is looked for from here on.
            if self.at >= offset + most as u64 {
                break;
            }
        }
        Ok(read.freeze())
    }
}

/// A file being written, from its beginning to its end.
#[derive(Debug)]
pub(super) struct Writing {
    path: String,
    writer: Box<dyn FileWriter>,
    at: u64,
    /// Size of the old file whose content stays where nothing is written.
    old: Option<u64>,
    append: bool,
    mode: Option<u32>,
}

impl Writing {
    /// Begins a new file, or one that keeps the old one's content where `old` gives its size.
    pub(super) async fn begin(
        reach: &Reach,
        path: String,
        old: Option<u64>,
        append: bool,
        mode: Option<u32>,
    ) -> Result<Self> {
        let writer = reach.files().write(reach.id(), &path).await?;
        Ok(Self { path, writer, at: 0, old, append, mode })
    }

    pub(super) fn size(&self) -> u64 {
        self.at.max(self.old.unwrap_or_default())
    }

    /// What the file shall be when it is there.
    pub(super) fn later(&mut self, attrs: &FileAttributes) {
        self.mode = attrs.permissions.map(|mode| mode & 0o7777).or(self.mode);
    }

    pub(super) async fn write(&mut self, reach: &Reach, offset: u64, bytes: Bytes) -> Result<()> {
        if self.append && self.at == 0 {
            self.keep(reach, self.old.unwrap_or_default()).await?;
        } else if !self.append {
            if offset > self.at {
                self.keep(reach, offset).await?;
            }
            if offset != self.at {
                return Err(Error::unsupported("writing a file in another order than its own"));
            }
        }
        self.at += bytes.len() as u64;
        self.writer.write(bytes).await
    }

    /// Puts the file in its place.
    pub(super) async fn finish(mut self, reach: &Reach) -> Result<()> {
        if let Some(old) = self.old.filter(|old| *old > self.at) {
            self.keep(reach, old).await?;
        }
        self.writer.commit().await?;
        let change = Permissions { mode: self.mode, ..Permissions::default() };
        match self.mode {
            Some(_) => reach.files().set_permissions(reach.id(), &self.path, &change).await,
            None => Ok(()),
        }
    }

    /// Takes the old file's content over, up to an offset.
    async fn keep(&mut self, reach: &Reach, to: u64) -> Result<()> {
        if self.old.is_none_or(|old| old < to) {
            return Err(Error::unsupported("leaving a gap in a file"));
        }
        let mut old = Reading::open(reach, self.path.clone()).await?;
        while self.at < to {
            let most = usize::try_from(to - self.at).unwrap_or(READ);
            let piece = old.read(reach, self.at, most).await?;
            if piece.is_empty() {
                return Err(Error::conflict(format!("{} became shorter meanwhile", self.path)));
            }
            self.at += piece.len() as u64;
            self.writer.write(piece).await?;
        }
        Ok(())
    }
}
