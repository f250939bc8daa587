//! Answers the server's requests one by one, and clones.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::failure::{Failure, Fault, path};
use crate::numbers;
use crate::protocol::{Hello, MAX_PACKET, Prepare, Reader, WEAK_USER, Writer, fork};
use crate::{park, rights, stage, sys, trees};

/// Words of the stack of a child that only waits.
const STACK_WORDS: usize = 256;

/// Number of the forkserver, for its children that share its memory.
static OWN: AtomicU32 = AtomicU32::new(0);

/// What the forkserver knows.
struct Server {
    hello: Hello,
    /// Our ends of the channels to parked processes, by slot.
    parked: BTreeMap<u32, OwnedFd>,
    /// Of the short-lived children of [`user_namespace`].
    stack: Box<[u128]>,
}

/// Runs until the server closes its end of the channel on descriptor 0.
///
/// `fresh`: the program was started anew in a user namespace, and somebody waits to hear so.
pub(crate) fn serve(fresh: bool) -> ExitCode {
    let channel = sys::inherited(0);
    if fresh && sys::send(channel.as_fd(), &[&[fork::OK]], &[]).is_err() {
        return ExitCode::FAILURE;
    }
    OWN.store(std::process::id(), Ordering::Relaxed);
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
            Err(failure) => (failure.encode(fork::FAILED), Vec::new()),
        };
        let given: Vec<BorrowedFd<'_>> = given.iter().map(AsFd::as_fd).collect();
        if sys::send(channel.as_fd(), &[&answer], &given).is_err() {
            return ExitCode::FAILURE;
        }
    }
}

type Answer = Result<(Vec<u8>, Vec<OwnedFd>), Failure>;

impl Server {
    fn handle(&mut self, packet: &[u8], descriptors: &[OwnedFd]) -> Answer {
        let mut reader = Reader::new(packet);
        match reader.u8() {
            Some(fork::ENTER_USER) => {
                sys::unshare(numbers::CLONE_NEWUSER).fault("user namespace")?;
                Ok((Writer::new(fork::OK).finish(), Vec::new()))
            }
            Some(fork::MAPPED) => become_root(),
            Some(fork::OWN) => own(&mut reader, descriptors),
            Some(fork::DELETE) => delete(&mut reader, descriptors),
            Some(fork::HELLO) => self.hello(&mut reader),
            Some(fork::MOUNT_POOL) => mount_pool(&mut reader),
            Some(fork::PREPARE) => self.prepare(&mut reader),
            Some(fork::CREATE) => self.create(packet, descriptors),
            Some(fork::DISCARD) => {
                let slot = reader.u32().ok_or_else(malformed)?;
                self.parked.remove(&slot);
                Ok((Writer::new(fork::OK).finish(), Vec::new()))
            }
            _ => Err(malformed()),
        }
    }

    fn hello(&mut self, reader: &mut Reader<'_>) -> Answer {
        self.hello = Hello::decode(reader).ok_or_else(malformed)?;
        stage::prepare(&self.hello)?;
        Ok((Writer::new(fork::OK).finish(), Vec::new()))
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
            path => Some(fs::File::open(crate::failure::path(path)).fault("control group")?),
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
            park::park(&self.hello, &prepare, theirs, namespace);
        }
        // The server reads from it when the namespaces are made, and lets go of it.
        let progress = ours.try_clone().fault("channel of the parked process")?;
        self.parked.insert(prepare.slot, ours);
        let given = pidfd.into_iter().chain([progress]).collect();
        Ok((Writer::new(fork::OK).u32(pid.cast_unsigned()).finish(), given))
    }

    /// Hands the request on as it came; the parked process reports through the status pipe it carries.
    fn create(&mut self, packet: &[u8], descriptors: &[OwnedFd]) -> Answer {
        let slot = Reader::new(&packet[1..]).u32().ok_or_else(malformed)?;
        let parked = self.parked.remove(&slot).ok_or_else(malformed)?;
        let given: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        sys::send(parked.as_fd(), &[packet], &given).fault("parked process")?;
        Ok((Writer::new(fork::OK).finish(), Vec::new()))
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
    let root = fs::File::open(path(target.as_bytes())).fault("root of the pool")?;
    Ok((Writer::new(fork::OK).finish(), vec![root.into()]))
}

