//! The life of process 1: one loop over clients, commands and dead children.
//!
//! ```text
//! client --RUN--> command --output pipe--> OUTPUT packets to the client, and the log
//!                 command ends --> what is left in the pipe, then EXITED, then the connection closes
//! client leaves   --> the command goes on; its output goes to the log only
//! slow client     --> its command's pipe is not read until it has taken what was sent
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};

use crate::clients::Client;
use crate::log;
use crate::numbers;
use crate::park::Inside;
use crate::protocol::MAX_PACKET;
use crate::running::Command;
use crate::stay::Stay;
use crate::sys::{self, READABLE, Watch};

/// Pieces of output taken from one command before others get their turn.
pub(crate) const TURN: usize = 8;
/// Stack of a child until it becomes its program, in units of 16 bytes.
const CHILD_STACK: usize = 4096;

const LISTENER: u64 = 0;
const CHILDREN: u64 = 1;
pub(crate) const CLIENT: u64 = 1 << 32;
pub(crate) const OUTPUT: u64 = 2 << 32;
pub(crate) const INPUT: u64 = 3 << 32;
pub(crate) const STAY_OUTPUT: u64 = 4 << 32;
pub(crate) const STAY_ERROR: u64 = 5 << 32;
pub(crate) const STAY_INPUT: u64 = 6 << 32;
pub(crate) const STAY_SCRIPT: u64 = 7 << 32;
pub(crate) const STAY_STATUS: u64 = 8 << 32;
/// The part of a key that says what kind of thing it belongs to.
const SORT: u64 = !0xffff_ffff;

pub(crate) struct Supervisor {
    pub(crate) queue: OwnedFd,
    pub(crate) listener: OwnedFd,
    pub(crate) inside: Inside,
    pub(crate) log_bytes: u64,
    pub(crate) next_log: u64,
    pub(crate) stay: Stay,
    pub(crate) clients: BTreeMap<u64, Client>,
    pub(crate) next_client: u64,
    pub(crate) commands: Vec<Option<Command>>,
    /// Where children begin; one at a time.
    pub(crate) stack: Vec<u128>,
    pub(crate) buffer: Vec<u8>,
    pub(crate) dirty: bool,
    pub(crate) leaving: bool,
}

/// Serves until the sandbox is told to end and its last process is gone. Never returns.
pub(crate) fn run(listener: OwnedFd, mut inside: Inside, log_bytes: u64) -> ! {
    let _ = sys::block_signals(&[numbers::SIGCHLD]);
    let (Ok(queue), Ok(children)) = (sys::event_queue(), sys::child_signals()) else {
        sys::exit(1)
    };
    let watched = sys::watch(queue.as_fd(), listener.as_fd(), Watch::Add, READABLE, LISTENER)
        .and_then(|()| sys::watch(queue.as_fd(), children.as_fd(), Watch::Add, READABLE, CHILDREN));
    if watched.is_err() {
        sys::exit(1);
    }
    let next_log = inside.found.newest + 1;
    let stay = Stay::new(std::mem::take(&mut inside.found.kept));
    log::begin(&inside.found.logs);
    let mut supervisor = Supervisor {
        queue,
        listener,
        inside,
        log_bytes,
        next_log,
        stay,
        clients: BTreeMap::new(),
        next_client: 0,
        commands: Vec::new(),
        stack: vec![0; CHILD_STACK],
        buffer: vec![0; MAX_PACKET],
        dirty: false,
        leaving: false,
    };
    let mut children = File::from(children);
    loop {
        supervisor.turn(&mut children);
    }
}

impl Supervisor {
    fn turn(&mut self, children: &mut File) {
        let mut events = [sys::Event::default(); 32];
        let queue = self.queue.as_fd();
        let ready =
            match sys::wait(queue, &mut events, if self.dirty { 0 } else { self.patience() }) {
                Ok(ready) => ready.len(),
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(_) => sys::exit(1),
            };
        self.end_waits();
        if ready == 0 {
            return self.flush_logs();
        }
        for event in events.into_iter().take(ready) {
            let key = event.key;
            let index = usize::try_from(key & 0xffff_ffff).unwrap_or(0);
            match key {
                LISTENER => self.accept(),
                CHILDREN => {
                    let mut signals = [0_u8; 1024];
                    let _ = children.read(&mut signals);
                    self.reap();
                }
                key => match key & SORT {
                    OUTPUT => self.pump(index),
                    INPUT => self.feed(index),
                    STAY_OUTPUT => self.take_output(index, 0),
                    STAY_ERROR => self.take_output(index, 1),
                    STAY_INPUT => self.feed_stay(index),
                    STAY_SCRIPT => self.send_script(index),
                    STAY_STATUS => self.read_status(index),
                    _ => self.client_event(key, event.events),
                },
            }
        }
    }

    pub(crate) fn flush_logs(&mut self) {
        self.dirty = false;
        for command in self.commands.iter_mut().flatten().filter(|command| command.dirty) {
            command.dirty = false;
            command.log.flush(&self.inside.logs);
        }
        for slot in &mut self.commands {
            if slot.as_ref().is_some_and(Command::is_over) {
                *slot = None;
            }
        }
    }

    pub(crate) fn reap(&mut self) {
        loop {
            match sys::reap() {
                Ok(Some((pid, status))) => {
                    let found = self.commands.iter().position(|command| {
                        command
                            .as_ref()
                            .is_some_and(|command| command.pid == pid && command.exit.is_none())
                    });
                    if let Some(index) = found {
                        if let Some(Some(command)) = self.commands.get_mut(index) {
                            command.exit = Some(exit_code(status));
                            command.input = None;
                        }
                        self.pump(index);
                    } else {
                        self.reaped(pid, exit_code(status));
                    }
                }
                // No child is left: the sandbox is empty.
                Err(_) if self.leaving => {
                    self.flush_logs();
                    sys::exit(0)
                }
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// Exit code of a wait status; 128 + n after signal n.
fn exit_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => (status >> 8) & 0xff,
        signal => 128 + signal,
    }
}
