//! Readers of output: from process 1 while something may still come, else from the file.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_core::ports::processes::Follower;
use mayfly_core::process::{Output, Piece, Stream};
use mayfly_core::{Error, Kind, Result};
use mayfly_init::protocol::stay::{DATA, Data, FOLLOW, READ};
use mayfly_init::protocol::{Reader as Message, Writer};

use super::Which;
use super::ask::{Verb, ask_on, bounded};
use super::files::{KILLED, Kept, Read};
use crate::local::exec::connect;
use crate::local::host::Host;
use crate::local::init::{Connection, Sender, nonsense};
use crate::local::live::Live;

/// Most bytes read from a file at a time.
pub(super) const CHUNK: usize = 256 << 10;
/// Questions that may be unanswered before no more is asked.
const MAX_ASKED: u32 = 4;
/// Questions that wait for output, at most.
const AHEAD: u32 = 2;
/// Connections lost in a row before it is told.
const MAX_LOST: u32 = 3;

/// A reader of the output of one process.
#[derive(Debug)]
pub(super) struct Reader {
    host: Arc<Host>,
    which: Which,
    source: Source,
    got: Got,
    /// Whether the process waits while this reader is behind.
    held: bool,
    lost: u32,
}

#[derive(Debug)]
enum Source {
    Init(Line),
    File,
}

/// What to ask before an answer is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// For output, and for what comes behind it: beside the question that is answered next stands another, so that
    /// init need not wait for it.
    Ahead,
    /// For what there is now; questions that wait are answered at once before it.
    Now,
    /// Nothing: questions are on their way.
    Nothing,
}

/// A connection to process 1, and questions that it has not answered.
#[derive(Debug)]
struct Line {
    live: Arc<Live>,
    sender: Sender,
    connection: Connection,
    asked: u32,
}

/// What came and was not given yet.
#[derive(Debug, Default)]
pub(super) struct Got {
    /// Offset of the first byte of `pieces`, or of the next that comes.
    at: u64,
    pieces: VecDeque<Piece>,
    /// It has ended, and nothing comes behind `pieces`.
    exit: Option<i32>,
}

impl Got {
    pub(super) fn from(at: u64) -> Self {
        Self { at, ..Self::default() }
    }

    /// Takes what process 1 said; `None` = nonsense. Whether it was anything.
    pub(super) fn take(&mut self, packet: &[u8]) -> Option<bool> {
        let mut message = Message::new(packet);
        if message.u8()? != DATA {
            return None;
        }
        let data = Data::decode(&mut message)?;
        // Beyond what was asked for only where something is missing; never back, never past all numbers.
        if data.from < self.at || data.from.checked_add(data.length()).is_none() {
            return None;
        }
        self.at = data.from;
        let pieces =
            data.runs.iter().map(|(error, bytes)| piece(*error, Bytes::copy_from_slice(bytes)));
        self.pieces.extend(pieces);
        self.exit = data.exit;
        Some(!self.pieces.is_empty() || self.exit.is_some())
    }

    /// Takes output that continues it, or begins behind a gap.
    pub(super) fn fill(&mut self, output: Output) {
        self.at = output.from;
        self.pieces.extend(output.pieces);
        self.exit = output.exit_code;
    }

    /// Takes what was read from a file; the exit code where that was the last of it.
    pub(super) fn fill_read(&mut self, read: Read, exit: Option<i32>) {
        self.at = read.from;
        let runs = read.runs.into_iter();
        self.pieces.extend(runs.map(|(error, bytes)| piece(error, Bytes::from(bytes))));
        self.exit = exit.filter(|_| read.all);
    }

    /// Offset of what comes next.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Gives at most `max` bytes, and the end behind the last of them.
    pub(super) fn give(&mut self, max: usize) -> Output {
        let from = self.at;
        let mut left = max.max(1);
        let mut pieces = Vec::new();
        while left > 0
            && let Some(mut piece) = self.pieces.pop_front()
        {
            if piece.bytes.len() > left {
                let rest = Piece { stream: piece.stream, bytes: piece.bytes.split_off(left) };
                self.pieces.push_front(rest);
            }
            left -= piece.bytes.len();
            self.at += piece.bytes.len() as u64;
            pieces.push(piece);
        }
        let exit_code = self.exit.filter(|_| self.pieces.is_empty());
        Output { pieces, from, next: self.at, exit_code }
    }

    /// Whether there is anything to give.
    pub(super) fn is_some(&self) -> bool {
        !self.pieces.is_empty() || self.exit.is_some()
    }
}

fn piece(error: bool, bytes: Bytes) -> Piece {
    Piece { stream: if error { Stream::Error } else { Stream::Output }, bytes }
}

impl Reader {
    pub(super) async fn begin(
        host: Arc<Host>,
        which: Which,
        from: u64,
        held: bool,
    ) -> Result<Self> {
        let (source, at) = open(&host, which, from, held).await?;
        Ok(Self { host, which, source, got: Got::from(at), held, lost: 0 })
    }

