//! Processes that stay, of fake sandboxes: shells, terminals and an interpreter that know a handful of words.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_core::id::SandboxId;
use mayfly_core::ports::processes::{Follower, Processes};
use mayfly_core::process::{
    Output, Piece, Process, ShellCommand, StartRequest, Stream, Window, Wiring,
};
use mayfly_core::time::Timestamp;
use mayfly_core::{Code, Error, Kind, Result};

use super::{Machines, driver, shell};

/// Bytes of output kept of each.
const KEPT: u64 = 10 << 20;
/// Exit code after the kill signal.
const KILLED: i32 = 137;

/// One of them.
#[derive(Debug)]
pub(super) struct FakeProcess {
    pub(super) shown: Process,
    /// Output with the offset of its first byte.
    log: VecDeque<(u64, Piece)>,
    written: u64,
    /// Variables.
    pub(super) env: BTreeMap<String, String>,
    /// Bytes given and not read.
    pub(super) input: Vec<u8>,
    /// Statements that have not run.
    pub(super) todo: VecDeque<String>,
    /// Numbers of a shell's commands that have not ended, the running one first.
    pub(super) queue: VecDeque<(u64, String)>,
    program: Program,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Shell,
    Terminal,
    Interpreter,
    /// Ends at its first input.
    Waiter,
    /// Reads all and says nothing: a language server that is stuck.
    Silent,
    /// A command of a shell.
    Queued,
}

impl FakeProcess {
    fn new(shown: Process, env: BTreeMap<String, String>, program: Program) -> Self {
        let (log, todo, queue) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Self { shown, log, written: 0, env, input: Vec::new(), todo, queue, program }
    }

    /// Writes output.
    pub(super) fn print(&mut self, stream: Stream, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let from = self.written;
        self.written += bytes.len() as u64;
        self.log.push_back((from, Piece { stream, bytes }));
        while self
            .log
            .front()
            .is_some_and(|(from, piece)| self.written - from - piece.bytes.len() as u64 >= KEPT)
        {
            self.log.pop_front();
        }
    }

    fn read(&self, from: u64, max: usize) -> Output {
        let oldest = self.log.front().map_or(self.written, |(at, _)| *at);
        let (mut next, mut left, mut pieces) = (from.max(oldest), max.max(1), Vec::new());
        let begin = next;
        for (at, piece) in &self.log {
            let end = at + piece.bytes.len() as u64;
            if end <= next || left == 0 {
                continue;
            }
            let skip = usize::try_from(next - at).unwrap_or(usize::MAX);
            let bytes = piece.bytes.slice(skip..(skip + left).min(piece.bytes.len()));
            (next, left) = (next + bytes.len() as u64, left - bytes.len());
            pieces.push(Piece { stream: piece.stream, bytes });
        }
        let exit_code = self.shown.exit_code.filter(|_| next == self.written);
        Output { pieces, from: begin, next, exit_code }
    }
}

/// The processes of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) all: Vec<FakeProcess>,
    numbers: u64,
}

impl Table {
    fn add(&mut self, mut shown: Process, env: BTreeMap<String, String>, kind: Program) -> u64 {
        self.numbers += 1;
        shown.number = self.numbers;
        self.all.push(FakeProcess::new(shown, env, kind));
        self.numbers
    }

    pub(super) fn get(&mut self, number: u64) -> Result<&mut FakeProcess> {
        let missing = || {
            Error::not_found(format!("process {number} not found")).with_code(Code::ProcessNotFound)
        };
        self.all.iter_mut().find(|one| one.shown.number == number).ok_or_else(missing)
    }

    /// Ends one; the commands of a shell end with it.
    pub(super) fn end(&mut self, number: u64, code: i32) {
        for one in &mut self.all {
            let its = one.shown.number == number || one.shown.shell == Some(number);
            if its && one.shown.exit_code.is_none() {
                one.shown.exit_code = Some(code);
                one.todo.clear();
            }
        }
    }

    fn living(&mut self, number: u64) -> Result<&mut FakeProcess> {
        let one = self.get(number)?;
        if one.shown.exit_code.is_some() {
            return Err(Error::new(Kind::Gone, format!("process {number} has ended")));
        }
        Ok(one)
    }

