//! Starting a process that stays.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::fchown;

use super::entry::Entry;
use super::process::Process;
use super::ring::{self, Ring};
use super::shell::Shell;
use crate::command::{self, Program, Streams};
use crate::protocol::Stage;
use crate::protocol::kept::{Head, Kind};
use crate::protocol::stay::{MAX_STAYING, Start};
use crate::supervisor::{STAY_ERROR, STAY_OUTPUT, STAY_STATUS, Supervisor};
use crate::sys::{self, PipeEnd, READABLE};

/// Group of terminals, `tty` in every system's account files.
const TTY: u32 = 5;

type Failed = (Stage, i32);

fn at(error: &std::io::Error) -> Failed {
    (Stage::Fork, error.raw_os_error().unwrap_or(0))
}

/// Our ends and the child's.
struct Ends {
    output: OwnedFd,
    error: Option<OwnedFd>,
    input: OwnedFd,
    child: [OwnedFd; 3],
    /// Script and status: ours, then the child's.
    shell: Option<([OwnedFd; 2], [OwnedFd; 2])>,
}

impl Ends {
    fn terminal(window: (u16, u16)) -> std::io::Result<Self> {
        let (ours, theirs) = sys::terminal()?;
        sys::set_window(ours.as_fd(), window)?;
        let child = [theirs.try_clone()?, theirs.try_clone()?, theirs];
        Ok(Self { input: ours.try_clone()?, output: ours, error: None, child, shell: None })
    }

    fn pipes(shell: bool) -> std::io::Result<Self> {
        let (child_input, input) = sys::pipe(PipeEnd::Write)?;
        let (output, child_output) = sys::pipe(PipeEnd::Read)?;
        let (error, child_error) = sys::pipe(PipeEnd::Read)?;
        let shell = if shell {
            let (child_script, script) = sys::pipe(PipeEnd::Write)?;
            let (status, child_status) = sys::pipe(PipeEnd::Read)?;
            Some(([script, status], [child_script, child_status]))
        } else {
            None
        };
        let child = [child_input, child_output, child_error];
        Ok(Self { output, error: Some(error), input, child, shell })
    }

    /// Gives the child's ends to its user, who may then open them by name.
    fn give(&self, start: &Start, terminal: bool) -> std::io::Result<()> {
        let (user, group) = (start.run.uid, if terminal { TTY } else { start.run.gid });
        let of_shell = self.shell.iter().flat_map(|(_, child)| child);
        self.child.iter().chain(of_shell).try_for_each(|fd| fchown(fd, Some(user), Some(group)))
    }
}

impl Supervisor {
    /// Starts what a request asks for, and answers with its number.
    pub(crate) fn start_stay(&mut self, key: u64, start: &Start) {
        match self.try_start_stay(start) {
            Ok(number) => self.answer_done(key, number),
            Err((stage, errno)) => self.refuse(key, stage, errno),
        }
    }

    fn try_start_stay(&mut self, start: &Start) -> Result<u64, Failed> {
        if self.leaving {
            return Err((Stage::Busy, 3));
        }
        if self.stay.unfinished() >= MAX_STAYING {
            return Err((Stage::Busy, 11));
        }
        let kind = Kind::from_u8(start.kind).filter(|kind| *kind != Kind::Command);
        let kind = kind.ok_or((Stage::Request, 22))?;
        let window = (start.columns, start.rows);
        let terminal = kind == Kind::Terminal;
        let ends = if terminal { Ends::terminal(window) } else { Ends::pipes(kind == Kind::Shell) };
        let ends = ends.map_err(|error| at(&error))?;
        ends.give(start, terminal).map_err(|error| at(&error))?;
        let number = self.next_log;
        let head = Head { window, ..self.head(kind, (start.run.started_at, 0), &start.note) };
        let ring = Ring::new(&self.inside.logs, number, head, &start.note)
            .map_err(|error| (Stage::Busy, error.raw_os_error().unwrap_or(5)))?;
        let program = Program { run: &start.run, others: &start.others, login: start.login };
        let streams = Streams {
            input: &ends.child[0],
            output: &ends.child[1],
            error: &ends.child[2],
            shell: ends.shell.as_ref().map(|(_, [script, status])| (script, status)),
            terminal,
        };
        let pid = command::spawn(&program, &streams, &mut self.stack).inspect_err(|_| {
            let _ = sys::unlink_at(self.inside.logs.as_fd(), &ring::name(number));
        })?;
        self.next_log += 1;
        self.adopt(number, pid, terminal, ends, ring);
        Ok(number)
    }

    /// Takes a started process in.
    fn adopt(&mut self, number: u64, pid: i32, terminal: bool, ends: Ends, ring: Ring) {
        let Ends { output, error, input, child: [child_input, ..], shell } = ends;
        let shell =
            shell.map(|([script, status], _)| Box::new(Shell::new(script, status, child_input)));
        let process = Process {
            number,
            pid,
            exit: None,
            told: false,
            streams: [Some(File::from(output)), error.map(File::from)],
            input: Some(input.into()),
            unread: Vec::new(),
            input_ended: false,
            terminal,
            shell,
            paused: None,
        };
        let slot = self.stay.free_slot();
        for (file, key) in process.streams.iter().zip([STAY_OUTPUT, STAY_ERROR]) {
            if let Some(file) = file {
                self.watch_stay(file, READABLE, key, slot);
            }
        }
        if let Some(shell) = &process.shell {
            self.watch_stay(&shell.status, READABLE, STAY_STATUS, slot);
        }
        self.stay.entries.insert(number, Entry::new(ring, slot));
        self.stay.processes[slot] = Some(Box::new(process));
        self.stay.shrink(&self.inside.logs);
        self.send_script(slot);
    }
}