/// Takes id 0 of the user namespace and begins anew as the same program: what the kernel lets others see of
/// a process depends on the user namespace in which its program was started. Returns only on failure; the
/// new program answers.
fn become_root() -> Answer {
    sys::become_user(0, 0, &[]).fault("root of the outer user namespace")?;
    let (program, mode) = (c"mayfly-init", c"forkserver-of-user");
    let argv = [program.as_ptr(), mode.as_ptr(), std::ptr::null()];
    Err(sys::exec(c"/proc/self/exe", &argv, &[std::ptr::null()]))
        .fault("fresh start in the outer user namespace")
}

/// Gives a folder and all below it to an id, in a process of its own.
fn own(reader: &mut Reader<'_>, descriptors: &[OwnedFd]) -> Answer {
    let owner = reader.u32().ok_or_else(malformed)?;
    let folder = reader.bytes().ok_or_else(malformed)?;
    apart(descriptors, || trees::own(path(folder), owner).fault("owner of a folder"))
}

/// Deletes a folder and all below it, in a process of its own.
fn delete(reader: &mut Reader<'_>, descriptors: &[OwnedFd]) -> Answer {
    let folder = reader.bytes().ok_or_else(malformed)?;
    apart(descriptors, || trees::delete(path(folder)).fault("deletion of a folder"))
}

/// Long work is done by a child, so that nobody waits for it; it reports through the status pipe.
fn apart(descriptors: &[OwnedFd], work: impl FnOnce() -> Result<(), Failure>) -> Answer {
    let status = descriptors.first().ok_or_else(malformed)?;
    let status = status.try_clone().fault("status pipe")?;
    if sys::clone().fault("process for long work")? == 0 {
        // Channels that it would keep open would hide the forkserver's end from others.
        let Ok((status, _)) = park::keep_only(status, None) else { sys::exit(1) };
        let done = work();
        let answer = done.map_or_else(|failure| failure.encode(0), |()| vec![1]);
        let _ = sys::send(status.as_fd(), &[&answer], &[]);
        sys::exit(0);
    }
    Ok((Writer::new(fork::OK).finish(), Vec::new()))
}

/// Makes a user namespace: a short-lived child is born into it, its ids are mapped, and the descriptor
/// keeps the namespace when the child is gone.
///
/// The sandbox's own root owns it. The kernel counts file watches, queued signals and messages of all that
/// is inside up to the owner: if that were root, one sandbox could use up what all others and the host have.
fn user_namespace(prepare: &Prepare, stack: &mut [u128]) -> std::io::Result<OwnedFd> {
    let born = act_as(prepare.owner).and_then(|()| {
        rights::bounded(prepare.pids, || {
            sys::clone_beside(numbers::CLONE_NEWUSER, stack, wait_to_be_killed)
        })
    });
    let restored = act_as(0);
    let pid = born?;
    let made = restored.and_then(|()| map_ids(pid, prepare));
    let _ = sys::kill(pid, numbers::SIGKILL);
    made
}

/// Dies with its parent at the latest, also with one that died before this began.
extern "C" fn wait_to_be_killed() -> ! {
    const PR_SET_PDEATHSIG: usize = 1;
    let _ = sys::prctl(PR_SET_PDEATHSIG, numbers::SIGKILL as usize);
    // Not every orphan comes to process 1: sessions of users have their own that takes them.
    let own = OWN.load(Ordering::Relaxed) as usize;
    while sys::plain(numbers::GETPPID, [0; 4]).is_ok_and(|parent| parent == own) {
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
