//! A runtime of its own per test, taken down completely whether the test passes or panics.
//!
//! Calls block, each within its own time limit, so a hang is a failure and not a stuck run. Nothing is
//! shared between tests but the generated layers of the host image, which are made once.
//!
//! Who runs the tests decides which profile they test: root the full one, an ordinary user the
//! unprivileged one. `cargo xtask test` does both.

use std::fs;
use std::future::Future;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mayfly_core::id::SandboxId;
use mayfly_core::limits::Resources;
use mayfly_core::network::NetworkPolicy;
use mayfly_core::ports::files::Files;
use mayfly_core::ports::runtime::{Runtime as _, SandboxSpec};
use mayfly_core::process::{ExecOutcome, ExecRequest};
use mayfly_init::protocol::{
    WEAK_CAPABILITIES, WEAK_LANDLOCK, WEAK_MASKS, WEAK_NEW_PRIVILEGES, WEAK_SECCOMP, WEAK_USER,
};
use mayfly_runtime::local::cgroup::Cgroups;
use mayfly_runtime::local::{LocalRuntime, Options};
use sha2::Digest as _;

use crate::prelude::PRELUDE;

/// Layers of the host image, shared by all tests of this machine and user.
const LAYERS: &str = "/tmp/mayfly-test-layers";
/// Start of the names of data directories; a number of the process and of the bench follow.
const PREFIX: &str = "/tmp/mayfly-test-";
/// Longest that any one call may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Time limit of a command, unless a test says otherwise.
pub(crate) const COMMAND: Duration = Duration::from_secs(10);

/// Everything off but the namespaces of mounts, processes and network: inside is the host's root.
pub(crate) const OPEN: u32 =
    WEAK_USER | WEAK_SECCOMP | WEAK_LANDLOCK | WEAK_MASKS | WEAK_CAPABILITIES | WEAK_NEW_PRIVILEGES;

/// A runtime with its own data directory.
pub(crate) struct Bench {
    /// Case that is tested, for messages.
    case: &'static str,
    options: Options,
    runtime: Option<LocalRuntime>,
    tokio: Option<tokio::runtime::Runtime>,
}

/// A sandbox of a bench; it ends with the bench.
pub(crate) struct Sandbox<'a> {
    bench: &'a Bench,
    pub(crate) spec: SandboxSpec,
}

/// How a command inside ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) text: String,
}

impl Ran {
    /// Whether a line of the output is exactly this.
    pub(crate) fn says(&self, line: &str) -> bool {
        self.text.lines().any(|said| said == line)
    }

    /// What follows `name=` at the start of a line of the output.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> &str {
        let mut lines = self.text.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no `{name}=` in:\n{}", self.text))
    }
}

impl Bench {
    /// A runtime with every layer. `None`, with a line that says why, where the host cannot have it.
    pub(crate) fn open(case: &'static str) -> Option<Self> {
        Self::with(case, |_| {})
    }

    /// As [`Bench::open`], for what only the full profile has; names what an ordinary user lacks.
    pub(crate) fn full(case: &'static str, needs: &str) -> Option<Self> {
        only_full(case, needs).then(|| Self::open(case)).flatten()
    }

    /// A runtime that leaves out the layers of these `WEAK_*` bits.
    pub(crate) fn weakened(case: &'static str, flags: u32) -> Option<Self> {
        Self::with(case, |options| options.weakened = flags)
    }

    /// As [`Bench::weakened`], for attempts that only root of the host could carry out: an ordinary user's
    /// sandbox stays without effect on the host whatever layer it lacks.
    pub(crate) fn weakened_full(case: &'static str, flags: u32) -> Option<Self> {
        only_full(case, "right to do it outside either")
            .then(|| Self::weakened(case, flags))
            .flatten()
    }

