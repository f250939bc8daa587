//! The inside of a started sandbox.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use mayfly_core::access::{Caller, Permission};
use mayfly_core::id::SandboxId;
use mayfly_core::ports::files::Files;
use mayfly_core::ports::processes::Processes;
use mayfly_core::ports::runtime::{Places, Usage};
use mayfly_core::process::{ExecOutcome, ExecRequest, ProcessLog};
use mayfly_core::sandbox::{Command, EnvChange, Sandbox, State, on_command};
use mayfly_core::{Code, Error, Result};

use crate::commit;
use crate::contexts::Contexts;
use crate::house::{House, need};
use crate::living::Live;
use crate::shells::Shells;
use crate::terminals::Terminals;

/// Access to the inside of a sandbox that was started when it was asked for.
#[derive(Clone, Debug)]
pub struct Reach {
    pub(crate) house: Arc<House>,
    pub(crate) live: Arc<Live>,
    sandbox: Arc<Sandbox>,
}

/// Finds a started sandbox and marks its use.
pub(crate) fn reach(house: &Arc<House>, caller: &Caller, id_or_name: &str) -> Result<Reach> {
    need(caller, Permission::WriteSandboxes)?;
    let live = house.find(caller, id_or_name)?;
    // Marked before looking, so that a timer that decides after this look sees the use.
    live.touch(house.now());
    started(house, live)
}

/// Finds a started sandbox for whoever holds what opens it, and marks its use.
pub(crate) fn enter(house: &Arc<House>, id: SandboxId) -> Result<Reach> {
    let live = house.visible(id)?;
    // Marked before looking, as above.
    live.touch(house.now());
    started(house, live)
}

fn started(house: &Arc<House>, live: Arc<Live>) -> Result<Reach> {
    let sandbox = live.record();
    if sandbox.state != State::Started {
        let message = format!("sandbox {} is {}, not started", sandbox.name, sandbox.state);
        return Err(Error::conflict(message)
            .with_code(Code::SandboxNotStarted)
            .with_hint("start it, or wait until it is started"));
    }
    Ok(Reach { house: Arc::clone(house), live, sandbox })
}

impl Reach {
    /// Its record.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Its id, which the file port takes.
    pub fn id(&self) -> SandboxId {
        self.sandbox.id
    }

    /// Runs a program to its end with env = image, sandbox, set later, call (later wins). Counts as use throughout.
    pub async fn exec(&self, mut request: ExecRequest) -> Result<ExecOutcome> {
        request.env = self.environment(request.env);
        let _busy = self.busy();
        let began = self.house.now().mono;
        let outcome = self.house.runtime.exec(self.id(), request).await;
        self.house.metrics.commands.note(self.house.now().mono.since(began));
        outcome
    }

    /// The sandbox's environment, what was set later over it, and a call's over both.
    pub fn environment(&self, call: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut env = self.sandbox.env.clone();
        env.extend(self.sandbox.later_env.clone());
        env.extend(call);
        env
    }

    /// Changes the environment of what starts from now on, whatever server runs then; all that was set so.
    /// [`mayfly_core::Kind::Invalid`] names what is wrong; then nothing is changed.
    pub async fn set_env(&self, change: EnvChange) -> Result<BTreeMap<String, String>> {
        let changed = commit::change(&self.house, &self.live, |current: &Sandbox, now| {
            on_command(current, Command::SetEnv(change.clone()), now)
                .map_err(|denied| denied.into_error(&current.name))
        });
        changed.await?;
        Ok(self.live.record().later_env.clone())
    }

    /// Sessions.
    pub fn shells(&self) -> Shells<'_> {
        Shells(self)
    }

    /// Terminals.
    pub fn terminals(&self) -> Terminals<'_> {
        Terminals(self)
    }

    /// Interpreters.
    pub fn contexts(&self) -> Contexts<'_> {
        Contexts(self)
    }

    /// Counts as use for as long as it is held, such as a transfer that takes long.
    pub fn busy(&self) -> Busy {
        self.live.begin(self.house.now());
        Busy { house: Arc::clone(&self.house), live: Arc::clone(&self.live) }
    }

    /// Marks a use of it now.
    pub fn touch(&self) {
        self.live.touch(self.house.now());
    }

    /// Connects to a TCP port inside; gives the non-blocking socket.
    pub async fn connect(&self, port: u16) -> Result<OwnedFd> {
        self.house.runtime.connect(self.id(), port).await
    }

    /// Listens on a TCP port inside (0 = any) on its loopback address; gives the non-blocking socket.
    pub async fn bind(&self, port: u16) -> Result<OwnedFd> {
        self.house.runtime.bind(self.id(), port).await
    }

    /// TCP ports that something inside listens on, ascending.
    pub async fn ports(&self) -> Result<Vec<u16>> {
        self.house.runtime.ports(self.id()).await
    }

    /// The port of processes that stay; give it [`Reach::id`].
    pub fn processes(&self) -> &dyn Processes {
        self.house.runtime.processes()
    }

    /// The file port; give it [`Reach::id`].
    pub fn files(&self) -> &dyn Files {
        self.house.runtime.files()
    }

    /// Commands whose output is kept, newest last.
    pub async fn logs(&self) -> Result<Vec<ProcessLog>> {
        self.house.runtime.logs(self.id()).await
    }

    /// Kept output of one command from an offset, at most `max` bytes.
    pub async fn read_log(&self, process: u64, offset: u64, max: usize) -> Result<Bytes> {
        self.house.runtime.read_log(self.id(), process, offset, max).await
    }

    /// What it uses.
    pub async fn usage(&self) -> Result<Usage> {
        self.house.runtime.usage(self.id()).await
    }

    /// Home of its default user and its work dir.
    pub async fn places(&self) -> Result<Places> {
        self.house.runtime.places(self.id()).await
    }
}

/// A sandbox in use; its idle timers wait.
#[derive(Debug)]
#[must_use = "the use ends when this is dropped"]
pub struct Busy {
    house: Arc<House>,
    live: Arc<Live>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.live.end(self.house.now());
    }
}
