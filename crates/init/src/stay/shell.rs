//! Shells that are given commands one after the other.
//!
//! ```text
//! init --script pipe--> shell: command eval '<text>' 8>&-; echo $? >&8 --status pipe--> init
//! ```
//! The shell runs each command in itself, so that what it sets stays set. `command` keeps a syntax error from
//! ending shells that end on one in a special built-in; the status is out of reach of what the command starts.
//! When the status is there, all that the command wrote is in the pipes already.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use super::entry::Entry;
use super::ring::Ring;
use crate::command::{SCRIPT, STATUS};
use crate::protocol::Stage;
use crate::protocol::kept::{Head, Kind};
use crate::protocol::stay::{MAX_QUEUED, MAX_QUEUED_BYTES, MAX_STAYING, Queue};
use crate::supervisor::{STAY_SCRIPT, Supervisor};
use crate::sys::{self, WRITABLE, Watch};

/// What a shell has that other processes have not.
#[derive(Debug)]
pub(crate) struct Shell {
    script: File,
    pub(crate) status: File,
    /// Its end of its input, to drop what a command leaves unread.
    pub(crate) input: OwnedFd,
    /// Script that did not fit the pipe yet.
    unsent: Vec<u8>,
    waiting: VecDeque<(u64, Vec<u8>)>,
    pub(crate) current: Option<u64>,
    /// The last one that is over: what the background writes belongs to it.
    pub(crate) last: Option<u64>,
    last_code: i32,
    /// Part of a status.
    said: Vec<u8>,
}

impl Shell {
    pub(crate) fn new(script: OwnedFd, status: OwnedFd, input: OwnedFd) -> Self {
        Self {
            script: script.into(),
            status: status.into(),
            input,
            unsent: format!("exec {SCRIPT}<&-\n").into_bytes(),
            waiting: VecDeque::new(),
            current: None,
            last: None,
            last_code: 0,
            said: Vec::new(),
        }
    }

    /// All commands that somebody may still wait for, in order.
    pub(crate) fn unfinished(&self) -> Vec<u64> {
        let waiting = self.waiting.iter().map(|(number, _)| *number);
        self.last.into_iter().chain(self.current).chain(waiting).collect()
    }
}

/// The line of script that runs a command.
fn line(text: &[u8], last_code: i32) -> Vec<u8> {
    let mut line = Vec::with_capacity(text.len() + 64);
    if last_code != 0 {
        // `$?` is what the command before left; nothing is forked for the usual zero.
        line.extend_from_slice(format!("(exit {last_code}) || ").as_bytes());
    }
    line.extend_from_slice(b"command eval '");
    for byte in text {
        match byte {
            b'\'' => line.extend_from_slice(b"'\\''"),
            byte => line.push(*byte),
        }
    }
    line.extend_from_slice(format!("' {STATUS}>&-; echo $? >&{STATUS}\n").as_bytes());
    line
}

impl Supervisor {
    /// Accepts a command for a shell.
    pub(crate) fn enqueue(&mut self, key: u64, queue: Queue) {
        let Some(entry) = self.stay.entries.get(&queue.shell) else {
            return self.refuse_number(key, queue.shell);
        };
        let (slot, over) = (entry.slot, entry.exit.is_some());
        let Some(process) = self.stay.process(slot).filter(|_| !over) else {
            return self.refuse(key, Stage::Ended, 3);
        };
        let (alive, leaving) = (process.is_alive(), self.leaving);
        let is_shell = |process: &super::process::Process| process.number == queue.shell;
        let Some(process) = self.stay.process(slot).filter(|process| is_shell(process)) else {
            return self.refuse(key, Stage::Unfit, 22);
        };
        let Some(shell) = &process.shell else { return self.refuse(key, Stage::Unfit, 22) };
        if !alive || leaving {
            return self.refuse(key, Stage::Ended, 3);
        }
        let held: usize = shell.waiting.iter().map(|(_, text)| text.len()).sum();
        let full = shell.waiting.len() >= MAX_QUEUED
            || held + queue.command.len() > MAX_QUEUED_BYTES
            || self.stay.unfinished() >= MAX_STAYING;
        if full {
            return self.refuse(key, Stage::Busy, 11);
        }
        let head = self.head(Kind::Command, (queue.started_at, queue.shell), &queue.note);
        let number = self.next_log;
        let ring = match Ring::new(&self.inside.logs, number, head, &queue.note) {
            Ok(ring) => ring,
            Err(error) => return self.refuse(key, Stage::Busy, error.raw_os_error().unwrap_or(5)),
        };
        self.next_log += 1;
        self.stay.entries.insert(number, Entry::new(ring, slot));
        self.stay.shrink(&self.inside.logs);
        if let Some(shell) = self.shell(slot) {
            shell.waiting.push_back((number, queue.command));
        }
        self.advance(slot);
        self.answer_done(key, number);
    }

