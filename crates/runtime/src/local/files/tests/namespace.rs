//! A user namespace as an unprivileged server has it: within another one that an ordinary user owns.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

/// The ordinary user.
pub(in crate::local::files) const OWNER: u32 = 54_321;

/// Two processes that keep the namespaces; killed when dropped.
pub(in crate::local::files) struct Nested {
    outer: Child,
    inner: Child,
}

impl Nested {
    /// Ids 0 to 65535 of the inner namespace are those from `base` on the host.
    pub(in crate::local::files) fn start(base: u32) -> Self {
        let mut command = Command::new("unshare");
        let outer = keep(command.args(["--user", "cat"]).uid(OWNER).gid(OWNER));
        let own = namespace("self");
        await_other(outer.id(), &own);
        for map in ["uid_map", "gid_map"] {
            let text = format!("0 {OWNER} 1\n1 {base} 65536\n");
            std::fs::write(format!("/proc/{}/{map}", outer.id()), text).unwrap();
        }
        let enter = ["--user", "--target", &outer.id().to_string()];
        let mut command = Command::new("nsenter");
        let inner = keep(command.args(enter).args(["unshare", "--user", "cat"]));
        await_other(inner.id(), &own);
        await_other(inner.id(), &namespace(&outer.id().to_string()));
        let maps = format!("/proc/{}", inner.id());
        let write = format!("echo 0 1 65536 >{maps}/uid_map && echo 0 1 65536 >{maps}/gid_map");
        let mut command = Command::new("nsenter");
        let written = command.args(enter).args(["sh", "-c", &write]).status().unwrap();
        assert!(written.success());
        Self { outer, inner }
    }

    /// The inner namespace.
    pub(in crate::local::files) fn open(&self) -> OwnedFd {
        let path = format!("/proc/{}/ns/user", self.inner.id());
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        for child in [&mut self.inner, &mut self.outer] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a process that ends with its input.
fn keep(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

fn namespace(process: &str) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{process}/ns/user")).unwrap()
}

/// Waits until the process is in another namespace than this one.
fn await_other(process: u32, other: &std::path::Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while namespace(&process.to_string()) == other {
        assert!(Instant::now() < deadline, "the namespace is not made");
        std::thread::sleep(Duration::from_millis(1));
    }
}
