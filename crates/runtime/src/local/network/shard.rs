//! One network process and the namespaces that it holds.
//!
//! What the process shall know stands here, and the process is made to follow: a change is noted, then sent.
//! When the process dies another one is started at once and told everything, so that whoever waits for an
//! answer that never came has what was asked for. Nothing passes meanwhile: the steering ends with its process.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mayfly_core::{Error, Kind, Result};
use mayfly_net::client::{Client, Receiver, Sender};
use mayfly_net::control::{Answer, Request, SandboxId as Key, Status};

use super::policy::WAITING;
use super::process::{Handle, Process, Program, missing};
use crate::local::live::ended;

/// Longest wait for an answer; then the process counts as stuck and is replaced.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before another process is tried when one could not be started.
const RETRY: Duration = Duration::from_millis(250);
/// Pages of ids that are read of a process; each has a thousand.
const MAX_PAGES: usize = 16;

/// A namespace and the policy that it shall have.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Process 1 of the sandbox, whose namespace it is.
    pub(super) pid: i32,
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) policy: Arc<str>,
}

impl Member {
    /// One that waits, or of which nothing was told yet.
    pub(super) fn waiting(pid: i32, pidfd: Arc<OwnedFd>) -> Self {
        Self { pid, pidfd, policy: WAITING.into() }
    }

    fn namespace(&self) -> io::Result<File> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid))?;
        // The number could have passed to another process; the pidfd tells.
        if ended(&self.pidfd, 0) { Err(io::ErrorKind::NotFound.into()) } else { Ok(namespace) }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Nothing while the process is being replaced.
    link: Option<Sender>,
    handle: Option<Handle>,
    /// Counts processes.
    round: u64,
    /// Answers that somebody waits for, by number.
    answers: HashMap<u32, Option<Answer>>,
    members: HashMap<Key, Member>,
    is_over: bool,
}

/// One process.
#[derive(Debug)]
pub(super) struct Shard {
    number: usize,
    program: Arc<Program>,
    state: Mutex<State>,
    changed: Condvar,
}

/// A request under way.
#[derive(Debug)]
#[must_use]
pub(super) struct Pending {
    shard: Arc<Shard>,
    number: Option<u32>,
    round: u64,
}

impl Shard {
    /// Takes over the process of this number, or starts one; `known` of the running sandboxes are those that
    /// nobody else holds. What else the process holds it is made to forget.
    pub(super) fn open(
        number: usize,
        program: &Arc<Program>,
        claim: impl FnOnce(&[Key]) -> HashMap<Key, Member>,
    ) -> Result<(Arc<Self>, Receiver)> {
        let failed =
            |error: io::Error| Error::internal("the network process could not be started", error);
        let mut process = match program.find(number) {
            Some(process) => process,
            None => program.start(number).map_err(failed)?,
        };
        let held = list(&mut process.client).map_err(failed)?;
        let members = claim(&held);
        settle(&mut process.client, &held, &members).map_err(failed)?;
        let state = Mutex::new(State { members, ..State::default() });
        let program = Arc::clone(program);
        let shard = Arc::new(Self { number, program, state, changed: Condvar::new() });
        let receiver = shard.install(&mut shard.lock(), process).map_err(failed)?;
        Ok((shard, receiver))
    }

    /// Passes answers on until the process ends, then starts another, until [`Shard::close`].
    pub(super) fn attend(&self, mut receiver: Receiver, died: impl Fn(usize)) {
        loop {
            while let Ok(answer) = receiver.receive() {
                let mut state = self.lock();
                if let Some(awaited) = state.answers.get_mut(&answer.number) {
                    *awaited = Some(answer);
                    self.changed.notify_all();
                }
            }
            receiver = loop {
                let mut state = self.lock();
                state.link = None;
                state.answers.clear();
                if state.is_over {
                    return;
                }
                if let Some(mut handle) = state.handle.take() {
                    handle.end();
                    died(self.number);
                }
                match self.replace(&mut state) {
                    Ok(receiver) => break receiver,
                    Err(error) => {
                        tracing::error!(%error, "no network process; sandboxes reach nothing");
                        drop(self.changed.wait_timeout(state, RETRY));
                    }
                }
            };
        }
    }

