//! The two ends of moving bytes: reading a file in chunks, and writing one.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_core::ports::files::{FileReader, FileWriter};
use mayfly_core::{Error, Kind, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::fault::Fault;
use super::lanes::Lanes;
use super::path::Asked;
use super::root::Root;
use super::upload::Upload;
use super::view::View;

/// Most bytes of one chunk, and most that a writer holds back.
const CHUNK: usize = 256 << 10;

/// Largest content that is moved on the thread that serves the caller.
const SMALL: usize = 64 << 10;

/// A plain file being read. A small file's content comes with opening it.
#[derive(Debug)]
pub(super) struct Reader {
    lanes: Arc<Lanes>,
    root: Arc<Root>,
    path: String,
    file: Arc<OwnedFd>,
    size: u64,
    given: u64,
    first: Option<Bytes>,
}

impl Reader {
    pub(super) async fn open(lanes: Arc<Lanes>, root: Arc<Root>, asked: Asked) -> Result<Self> {
        let path = asked.text.clone();
        let (file, size, first) = lanes
            .small(&root, move |view| {
                open(view, &asked.full).map_err(|fault| fault.at(&asked.text))
            })
            .await?;
        Ok(Self { lanes, root, path, file: Arc::new(file), size, given: 0, first })
    }
}

#[async_trait]
impl FileReader for Reader {
    fn size(&self) -> u64 {
        self.size
    }

    async fn next(&mut self) -> Result<Bytes> {
        let left = self.size - self.given;
        let chunk = match self.first.take() {
            Some(first) => first,
            None if left == 0 => return Ok(Bytes::new()),
            None => {
                let (file, path, offset) = (Arc::clone(&self.file), self.path.clone(), self.given);
                let read = move |_: &View<'_>| {
                    read_at(&file, offset, left).map_err(|fault| fault.at(&path))
                };
                self.lanes.quick(&self.root, read).await?
            }
        };
        if chunk.is_empty() && left > 0 {
            return Err(Fault::Shrank.at(&self.path));
        }
        self.given += chunk.len() as u64;
        Ok(chunk)
    }
}

fn open(view: &View<'_>, full: &[u8]) -> Result<(OwnedFd, u64, Option<Bytes>), Fault> {
    let node = view.node(full, OFlags::empty())?;
    let file = view.open_plain(&node)?;
    let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
    let is_small = usize::try_from(size).is_ok_and(|size| size <= SMALL);
    let first = if is_small { Some(read_at(&file, 0, size)?) } else { None };
    Ok((file, size, first))
}

fn read_at(file: &OwnedFd, offset: u64, left: u64) -> Result<Bytes, Fault> {
    let want = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
    if want == 0 {
        return Ok(Bytes::new());
    }
    let mut chunk = vec![0; want];
    loop {
        match rustix::io::pread(file, &mut chunk[..], offset) {
            Err(Errno::INTR) => {}
            got => {
                chunk.truncate(got?);
                return Ok(chunk.into());
            }
        }
    }
}

/// A file being written. Bytes are held back up to one chunk, so a small file is written at its commit;
/// its parents are made no earlier.
#[derive(Debug)]
pub(super) struct Writer {
    lanes: Arc<Lanes>,
    root: Arc<Root>,
    asked: Asked,
    held: Vec<Bytes>,
    held_bytes: usize,
    upload: Option<Upload>,
    is_broken: bool,
}

impl Writer {
    pub(super) fn new(lanes: Arc<Lanes>, root: Arc<Root>, asked: Asked) -> Self {
        let (held, held_bytes) = (Vec::new(), 0);
        Self { lanes, root, asked, held, held_bytes, upload: None, is_broken: false }
    }

    /// Writes everything held back to the file, which is started if need be, and then does `end`.
    async fn flush<T: Send + 'static>(
        &mut self,
        is_last: bool,
        end: impl FnOnce(&View<'_>, Upload) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        if self.is_broken {
            let message = format!("`{}` failed to be written before", self.asked.text);
            return Err(Error::new(Kind::Conflict, message));
        }
        // Until it is done: a caller that leaves meanwhile leaves half a file.
        self.is_broken = true;
        let is_small = self.held_bytes <= SMALL;
        self.held_bytes = 0;
        let (held, upload) = (std::mem::take(&mut self.held), self.upload.take());
        let asked = self.asked.clone();
        let work = move |view: &View<'_>| {
            let started = match upload {
                Some(upload) => Ok(upload),
                None => Upload::start(view, &asked.full, is_last),
            };
            started
                .and_then(|upload| upload.write(&held).map(|()| upload))
                .and_then(|upload| end(view, upload))
                .map_err(|fault| fault.at(&asked.text))
        };
        let done = if is_small {
            self.lanes.small(&self.root, work).await?
        } else {
            self.lanes.quick(&self.root, work).await?
        };
        self.is_broken = false;
        Ok(done)
    }
}

#[async_trait]
impl FileWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.held_bytes += bytes.len();
        self.held.push(bytes);
        // Many tiny pieces are as costly to hold as a few large ones.
        if self.held_bytes >= CHUNK || self.held.len() >= 1024 {
            self.upload = Some(self.flush(false, |_, upload| Ok(upload)).await?);
        }
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<()> {
        self.flush(true, |view, upload| upload.commit(view)).await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            self.lanes.discard(&self.root, upload);
        }
    }
}
