//! A runtime in memory whose verbs can be made to fail, to take long and to crash the server.
//!
//! It knows a handful of programs (`echo`, `false`, `printenv`, `sleep`), enough for the contract suite, and
//! shells, terminals and interpreters that know a handful of words (`shell.rs`, `driver.rs`).

mod driver;
mod files;
mod processes;
mod programs;
mod shell;
mod volumes;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_core::id::{SandboxId, VolumeId};
use mayfly_core::limits::Resources;
use mayfly_core::network::{AuditEntry, AuditPage, NetworkPolicy};
use mayfly_core::ports::files::Files;
use mayfly_core::ports::processes::Processes;
use mayfly_core::ports::runtime::{
    DiskGuard, Exit, Layer, Notice, Observed, Places, Profile, Runtime, SandboxSpec, Usage,
};
use mayfly_core::ports::volumes::Volumes;
use mayfly_core::process::{ExecOutcome, ExecRequest, ProcessLog};
use mayfly_core::snapshot::Source;
use mayfly_core::{Error, Kind, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::fuse::Fuse;
use files::FakeFiles;
use processes::{FakeProcesses, Table};
use volumes::{FakeVolumes, Shelf};

/// A verb whose behaviour a test can script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// [`Runtime::create`].
    Create,
    /// [`Runtime::start`].
    Start,
    /// [`Runtime::stop`].
    Stop,
    /// [`Runtime::destroy`].
    Destroy,
    /// [`Runtime::freeze`].
    Freeze,
    /// [`Runtime::thaw`].
    Thaw,
    /// [`Runtime::resize`].
    Resize,
    /// [`Runtime::set_network`].
    SetNetwork,
    /// [`Volumes::create`].
    CreateVolume,
    /// [`Volumes::delete`].
    DeleteVolume,
}

/// What survives a crash of the server.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    state: Mutex<State>,
    exited: Notify,
    noticed: Notify,
    /// Something of a process changed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    machines: BTreeMap<SandboxId, Machine>,
    volumes: BTreeMap<VolumeId, Shelf>,
    failures: HashMap<Verb, VecDeque<Kind>>,
    delays: HashMap<Verb, Duration>,
    exits: VecDeque<Exit>,
    notices: VecDeque<Notice>,
    audits: HashMap<SandboxId, Vec<AuditEntry>>,
    made: HashMap<SandboxId, u32>,
    guarded: Vec<DiskGuard>,
    /// Where connections to a port inside go.
    doors: BTreeMap<(SandboxId, u16), SocketAddr>,
    /// Full where none is set.
    profile: Option<Profile>,
    lacks_network: bool,
    /// How the next commands end, whatever they are.
    answers: VecDeque<(i32, Bytes)>,
    /// Commands that got one of these answers.
    asked: Vec<ExecRequest>,
}

#[derive(Debug)]
struct Machine {
    spec: SandboxSpec,
    running: bool,
    frozen: bool,
    files: BTreeMap<String, Bytes>,
    logs: Vec<(ProcessLog, Bytes)>,
    processes: Table,
}

impl Machines {
    /// Ends every process, as the end of the host does.
    pub(crate) fn power_off(&self) {
        for machine in self.lock().machines.values_mut() {
            machine.halt();
        }
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A runtime in memory.
#[derive(Debug)]
pub struct FakeRuntime {
    machines: Arc<Machines>,
    files: FakeFiles,
    processes: FakeProcesses,
    volumes: FakeVolumes,
    fuse: Fuse,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self::new(Arc::default(), Fuse::never())
    }
}

impl FakeRuntime {
    pub(crate) fn new(machines: Arc<Machines>, fuse: Fuse) -> Self {
        let files = FakeFiles { machines: Arc::clone(&machines) };
        let processes = FakeProcesses { machines: Arc::clone(&machines) };
        let volumes = FakeVolumes { machines: Arc::clone(&machines), fuse: fuse.clone() };
        Self { machines, files, processes, volumes, fuse }
    }

    /// Adds a failure of this kind to the next calls of the verb.
    pub fn fail(&self, verb: Verb, kind: Kind) {
        self.machines.lock().failures.entry(verb).or_default().push_back(kind);
    }

    /// Lets the verb take this long from now on.
    pub fn delay(&self, verb: Verb, by: Duration) {
        self.machines.lock().delays.insert(verb, by);
    }