    /// A runtime with changed options.
    pub(crate) fn with(case: &'static str, change: impl FnOnce(&mut Options)) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if let Some(missing) = missing_feature() {
            println!("SKIP {case}: {missing}");
            return None;
        }
        crate::census::adopt_orphans();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("{PREFIX}{}-{number}", std::process::id()));
        let private = |path: &Path| {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        };
        let layers = if rootless() {
            format!("{LAYERS}-{}", rustix::process::geteuid().as_raw())
        } else {
            LAYERS.to_owned()
        };
        private(Path::new(&layers));
        private(&dir);
        symlink(layers, dir.join("layers")).unwrap();
        let mut options = Options::new(&dir);
        options.pool_bytes = Some(512 << 20);
        options.namespaces = 2;
        change(&mut options);
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let mut bench = Self { case, options, runtime: None, tokio: Some(tokio) };
        bench.reopen();
        Some(bench)
    }

    /// Closes the runtime, if it is open, and opens it again over the same state, as a new server would.
    pub(crate) fn reopen(&mut self) {
        self.reopen_after(|| {});
    }

    /// As [`Bench::reopen`]; something happens while no server runs.
    pub(crate) fn reopen_after(&mut self, meanwhile: impl FnOnce()) {
        assert!(self.close(), "{}: the forkserver outlives its runtime", self.case);
        meanwhile();
        let opened = self.wait(LocalRuntime::open(self.options.clone()));
        self.runtime = Some(opened.unwrap_or_else(|error| {
            panic!("{}: the runtime does not open: {error} {:?} {error:?}", self.case, error.hint())
        }));
    }

    /// Waits for a future, at most [`PATIENCE`].
    #[track_caller]
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.wait_for(PATIENCE, future)
    }

    /// Waits for a future, at most this long.
    #[track_caller]
    pub(crate) fn wait_for<F: Future>(&self, patience: Duration, future: F) -> F::Output {
        let ended = self.try_wait(patience, future);
        ended.unwrap_or_else(|| panic!("{}: a call hung longer than {patience:?}", self.case))
    }

    /// Waits for a future; `None` when it took longer than that.
    fn try_wait<F: Future>(&self, patience: Duration, future: F) -> Option<F::Output> {
        let tokio = self.tokio.as_ref().expect("it lives until the bench ends");
        tokio.block_on(async { tokio::time::timeout(patience, future).await.ok() })
    }

    /// The runtime itself.
    pub(crate) fn runtime(&self) -> &LocalRuntime {
        self.runtime.as_ref().expect("it lives until the bench ends")
    }

    /// Where it keeps its state.
    pub(crate) fn dir(&self) -> &Path {
        &self.options.data_dir
    }

    /// What a new sandbox of the default size is made from.
    pub(crate) fn spec(&self) -> SandboxSpec {
        SandboxSpec {
            id: SandboxId::from_uuid(uuid::Uuid::now_v7()),
            source: self.wait(self.runtime().host_source()).unwrap(),
            resources: Resources::DEFAULT,
            user: "root".to_owned(),
            workdir: None,
            env: std::collections::BTreeMap::new(),
            volumes: Vec::new(),
            network: NetworkPolicy::default(),
        }
    }

    /// A running sandbox of the default size.
    #[track_caller]
    pub(crate) fn sandbox(&self) -> Sandbox<'_> {
        self.sandbox_of(self.spec())
    }

    /// A running sandbox of this description.
    #[track_caller]
    pub(crate) fn sandbox_of(&self, spec: SandboxSpec) -> Sandbox<'_> {
        let created = self.wait(self.runtime().create(&spec));
        created.unwrap_or_else(|error| {
            panic!("{}: no sandbox: {error} {:?} {error:?}", self.case, error.hint())
        });
        Sandbox { bench: self, spec }
    }

    /// A sandbox that an earlier runtime of this bench made.
    pub(crate) fn adopted(&self, spec: SandboxSpec) -> Sandbox<'_> {
        Sandbox { bench: self, spec }
    }

    /// The folder of a sandbox, writable parts and logs; the pool is in the forkserver's mount namespace only.
    pub(crate) fn folder(&self, id: SandboxId) -> PathBuf {
        if rootless() {
            return self.dir().join(format!("sandboxes/{id}"));
        }
        let forkserver = self.runtime().forkserver_pid().expect("it runs");
        let dir = self.dir().display();
        PathBuf::from(format!("/proc/{forkserver}/root{dir}/pool/sandboxes/{id}"))
    }

    /// Drops the runtime; whether its forkserver is gone then.
    fn close(&mut self) -> bool {
        let Some(runtime) = self.runtime.take() else { return true };
        let forkserver = runtime.forkserver_pid();
        drop(runtime);
        within(|| forkserver.is_none_or(|pid| !Path::new(&format!("/proc/{pid}")).exists()))
    }

    fn destroy_all(&self) -> Vec<String> {
        let Some(runtime) = self.runtime.as_ref() else { return Vec::new() };
        let Some(Ok(sandboxes)) = self.try_wait(PATIENCE, runtime.list()) else {
            return vec!["sandboxes that cannot be listed".to_owned()];
        };
        let destroy = |id| self.try_wait(PATIENCE, runtime.destroy(id));
        sandboxes
            .iter()
            .filter_map(|sandbox| match destroy(sandbox.id) {
                Some(Ok(())) => None,
                Some(Err(error)) => Some(format!("{}: {error}", sandbox.id)),
                None => Some(format!("{}: hangs", sandbox.id)),
            })
            .collect()
    }

    /// Destroys everything, closes the runtime and tells what is left on the host.
    fn take_down(&mut self) -> Vec<String> {
        let mut left = self.destroy_all();
        if !self.close() {
            left.push("forkserver".to_owned());
        }
        if let Some(tokio) = self.tokio.take() {
            tokio.shutdown_timeout(Duration::from_secs(10));
        }
        let dir = self.dir();
        if !within(|| loops_of(dir).is_empty()) {
            left.extend(loops_of(dir));
        }
        if !rootless() {
            let group = group_name(dir);
            let removed = Cgroups::detect(&group).and_then(|cgroups| cgroups.remove_all());
            left.extend(removed.err().map(|error| format!("groups {group}: {error}")));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let name = dir.to_string_lossy();
        left.extend(mounts.lines().filter(|line| line.contains(&*name)).map(str::to_owned));
        let removed = fs::remove_dir_all(dir);
        left.extend(removed.err().map(|error| format!("{name}: {error}")));
        left
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let left = self.take_down();
        // A panic during a panic would hide the first one.
        let hushed = std::thread::panicking();
        assert!(left.is_empty() || hushed, "{}: left behind: {left:?}", self.case);
    }
}

