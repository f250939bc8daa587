//! A data directory of one test, the program on it, and its server.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A data directory of one test; its server ends with it.
pub(crate) struct House {
    pub(crate) folder: TempDir,
    /// Further variables of its server.
    variables: Vec<(String, String)>,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// Its server gets these variables as well.
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            folder: tempfile::tempdir().unwrap(),
            variables: variables.iter().map(own).collect(),
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The program with this data directory and nothing of the caller's environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_mayfly")), arguments)
    }

    /// The same with another program.
    pub(crate) fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.folder.path());
        command.env("MAYFLY_POOL_NAMESPACES", "2");
        command.env("MAYFLY_STORAGE_DATA_DIR", self.data());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path()).args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Its standard output; it must end with 0.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Its exit code and standard error.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        let code = output.status.code().expect("it ended by itself");
        assert_ne!(code, 0, "{arguments:?} passed");
        (code, String::from_utf8(output.stderr).unwrap())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let list = self.json(&["sandbox", "list"]);
        let mut names: Vec<String> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn server(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.data().join("run/server.lock")).ok()?;
        text.split(' ').next()?.parse().ok()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data().join("server.log")).unwrap_or_default()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if !self.data().join("state.db").exists() {
            return;
        }
        // Sandboxes outlive their server, so this starts one where none runs.
        let list = self.run(&["sandbox", "list", "--json"]).stdout;
        let list: Value = serde_json::from_slice(&list).unwrap_or_default();
        for item in list.as_array().into_iter().flatten() {
            self.run(&["sandbox", "rm", item["id"].as_str().unwrap_or_default()]);
        }
        if std::thread::panicking() {
            eprintln!("the server said:\n{}", self.log());
        }
        if let Some(pid) = self.server() {
            signal(pid, "TERM");
            wait_until(|| !alive(pid));
        }
    }
}

pub(crate) fn signal(pid: i32, name: &str) {
    Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
}

/// Whether anything of a process still runs: its first thread may be gone long before the others, which keep
/// its sockets and locks.
pub(crate) fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    !stat.is_empty() && (threads > 1 || !stat.contains(") Z "))
}

/// The network processes of a data directory's servers: they name the folder of their audit.
pub(crate) fn network_processes(data: &Path) -> Vec<i32> {
    let audit = data.join("audit").display().to_string();
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split('\0').any(|part| part == audit))
    })
    .collect()
}

pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}