    /// Says that sandboxes get this isolation from now on.
    pub fn set_profile(&self, profile: Profile) {
        self.machines.lock().profile = Some(profile);
    }

    /// Says that sandboxes have only loopback from now on.
    pub fn take_network_away(&self) {
        self.machines.lock().lacks_network = true;
    }

    /// Lets the next command end like this, whatever it is; may be given several times.
    pub fn answer(&self, exit_code: i32, output: impl Into<Bytes>) {
        self.machines.lock().answers.push_back((exit_code, output.into()));
    }

    /// Commands that were answered like that, oldest first.
    pub fn asked(&self) -> Vec<ExecRequest> {
        self.machines.lock().asked.clone()
    }

    /// Ends a sandbox unasked.
    pub fn end(&self, id: SandboxId, reason: &str) {
        let mut state = self.machines.lock();
        if let Some(machine) = state.machines.get_mut(&id) {
            machine.halt();
        }
        state.exits.push_back(Exit { id, reason: reason.to_owned() });
        drop(state);
        self.machines.exited.notify_one();
        self.machines.changed.notify_waiters();
    }

    /// Tells the platform something.
    pub fn notify(&self, notice: Notice) {
        self.machines.lock().notices.push_back(notice);
        self.machines.noticed.notify_one();
    }

    /// Adds to the audit of a sandbox's network.
    pub fn audited(&self, id: SandboxId, entry: AuditEntry) {
        self.machines.lock().audits.entry(id).or_default().push(entry);
    }

    /// What a sandbox may reach now.
    pub fn network(&self, id: SandboxId) -> Option<NetworkPolicy> {
        self.machines.lock().machines.get(&id).map(|machine| machine.spec.network.clone())
    }

    /// Lets the next guard of disks change these limits.
    pub fn guard_next(&self, changes: Vec<DiskGuard>) {
        self.machines.lock().guarded = changes;
    }

    /// Lets a listener of the test stand for a service on a port inside.
    pub fn listen(&self, id: SandboxId, port: u16, at: SocketAddr) {
        self.machines.lock().doors.insert((id, port), at);
    }

    /// Takes a sandbox away behind the platform's back.
    pub fn lose(&self, id: SandboxId) {
        self.machines.lock().machines.remove(&id);
    }

    /// Makes a sandbox that no record knows.
    pub fn smuggle(&self, spec: SandboxSpec) {
        self.machines.lock().machines.insert(spec.id, Machine::new(spec));
    }

    /// What is there, without a step of the fuse: id, running, frozen, size.
    pub fn peek(&self) -> Vec<(Observed, Resources)> {
        let state = self.machines.lock();
        state.machines.iter().map(|(id, one)| (one.observed(*id), one.spec.resources)).collect()
    }

    /// How often a sandbox was made from nothing.
    pub fn made(&self, id: SandboxId) -> u32 {
        self.machines.lock().made.get(&id).copied().unwrap_or_default()
    }

    async fn act<T>(&self, verb: Verb, act: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.fuse.step().await;
        let delay = self.machines.lock().delays.get(&verb).copied();
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        let out = {
            let mut state = self.machines.lock();
            match state.scripted(verb) {
                Err(error) => Err(error),
                Ok(()) => act(&mut state),
            }
        };
        self.fuse.step().await;
        out
    }
}

impl Machine {
    fn new(spec: SandboxSpec) -> Self {
        let (files, logs) = (BTreeMap::new(), Vec::new());
        let processes = Table::default();
        Self { spec, running: true, frozen: false, files, logs, processes }
    }

    /// Ends all of its processes.
    fn halt(&mut self) {
        self.running = false;
        self.frozen = false;
        self.processes.all.clear();
    }

    fn observed(&self, id: SandboxId) -> Observed {
        Observed { id, running: self.running, frozen: self.frozen, outdated: None }
    }
}

impl State {
    /// The failure that a test asked for.
    fn scripted(&mut self, verb: Verb) -> Result<()> {
        match self.failures.get_mut(&verb).and_then(VecDeque::pop_front) {
            Some(kind) => Err(Error::new(kind, format!("{verb:?} was made to fail"))),
            None => Ok(()),
        }
    }