    fn replace(&self, state: &mut MutexGuard<'_, State>) -> io::Result<Receiver> {
        let mut process = self.program.start(self.number)?;
        if let Err(error) = settle(&mut process.client, &[], &state.members) {
            process.handle.end();
            return Err(error);
        }
        self.install(state, process)
    }

    fn install(&self, state: &mut MutexGuard<'_, State>, process: Process) -> io::Result<Receiver> {
        let (sender, receiver) = process.client.split()?;
        state.link = Some(sender);
        state.handle = Some(process.handle);
        state.round += 1;
        self.changed.notify_all();
        Ok(receiver)
    }

    /// Gives the process a namespace; `false` when it is full.
    pub(super) fn add(self: &Arc<Self>, key: Key, member: Member) -> Result<bool> {
        let pending = {
            let mut state = self.lock();
            if state.members.len() >= super::CAPACITY {
                return Ok(false);
            }
            let namespace = member.namespace().map_err(|error| {
                Error::internal("a network namespace could not be opened", error)
            })?;
            let request = Request::Add(key, member.policy.to_string());
            state.members.insert(key, member);
            self.send(&mut state, &request, Some(&namespace))
        };
        match pending.wait() {
            Ok(()) => Ok(true),
            Err(error) => {
                self.lock().members.remove(&key);
                Err(error)
            }
        }
    }

    /// Makes a waiting namespace a sandbox's. `None` when this process does not have it.
    pub(super) fn assign(self: &Arc<Self>, from: Key, to: Key, policy: &str) -> Option<Pending> {
        let mut state = self.lock();
        let member = state.members.remove(&from)?;
        state.members.insert(to, Member { policy: policy.into(), ..member });
        let request = Request::Assign(from, to, policy.to_owned());
        Some(self.send(&mut state, &request, None))
    }

    /// Changes the policy of a sandbox. `None` when this process does not have it.
    pub(super) fn set(self: &Arc<Self>, key: Key, policy: &str) -> Option<Pending> {
        let mut state = self.lock();
        state.members.get_mut(&key)?.policy = policy.into();
        Some(self.send(&mut state, &Request::SetPolicy(key, policy.to_owned()), None))
    }

    /// Makes the process forget a namespace, without waiting; `false` when it does not have it.
    pub(super) fn remove(self: &Arc<Self>, key: Key) -> bool {
        let pending = {
            let mut state = self.lock();
            if state.members.remove(&key).is_none() {
                return false;
            }
            self.send(&mut state, &Request::Remove(key), None)
        };
        drop(pending);
        true
    }

    /// Waits until all that was sent is done.
    pub(super) fn flush(self: &Arc<Self>) -> Result<()> {
        let pending = self.send(&mut self.lock(), &Request::Hello, None);
        pending.wait()
    }

