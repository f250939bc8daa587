//! Processes that stay, as the cases use them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mayfly_core::Result;
use mayfly_core::id::SandboxId;
use mayfly_core::ports::processes::{Follower, Processes};
use mayfly_core::ports::runtime::Runtime as _;
use mayfly_core::process::{Process, ShellCommand, StartRequest, Window, Wiring};

use crate::harness::Bench;

/// A terminal of the usual size.
pub(crate) const TERMINAL: Wiring = Wiring::Terminal(Window { columns: 80, rows: 24 });

/// What stays in one sandbox of a bench.
#[derive(Clone, Copy)]
pub(crate) struct Staying<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) id: SandboxId,
}

/// Output of one process.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) bytes: Vec<u8>,
    pub(crate) total: u64,
    pub(crate) code: Option<i32>,
}

impl Said {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Staying<'_> {
    pub(crate) fn processes(&self) -> &dyn Processes {
        self.bench.runtime().processes()
    }

    pub(crate) fn try_start(&self, argv: &[&str], wiring: Wiring) -> Result<u64> {
        let request = StartRequest {
            argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
            note: argv.join(" "),
            cwd: Some("/".to_owned()),
            env: BTreeMap::new(),
            wiring,
        };
        self.bench.wait(self.processes().start(self.id, request))
    }

    #[track_caller]
    pub(crate) fn start(&self, argv: &[&str], wiring: Wiring) -> u64 {
        self.try_start(argv, wiring).unwrap_or_else(|error| panic!("{argv:?}: {error} {error:?}"))
    }

    pub(crate) fn try_queue(&self, shell: u64, command: &str) -> Result<u64> {
        let (command, note) = (command.to_owned(), command.to_owned());
        let command = ShellCommand { command, note };
        self.bench.wait(self.processes().queue(self.id, shell, command))
    }

    #[track_caller]
    pub(crate) fn queue(&self, shell: u64, command: &str) -> u64 {
        self.try_queue(shell, command).unwrap_or_else(|error| panic!("{command}: {error:?}"))
    }

    pub(crate) fn write(&self, number: u64, input: &str) -> Result<()> {
        let input = Bytes::copy_from_slice(input.as_bytes());
        self.bench.wait(self.processes().write(self.id, number, input))
    }

    #[track_caller]
    pub(crate) fn follow(&self, number: u64) -> Box<dyn Follower> {
        self.bench.wait(self.processes().follow(self.id, number, 0)).unwrap()
    }

    /// Everything until the end; the last megabyte of it is given.
    #[track_caller]
    pub(crate) fn whole(&self, number: u64) -> Said {
        let mut follower = self.follow(number);
        let mut said = Said::default();
        while said.code.is_none() {
            self.read(&mut *follower, &mut said);
        }
        said
    }

    /// One answer more.
    #[track_caller]
    pub(crate) fn read(&self, follower: &mut dyn Follower, said: &mut Said) {
        let output = self.bench.wait(follower.next(1 << 20)).unwrap();
        for piece in output.pieces {
            said.bytes.extend_from_slice(&piece.bytes);
        }
        let over = said.bytes.len().saturating_sub(1 << 20);
        said.bytes.drain(..over);
        (said.total, said.code) = (output.next, output.exit_code);
    }

    /// Reads until a text is there.
    #[track_caller]
    pub(crate) fn until(&self, number: u64, text: &str) -> Said {
        let mut follower = self.follow(number);
        let mut said = Said::default();
        while !said.text().contains(text) {
            assert!(said.code.is_none(), "it ended without {text:?}: {}", said.text());
            self.read(&mut *follower, &mut said);
        }
        said
    }

    #[track_caller]
    pub(crate) fn kill(&self, number: u64) {
        self.bench.wait(self.processes().kill(self.id, number)).unwrap();
    }

    #[track_caller]
    pub(crate) fn list(&self) -> Vec<Process> {
        self.bench.wait(self.processes().list(self.id)).unwrap()
    }

    /// Polls for the end of a process that nobody follows.
    #[track_caller]
    pub(crate) fn code(&self, number: u64) -> i32 {
        for _ in 0..6000 {
            let found = self.list().into_iter().find(|process| process.number == number);
            if let Some(code) = found.expect("it is kept").exit_code {
                return code;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("process {number} does not end");
    }
}