impl Sandbox<'_> {
    pub(crate) fn id(&self) -> SandboxId {
        self.spec.id
    }

    /// Pid of process 1, as the host sees it.
    pub(crate) fn pid(&self) -> i32 {
        self.bench.runtime().inspect(self.id()).expect("the sandbox runs").0
    }

    /// Host id of inside root.
    pub(crate) fn root_id(&self) -> u32 {
        self.bench.runtime().inspect(self.id()).expect("the sandbox runs").1
    }

    /// Runs a program with the full answer.
    pub(crate) fn exec(
        &self,
        argv: &[&str],
        change: impl FnOnce(&mut ExecRequest),
    ) -> mayfly_core::Result<ExecOutcome> {
        let mut request = ExecRequest {
            argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
            title: argv.first().copied().unwrap_or_default().to_owned(),
            cwd: None,
            env: std::collections::BTreeMap::new(),
            stdin: Bytes::new(),
            timeout: COMMAND,
            max_output: 1 << 20,
        };
        change(&mut request);
        let patience = request.timeout + PATIENCE;
        self.bench.wait_for(patience, self.bench.runtime().exec(self.id(), request))
    }

    /// Runs a program that must start.
    #[track_caller]
    pub(crate) fn run(&self, argv: &[&str]) -> Ran {
        let outcome = match self.exec(argv, |_| {}) {
            Ok(outcome) => outcome,
            Err(error) => panic!("{}: {error} {error:?}", self.bench.case),
        };
        let text = String::from_utf8_lossy(&outcome.output).into_owned();
        Ran { code: outcome.exit_code, text }
    }

    /// Runs a shell script.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> Ran {
        self.run(&["/bin/sh", "-c", script])
    }

    /// Runs a Python script, after the [`PRELUDE`].
    #[track_caller]
    pub(crate) fn python(&self, script: &str) -> Ran {
        let whole = format!("{PRELUDE}\n{script}");
        self.run(&["/usr/bin/python3", "-I", "-c", &whole])
    }

    /// Makes a folder, and swaps it with a link to `target` as fast as it can, for as long as it lives.
    #[track_caller]
    pub(crate) fn swap(&self, folder: &str, target: &str) {
        let script = format!(
            "
os.makedirs({folder:?} + '/sub')
put({folder:?} + '/kept', 'inside')
os.symlink({target:?}, {folder:?} + '.link')
print('swapping', flush=True)
if os.fork() == 0:
    os.setsid()
    for number in range(3):
        os.close(number)
    names = ({folder:?}.encode(), {folder:?}.encode() + b'.link')
    while True:
        call('renameat2', -100, names[0], -100, names[1], 2)
"
        );
        assert_eq!(self.python(&script).text, "swapping\n");
    }

    /// Its files, from outside.
    pub(crate) fn files(&self) -> &dyn Files {
        self.bench.runtime().files()
    }

    /// Puts a file into it: through the file API.
    #[track_caller]
    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        let content = Bytes::copy_from_slice(content);
        let written = self.bench.wait(async {
            let mut writer = self.files().write(self.id(), path).await?;
            writer.write(content).await?;
            writer.commit().await
        });
        written.unwrap_or_else(|error| panic!("{}: {path}: {error:?}", self.bench.case));
    }

    /// Reads a file of it: through the file API.
    pub(crate) fn get(&self, path: &str) -> mayfly_core::Result<Vec<u8>> {
        self.bench.wait(async {
            let mut reader = self.files().read(self.id(), path).await?;
            let mut whole = Vec::new();
            loop {
                let piece = reader.next().await?;
                if piece.is_empty() {
                    return Ok(whole);
                }
                whole.extend_from_slice(&piece);
            }
        })
    }

    /// Waits for a future, at most [`PATIENCE`].
    #[track_caller]
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.bench.wait(future)
    }

    /// Ends its processes; files stay.
    #[track_caller]
    pub(crate) fn stop(&self) {
        self.bench.wait(self.bench.runtime().stop(self.id(), Duration::ZERO)).unwrap();
    }

    /// Starts it again.
    pub(crate) fn start(&self) -> mayfly_core::Result<()> {
        self.bench.wait(self.bench.runtime().start(&self.spec))
    }
}

