//! The server's end of the forkserver: starts it, asks it, and starts another when it dies.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mayfly_core::{Error, Kind, Result};
use mayfly_init::protocol::{Create, Hello, Prepare, Reader, Writer, fork};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use super::memory;
use super::outer::Outer;
use super::pool::{self, Place};

/// The init program, static and without dependencies (see `build.rs`).
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mayfly-init"));

/// Longest wait for an answer; a healthy forkserver answers within a millisecond.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for a deletion or a change of owners.
const LONG_PATIENCE: Duration = Duration::from_mins(10);

/// Tries of such work while forkservers die under it.
const WORK_TRIES: u32 = 3;

/// Longest answer: the step that failed and a number.
const MAX_ANSWER: usize = 1024;

/// What a new forkserver is told first, kept to start another.
#[derive(Debug)]
struct Setup {
    program: OwnedFd,
    hello: Hello,
    stand: Stand,
}

/// What a forkserver stands on.
#[derive(Clone, Debug)]
pub(super) enum Stand {
    /// Root of the host, and the pool with the place to mount it.
    Root(Place, PathBuf),
    /// An ordinary user, and what he may map.
    User(Outer),
}

#[derive(Debug)]
struct Running {
    socket: OwnedFd,
    child: Child,
}

/// A handle to the forkserver. Calls are serialised; each is answered or fails within ten seconds.
#[derive(Debug)]
pub(super) struct Forkserver {
    setup: Setup,
    running: Mutex<Option<Running>>,
    deaths: AtomicU64,
}

/// A process parked in fresh namespaces.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// Tells, once, that its namespaces are made.
    progress: OwnedFd,
}

impl Parked {
    /// Waits until its namespaces are made; `false` when they could not be, which [`Forkserver::create`]
    /// gives the reason of.
    pub(super) fn is_ready(&self) -> bool {
        let mut polled = [rustix::event::PollFd::new(&self.progress, rustix::event::PollFlags::IN)];
        let patience = rustix::event::Timespec::try_from(PATIENCE).ok();
        let mut told = [0_u8; 1];
        matches!(rustix::event::poll(&mut polled, patience.as_ref()), Ok(1))
            && rustix::net::recv(&self.progress, &mut told[..], RecvFlags::DONTWAIT).is_ok()
            && told == [1]
    }
}

impl Forkserver {
    /// Starts a forkserver; also returns a descriptor of the pool's root, which only it has mounted, where
    /// there is a pool.
    pub(super) fn start(hello: Hello, stand: Stand) -> Result<(Self, Option<OwnedFd>)> {
        let program = memory::sealed("mayfly-init", PROGRAM).map_err(|error| {
            Error::internal("the init program could not be put into memory", error)
        })?;
        let setup = Setup { program, hello, stand };
        let (running, root) = setup.spawn()?;
        let running = Mutex::new(Some(running));
        Ok((Self { setup, running, deaths: AtomicU64::new(0) }, root))
    }

    /// Makes the namespaces of one future sandbox.
    pub(super) fn prepare(&self, request: &Prepare) -> Result<Parked> {
        let (answer, descriptors) = self.ask(&request.encode(), &[])?;
        let pid = Reader::new(&answer[1..]).u32().map(u32::cast_signed);
        match (pid, <[OwnedFd; 2]>::try_from(descriptors)) {
            (Some(pid), Ok([pidfd, progress])) => Ok(Parked { pid, pidfd, progress }),
            _ => Err(Error::new(Kind::Internal, "the forkserver gave no process")),
        }
    }

    /// Turns a parked process into a sandbox; how that went arrives on `status`.
    pub(super) fn create(
        &self,
        request: &Create,
        listener: BorrowedFd<'_>,
        status: BorrowedFd<'_>,
    ) -> Result<()> {
        self.ask(&request.encode(), &[listener, status]).map(drop)
    }

    /// Drops a parked process; it ends by itself.
    pub(super) fn discard(&self, slot: u32) -> Result<()> {
        self.ask(&Writer::new(fork::DISCARD).u32(slot).finish(), &[]).map(drop)
    }

