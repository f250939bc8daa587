//! The two ends of moving bytes: reading a file in chunks, and writing one.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_core::ports::files::{FileReader, FileWriter};
use mayfly_core::{Error, Kind, Result};
use mayfly_files::{Answer, CHUNK, Call, Content, SMALL, Upload, View};

use super::inside::{Kept, Made};
use super::root::{Root, Way};
use super::{Calls, out_of_order, translate};

/// A plain file being read. A small file's content comes with opening it.
#[derive(Debug)]
pub(super) struct Reader {
    calls: Arc<Calls>,
    root: Arc<Root>,
    path: String,
    size: u64,
    given: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Whole(Bytes),
    File(Arc<OwnedFd>),
}

impl Reader {
    pub(super) async fn open(calls: Arc<Calls>, root: Arc<Root>, path: String) -> Result<Self> {
        let opened = calls.make(&root, Call::Open { path: path.clone() }).await?;
        let Made::Answer(Answer::Opened(size, content)) = opened else {
            return Err(out_of_order());
        };
        let source = match content {
            Content::Whole(bytes) => Source::Whole(bytes.into()),
            Content::File(file) => Source::File(Arc::new(file)),
        };
        Ok(Self { calls, root, path, size, given: 0, source })
    }
}

#[async_trait]
impl FileReader for Reader {
    fn size(&self) -> u64 {
        self.size
    }

    async fn next(&mut self) -> Result<Bytes> {
        let left = self.size - self.given;
        if left == 0 {
            return Ok(Bytes::new());
        }
        let chunk = match &mut self.source {
            Source::Whole(bytes) => std::mem::take(bytes),
            Source::File(file) => {
                let (file, path, offset) = (Arc::clone(file), self.path.clone(), self.given);
                let read = move || {
                    mayfly_files::read_at(&*file, offset, left, &path).map_err(translate::error)
                };
                self.calls.off_loop(&self.root, read).await?.into()
            }
        };
        self.given += chunk.len() as u64;
        Ok(chunk)
    }
}

/// A file that was started.
#[derive(Debug)]
pub(super) enum Pending {
    /// By a thread of this server.
    Here(Box<Upload>),
    /// By a helper.
    Kept(Kept),
}

/// A file being written. Bytes are held back up to one chunk, so a small file is written at its commit;
/// its parents are made no earlier.
#[derive(Debug)]
pub(super) struct Writer {
    calls: Arc<Calls>,
    root: Arc<Root>,
    path: String,
    held: Vec<Bytes>,
    held_bytes: usize,
    pending: Option<Pending>,
    is_broken: bool,
}

impl Writer {
    pub(super) fn new(calls: Arc<Calls>, root: Arc<Root>, path: &str) -> Result<Self> {
        mayfly_files::check_path(path).map_err(translate::error)?;
        let (path, held, held_bytes) = (path.to_owned(), Vec::new(), 0);
        Ok(Self { calls, root, path, held, held_bytes, pending: None, is_broken: false })
    }

    /// Starts the file if need be and appends everything held back.
    async fn flush(&mut self) -> Result<Pending> {
        let (held, path) = (std::mem::take(&mut self.held), self.path.clone());
        self.held_bytes = 0;
        let pending = match self.pending.take() {
            Some(pending) => pending,
            None => match self.calls.make(&self.root, Call::Start { path: path.clone() }).await? {
                Made::Answer(Answer::Started(upload)) => Pending::Here(upload),
                Made::Kept(kept) => Pending::Kept(kept),
                Made::Answer(_) => return Err(out_of_order()),
            },
        };
        match (pending, &self.root.way) {
            (pending, _) if held.is_empty() => Ok(pending),
            (Pending::Here(upload), Way::Here(here)) => {
                let append = move |_: &View<'_>| {
                    upload.append(&held, &path).map_err(translate::error)?;
                    Ok(Pending::Here(upload))
                };
                self.calls.lanes()?.quick(here, append).await
            }
            (Pending::Kept(kept), _) => {
                let file = kept.file();
                let append =
                    move || mayfly_files::append(&*file, &held, &path).map_err(translate::error);
                self.calls.off_loop(&self.root, append).await?;
                Ok(Pending::Kept(kept))
            }
            (Pending::Here(_), Way::Inside(_)) => Err(out_of_order()),
        }
    }

    /// Refuses after a failure, and until what follows is done: a caller that leaves meanwhile leaves half
    /// a file.
    fn begin(&mut self) -> Result<()> {
        if self.is_broken {
            let message = format!("`{}` failed to be written before", self.path);
            return Err(Error::new(Kind::Conflict, message));
        }
        self.is_broken = true;
        Ok(())
    }

    async fn put(&mut self) -> Result<()> {
        let call = Call::Put { path: self.path.clone(), content: self.held.concat() };
        match self.calls.make(&self.root, call).await? {
            Made::Answer(Answer::Done) => Ok(()),
            _ => Err(out_of_order()),
        }
    }
}

#[async_trait]
impl FileWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.held_bytes += bytes.len();
        self.held.push(bytes);
        // Many tiny pieces are as costly to hold as a few large ones.
        if self.held_bytes >= CHUNK || self.held.len() >= 1024 {
            self.begin()?;
            self.pending = Some(self.flush().await?);
            self.is_broken = false;
        }
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<()> {
        self.begin()?;
        if self.pending.is_none() && self.held_bytes <= SMALL {
            return self.put().await;
        }
        let pending = self.flush().await?;
        match (pending, &self.root.way) {
            (Pending::Here(upload), Way::Here(here)) => {
                let path = self.path.clone();
                let finish =
                    move |view: &View<'_>| upload.finish(view, &path).map_err(translate::error);
                self.calls.lanes()?.quick(here, finish).await
            }
            (Pending::Kept(kept), _) => kept.finish(&self.path).await,
            (Pending::Here(_), Way::Inside(_)) => Err(out_of_order()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let (Some(Pending::Here(upload)), Way::Here(here)) =
            (self.pending.take(), &self.root.way)
            && let Ok(lanes) = self.calls.lanes()
        {
            lanes.discard(here, upload);
        }
    }
}
