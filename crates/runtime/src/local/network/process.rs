//! The network process: how it is started, found again and ended.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mayfly_core::{Error, Kind, Result};
use mayfly_net::client::{self, Client};
use mayfly_net::control::{Request, Status};
use mayfly_net::namespace;

use super::options::NetworkOptions;
use super::steering::Steering;
use crate::local::live::{ended, open_pidfd};
use crate::local::memory;

/// The network program, static and without dependencies (see `build.rs`).
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mayfly-net"));
/// Longest wait for a killed process, milliseconds.
const KILL_PATIENCE: u64 = 10_000;

/// What every process is started with.
#[derive(Debug)]
pub(super) struct Program {
    memory: OwnedFd,
    /// Folder of the control sockets.
    run: OwnedFd,
    /// Folder of the audit.
    audit: PathBuf,
    /// Namespace that traffic leaves from.
    home: Option<PathBuf>,
    pub(super) steering: Steering,
}

/// One process, its own child or an earlier server's.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) client: Client,
    pub(super) handle: Handle,
}

/// What ends a process.
#[derive(Debug)]
pub(super) struct Handle {
    pid: i32,
    pidfd: OwnedFd,
    child: Option<Child>,
}

impl Program {
    /// The program and the way that it steers by. The inner error: this host offers none, and why.
    pub(super) fn new(
        (run, audit): (&Path, PathBuf),
        options: &NetworkOptions,
        is_root: bool,
    ) -> Result<std::result::Result<Self, String>> {
        let run = File::open(run).map_err(|error| Error::internal("folder of sockets", error))?;
        let memory = program()?;
        let steering = Steering::find(options.steering, is_root, &memory);
        let home = options.home.clone();
        Ok(steering.map(|steering| Self { memory, run: run.into(), audit, home, steering }))
    }

    /// Short whatever the data directory is called: socket addresses hold 107 bytes.
    fn path(&self, number: usize) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{}", self.run.as_raw_fd(), name(number)))
    }

    /// How many processes an earlier server left, or began to.
    pub(super) fn left(&self) -> usize {
        let there = |number: &usize| {
            rustix::fs::statat(&self.run, name(*number), rustix::fs::AtFlags::empty()).is_ok()
        };
        (0..super::MAX_SHARDS).take_while(there).count()
    }

    /// The process of this number that an earlier server left, if it lives and speaks our language. One that
    /// does not is ended.
    pub(super) fn find(&self, number: usize) -> Option<Process> {
        let client = Client::connect(&self.path(number)).ok()?;
        // Who listened last, which is the process itself.
        let pid = rustix::net::sockopt::socket_peercred(client.as_fd()).ok()?.pid;
        let pid = rustix::process::Pid::as_raw(Some(pid));
        let mut found =
            Process { client, handle: Handle { pid, pidfd: open_pidfd(pid)?, child: None } };
        if found.client.ask(&Request::Hello, None).is_ok_and(|answer| answer.status == Status::Done)
        {
            return Some(found);
        }
        tracing::warn!(
            pid,
            "a network process speaks another language or is silent; it is replaced"
        );
        found.handle.end();
        None
    }

    /// Starts a process in place of any other of its number.
    pub(super) fn start(&self, number: usize) -> io::Result<Process> {
        let path = self.path(number);
        let listener = client::listen(&path)?;
        let spawn = || {
            Command::new(format!("/proc/self/fd/{}", self.memory.as_raw_fd()))
                .arg(self.steering.way.to_string())
                .arg(&self.audit)
                .env_clear()
                .current_dir("/")
                .stdin(Stdio::from(listener))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        };
        let child = match &self.home {
            None => spawn()?,
            Some(home) => namespace::inside(File::open(home)?.as_fd(), spawn)??,
        };
        let mut handle = Handle::of_child(child)?;
        let client = Client::connect(&path).and_then(|mut client| {
            let answer = client.ask(&Request::Hello, None)?;
            let is_fine = answer.status == Status::Done;
            is_fine.then_some(client).ok_or_else(|| io::ErrorKind::InvalidData.into())
        });
        match client {
            Ok(client) => Ok(Process { client, handle }),
            Err(error) => {
                handle.end();
                Err(error)
            }
        }
    }

    /// Takes away the socket of an ended process.
    pub(super) fn forget(&self, number: usize) {
        let _ = rustix::fs::unlinkat(&self.run, name(number), rustix::fs::AtFlags::empty());
    }
}

impl Handle {
    fn of_child(mut child: Child) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).unwrap_or(0);
        if let Some(pidfd) = open_pidfd(pid) {
            return Ok(Self { pid, pidfd, child: Some(child) });
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(io::ErrorKind::NotFound.into())
    }

    /// Its number, for tests that kill it.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Kills it, and waits until it is gone.
    pub(super) fn end(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        } else if !ended(&self.pidfd, KILL_PATIENCE) {
            tracing::warn!(pid = self.pid, "a network process did not end within 10 s of its kill");
        }
    }
}

/// The program, in memory that nobody can change.
pub(super) fn program() -> Result<OwnedFd> {
    memory::sealed("mayfly-net", PROGRAM)
        .map_err(|error| Error::internal("the network program could not be put into memory", error))
}

fn name(number: usize) -> String {
    format!("net-{number}")
}

/// The refusal where sandboxes have no network.
pub(super) fn missing(reason: &str, remedy: &str) -> Error {
    Error::new(Kind::Unavailable, format!("the layer `network` is missing: {reason}"))
        .with_hint(remedy)
}