    /// Gives a folder and all below it to an id, as the forkserver counts.
    pub(super) fn own(&self, folder: &Path, id: u32) -> Result<()> {
        let request = Writer::new(fork::OWN).u32(id).bytes(path_bytes(folder)).finish();
        self.work_on(&request)
    }

    /// Deletes a folder and all below it, whoever of the mapped ids owns it; one that is gone is a success.
    pub(super) fn delete(&self, folder: &Path) -> Result<()> {
        self.work_on(&Writer::new(fork::DELETE).bytes(path_bytes(folder)).finish())
    }

    /// Both may be repeated, and are when a forkserver dies over them.
    fn work_on(&self, request: &[u8]) -> Result<()> {
        let mut tries = 1;
        loop {
            let (status, theirs) = status_pair(LONG_PATIENCE)?;
            let asked = self.ask(request, &[theirs.as_fd()]);
            drop(theirs);
            match asked.and_then(|_| await_status(&status)) {
                Err(error) if error.kind() == Kind::Unavailable && tries < WORK_TRIES => tries += 1,
                result => return result,
            }
        }
    }

    /// Id of the process, for tests that kill it.
    pub(super) fn pid(&self) -> Option<u32> {
        let running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        running.as_ref().map(|running| running.child.id())
    }

    /// How many forkservers were found dead so far; parked processes die with theirs.
    pub(super) fn deaths(&self) -> u64 {
        self.deaths.load(Ordering::Acquire)
    }

    fn ask(
        &self,
        request: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
        let mut running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if running.is_none() {
            *running = Some(self.setup.spawn()?.0);
        }
        let Some(Running { socket, .. }) = running.as_ref() else { unreachable!("set above") };
        match exchange(socket, request, descriptors) {
            Ok(answered) => judge(answered),
            Err(error) => {
                // Dead or stuck: its parked processes end with it; the next call starts another.
                if let Some(mut dead) = running.take() {
                    let _ = dead.child.kill();
                    let _ = dead.child.wait();
                }
                self.deaths.fetch_add(1, Ordering::AcqRel);
                Err(Error::new(Kind::Unavailable, "the forkserver died; another one is started")
                    .with_hint("try again")
                    .with_source(error))
            }
        }
    }
}

impl Drop for Forkserver {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(mut running) = running.take() {
            // Closing the channel ends it, and with it every parked process.
            drop(running.socket);
            let _ = running.child.wait();
        }
    }
}

impl Setup {
    fn spawn(&self) -> Result<(Running, Option<OwnedFd>)> {
        let failed =
            |error: io::Error| Error::internal("the forkserver could not be started", error);
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|error| failed(error.into()))?;
        for timeout in [rustix::net::sockopt::Timeout::Recv, rustix::net::sockopt::Timeout::Send] {
            rustix::net::sockopt::set_socket_timeout(&ours, timeout, Some(PATIENCE))
                .map_err(|error| failed(error.into()))?;
        }
        let child = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()))
            .arg("forkserver")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let mut running = Running { socket: ours, child };
        match self.introduce(&running) {
            Ok(root) => Ok((running, root)),
            Err(error) => {
                let _ = running.child.kill();
                let _ = running.child.wait();
                Err(error)
            }
        }
    }

    fn introduce(&self, running: &Running) -> Result<Option<OwnedFd>> {
        let ask = |request: &[u8]| {
            exchange(&running.socket, request, &[])
                .map_err(|e| Error::internal("the forkserver did not answer", e))
                .and_then(judge)
        };
        if let Stand::User(outer) = &self.stand {
            let may_not = |error: Error| {
                error.with_hint(
                    "let ordinary users make user namespaces: sysctl user.max_user_namespaces, \
                     kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns; or \
                     run the server as root",
                )
            };
            ask(&[fork::ENTER_USER]).map_err(may_not)?;
            outer.map(running.child.id())?;
            ask(&[fork::MAPPED]).map_err(may_not)?;
            ask(&self.hello.encode()).map_err(may_not)?;
            return Ok(None);
        }
        ask(&self.hello.encode())?;
        let (file, mount_point) = match &self.stand {
            Stand::Root(Place::File(file), mount_point) => (file, mount_point),
            Stand::Root(Place::Folder(folder), _) => {
                let root = std::fs::File::open(folder).map_err(|error| {
                    Error::internal("the pool folder could not be opened", error)
                })?;
                return Ok(Some(root.into()));
            }
            Stand::User(_) => return Ok(None),
        };
        let device = pool::loop_file::attach(file)?;
        let request = Writer::new(fork::MOUNT_POOL)
            .bytes(path_bytes(&device.path))
            .bytes(path_bytes(mount_point))
            .bytes(b"btrfs")
            .bytes(pool::MOUNT_DATA.as_bytes())
            .finish();
        let (_, descriptors) = ask(&request)?;
        let root = descriptors.into_iter().next();
        root.map(Some).ok_or_else(|| Error::new(Kind::Internal, "the forkserver gave no pool"))
    }
}