/// Polls a condition, for at most two seconds.
pub(crate) fn within(done: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(2);
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// How often a race is run: `full` where `MAYFLY_TEST_SCALE` asks for full counts.
pub(crate) fn rounds(full: usize, usual: usize) -> usize {
    let scale = std::env::var("MAYFLY_TEST_SCALE");
    if scale.is_ok_and(|scale| scale == "full") { full } else { usual }
}

/// Whether the tests run as an ordinary user, so in the unprivileged profile.
pub(crate) fn rootless() -> bool {
    !rustix::process::geteuid().is_root()
}

/// Whether the full profile is tested; else says that the case does not apply, and why.
pub(crate) fn only_full(case: &str, needs: &str) -> bool {
    if rootless() {
        println!("SKIP {case}: an ordinary user has no {needs}");
    }
    !rootless()
}

/// What this host lacks to run any of these tests.
fn missing_feature() -> Option<String> {
    let files = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known = |kind: &str| files.lines().any(|line| line.split_whitespace().last() == Some(kind));
    for kind in ["btrfs", "overlay"] {
        if !known(kind) && (kind != "btrfs" || !rootless()) {
            return Some(format!("file system {kind}"));
        }
    }
    for path in ["/dev/loop-control", "/usr/bin/python3"] {
        if !Path::new(path).exists() && (!path.starts_with("/dev/") || !rootless()) {
            return Some(path.to_owned());
        }
    }
    None
}

/// Loop devices over files of a folder.
fn loops_of(dir: &Path) -> Vec<String> {
    let Ok(devices) = fs::read_dir("/sys/block") else { return Vec::new() };
    devices
        .flatten()
        .filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok())
        .filter(|file| Path::new(file.trim_end()).starts_with(dir))
        .collect()
}

/// Name of the control groups of a data directory, as the runtime derives it.
fn group_name(dir: &Path) -> String {
    use std::fmt::Write as _;
    let whole = fs::canonicalize(dir).unwrap();
    let digest = sha2::Sha256::digest(whole.as_os_str().as_encoded_bytes());
    digest.iter().take(6).fold(String::from("mayfly-"), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}
