//! The server's end of the file helpers of one sandbox: starts them, asks them, ends them.
//!
//! Two at most: one for short calls and one for those that walk trees, so that a search keeps no small
//! read waiting. Each serves one call at a time.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use mayfly_core::{Error, Kind, Result};
use mayfly_files::wire::{self, Request};
use mayfly_files::{Answer, Call, UserIds, inside, socket};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::sync::Semaphore;

use super::threads::{Share, Threads};
use super::translate;

/// The helper program, static (see `build.rs`).
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mayfly-files"));
/// Longest wait for a helper to start, and to take a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for an answer: the call's own time, and some for a busy machine.
const ANSWER: Duration = inside::TIME.saturating_add(PATIENCE);
/// How long a helper without a call stays.
const IDLE: Duration = Duration::from_mins(1);
/// Calls of one sandbox that may wait for one helper; more are refused.
const WAITING: usize = 256;

/// The helpers of one sandbox.
#[derive(Debug)]
pub(super) struct Helpers {
    quick: Arc<Line>,
    long: Arc<Line>,
}

impl Helpers {
    pub(super) fn new(
        namespace: OwnedFd,
        folder: OwnedFd,
        id_count: u32,
        user: UserIds,
        workdir: String,
    ) -> Self {
        let join = Request::Join { id_count, user, workdir }.encode();
        let place = Arc::new(Place { namespace, folder, join, idle: IDLE });
        Self { quick: Line::new(&place), long: Line::new(&place) }
    }

    /// Makes a call. One that was begun ends also when the caller leaves.
    pub(super) async fn make(&self, call: Call, threads: &Threads) -> Result<Made> {
        let (line, share) = if call.is_long() {
            (&self.long, &threads.long)
        } else {
            (&self.quick, &threads.quick)
        };
        line.ask(None, Request::Make { call }, share).await
    }
}

/// What a call gave.
#[derive(Debug)]
pub(super) enum Made {
    /// An answer.
    Answer(Answer),
    /// A file being written, which the helper keeps.
    Kept(Kept),
}

/// How a helper gets into the sandbox.
#[derive(Debug)]
struct Place {
    namespace: OwnedFd,
    folder: OwnedFd,
    join: Vec<u8>,
    /// A helper without a call for this long ends.
    idle: Duration,
}

/// One helper and the calls that wait for it.
#[derive(Debug)]
struct Line {
    place: Arc<Place>,
    waiting: Semaphore,
    turn: Arc<Semaphore>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    helper: Option<Helper>,
    /// Counts helpers, so that a number of one is not taken for the same of another.
    generation: u64,
    used: Option<Instant>,
    /// Files being written that this helper keeps.
    kept: Arc<AtomicUsize>,
}

impl Line {
    fn new(place: &Arc<Place>) -> Arc<Self> {
        Arc::new(Self {
            place: Arc::clone(place),
            waiting: Semaphore::new(WAITING),
            turn: Arc::new(Semaphore::new(1)),
            running: Mutex::default(),
        })
    }