/// Path as the bytes that the forkserver takes.
pub(super) fn path_bytes(path: &Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
}

fn exchange(
    socket: &OwnedFd,
    request: &[u8],
    given: &[BorrowedFd<'_>],
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !given.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(given));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(request)], &mut control, SendFlags::NOSIGNAL)?;
    receive(socket)
}

/// One packet with its descriptors.
pub(super) fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut answer = [0; MAX_ANSWER];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut answer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let answer = answer[..received.bytes].to_vec();
    let descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    Ok((answer, descriptors))
}

pub(super) fn judge(
    (answer, descriptors): (Vec<u8>, Vec<OwnedFd>),
) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    match answer.first() {
        Some(&fork::OK) => Ok((answer, descriptors)),
        Some(&fork::FAILED) => Err(setup_failure(&answer[1..])),
        _ => Err(Error::new(Kind::Internal, "the forkserver gave an unknown answer")),
    }
}

/// A failed step as a typed refusal: the layer, the kernel's reason, the remedy.
pub(super) fn setup_failure(fields: &[u8]) -> Error {
    let mut reader = Reader::new(fields);
    let stage = reader.bytes().map(|stage| String::from_utf8_lossy(stage).into_owned());
    let reason = io::Error::from_raw_os_error(reader.u32().unwrap_or(0).cast_signed());
    if let Some(place @ ("mount path of a volume" | "subpath of a volume")) = stage.as_deref() {
        return Error::conflict(format!("the {place} cannot be used: {reason}"))
            .with_hint("every part of it must be a folder or not there yet, and never a link");
    }
    let kind = match reason.raw_os_error() {
        Some(12 | 11 | 24 | 28 | 122) => Kind::Limit,
        _ => Kind::Unavailable,
    };
    Error::new(
        kind,
        format!(
            "the sandbox could not be isolated: {}: {reason}",
            stage.as_deref().unwrap_or("start")
        ),
    )
    .with_hint("run `mayfly doctor` to see which layer this host lacks")
}

/// A connected pair for the status of one creation or deletion: ours, theirs.
pub(super) fn status_pair(patience: Duration) -> Result<(OwnedFd, OwnedFd)> {
    let pair = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .and_then(|(ours, theirs)| {
        rustix::net::sockopt::set_socket_timeout(
            &ours,
            rustix::net::sockopt::Timeout::Recv,
            Some(patience),
        )?;
        Ok((ours, theirs))
    });
    pair.map_err(|error| {
        Error::internal("no socket for the status of a new sandbox", io::Error::from(error))
    })
}

/// Waits for the status of a creation.
pub(super) fn await_status(ours: &OwnedFd) -> Result<()> {
    let mut buffer = [0_u8; 512];
    let (_, length) = rustix::net::recv(ours.as_fd(), &mut buffer[..], RecvFlags::empty())
        .map_err(|error| Error::internal("a new sandbox did not report", io::Error::from(error)))?;
    match buffer.get(..length) {
        Some([1, ..]) => Ok(()),
        Some([0, fields @ ..]) => Err(setup_failure(fields)),
        _ => Err(Error::new(Kind::Unavailable, "a new sandbox ended before it was ready")
            .with_hint("try again")),
    }
}
