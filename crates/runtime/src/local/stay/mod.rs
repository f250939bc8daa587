//! Processes that stay: asked of process 1 while the sandbox runs, read from its files when it does not.

mod ask;
mod files;
mod follow;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod hub;
mod shared;
mod start;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_core::id::SandboxId;
use mayfly_core::ports::processes::{Follower, Processes};
use mayfly_core::process::{Process, ShellCommand, StartRequest, Window};
use mayfly_core::{Error, Result};
use mayfly_init::protocol::Writer;
use mayfly_init::protocol::stay::{
    FORGET, KILL_TREE, MAX_COMMAND, MAX_WRITE, QUEUE, Queue, RESIZE, SIGNAL, START, WRITE, Write,
};

use super::host::Host;
use super::live::Live;
use ask::{Verb, ask};
pub(super) use files::end_all;
use hub::Hubs;

/// Largest signal number.
const MAX_SIGNAL: i32 = 64;
/// Largest width and height of a terminal.
const MAX_WINDOW: u16 = 10_000;

/// The port on this machine.
#[derive(Debug)]
pub(super) struct LocalProcesses {
    host: Arc<Host>,
    hubs: Arc<Hubs>,
}

/// A process that a verb is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Which {
    pub(super) sandbox: SandboxId,
    pub(super) number: u64,
}

impl LocalProcesses {
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self { host, hubs: Arc::default() }
    }

    /// Asks process 1 for something that an ended one has already; whether there was anybody to ask.
    async fn ask_unless_over(&self, which: Which, packet: Vec<u8>) -> Result<()> {
        if let Some(live) = self.host.registry.get(which.sandbox) {
            match ask(&self.host, &live, Verb::Of(which.number), &[packet]).await {
                Err(error) if error.kind() == mayfly_core::Kind::Gone => return Ok(()),
                // Its sandbox may have ended with it.
                Err(error) if live.is_alive() => return Err(error),
                Ok(_) => return Ok(()),
                Err(_) => {}
            }
        }
        self.known(which).await
    }

    /// Whether a process is kept.
    async fn known(&self, which: Which) -> Result<()> {
        let host = Arc::clone(&self.host);
        super::runtime::blocking(move || files::Kept::open(&host, which).map(drop)).await
    }

    fn live(&self, sandbox: SandboxId) -> Result<Arc<Live>> {
        self.host.registry.started(sandbox)
    }
}

#[async_trait]
impl Processes for LocalProcesses {
    async fn start(&self, sandbox: SandboxId, request: StartRequest) -> Result<u64> {
        let live = self.live(sandbox)?;
        let body = start::message(&live, &request)?;
        let verb = Verb::Start { cwd: request.cwd.as_deref() };
        ask(&self.host, &live, verb, &ask::packets(START, &body)).await
    }

    async fn queue(&self, sandbox: SandboxId, shell: u64, command: ShellCommand) -> Result<u64> {
        start::check_note(&command.note)?;
        let text = command.command.into_bytes();
        if text.len() > MAX_COMMAND {
            let found = text.len();
            return Err(Error::invalid(format!(
                "the command is {found} bytes long: expected at most {MAX_COMMAND}"
            ))
            .with_hint("write it to a file first and run the file"));
        }
        if text.contains(&0) {
            return Err(Error::invalid("the command has a NUL byte, which no shell can take"));
        }
        let Some(live) = self.host.registry.get(sandbox) else {
            // A shell of an earlier life is over for good, whatever the state of its sandbox.
            self.known(Which { sandbox, number: shell }).await?;
            return Err(super::live::not_started(sandbox));
        };
        let (started_at, note) = (super::runtime::now(), command.note.into_bytes());
        let body = Queue { shell, started_at, command: text, note }.encode();
        ask(&self.host, &live, Verb::Queue(shell), &ask::packets(QUEUE, &body)).await
    }

    async fn list(&self, sandbox: SandboxId) -> Result<Vec<Process>> {
        let host = Arc::clone(&self.host);
        super::runtime::blocking(move || files::list(&host, sandbox)).await
    }

    async fn follow(
        &self,
        sandbox: SandboxId,
        number: u64,
        from: u64,
    ) -> Result<Box<dyn Follower>> {
        let which = Which { sandbox, number };
        let (host, hubs) = (Arc::clone(&self.host), Arc::clone(&self.hubs));
        Ok(Box::new(shared::Shared::begin(host, hubs, which, from).await?))
    }

    async fn follow_all(
        &self,
        sandbox: SandboxId,
        number: u64,
        from: u64,
    ) -> Result<Box<dyn Follower>> {
        let which = Which { sandbox, number };
        Ok(Box::new(follow::Reader::begin(Arc::clone(&self.host), which, from, true).await?))
    }

    async fn write(&self, sandbox: SandboxId, number: u64, input: Bytes) -> Result<()> {
        let live = self.live(sandbox)?;
        let mut pieces: Vec<&[u8]> = input.chunks(MAX_WRITE).collect();
        if pieces.is_empty() {
            pieces.push(b"");
        }
        for piece in pieces {
            let body = Write { number, bytes: piece.to_vec() }.encode();
            ask(&self.host, &live, Verb::Of(number), &ask::packets(WRITE, &body)).await?;
        }
        Ok(())
    }

    async fn resize(&self, sandbox: SandboxId, number: u64, window: Window) -> Result<()> {
        let live = self.live(sandbox)?;
        let size = start::check_window(window)?;
        let size = u64::from(size.0) | u64::from(size.1) << 16;
        let packet = Writer::new(RESIZE).u64(number).u64(size).finish();
        ask(&self.host, &live, Verb::Of(number), &[packet]).await.map(drop)
    }

    async fn signal(&self, sandbox: SandboxId, number: u64, signal: i32) -> Result<()> {
        let known = u64::try_from(signal).ok().filter(|_| (1..=MAX_SIGNAL).contains(&signal));
        let known = known.ok_or_else(|| {
            Error::invalid(format!("signal {signal} does not exist: expected 1 to {MAX_SIGNAL}"))
        })?;
        let packet = Writer::new(SIGNAL).u64(number).u64(known).finish();
        self.ask_unless_over(Which { sandbox, number }, packet).await
    }

    async fn kill(&self, sandbox: SandboxId, number: u64) -> Result<()> {
        let packet = Writer::new(KILL_TREE).u64(number).finish();
        self.ask_unless_over(Which { sandbox, number }, packet).await
    }

    async fn forget(&self, sandbox: SandboxId, number: u64) -> Result<()> {
        if let Some(live) = self.host.registry.get(sandbox) {
            let packet = Writer::new(FORGET).u64(number).finish();
            return ask(&self.host, &live, Verb::Of(number), &[packet]).await.map(drop);
        }
        let host = Arc::clone(&self.host);
        super::runtime::blocking(move || files::remove(&host, Which { sandbox, number })).await
    }
}