    /// Asks the helper, of this generation where one is given.
    async fn ask(
        self: &Arc<Self>,
        generation: Option<u64>,
        request: Request,
        share: &Share,
    ) -> Result<Made> {
        let busy = |_| {
            Error::new(Kind::Unavailable, "too many file calls of this sandbox are waiting")
                .with_hint("try again in a moment")
        };
        let _place = self.waiting.try_acquire().map_err(busy)?;
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|closed| Error::internal("file calls have ended", closed))?;
        let (line, kept_share) = (Arc::clone(self), share.clone());
        let work = move || {
            let made = line.ask_now(generation, &request, kept_share);
            drop(turn);
            made
        };
        share.run(work).await
    }

    fn ask_now(
        self: &Arc<Self>,
        generation: Option<u64>,
        request: &Request,
        share: Share,
    ) -> Result<Made> {
        let mut running = self.running();
        if generation.is_some_and(|asked| asked != running.generation) {
            return Err(died(io::ErrorKind::ConnectionReset.into()));
        }
        if running.helper.is_none() {
            running.helper = Some(Helper::start(&self.place)?);
            running.generation += 1;
            running.kept = Arc::default();
            self.end_when_idle(running.generation);
        }
        running.used = Some(Instant::now());
        let Some(helper) = &running.helper else { unreachable!("set above") };
        match helper.exchange(request.encode().as_slice(), &[], ANSWER) {
            Ok(Ok(Answer::Kept(number, file))) => {
                running.kept.fetch_add(1, Ordering::SeqCst);
                Ok(Made::Kept(Kept {
                    line: Arc::clone(self),
                    share,
                    generation: running.generation,
                    count: Arc::clone(&running.kept),
                    number: Some(number),
                    file: Arc::new(file),
                }))
            }
            Ok(answer) => answer.map(Made::Answer).map_err(translate::error),
            Err(error) => {
                // Dead, stuck or out of order; the next call starts another.
                running.helper = None;
                running.generation += 1;
                Err(died(error))
            }
        }
    }

    /// Ends the helper of this generation once it has nothing to do any more.
    fn end_when_idle(self: &Arc<Self>, generation: u64) {
        let (line, idle): (Weak<Self>, _) = (Arc::downgrade(self), self.place.idle);
        let Ok(event_loop) = tokio::runtime::Handle::try_current() else { return };
        drop(event_loop.spawn(async move {
            loop {
                tokio::time::sleep(idle).await;
                let Some(line) = line.upgrade() else { return };
                // A turn that is taken is a call under way.
                let Ok(_turn) = line.turn.try_acquire() else { continue };
                let mut running = line.running();
                if running.generation != generation {
                    return;
                }
                let is_idle = running.used.is_none_or(|used| used.elapsed() >= idle);
                if is_idle && running.kept.load(Ordering::SeqCst) == 0 {
                    running.helper = None;
                    running.generation += 1;
                    return;
                }
            }
        }));
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file being written that a helper keeps until it is finished; dropped before, it is gone.
#[derive(Debug)]
pub(super) struct Kept {
    line: Arc<Line>,
    share: Share,
    generation: u64,
    count: Arc<AtomicUsize>,
    /// Its number there; `None` once that is no longer true.
    number: Option<u32>,
    file: Arc<OwnedFd>,
}

impl Kept {
    /// Where its content goes.
    pub(super) fn file(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.file)
    }

    /// Puts the file in its place.
    pub(super) async fn finish(mut self, path: &str) -> Result<()> {
        let Some(upload) = self.number else { return Ok(()) };
        let request = Request::Finish { upload, path: path.to_owned() };
        self.line.ask(Some(self.generation), request, &self.share).await?;
        self.number = None;
        Ok(())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
        let Some(upload) = self.number else { return };
        let (line, share, generation) =
            (Arc::clone(&self.line), self.share.clone(), self.generation);
        // Without an event loop the server is ending, and the helper with it.
        if let Ok(event_loop) = tokio::runtime::Handle::try_current() {
            drop(event_loop.spawn(async move {
                line.ask(Some(generation), Request::Abandon { upload }, &share).await
            }));
        }
    }
}

fn died(error: io::Error) -> Error {
    Error::new(Kind::Unavailable, "the file helper of this sandbox died; another one is started")
        .with_hint("try again")
        .with_source(error)
}

/// A running helper; killed when dropped.
#[derive(Debug)]
struct Helper {
    socket: OwnedFd,
    child: Child,
}

impl Helper {
    fn start(place: &Place) -> Result<Self> {
        let begin = || -> io::Result<Self> {
            let program = program()?;
            let flags = SocketFlags::CLOEXEC;
            let (ours, theirs) =
                rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            let child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
                .env_clear()
                .current_dir("/")
                .stdin(theirs)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            Ok(Self { socket: ours, child })
        };
        let no_start = |error| {
            Error::new(Kind::Unavailable, "a file helper could not be started").with_source(error)
        };
        let helper = begin().map_err(no_start)?;
        let given = [place.namespace.as_fd(), place.folder.as_fd()];
        match helper.exchange(&place.join, &given, PATIENCE).map_err(no_start)? {
            Ok(_) => Ok(helper),
            Err(refusal) => Err(translate::error(refusal)),
        }
    }