    /// Waits for one answer, or reads once. `false` = the connection was gone, and there is a new one.
    async fn fetch(&mut self, max: usize, ask: Ask) -> Result<bool> {
        match &mut self.source {
            Source::Init(line) => {
                let limit = match ask {
                    Ask::Ahead => AHEAD,
                    Ask::Now => line.asked.saturating_add(1).min(MAX_ASKED),
                    Ask::Nothing => 0,
                };
                while line.asked < limit {
                    let max = u32::try_from(max).unwrap_or(u32::MAX);
                    let packet = Writer::new(READ).u32(max).u8((ask == Ask::Ahead).into()).finish();
                    if line.sender.send(&packet).await.is_err() {
                        break;
                    }
                    line.asked += 1;
                }
                let packet = line.connection.receive().await.unwrap_or_default();
                if packet.is_empty() {
                    return self.reopen().await.map(|()| false);
                }
                line.asked = line.asked.saturating_sub(1);
                self.lost = 0;
                self.got.take(packet).ok_or_else(|| nonsense(self.which.sandbox))?;
                Ok(true)
            }
            Source::File => self.fetch_file(max).await.map(|()| true),
        }
    }

    async fn reopen(&mut self) -> Result<()> {
        self.lost += 1;
        if self.lost > MAX_LOST {
            let sandbox = self.which.sandbox;
            return Err(Error::new(
                Kind::Unavailable,
                format!("process 1 of sandbox {sandbox} lets nobody follow"),
            ));
        }
        self.source = open(&self.host, self.which, self.got.at, self.held).await?.0;
        Ok(())
    }

    async fn fetch_file(&mut self, max: usize) -> Result<()> {
        let (read, exit) = read_kept(&self.host, self.which, self.got.at, max).await?;
        // What has no end in its file ended with its sandbox.
        self.got.fill_read(read, exit.or(Some(KILLED)));
        Ok(())
    }
}

/// Reads kept output from an offset on; and the exit code, where it had ended before.
pub(super) async fn read_kept(
    host: &Arc<Host>,
    which: Which,
    at: u64,
    max: usize,
) -> Result<(Read, Option<i32>)> {
    let host = Arc::clone(host);
    crate::local::runtime::blocking(move || {
        let mut kept = Kept::open(&host, which)?;
        // Not the one after reading: more may have come before that end.
        let exit = kept.head.exit.map(|code| code.clamp(0, 255));
        Ok((kept.read(at, max.min(CHUNK))?, exit))
    })
    .await
}

/// Where output from an offset on is read: of process 1 while it runs.
async fn open(host: &Arc<Host>, which: Which, from: u64, held: bool) -> Result<(Source, u64)> {
    let on = Arc::clone(host);
    let found = crate::local::runtime::blocking(move || Kept::open(&on, which)).await?;
    let at = from.min(found.head.end);
    let live = host.registry.get(which.sandbox).filter(|live| live.is_alive());
    let (None, Some(live)) = (found.head.exit, live) else { return Ok((Source::File, at)) };
    let asking = async {
        let mut connection = connect(&host.sockets, &live).await?;
        let sender = connection.sender();
        let packet = Writer::new(FOLLOW).u64(which.number).u64(at).u8(held.into()).finish();
        let verb = Verb::Of(which.number);
        ask_on((&sender, &mut connection), &live, verb, &[packet]).await?;
        Ok((sender, connection))
    };
    match bounded(&live, asking).await {
        Ok((sender, connection)) => {
            let line = Line { live, sender, connection, asked: 0 };
            Ok((Source::Init(line), at))
        }
        // It ended meanwhile, or its sandbox did.
        Err(error) if error.kind() == Kind::Gone || !live.is_alive() => Ok((Source::File, at)),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Follower for Reader {
    async fn next(&mut self, max: usize) -> Result<Output> {
        while !self.got.is_some() {
            self.fetch(max, Ask::Ahead).await?;
        }
        Ok(self.got.give(max))
    }

    async fn now(&mut self, max: usize) -> Result<Output> {
        if !self.got.is_some() {
            let live = match &self.source {
                Source::Init(line) => Some(Arc::clone(&line.live)),
                Source::File => None,
            };
            let fetching = async {
                let mut ask = Ask::Now;
                loop {
                    let answered = self.fetch(max, ask).await?;
                    // A new connection was asked nothing yet.
                    ask = if answered { Ask::Nothing } else { Ask::Now };
                    let unanswered = match &self.source {
                        Source::Init(line) => line.asked,
                        Source::File => 0,
                    };
                    if self.got.is_some() || (answered && unanswered == 0) {
                        return Ok(());
                    }
                }
            };
            match live {
                Some(live) => bounded(&live, fetching).await?,
                None => fetching.await?,
            }
        }
        Ok(self.got.give(max))
    }
}
