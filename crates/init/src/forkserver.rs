//! Answers the server's requests one by one, and clones.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use crate::numbers;
use crate::protocol::{Hello, MAX_PACKET, Prepare, Reader, WEAK_USER, Writer, fork};
use crate::setup::{self, Failure, Fault};
use crate::sys;

/// Words of the stack of a child that only waits.
const STACK_WORDS: usize = 256;

/// What the forkserver knows.
struct Server {
    hello: Hello,
    /// Our ends of the channels to parked processes, by slot.
    parked: BTreeMap<u32, OwnedFd>,
    /// Of the short-lived children of [`user_namespace`].
    stack: Box<[u128]>,
}

/// Runs until the server closes its end of the channel on descriptor 0.
pub(crate) fn serve() -> ExitCode {
    let channel = sys::inherited(0);
    let mut server = Server {
        hello: Hello::default(),
        parked: BTreeMap::new(),
        stack: vec![0; STACK_WORDS].into(),
    };
    // Its own session, so that an interrupt at the terminal is the server's to handle; dead parked
    // processes are reaped by the kernel.
    let _ = sys::plain(numbers::SETSID, [0; 4]);
    // Process lists, inside and outside, then name the program and not a descriptor.
    let _ = fs::write("/proc/self/comm", b"mayfly-init");
    let _ = sys::set_signal(numbers::SIGCHLD, true);
    let mut buffer = vec![0_u8; MAX_PACKET];
    loop {
        let (length, descriptors) = match sys::receive(channel.as_fd(), &mut buffer) {
            Ok((0, _)) => return ExitCode::SUCCESS,
            Ok(received) => received,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return ExitCode::FAILURE,
        };
        let (answer, given) = match server.handle(&buffer[..length], &descriptors) {
            Ok((answer, given)) => (answer, given),
            Err(failure) => (failure.encode(fork::FAILED), None),
        };
        let given: Vec<BorrowedFd<'_>> = given.iter().map(AsFd::as_fd).collect();
        if sys::send(channel.as_fd(), &[&answer], &given).is_err() {
            return ExitCode::FAILURE;
        }
    }
}

type Answer = Result<(Vec<u8>, Option<OwnedFd>), Failure>;

impl Server {
    fn handle(&mut self, packet: &[u8], descriptors: &[OwnedFd]) -> Answer {
        let mut reader = Reader::new(packet);
        match reader.u8() {
            Some(fork::HELLO) => self.hello(&mut reader),
            Some(fork::MOUNT_POOL) => mount_pool(&mut reader),
            Some(fork::PREPARE) => self.prepare(&mut reader),
            Some(fork::CREATE) => self.create(packet, descriptors),
            Some(fork::DISCARD) => {
                let slot = reader.u32().ok_or_else(malformed)?;
                self.parked.remove(&slot);
                Ok((Writer::new(fork::OK).finish(), None))
            }
            _ => Err(malformed()),
        }
    }

    fn hello(&mut self, reader: &mut Reader<'_>) -> Answer {
        self.hello = Hello::decode(reader).ok_or_else(malformed)?;
        setup::stage(&self.hello)?;
        Ok((Writer::new(fork::OK).finish(), None))
    }

    fn prepare(&mut self, reader: &mut Reader<'_>) -> Answer {
        let prepare = Prepare::decode(reader).ok_or_else(malformed)?;
        let namespace = if self.hello.weakened & WEAK_USER == 0 {
            Some(user_namespace(&prepare, &mut self.stack).fault("user namespace")?)
        } else {
            None
        };
        let (ours, theirs) = sys::socket_pair().fault("socket pair")?;
        let cgroup = match prepare.cgroup.as_slice() {
            [] => None,
            path => Some(fs::File::open(setup::path(path)).fault("control group")?),
        };
        let (pid, pidfd) = sys::clone_into(
            numbers::CLONE_NEWNS
                | numbers::CLONE_NEWPID
                | numbers::CLONE_NEWIPC
                | numbers::CLONE_NEWUTS,
            cgroup.as_ref().map(AsFd::as_fd),
        )
        .fault("clone into new namespaces")?;
        if pid == 0 {
            setup::park(&self.hello, &prepare, theirs, namespace);
        }
        self.parked.insert(prepare.slot, ours);
        Ok((Writer::new(fork::OK).u32(pid.cast_unsigned()).finish(), pidfd))
    }

