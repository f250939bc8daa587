//! A server of our own build on a throw-away data directory, and the search for what it leaves behind.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::http::Client;
use crate::repo;
use crate::step::{command, run};

/// Longest wait for the server to answer after its start, and to end after being asked to.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long kernel objects may take to go once their last user is gone.
const SETTLE: Duration = Duration::from_secs(5);

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// How to reach it.
    pub(crate) client: Client,
    /// Its data directory, deleted by [`Server::stop`].
    pub(crate) data: PathBuf,
    /// From start to its first answer.
    pub(crate) ready_after: Duration,
}

/// Builds the server with a cargo profile (`dev`, `release`); returns the program.
pub(crate) fn build(profile: &str) -> Result<PathBuf> {
    run(&mut command("cargo", &["build", "--package", "mayfly", "--profile", profile]))?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(repo::target().join(folder).join("mayfly"))
}

impl Server {
    /// Starts `mayfly serve` on an empty data directory and waits until it answers.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let name = format!("mayfly-xtask-{}-{:08x}", std::process::id(), fresh_number()? >> 32);
        let data = std::env::temp_dir().join(name);
        let mut folder = std::fs::DirBuilder::new();
        folder.mode(0o700).create(&data).with_context(|| format!("make {}", data.display()))?;
        let key = format!("mf_key_xtask_{:016x}", fresh_number()?);
        Self::start_on(program, data, key)
    }

    /// Ends it and starts it again on the same data directory.
    pub(crate) fn start_again(mut self, program: &Path) -> Result<Self> {
        self.end()?;
        Self::start_on(program, self.data.clone(), self.client.key.clone())
    }

    fn start_on(program: &Path, data: PathBuf, key: String) -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let log = std::fs::File::create(data.join("xtask.log"))?;
        let mut serve = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(&name.to_string_lossy())) {
            serve.env_remove(name);
        }
        serve.arg("serve").arg("--listen").arg(address.to_string()).arg("--data-dir").arg(&data);
        serve.env("MAYFLY_API_KEY", &key).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let start = Instant::now();
        let child = serve.spawn().with_context(|| format!("start {}", program.display()))?;
        let client = Client { address, key };
        let mut server = Self { child, client, data, ready_after: Duration::ZERO };
        server.wait_until_it_answers(start)?;
        server.ready_after = start.elapsed();
        Ok(server)
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it, deletes its data, and fails when anything of it is left on this machine.
    pub(crate) fn stop(mut self) -> Result<()> {
        let groups = control_groups_below(self.child.id())?;
        self.end()?;
        let asked = Instant::now();
        let mut left = leftovers(&self.data, &groups)?;
        while !left.is_empty() && asked.elapsed() < SETTLE {
            std::thread::sleep(Duration::from_millis(20));
            left = leftovers(&self.data, &groups)?;
        }
        if !left.is_empty() {
            bail!("the server left behind: {}", left.join(", "));
        }
        std::fs::remove_dir_all(&self.data)
            .with_context(|| format!("delete {}", self.data.display()))
    }

    /// Asks it to end and waits until it has.
    fn end(&mut self) -> Result<()> {
        run(&mut command("kill", &["-TERM", &self.child.id().to_string()]))?;
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > PATIENCE {
                bail!(
                    "the server did not end within {PATIENCE:?} of being asked to\n{}",
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn wait_until_it_answers(&mut self, start: Instant) -> Result<()> {
        loop {
            if let Ok(answer) = self.client.call("GET", "/health")
                && answer.status == 200
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status} instead of starting\n{}", self.log());
            }
            if start.elapsed() > PATIENCE {
                bail!("the server did not answer within {PATIENCE:?}\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("xtask.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop`; on an error path nobody waits for either of these.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("MAYFLY_")
}

/// Processes, mounts and loop devices that name a data directory, and control groups of these names.
fn leftovers(data: &Path, groups: &[String]) -> Result<Vec<String>> {
    let data = data.to_string_lossy();
    let mut left = Vec::new();
    for group in groups {
        left.extend(control_groups_named(group)?);
    }
    let mut devices = Vec::new();
    for device in names("/sys/block")? {
        let backing = std::fs::read_to_string(format!("/sys/block/{device}/loop/backing_file"));
        if backing.is_ok_and(|file| file.starts_with(&*data)) {
            left.push(format!("loop device {device}"));
            devices.push(format!(" /dev/{device} "));
        }
    }
    let own = std::process::id().to_string();
    for pid in
        names("/proc")?.into_iter().filter(|name| name.parse::<u32>().is_ok() && *name != own)
    {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        if String::from_utf8_lossy(&arguments).contains(&*data) {
            left.push(format!("process {pid}"));
        } else if mounts.contains(&*data) || devices.iter().any(|device| mounts.contains(device)) {
            left.push(format!("a mount seen by process {pid}"));
        }
    }
    Ok(left)
}

/// First parts of the control groups, other than its own, that a process's descendants are in.
fn control_groups_below(ancestor: u32) -> Result<Vec<String>> {
    let of = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let firsts = |text: &str| -> Vec<String> {
        let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        paths.filter_map(|path| path.split('/').nth(1)).map(str::to_owned).collect()
    };
    let own = firsts(&of(ancestor));
    let mut family = vec![ancestor];
    let mut found = Vec::new();
    let mut at = 0;
    while at < family.len() {
        found.extend(firsts(&of(family[at])));
        family.extend(children(family[at])?);
        at += 1;
    }
    found.sort();
    found.dedup();
    found.retain(|name| !name.is_empty() && !own.contains(name));
    Ok(found)
}

/// Children of all threads of a process.
fn children(pid: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for thread in names(&format!("/proc/{pid}/task")).unwrap_or_default() {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/children"));
        for word in text.unwrap_or_default().split_whitespace() {
            found.push(word.parse().with_context(|| format!("`{word}` is no process id"))?);
        }
    }
    Ok(found)
}

/// Control groups with a name, directly below the root of any hierarchy.
fn control_groups_named(name: &str) -> Result<Vec<String>> {
    let root = Path::new("/sys/fs/cgroup");
    let mut places = vec![root.to_owned()];
    places.extend(names("/sys/fs/cgroup")?.into_iter().map(|hierarchy| root.join(hierarchy)));
    let found = places.into_iter().map(|place| place.join(name)).filter(|group| group.is_dir());
    Ok(found.map(|group| format!("control group {}", group.display())).collect())
}

fn names(folder: &str) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("list {folder}"))?;
    let names =
        entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    Ok(names.collect::<std::io::Result<_>>()?)
}

fn fresh_number() -> Result<u64> {
    use std::io::Read as _;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