    /// One request and its reply.
    fn exchange(
        &self,
        request: &[u8],
        given: &[std::os::fd::BorrowedFd<'_>],
        time: Duration,
    ) -> io::Result<Result<Answer, mayfly_files::Refusal>> {
        socket::send(&self.socket, request, given, Some(Instant::now() + PATIENCE))?;
        let reply = socket::receive(&self.socket, wire::REPLY, Some(Instant::now() + time))?;
        let (bytes, descriptors) = reply.ok_or(io::ErrorKind::UnexpectedEof)?;
        wire::decode(&bytes, descriptors).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program in memory, which nobody can change.
fn program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("mayfly-files", flags)?;
    let mut rest = PROGRAM;
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&memory, rest)?..];
    }
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use rustix::fs::{Mode, OFlags};
    use tempfile::TempDir;

    use super::super::tests::namespace::{Nested, OWNER};
    use super::*;

    const BASE: u32 = 100_000;

    struct Home {
        helpers: Helpers,
        threads: Threads,
        place: TempDir,
        _nested: Nested,
    }

    fn home(user: UserIds, idle: Duration) -> Home {
        let place = TempDir::new().unwrap();
        let (uid, gid) = (BASE + user.uid, BASE + user.gid);
        std::os::unix::fs::chown(place.path(), Some(uid), Some(gid)).unwrap();
        let nested = Nested::start(BASE);
        let join = Request::Join { id_count: 65_536, user, workdir: "/".into() }.encode();
        let (namespace, folder) = (nested.open(), open(&place));
        let there = Arc::new(Place { namespace, folder, join, idle });
        let helpers = Helpers { quick: Line::new(&there), long: Line::new(&there) };
        Home { helpers, threads: Threads::default(), place, _nested: nested }
    }

    fn open(place: &TempDir) -> OwnedFd {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(place.path(), flags, Mode::empty()).unwrap()
    }

    fn put(path: &str) -> Call {
        Call::Put { path: path.to_owned(), content: b"x".to_vec() }
    }

    impl Home {
        async fn make(&self, call: Call) -> Result<Made> {
            self.helpers.make(call, &self.threads).await
        }

        fn pid(&self) -> Option<u32> {
            self.helpers.quick.running().helper.as_ref().map(|helper| helper.child.id())
        }

        fn status(&self, field: &str) -> String {
            let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid().unwrap()));
            let text = text.unwrap();
            let line = text.lines().find(|line| line.starts_with(field)).unwrap();
            line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
        }
    }

    #[tokio::test]
    async fn a_helper_has_the_users_rights_and_no_more() {
        let root = home(UserIds::default(), IDLE);
        root.make(put("f")).await.unwrap();
        assert_eq!(root.status("CapEff:"), "000000000000001b");
        assert_eq!(root.status("NoNewPrivs:"), "1");
        assert_eq!(root.status("Threads:"), "1");
        assert!(root.status("Uid:").ends_with(&BASE.to_string()), "{}", root.status("Uid:"));
        let user = UserIds { uid: 1000, gid: 1001, groups: vec![5, 7] };
        let plain = home(user, IDLE);
        plain.make(put("f")).await.unwrap();
        assert_eq!(plain.status("CapEff:"), "0000000000000000");
        assert_eq!(plain.status("Groups:"), format!("{} {}", BASE + 5, BASE + 7));
        assert!(plain.status("Gid:").ends_with(&(BASE + 1001).to_string()));
    }

    #[tokio::test]
    async fn a_helper_ends_when_idle_and_with_the_sandbox() {
        let home = home(UserIds::default(), Duration::from_millis(20));
        home.make(put("f")).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        while home.pid().is_some() {
            assert!(Instant::now() < deadline, "the idle helper does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        home.make(put("g")).await.unwrap();
        let pid = home.pid().unwrap();
        drop(home);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[tokio::test]
    async fn after_a_helpers_death_no_upload_is_taken_for_another() {
        let home = home(UserIds::default(), IDLE);
        let start = |path: &str| home.make(Call::Start { path: path.to_owned() });
        let Ok(Made::Kept(lost)) = start("lost").await else { panic!("started") };
        let pid = rustix::process::Pid::from_raw(home.pid().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let died = home.make(put("f")).await.unwrap_err();
        assert_eq!(died.kind(), Kind::Unavailable);
        let Ok(Made::Kept(other)) = start("other").await else { panic!("started") };
        assert_eq!(other.number, lost.number, "another of the same number");
        assert_eq!(lost.finish("lost").await.unwrap_err().kind(), Kind::Unavailable);
        other.finish("other").await.unwrap();
        let names: Vec<_> = std::fs::read_dir(home.place.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(names[0].as_ref().unwrap().file_name(), "other");
    }

    /// Whether a helper that this user starts may join a namespace of [`OWNER`]'s.
    fn joins(user: u32) -> bool {
        let place = TempDir::new().unwrap();
        let program = TempDir::new().unwrap();
        std::os::unix::fs::chown(place.path(), Some(BASE), Some(BASE)).unwrap();
        for folder in [place.path(), program.path()] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(folder, mode).unwrap();
        }
        let file = program.path().join("helper");
        std::fs::write(&file, PROGRAM).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let nested = Nested::start(BASE);
        let flags = SocketFlags::CLOEXEC;
        let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (ours, theirs) = pair.unwrap();
        let child = Command::new(file).uid(user).gid(user).stdin(theirs).spawn().unwrap();
        let helper = Helper { socket: ours, child };
        let user = UserIds::default();
        let join = Request::Join { id_count: 65_536, user, workdir: "/".into() }.encode();
        let (namespace, folder) = (nested.open(), open(&place));
        let given = [namespace.as_fd(), folder.as_fd()];
        if helper.exchange(&join, &given, PATIENCE).unwrap().is_err() {
            return false;
        }
        let put = Request::Make { call: put("f") }.encode();
        helper.exchange(&put, &[], PATIENCE).unwrap().unwrap();
        let made = std::fs::metadata(place.path().join("f")).unwrap();
        std::os::unix::fs::MetadataExt::uid(&made) == BASE
    }

    #[test]
    fn the_owner_of_the_outer_namespace_may_join_and_nobody_else() {
        assert!(joins(OWNER));
        assert!(!joins(OWNER + 1));
    }
}
