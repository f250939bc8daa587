//! The load, the kills, and the comparison after each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mayfly_core::id::SandboxId;
use mayfly_runtime::local::cgroup::Cgroups;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::census;
use crate::dice::Dice;
use crate::model::{Call, Known, State};
use crate::server::{NAMESPACES, Server};

/// Sandboxes under load, each with one call at a time.
const SANDBOXES: usize = 8;

/// Counts that must be the same before and after.
#[derive(Debug, PartialEq, Eq)]
struct Census {
    processes: usize,
    namespaces: usize,
    groups: usize,
    loops: usize,
    mounts: Vec<String>,
    forkserver_mounts: usize,
    files: Vec<String>,
    pool: Vec<String>,
}

impl Census {
    /// Field by field, so that a failure tells what is left over.
    fn compare(&self, before: &Self) {
        assert_eq!(self.mounts, before.mounts);
        assert_eq!(self.files, before.files);
        assert_eq!(self.pool, before.pool);
        assert_eq!(self, before);
    }
}

pub(crate) struct Load {
    folder: tempfile::TempDir,
    dice: Dice,
    server: Server,
    known: Vec<Known>,
    before: Census,
}

impl Load {
    /// A server with nothing in it, counted.
    pub(crate) fn start(seed: u64) -> Self {
        // Orphans of killed servers become ours, so that all of them can be seen and reaped.
        census::adopt_orphans();
        let folder = tempfile::Builder::new().prefix("mayfly-crash-").tempdir().unwrap();
        let mut server = Server::start(folder.path());
        let mut dice = Dice::new(seed);
        let known: Vec<Known> = (0..SANDBOXES).map(|_| Known::new(&mut dice)).collect();
        // What the first sandbox makes once and for all is there before counting.
        for verb in ["create", "destroy"] {
            server.ask(&format!("{verb} {}", known[0].id)).unwrap();
        }
        let before = count(folder.path(), &mut server);
        let loops = usize::from(!rootless());
        assert!(before.processes == NAMESPACES && before.loops == loops, "{before:?}");
        Self { folder, dice, server, known, before }
    }

    /// A batch of calls with a kill somewhere in it; then everything is compared.
    pub(crate) fn strike(&mut self) {
        let mut under_way: BTreeMap<usize, (usize, Call)> = BTreeMap::new();
        for index in 0..SANDBOXES {
            let call = self.known[index].choose(&mut self.dice);
            under_way.insert(self.server.order(&call.order), (index, call));
        }
        let early = self.dice.below(SANDBOXES);
        for _ in 0..early {
            self.take_answer(&mut under_way);
        }
        let moment = Duration::from_micros(self.dice.below(4000) as u64);
        let begin = Instant::now();
        while begin.elapsed() < moment {
            std::thread::yield_now();
        }
        match self.dice.below(4) {
            0 => self.kill_forkserver(&mut under_way),
            1 => self.kill_init(&mut under_way),
            _ => self.kill_server(&mut under_way),
        }
        self.compare();
    }

    fn take_answer(&mut self, under_way: &mut BTreeMap<usize, (usize, Call)>) -> bool {
        if under_way.is_empty() {
            return false;
        }
        let Some((number, answer)) = self.server.answer() else { return false };
        let Some((index, call)) = under_way.remove(&number) else { return true };
        let known = &mut self.known[index];
        match answer {
            Ok(text) => known.acknowledge(call.verb, &text),
            Err(error) => {
                assert!(!error.starts_with("Internal"), "{call:?}: {error}");
                println!("{call:?}: {error}");
                known.unsure = true;
            }
        }
        true
    }

    fn kill_server(&mut self, under_way: &mut BTreeMap<usize, (usize, Call)>) {
        self.server.child.kill().unwrap();
        self.server.child.wait().unwrap();
        while self.take_answer(under_way) {}
        for (index, _) in under_way.values() {
            self.known[*index].unsure = true;
        }
        self.server = Server::start(self.folder.path());
    }

    fn kill_forkserver(&mut self, under_way: &mut BTreeMap<usize, (usize, Call)>) {
        kill(self.server.forkserver);
        while self.take_answer(under_way) {}
        // The next call that needs one starts another.
        let next = Known::new(&mut self.dice);
        for verb in ["create", "destroy"] {
            self.server.ask(&format!("{verb} {}", next.id)).expect("a dead forkserver is replaced");
        }
        let pid: i32 =
            self.server.ask(&format!("forkserver {}", next.id)).unwrap().parse().unwrap();
        assert_ne!(pid, self.server.forkserver);
        self.server.forkserver = pid;
    }

