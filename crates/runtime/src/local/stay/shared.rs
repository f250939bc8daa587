//! A reader of output among others of the same process: at the hub while it runs, else from its file.

use std::sync::Arc;

use async_trait::async_trait;
use mayfly_core::ports::processes::Follower;
use mayfly_core::process::Output;
use mayfly_core::{Kind, Result};

use super::Which;
use super::files::{KILLED, Kept};
use super::follow::{CHUNK, Got, Reader, read_kept};
use super::hub::{Found, Hubs, Seat};
use crate::local::host::Host;
use crate::local::init::nonsense;
use crate::local::runtime::blocking;

/// Tries to read a file that is written faster than it can be read.
const TRIES: u32 = 20;

/// One of any number of readers.
#[derive(Debug)]
pub(super) struct Shared {
    host: Arc<Host>,
    hubs: Arc<Hubs>,
    which: Which,
    got: Got,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// It has not waited yet.
    Nowhere,
    /// The process has ended.
    Alone(Box<Reader>),
    Hub(Seat),
}

impl Shared {
    pub(super) async fn begin(
        host: Arc<Host>,
        hubs: Arc<Hubs>,
        which: Which,
        from: u64,
    ) -> Result<Self> {
        let end = kept(&host, which).await?.head.end;
        Ok(Self { host, hubs, which, got: Got::from(from.min(end)), place: Place::Nowhere })
    }

    async fn sit(&mut self) -> Result<()> {
        let head = kept(&self.host, self.which).await?.head;
        let at = self.got.at();
        self.place = if head.exit.is_none() && self.lives() {
            Place::Hub(self.hubs.sit(&self.host, self.which, at, (head.end, head.size)))
        } else {
            let host = Arc::clone(&self.host);
            Place::Alone(Box::new(Reader::begin(host, self.which, at, false).await?))
        };
        Ok(())
    }

    fn lives(&self) -> bool {
        self.host.registry.get(self.which.sandbox).is_some_and(|live| live.is_alive())
    }

    /// Reads what the file has; nothing where it has nothing more.
    async fn read(&mut self, max: usize) -> Result<()> {
        let mut tries = 1;
        let (read, exit) = loop {
            match read_kept(&self.host, self.which, self.got.at(), max).await {
                Err(error) if error.kind() == Kind::Unavailable && tries < TRIES => tries += 1,
                read => break read?,
            }
        };
        let exit = exit.or_else(|| (!self.lives()).then_some(KILLED));
        self.got.fill_read(read, exit);
        Ok(())
    }

    fn give(&mut self, max: usize) -> Output {
        let output = self.got.give(max);
        if let Place::Hub(seat) = &self.place {
            seat.moved(output.next);
        }
        output
    }
}

async fn kept(host: &Arc<Host>, which: Which) -> Result<Kept> {
    let host = Arc::clone(host);
    blocking(move || Kept::open(&host, which)).await
}

#[async_trait]
impl Follower for Shared {
    async fn next(&mut self, max: usize) -> Result<Output> {
        loop {
            if self.got.is_some() {
                return Ok(self.give(max));
            }
            match &mut self.place {
                Place::Nowhere => self.sit().await?,
                Place::Alone(reader) => return reader.next(max).await,
                Place::Hub(seat) => match seat.find(self.got.at())? {
                    Found::Output(output) => self.got.fill(output),
                    Found::Nothing => seat.news().await,
                    Found::Behind(bytes) => {
                        let before = self.got.at();
                        self.read(usize::try_from(bytes).unwrap_or(CHUNK)).await?;
                        if !self.got.is_some() && self.got.at() == before {
                            return Err(nonsense(self.which.sandbox));
                        }
                    }
                },
            }
        }
    }

    async fn now(&mut self, max: usize) -> Result<Output> {
        if let Place::Alone(reader) = &mut self.place {
            return reader.now(max).await;
        }
        if !self.got.is_some() {
            self.read(max).await?;
        }
        Ok(self.give(max))
    }
}