    /// Hands the request on as it came; the parked process reports through the status pipe it carries.
    fn create(&mut self, packet: &[u8], descriptors: &[OwnedFd]) -> Answer {
        let slot = Reader::new(&packet[1..]).u32().ok_or_else(malformed)?;
        let parked = self.parked.remove(&slot).ok_or_else(malformed)?;
        let given: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        sys::send(parked.as_fd(), &[packet], &given).fault("parked process")?;
        Ok((Writer::new(fork::OK).finish(), None))
    }
}

fn malformed() -> Failure {
    Failure { stage: "request to the forkserver", error: std::io::ErrorKind::InvalidData.into() }
}

/// Mounts the pool in this process's own mount namespace, where no other process can reach it by path,
/// and answers with a descriptor of its root.
fn mount_pool(reader: &mut Reader<'_>) -> Answer {
    let mut field =
        || reader.bytes().and_then(|bytes| CString::new(bytes).ok()).ok_or_else(malformed);
    let (device, target, kind, options) = (field()?, field()?, field()?, field()?);
    sys::mount(&device, &target, &kind, numbers::MS_NOSUID | numbers::MS_NODEV, &options)
        .fault("mount of the pool")?;
    let root = fs::File::open(setup::path(target.as_bytes())).fault("root of the pool")?;
    Ok((Writer::new(fork::OK).finish(), Some(root.into())))
}

/// Makes a user namespace: a short-lived child is born into it, its ids are mapped, and the descriptor
/// keeps the namespace when the child is gone.
///
/// The sandbox's own root owns it. The kernel counts file watches, queued signals and messages of all that
/// is inside up to the owner: if that were root, one sandbox could use up what all others and the host have.
fn user_namespace(prepare: &Prepare, stack: &mut [u128]) -> std::io::Result<OwnedFd> {
    let born = act_as(prepare.id_base)
        .and_then(|()| sys::clone_beside(numbers::CLONE_NEWUSER, stack, wait_to_be_killed));
    let restored = act_as(0);
    let pid = born?;
    let made = restored.and_then(|()| map_ids(pid, prepare));
    let _ = sys::kill(pid, numbers::SIGKILL);
    made
}

/// Dies with its parent at the latest, also with one that died before this began.
extern "C" fn wait_to_be_killed() -> ! {
    const PR_SET_PDEATHSIG: usize = 1;
    const INIT: usize = 1;
    let _ = sys::prctl(PR_SET_PDEATHSIG, numbers::SIGKILL as usize);
    while sys::plain(numbers::GETPPID, [0; 4]).is_ok_and(|parent| parent > INIT) {
        let _ = sys::plain(numbers::PPOLL, [0; 4]);
    }
    sys::exit(0)
}

/// Takes a user's id with every permitted capability still in effect; id 0 remains to be taken back.
fn act_as(id: u32) -> std::io::Result<()> {
    const KEEP: usize = usize::MAX;
    sys::plain(numbers::SETRESUID, [KEEP, id as usize, KEEP, 0])?;
    sys::create_files_as(id)
}

fn map_ids(pid: i32, prepare: &Prepare) -> std::io::Result<OwnedFd> {
    let map = format!("0 {} {}\n", prepare.id_base, prepare.id_count);
    fs::write(format!("/proc/{pid}/uid_map"), &map)?;
    fs::write(format!("/proc/{pid}/gid_map"), &map)?;
    fs::File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from)
}
