//! The contract of processes that stay, with programs that every host has.

mod outputs;
mod shells;
mod terminals;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mayfly_core::id::SandboxId;
use mayfly_core::ports::processes::{Follower, Processes};
use mayfly_core::ports::runtime::Runtime;
use mayfly_core::process::{Process, ShellCommand, StartRequest, Stream, Wiring};
use mayfly_core::{Code, Kind};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the whole suite in a running sandbox; leaves nothing running behind when it passes.
///
/// # Panics
/// When a promise is broken.
pub async fn processes_contract(runtime: &dyn Runtime, sandbox: SandboxId) {
    let host = Host { processes: runtime.processes(), sandbox };
    let suite = async {
        shells::run(&host).await;
        terminals::run(&host).await;
        outputs::run(&host).await;
        refusals(&host).await;
    };
    tokio::time::timeout(PATIENCE * 2, suite).await.expect("no call hangs");
}

/// Where the suite runs.
struct Host<'a> {
    processes: &'a dyn Processes,
    sandbox: SandboxId,
}

/// All output of one process from an offset on, and its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    output: Vec<u8>,
    error: Vec<u8>,
    /// Offset of the first byte.
    from: Option<u64>,
    /// Offset behind the last.
    next: u64,
    /// Bytes that were skipped.
    missed: u64,
    code: Option<i32>,
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

impl Host<'_> {
    async fn start(&self, argv: &[&str], wiring: Wiring) -> u64 {
        let request = StartRequest {
            argv: argv.iter().map(ToString::to_string).collect(),
            note: "a note".to_owned(),
            cwd: Some("/".to_owned()),
            env: BTreeMap::from([("GIVEN".to_owned(), "$(a) 'b'".to_owned())]),
            wiring,
        };
        self.processes.start(self.sandbox, request).await.expect("a process starts")
    }

    async fn queue(&self, shell: u64, command: &str) -> u64 {
        let note = command.chars().take(64).collect();
        let command = ShellCommand { command: command.to_owned(), note };
        self.processes.queue(self.sandbox, shell, command).await.expect("a shell takes a command")
    }

    /// Runs a command of a shell to its end.
    async fn run(&self, shell: u64, command: &str) -> Said {
        let number = self.queue(shell, command).await;
        self.whole(number).await
    }

    async fn write(&self, number: u64, input: &[u8]) {
        let input = Bytes::copy_from_slice(input);
        self.processes.write(self.sandbox, number, input).await.expect("it takes input");
    }

    async fn follow(&self, number: u64, from: u64) -> Box<dyn Follower> {
        self.processes.follow(self.sandbox, number, from).await.expect("it can be followed")
    }

    /// Everything until the end.
    async fn whole(&self, number: u64) -> Said {
        read_all(&mut *self.follow(number, 0).await).await
    }

    async fn kill(&self, number: u64) {
        self.processes.kill(self.sandbox, number).await.expect("kill");
    }

    async fn seen(&self, number: u64) -> Option<Process> {
        let all = self.processes.list(self.sandbox).await.expect("list");
        assert!(all.is_sorted_by_key(|process| process.number), "oldest first");
        all.into_iter().find(|process| process.number == number)
    }
}

/// Reads one answer into what was said; whether it was the last.
async fn read(follower: &mut dyn Follower, said: &mut Said) -> bool {
    let reading = tokio::time::timeout(PATIENCE, follower.next(1 << 20));
    let output = reading.await.expect("output or an end comes").expect("output");
    let expected = said.from.map_or(output.from, |_| said.next);
    assert!(output.from >= expected, "output never goes back");
    said.missed += output.from - expected;
    said.from.get_or_insert(output.from);
    let mut length = 0;
    for piece in output.pieces {
        length += piece.bytes.len() as u64;
        match piece.stream {
            Stream::Output => said.output.extend_from_slice(&piece.bytes),
            Stream::Error => said.error.extend_from_slice(&piece.bytes),
        }
    }
    assert_eq!(output.next, output.from + length, "offsets count bytes");
    said.next = output.next;
    said.code = output.exit_code;
    said.code.is_some()
}

async fn read_all(follower: &mut dyn Follower) -> Said {
    let mut said = Said::default();
    while !read(follower, &mut said).await {}
    let again = follower.next(1).await.expect("an end");
    assert_eq!((again.exit_code, again.pieces.len()), (said.code, 0), "the end comes again");
    said
}

/// Reads until the text is there.
async fn read_until(follower: &mut dyn Follower, said: &mut Said, text: &str) {
    while !said.text().contains(text) {
        assert!(!read(follower, said).await, "it ended without {text:?}: {:?}", said.text());
    }
}

async fn refusals(host: &Host<'_>) {
    let (processes, sandbox) = (host.processes, host.sandbox);
    let missing = [
        processes.follow(sandbox, 999_999, 0).await.map(drop),
        processes.write(sandbox, 999_999, Bytes::from_static(b"x")).await,
        processes.signal(sandbox, 999_999, 15).await,
        processes.kill(sandbox, 999_999).await,
    ];
    for answer in missing {
        let error = answer.expect_err("there is no such process");
        assert_eq!((error.kind(), error.code()), (Kind::NotFound, Some(Code::ProcessNotFound)));
    }
    processes.forget(sandbox, 999_999).await.expect("what is gone is forgotten");
    let request = |argv: &str, wiring: Wiring| StartRequest {
        argv: vec![argv.to_owned()],
        note: String::new(),
        cwd: None,
        env: BTreeMap::new(),
        wiring,
    };
    let nul = request("sh\0", Wiring::Pipes);
    let long = StartRequest { note: "n".repeat((16 << 10) + 1), ..request("sh", Wiring::Pipes) };
    let window = mayfly_core::process::Window { columns: 0, rows: 24 };
    let empty = request("sh", Wiring::Terminal(window));
    let absent = request("/no/such/program", Wiring::Pipes);
    let folder =
        StartRequest { cwd: Some("/no/such/folder".to_owned()), ..request("sh", Wiring::Shell) };
    let none = StartRequest { argv: Vec::new(), ..request("", Wiring::Pipes) };
    for wrong in [nul, long, empty, absent, folder, none] {
        let error = processes.start(sandbox, wrong.clone()).await.expect_err("it cannot start");
        assert_eq!(error.kind(), Kind::Invalid, "{wrong:?}: {error}");
    }
    let sleeper = host.start(&["sleep", "600"], Wiring::Pipes).await;
    let command = ShellCommand { command: "true".to_owned(), note: String::new() };
    let unfit = processes.queue(sandbox, sleeper, command).await.expect_err("it is no shell");
    assert_eq!(unfit.kind(), Kind::Invalid);
    let window = mayfly_core::process::Window { columns: 80, rows: 24 };
    let unfit = processes.resize(sandbox, sleeper, window).await.expect_err("it has no terminal");
    assert_eq!(unfit.kind(), Kind::Invalid);
    let error = processes.signal(sandbox, sleeper, 65).await.expect_err("no such signal");
    assert_eq!(error.kind(), Kind::Invalid);
    host.kill(sleeper).await;
}