    fn shell(&mut self, slot: usize) -> Option<&mut Shell> {
        self.stay.process(slot)?.shell.as_deref_mut()
    }

    /// Takes a command that has not begun out of its queue; whether there was one.
    pub(crate) fn unqueue(&mut self, slot: usize, number: u64) -> bool {
        let Some(shell) = self.shell(slot) else { return false };
        let before = shell.waiting.len();
        shell.waiting.retain(|(waiting, _)| *waiting != number);
        shell.waiting.len() < before
    }

    /// Gives the shell its next command, if it has none.
    pub(crate) fn advance(&mut self, slot: usize) {
        let Some(shell) = self.shell(slot) else { return };
        let last = shell.last;
        if shell.current.is_none()
            && let Some((number, text)) = shell.waiting.pop_front()
        {
            shell.unsent.extend_from_slice(&line(&text, shell.last_code));
            shell.current = Some(number);
            shell.last = None;
            if let Some(last) = last {
                self.close_entry(last);
            }
        }
        self.send_script(slot);
    }

    /// Nothing more belongs to a command that is over.
    pub(crate) fn close_entry(&mut self, number: u64) {
        if let Some(entry) = self.stay.entries.get_mut(&number) {
            entry.open = false;
        }
        self.settle(number);
    }

    /// Writes script that the pipe takes now.
    pub(crate) fn send_script(&mut self, slot: usize) {
        let Some(Some(process)) = self.stay.processes.get_mut(slot) else { return };
        let Some(shell) = &mut process.shell else { return };
        let (queue, script) = (self.queue.as_fd(), &mut shell.script);
        while !shell.unsent.is_empty() {
            match script.write(&shell.unsent) {
                Ok(taken) => drop(shell.unsent.drain(..taken)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let key = STAY_SCRIPT | slot as u64;
                    let _ = sys::watch(queue, script.as_fd(), Watch::Add, WRITABLE, key);
                    return;
                }
                // The shell is about to end.
                Err(_) => shell.unsent.clear(),
            }
        }
        shell.unsent = Vec::new();
        let _ = sys::watch(queue, script.as_fd(), Watch::Remove, 0, 0);
    }

    /// Hears how the current command ended.
    pub(crate) fn read_status(&mut self, slot: usize) {
        /// Longest line that is a status; what else is written there is no more than the shell's own harm.
        const LONGEST: usize = 16;
        let Some(process) = self.stay.process(slot) else { return };
        // First what it wrote must be taken, which waits.
        if process.paused.is_some() || process.told {
            return;
        }
        let Some(shell) = &mut process.shell else { return };
        let mut bytes = [0; LONGEST];
        let Ok(length @ 1..) = shell.status.read(&mut bytes) else { return };
        shell.said.extend_from_slice(&bytes[..length]);
        let Some(end) = shell.said.iter().position(|byte| *byte == b'\n') else {
            if shell.said.len() > LONGEST {
                shell.said.clear();
            }
            return;
        };
        let rest = shell.said.split_off(end + 1);
        let said = std::mem::replace(&mut shell.said, rest);
        let code = std::str::from_utf8(&said).ok().and_then(|said| said.trim().parse().ok());
        if let Some(number) = shell.current {
            self.end_command(slot, number, code.unwrap_or(255_i32).clamp(0, 255));
        }
    }

    fn end_command(&mut self, slot: usize, number: u64, code: i32) {
        self.take_last_words(slot);
        let Some(shell) = self.shell(slot) else { return };
        shell.current = None;
        shell.last = Some(number);
        shell.last_code = code;
        // What it left in the background may still write.
        self.finish(number, code, true);
        self.drop_input(slot);
        self.advance(slot);
    }

    /// The head of a new file.
    pub(crate) fn head(&self, kind: Kind, (started_at, shell): (u64, u64), note: &[u8]) -> Head {
        Head {
            kind,
            exit: None,
            window: (0, 0),
            note_length: u32::try_from(note.len()).unwrap_or(0),
            shell,
            started_at,
            begin: 0,
            end: 0,
            size: self
                .log_bytes
                .clamp(crate::protocol::kept::MIN_SIZE, crate::protocol::kept::MAX_SIZE),
        }
    }
}