    fn give(&mut self, number: u64, input: &[u8]) -> Result<()> {
        let one = self.living(number)?;
        match (one.program, one.shown.shell) {
            (Program::Queued, Some(shell)) => {
                let shell_process = self.living(shell)?;
                if shell_process.queue.front().map(|(first, _)| *first) != Some(number) {
                    return Err(Error::conflict("its turn has not come"));
                }
                shell_process.input.extend_from_slice(input);
                shell::go_on(self, shell);
            }
            (Program::Terminal, _) => {
                shell::typed(self, number, input);
            }
            (Program::Interpreter, _) => {
                one.input.extend_from_slice(input);
                driver::go_on(one);
            }
            (Program::Silent, _) => {}
            (Program::Waiter, _) => self.end(number, 0),
            _ => one.input.extend_from_slice(input),
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct FakeProcesses {
    pub(super) machines: Arc<Machines>,
}

impl FakeProcesses {
    fn with<T>(&self, sandbox: SandboxId, act: impl FnOnce(&mut Table) -> Result<T>) -> Result<T> {
        let out = act(&mut self.machines.lock().running(sandbox)?.processes);
        self.machines.changed.notify_waiters();
        out
    }
}

fn shown(note: String, wiring: Option<Wiring>, shell: Option<u64>) -> Process {
    let started_at = Timestamp(1_767_225_600_000);
    Process { number: 0, note, started_at, exit_code: None, wiring, shell }
}

#[async_trait]
impl Processes for FakeProcesses {
    async fn start(&self, sandbox: SandboxId, request: StartRequest) -> Result<u64> {
        if request.cwd.as_deref().is_some_and(|cwd| cwd.starts_with("/no/")) {
            return Err(Error::invalid("cwd: there is no such folder"));
        }
        let interprets = request.argv.iter().any(|word| word == "interpreter");
        let program = match request.wiring {
            Wiring::Shell => Program::Shell,
            Wiring::Terminal(_) => Program::Terminal,
            Wiring::Pipes if interprets => Program::Interpreter,
            Wiring::Pipes if request.argv.iter().any(|word| word == "language-server") => {
                Program::Silent
            }
            Wiring::Pipes => Program::Waiter,
        };
        self.with(sandbox, |table| {
            let process = shown(request.note, Some(request.wiring), None);
            let number = table.add(process, request.env, program);
            match program {
                Program::Terminal => table.get(number)?.print(Stream::Output, "$ "),
                Program::Interpreter => table.get(number)?.print(Stream::Output, "ready\n"),
                _ => {}
            }
            Ok(number)
        })
    }

    async fn queue(&self, sandbox: SandboxId, shell: u64, command: ShellCommand) -> Result<u64> {
        self.with(sandbox, |table| {
            table.living(shell)?;
            let process = shown(command.note, None, Some(shell));
            let number = table.add(process, BTreeMap::new(), Program::Queued);
            table.get(shell)?.queue.push_back((number, command.command));
            shell::go_on(table, shell);
            Ok(number)
        })
    }

    async fn list(&self, sandbox: SandboxId) -> Result<Vec<Process>> {
        self.with(sandbox, |table| Ok(table.all.iter().map(|one| one.shown.clone()).collect()))
    }

    async fn follow(
        &self,
        sandbox: SandboxId,
        number: u64,
        from: u64,
    ) -> Result<Box<dyn Follower>> {
        self.with(sandbox, |table| table.get(number).map(drop))?;
        let machines = Arc::clone(&self.machines);
        Ok(Box::new(FakeFollower { machines, sandbox, number, offset: from }))
    }

    async fn write(&self, sandbox: SandboxId, number: u64, input: Bytes) -> Result<()> {
        self.with(sandbox, |table| table.give(number, &input))
    }

    async fn resize(&self, sandbox: SandboxId, number: u64, window: Window) -> Result<()> {
        self.with(sandbox, |table| {
            table.living(number)?.shown.wiring = Some(Wiring::Terminal(window));
            Ok(())
        })
    }

    async fn signal(&self, sandbox: SandboxId, number: u64, _: i32) -> Result<()> {
        self.with(sandbox, |table| {
            let one = table.get(number)?;
            if one.program == Program::Interpreter {
                driver::interrupted(one);
            } else {
                shell::interrupted(table, number);
            }
            Ok(())
        })
    }

    async fn kill(&self, sandbox: SandboxId, number: u64) -> Result<()> {
        self.with(sandbox, |table| {
            table.get(number)?;
            table.end(number, KILLED);
            Ok(())
        })
    }

    async fn forget(&self, sandbox: SandboxId, number: u64) -> Result<()> {
        self.with(sandbox, |table| {
            if table.get(number).is_ok_and(|one| one.shown.exit_code.is_none()) {
                return Err(Error::conflict(format!("process {number} runs")));
            }
            table.all.retain(|one| one.shown.number != number);
            Ok(())
        })
    }
}

#[derive(Debug)]
struct FakeFollower {
    machines: Arc<Machines>,
    sandbox: SandboxId,
    number: u64,
    offset: u64,
}

#[async_trait]
impl Follower for FakeFollower {
    async fn next(&mut self, max: usize) -> Result<Output> {
        loop {
            let machines = Arc::clone(&self.machines);
            let changed = machines.changed.notified();
            let output = self.now(max).await?;
            if !output.pieces.is_empty() || output.exit_code.is_some() {
                return Ok(output);
            }
            changed.await;
        }
    }

    async fn now(&mut self, max: usize) -> Result<Output> {
        let mut state = self.machines.lock();
        let output =
            state.running(self.sandbox)?.processes.get(self.number)?.read(self.offset, max);
        self.offset = output.next;
        Ok(output)
    }
}