    /// Its counters, as it tells them; nothing where it was replaced meanwhile.
    pub(super) fn counters(self: &Arc<Self>) -> Result<String> {
        let pending = self.send(&mut self.lock(), &Request::Hello, None);
        pending
            .wait_for(|answer| {
                Ok(answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned()))
            })
            .map(Option::unwrap_or_default)
    }

    /// Lets go of the process, and ends it when it holds nothing.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_over = true;
        if let Some(link) = state.link.take() {
            link.close();
        }
        if state.members.is_empty()
            && let Some(mut handle) = state.handle.take()
        {
            handle.end();
            self.program.forget(self.number);
        }
        self.changed.notify_all();
    }

    /// Its process, for tests that kill it.
    pub(super) fn pid(&self) -> Option<i32> {
        self.lock().handle.as_ref().map(Handle::pid)
    }

    fn send(
        self: &Arc<Self>,
        state: &mut MutexGuard<'_, State>,
        request: &Request,
        namespace: Option<&File>,
    ) -> Pending {
        let sent = state.link.as_mut().map(|link| link.send(request, namespace.map(File::as_fd)));
        let number = match sent {
            Some(Ok(number)) => {
                state.answers.insert(number, None);
                Some(number)
            }
            Some(Err(_)) => {
                give_up(state);
                None
            }
            None => None,
        };
        Pending { shard: Arc::clone(self), number, round: state.round }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    /// Nobody waits for the answer any more.
    fn drop(&mut self) {
        let mut state = self.shard.lock();
        // Another process counts anew.
        if let Some(number) = self.number.filter(|_| state.round == self.round) {
            state.answers.remove(&number);
        }
    }
}

impl Pending {
    /// Waits until the process does as it was told.
    pub(super) fn wait(self) -> Result<()> {
        self.wait_for(|answer| answer.map_or(Ok(()), verdict))
    }

    /// Reads the answer; there is none where another process was told everything anew.
    fn wait_for<T>(self, read: impl Fn(Option<&Answer>) -> Result<T>) -> Result<T> {
        let silent = || {
            Error::new(
                Kind::Unavailable,
                "the network process does not answer; another one is started",
            )
            .with_hint("try again")
        };
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shard.lock();
        loop {
            if let Some(number) = self.number
                && state.round == self.round
                && let Some(Some(answer)) = state.answers.get(&number)
            {
                return read(Some(answer));
            }
            // The new process was told everything that is noted, this included.
            if state.round != self.round && state.link.is_some() {
                return read(None);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.is_over {
                if state.round == self.round {
                    give_up(&mut state);
                }
                return Err(silent());
            }
            let waited = self.shard.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A process that takes or answers nothing is replaced, by whoever reads its answers.
fn give_up(state: &mut MutexGuard<'_, State>) {
    if let Some(link) = state.link.take() {
        link.close();
    }
}

fn verdict(answer: &Answer) -> Result<()> {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    match answer.status {
        Status::Done => Ok(()),
        Status::MissingLayer => Err(missing(
            &text,
            "use Linux 5.9 or newer with CONFIG_BPF_SYSCALL, and let root load BPF programs",
        )),
        Status::Full => Err(Error::new(Kind::Limit, "the network process is full")
            .with_hint("delete sandboxes, or raise the limit of open files of the server")),
        status => Err(Error::new(
            Kind::Internal,
            format!("the network process refused a sandbox: {status}: {text}"),
        )),
    }
}

/// All namespaces that a process holds.
fn list(client: &mut Client) -> io::Result<Vec<Key>> {
    let mut held: Vec<Key> = Vec::new();
    for _ in 0..MAX_PAGES {
        let after = held.last().copied().unwrap_or_default();
        let page = client.ask(&Request::List(after), None)?.ids();
        if page.is_empty() {
            break;
        }
        held.extend(page);
    }
    Ok(held)
}

/// Makes a process hold what it should: what it holds already keeps the policy it has.
fn settle(client: &mut Client, held: &[Key], members: &HashMap<Key, Member>) -> io::Result<()> {
    for key in held.iter().filter(|key| !members.contains_key(*key)) {
        client.ask(&Request::Remove(*key), None)?;
    }
    for (key, member) in members.iter().filter(|(key, _)| !held.contains(key)) {
        // One that ended a moment ago is being taken away by others.
        let Ok(namespace) = member.namespace() else { continue };
        let request = Request::Add(*key, member.policy.to_string());
        let answer = client.ask(&request, Some(namespace.as_fd()))?;
        if answer.status != Status::Done {
            let why = String::from_utf8_lossy(&answer.body).into_owned();
            tracing::error!(pid = member.pid, status = %answer.status, why, "a sandbox has no network");
        }
    }
    Ok(())
}