    fn kill_init(&mut self, under_way: &mut BTreeMap<usize, (usize, Call)>) {
        let running = |known: &Known| match known.state {
            State::Running(pid) | State::Frozen(pid) => Some(pid),
            _ => None,
        };
        // Its call, if one is under way, may end either way.
        let start = self.dice.below(SANDBOXES);
        let found = (0..SANDBOXES)
            .map(|offset| (start + offset) % SANDBOXES)
            .find_map(|index| Some((index, running(&self.known[index])?)));
        let Some((index, pid)) = found else { return while self.take_answer(under_way) {} };
        let busy = under_way.values().any(|(other, _)| *other == index);
        if census::processes(self.folder.path()).iter().any(|(alive, _)| *alive == pid) {
            kill(pid);
        }
        while self.take_answer(under_way) {}
        let known = &mut self.known[index];
        // Process 1 writes logs when it is idle: the last words before its own violent end may be missing.
        known.last = None;
        if busy {
            known.unsure = true;
        } else {
            known.state = State::Stopped;
        }
        let (id, deadline) = (known.id, Instant::now() + Duration::from_secs(5));
        // Its end is noticed by itself; a call that came later may have started it again.
        while let Some(State::Running(seen) | State::Frozen(seen)) = self.list().get(&id)
            && *seen == pid
        {
            assert!(Instant::now() < deadline, "the end of process 1 of {id} is not noticed");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn list(&mut self) -> BTreeMap<SandboxId, State> {
        let anyone = self.known[0].id;
        let text = self.server.ask(&format!("list {anyone}")).unwrap();
        let mut found = BTreeMap::new();
        for entry in text.split_whitespace() {
            let parts: Vec<&str> = entry.split(':').collect();
            let pid = parts[2].parse().unwrap();
            let state = match parts[1] {
                "running" => State::Running(pid),
                "frozen" => State::Frozen(pid),
                _ => State::Stopped,
            };
            let earlier = found.insert(parts[0].parse().unwrap(), state);
            assert_eq!(earlier, None, "listed twice: {text}");
        }
        found
    }

    fn compare(&mut self) {
        let mut found = self.list();
        for index in 0..SANDBOXES {
            let known = &mut self.known[index];
            known.compare(found.remove(&known.id).unwrap_or(State::Absent));
            let (id, state) = (known.id, known.state);
            if let State::Running(_) = state
                && !known.daemons.is_empty()
            {
                let order = format!("exec {id} kill -0 {} && echo all", known.daemons.join(" "));
                let answer = self.server.ask(&order).unwrap();
                assert!(answer.contains(" 0 all"), "processes live on: {answer}");
            }
            if state == State::Absent {
                // Ids never come twice.
                self.known[index] = Known::new(&mut self.dice);
                continue;
            }
            let logs = self.server.ask(&format!("logs {id}")).unwrap();
            if let Some((process, code)) = &self.known[index].last {
                let line = format!("{process}=Some({code})");
                assert!(logs.split(' ').any(|log| log == line), "{line} is missing: {logs}");
            }
        }
        assert!(found.is_empty(), "nobody asked for {found:?}");
    }

    /// Destroys everything, counts again, and looks for what a closed server leaves.
    pub(crate) fn end(mut self) {
        for index in 0..SANDBOXES {
            let id = self.known[index].id;
            self.server.ask(&format!("destroy {id}")).unwrap();
        }
        let after = count(self.folder.path(), &mut self.server);
        after.compare(&self.before);
        self.server.close();
        let folder = self.folder.path();
        assert!(
            settles(|| census::processes(folder).is_empty() && census::loops(folder).is_empty()),
            "{:?} {:?}",
            census::processes(folder),
            census::loops(folder)
        );
        if !rootless() {
            Cgroups::detect(&census::group_name(folder)).unwrap().remove_all().unwrap();
        }
        // The last deletion is told of a moment before its process is gone.
        assert!(settles(|| children().is_empty()), "{:?}", children());
    }
}

impl Drop for Load {
    /// After a failure: nothing of the test may stay on the machine.
    fn drop(&mut self) {
        let folder = self.folder.path();
        let _ = self.server.child.kill();
        let _ = self.server.child.wait();
        for (pid, _) in census::processes(folder) {
            kill(pid);
        }
        settles(|| census::processes(folder).is_empty() && census::loops(folder).is_empty());
        if !rootless() {
            let _ =
                Cgroups::detect(&census::group_name(folder)).and_then(|groups| groups.remove_all());
        }
    }
}

/// Whether the test runs as an ordinary user, so on the unprivileged profile.
pub(crate) fn rootless() -> bool {
    !rustix::process::geteuid().is_root()
}

fn count(folder: &Path, server: &mut Server) -> Census {
    let id = SandboxId::from_uuid(uuid::Uuid::nil());
    server.ask(&format!("warm {id}")).unwrap();
    let forkserver = server.forkserver.to_string();
    let pool = PathBuf::from(format!("/proc/{forkserver}/root{}/pool", folder.display()));
    // Groups of the dead go a moment after them; parked processes enter their namespaces by and by.
    settles(|| {
        census::groups(folder).len().is_multiple_of(NAMESPACES)
            && census::processes(folder).len() == NAMESPACES
            && census::namespaces(folder).len() == census::namespaces_of(NAMESPACES)
    });
    Census {
        processes: census::processes(folder).len(),
        namespaces: census::namespaces(folder).len(),
        groups: census::groups(folder).len(),
        loops: census::loops(folder).len(),
        mounts: census::mounts("self", &folder.to_string_lossy()),
        forkserver_mounts: census::mounts(&forkserver, &folder.to_string_lossy()).len(),
        files: census::files(folder)
            .into_iter()
            .filter(|path| !path.contains("/layers/"))
            .collect(),
        pool: census::files(&pool).into_iter().map(|path| path.replace(&forkserver, "")).collect(),
    }
}

fn kill(pid: i32) {
    // The process may have ended by itself.
    let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

/// Polls for a state of the world, reaping orphans meanwhile, for at most ninety seconds: a pool
/// with many deleted subvolumes takes long to unmount on a busy machine.
fn settles(done: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        reap();
        if done() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Our children, orphans of dead servers among them.
fn children() -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

/// Takes the dead among the orphans away; the server itself is waited for by its handle.
fn reap() {
    for pid in children() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let dead = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
        if dead {
            let _ = rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
        }
    }
}
