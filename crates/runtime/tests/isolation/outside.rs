//! What stands outside the sandboxes: what attacks aim at, and the attempts where nothing confines them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::harness::Ran;
use crate::prelude::PRELUDE;

/// What a script prints when nothing confines it: run on the host itself, so only for harmless attempts
/// on what the test itself made. Shows that the attempt works where no sandbox is in the way.
#[track_caller]
pub(crate) fn unprotected(script: &str) -> Ran {
    let whole = format!("{PRELUDE}\n{script}");
    let output = Command::new("/usr/bin/python3").args(["-I", "-c", &whole]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Ran {
        code: output.status.code().unwrap_or(-1),
        text: String::from_utf8_lossy(&text).into_owned(),
    }
}

/// Set in a run of [`passes_apart`].
const INNER: &str = "MAYFLY_TEST_INNER";

/// Whether this is the inner run of a test.
pub(crate) fn is_inner() -> bool {
    std::env::var_os(INNER).is_some()
}

/// Runs one test of this program again, behind a script in a mount namespace of its own, and demands that it
/// passes. The script gets `before`, then the program and its arguments.
#[track_caller]
pub(crate) fn passes_apart(test: &str, script: &str, before: Vec<OsString>) {
    let ran = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "/bin/sh", "-c", script, "sh"])
        .args(before)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INNER, "1")
        .process_group(0)
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "{}\n{}", said(&ran.stdout), said(&ran.stderr));
    assert!(said(&ran.stdout).contains("1 passed"), "{}", said(&ran.stdout));
}

/// A process of the host, for attacks on what is outside; killed at the end.
pub(crate) struct Victim(Child);

impl Victim {
    pub(crate) fn start() -> Self {
        Self(Command::new("/usr/bin/sleep").arg("60").spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits a little for its end.
    pub(crate) fn has_ended(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(2);
        while self.is_alive() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        !self.is_alive()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder of the host that attacks aim at; removed at the end.
pub(crate) struct Bait(PathBuf);

impl Bait {
    /// Makes it, with one file `kept`.
    pub(crate) fn new(name: &str) -> Self {
        let path = PathBuf::from(format!("/tmp/mayfly-bait-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("kept"), "outside").unwrap();
        fs::set_permissions(path.join("kept"), fs::Permissions::from_mode(0o640)).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Names in it that do not belong, and `kept` when it is not as it was.
    pub(crate) fn changes(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        let kept = self.0.join("kept");
        let same = fs::read(&kept).is_ok_and(|content| content == b"outside")
            && fs::metadata(&kept).is_ok_and(|found| found.permissions().mode() & 0o7777 == 0o640);
        names.retain(|name| name != "kept" || !same);
        if !same {
            names.push("kept".to_owned());
        }
        names
    }
}

impl Drop for Bait {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