    fn get(&mut self, id: SandboxId) -> Result<&mut Machine> {
        let missing = || Error::not_found(format!("sandbox {id} is not there"));
        self.machines.get_mut(&id).ok_or_else(missing)
    }

    fn running(&mut self, id: SandboxId) -> Result<&mut Machine> {
        let machine = self.get(id)?;
        if machine.running {
            return Ok(machine);
        }
        Err(Error::conflict(format!("sandbox {id} does not run")))
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn profile(&self) -> Profile {
        self.machines.lock().profile.unwrap_or(Profile::Full)
    }

    fn has_network(&self) -> bool {
        !self.machines.lock().lacks_network
    }

    async fn host_source(&self) -> Result<Source> {
        Ok(Source::Host { fingerprint: "fake".to_owned() })
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<()> {
        self.act(Verb::Create, |state| {
            state.has_volumes(spec)?;
            if !state.machines.contains_key(&spec.id) {
                *state.made.entry(spec.id).or_default() += 1;
                state.machines.insert(spec.id, Machine::new(spec.clone()));
            }
            Ok(())
        })
        .await
    }

    async fn start(&self, spec: &SandboxSpec) -> Result<()> {
        self.act(Verb::Start, |state| {
            state.has_volumes(spec)?;
            let machine = state.get(spec.id)?;
            machine.running = true;
            machine.frozen = false;
            machine.spec = spec.clone();
            Ok(())
        })
        .await
    }

    async fn stop(&self, id: SandboxId, _grace: Duration) -> Result<()> {
        self.act(Verb::Stop, |state| {
            state.get(id)?.halt();
            Ok(())
        })
        .await?;
        self.machines.changed.notify_waiters();
        Ok(())
    }

    async fn destroy(&self, id: SandboxId) -> Result<()> {
        self.act(Verb::Destroy, |state| {
            state.machines.remove(&id);
            Ok(())
        })
        .await
    }

    async fn freeze(&self, id: SandboxId) -> Result<()> {
        self.act(Verb::Freeze, |state| {
            state.running(id)?.frozen = true;
            Ok(())
        })
        .await
    }

    async fn thaw(&self, id: SandboxId) -> Result<()> {
        self.act(Verb::Thaw, |state| {
            state.running(id)?.frozen = false;
            Ok(())
        })
        .await
    }

    async fn resize(&self, id: SandboxId, resources: Resources) -> Result<()> {
        self.act(Verb::Resize, |state| {
            state.get(id)?.spec.resources = resources;
            Ok(())
        })
        .await
    }

    async fn set_network(&self, id: SandboxId, policy: &NetworkPolicy) -> Result<()> {
        self.act(Verb::SetNetwork, |state| {
            if state.lacks_network && !policy.block_all {
                return Err(Error::new(Kind::Unavailable, "the layer `network` is missing"));
            }
            if let Some(machine) = state.machines.get_mut(&id).filter(|machine| machine.running) {
                machine.spec.network = policy.clone();
            }
            Ok(())
        })
        .await
    }

    async fn network_audit(
        &self,
        id: SandboxId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<AuditPage> {
        let from: usize = match after {
            Some(text) => text.parse().map_err(|_| Error::invalid("after is not a cursor"))?,
            None => 0,
        };
        let state = self.machines.lock();
        let all = state.audits.get(&id).map_or(&[][..], Vec::as_slice);
        let items: Vec<AuditEntry> = all.iter().skip(from).take(limit).cloned().collect();
        Ok(AuditPage { next: (from + items.len()).to_string(), items })
    }

    async fn next_notice(&self) -> Notice {
        loop {
            let noticed = self.machines.noticed.notified();
            let next = self.machines.lock().notices.pop_front();
            if let Some(notice) = next {
                return notice;
            }
            noticed.await;
        }
    }

    async fn guard_disk(&self, sizes: &[(SandboxId, u64)]) -> Result<Vec<DiskGuard>> {
        let mut state = self.machines.lock();
        let known = |change: &DiskGuard| sizes.iter().any(|(id, _)| *id == change.id);
        Ok(std::mem::take(&mut state.guarded).into_iter().filter(known).collect())
    }

    async fn list(&self) -> Result<Vec<Observed>> {
        self.fuse.step().await;
        Ok(self.peek().into_iter().map(|(observed, _)| observed).collect())
    }

    async fn next_exit(&self) -> Exit {
        loop {
            let exited = self.machines.exited.notified();
            let next = self.machines.lock().exits.pop_front();
            if let Some(exit) = next {
                return exit;
            }
            exited.await;
        }
    }

    async fn usage(&self, id: SandboxId) -> Result<Usage> {
        let mut state = self.machines.lock();
        let machine = state.running(id)?;
        let disk_bytes = machine.files.values().map(|file| file.len() as u64).sum();
        Ok(Usage { pids: 1, disk_bytes: Some(disk_bytes), ..Usage::default() })
    }

    async fn places(&self, id: SandboxId) -> Result<Places> {
        self.machines.lock().running(id)?;
        Ok(Places { home: "/root".to_owned(), workdir: "/root".to_owned() })
    }

    async fn exec(&self, id: SandboxId, request: ExecRequest) -> Result<ExecOutcome> {
        let env = self.machines.lock().running(id)?.spec.env.clone();
        let scripted = {
            let mut state = self.machines.lock();
            let answer = state.answers.pop_front();
            state.asked.extend(answer.is_some().then(|| request.clone()));
            answer
        };
        let (exit_code, output) = match scripted {
            Some(answer) => answer,
            None => programs::run(&request, env).await?,
        };
        let mut state = self.machines.lock();
        let logs = &mut state.running(id)?.logs;
        let process = logs.len() as u64 + 1;
        let log = ProcessLog {
            process,
            title: request.title,
            started_at: mayfly_core::time::Timestamp(0),
            exit_code: Some(exit_code),
            size: output.len() as u64,
        };
        logs.push((log, output.clone()));
        Ok(ExecOutcome { exit_code, output, truncated: false, process })
    }

    async fn logs(&self, id: SandboxId) -> Result<Vec<ProcessLog>> {
        let mut state = self.machines.lock();
        Ok(state.get(id)?.logs.iter().map(|(log, _)| log.clone()).collect())
    }

    async fn read_log(
        &self,
        id: SandboxId,
        process: u64,
        offset: u64,
        max: usize,
    ) -> Result<Bytes> {
        let mut state = self.machines.lock();
        let logs = &state.get(id)?.logs;
        let Some((_, output)) = logs.iter().find(|(log, _)| log.process == process) else {
            return Err(Error::not_found(format!("no log of process {process}")));
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(output.len());
        let to = from.saturating_add(max).min(output.len());
        Ok(output.slice(from..to))
    }

    fn files(&self) -> &dyn Files {
        &self.files
    }

    fn processes(&self) -> &dyn Processes {
        &self.processes
    }

    fn volumes(&self) -> Result<&dyn Volumes> {
        if self.profile() == Profile::Full {
            return Ok(&self.volumes);
        }
        Err(Error::unsupported("volumes in the isolation profile `unprivileged`"))
    }

    async fn connect(&self, id: SandboxId, port: u16) -> Result<OwnedFd> {
        let nobody = || Error::new(Kind::Unavailable, format!("nothing listens on port {port}"));
        let at = {
            let mut state = self.machines.lock();
            state.running(id)?;
            state.doors.get(&(id, port)).copied().ok_or_else(nobody)?
        };
        let stream = TcpStream::connect(at).await.and_then(TcpStream::into_std);
        stream.map(Into::into).map_err(|_| nobody())
    }

    async fn bind(&self, id: SandboxId, port: u16) -> Result<OwnedFd> {
        let failed = |error| Error::internal("no listener", error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let at = listener.local_addr().map_err(failed)?;
        let port = if port == 0 { at.port() } else { port };
        let mut state = self.machines.lock();
        state.running(id)?;
        if state.doors.contains_key(&(id, port)) {
            return Err(Error::conflict(format!("port {port} is in use")));
        }
        state.doors.insert((id, port), at);
        listener.into_std().map(Into::into).map_err(failed)
    }

    async fn ports(&self, id: SandboxId) -> Result<Vec<u16>> {
        let mut state = self.machines.lock();
        state.running(id)?;
        let own = state.doors.keys().filter(|(owner, _)| *owner == id);
        Ok(own.map(|(_, port)| *port).collect())
    }

    async fn doctor(&self) -> Vec<Layer> {
        Vec::new()
    }
}
