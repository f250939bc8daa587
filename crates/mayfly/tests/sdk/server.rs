//! A server on a data directory of its own, ended with the test.

use std::fs::{File, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for its first answer, and for its end.
const PATIENCE: Duration = Duration::from_secs(30);
/// The API key that it takes.
pub(crate) const KEY: &str = "mf_key_for_the_clients_0123456789abcdef";

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    data: TempDir,
}

impl Server {
    /// Starts the built program and waits until it listens.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// The same with further variables.
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        let private = Permissions::from_mode(0o700);
        let data = tempfile::Builder::new().permissions(private).tempdir().unwrap();
        std::os::unix::fs::symlink(shared_layers(), data.path().join("layers")).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let log = File::create(log_file(data.path())).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_mayfly"))
            .args(["serve", "--listen", &address.to_string(), "--data-dir"])
            .arg(data.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("MAYFLY_API_KEY", KEY)
            .env("MAYFLY_POOL_NAMESPACES", "4")
            // Servers of several tests run at once.
            .env("MAYFLY_SSH_LISTEN", "127.0.0.1:0")
            .env("MAYFLY_SERVER_PREVIEW_LISTEN", "off")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { child, address, data };
        server.wait_until_it_listens();
        server
    }

    /// Where clients reach it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api", self.address)
    }

    /// One call with JSON both ways, which must succeed.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}\n{}", self.log());
        serde_json::from_str(body).unwrap_or(Value::Null)
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(log_file(self.data.path())).unwrap_or_default()
    }

    /// Asks it to end, and fails when it does not end well or its storage pool stays.
    pub(crate) fn stop(mut self) {
        self.terminate();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the server ended with {status}\n{}", self.log());
        let pools = loop_devices(self.data.path());
        assert!(pools.is_empty(), "the server left {pools:?}\n{}", self.log());
    }

    /// Runs `mayfly sandbox` against it; what it prints.
    fn sandbox(&self, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mayfly"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.data.path());
        command.env("MAYFLY_URL", format!("http://{}", self.address)).env("MAYFLY_API_KEY", KEY);
        command.arg("sandbox").args(arguments).output().map(|done| done.stdout).unwrap_or_default()
    }

    fn wait_until_it_listens(&mut self) {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status} instead of starting\n{}", self.log());
            }
            assert!(start.elapsed() < PATIENCE, "the server does not listen\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends the signal and waits for the end, or kills it when that takes too long.
    fn terminate(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = self.child.id().to_string();
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
        }
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > PATIENCE {
                let _ = self.child.kill();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After a failed check there are sandboxes left, and they outlive their server.
        if matches!(self.child.try_wait(), Ok(None)) {
            let list = self.sandbox(&["list", "--json"]);
            let list: Value = serde_json::from_slice(&list).unwrap_or_default();
            for item in list.as_array().into_iter().flatten() {
                self.sandbox(&["rm", item["id"].as_str().unwrap_or_default()]);
            }
        }
        self.terminate();
        let _ = self.child.wait();
    }
}

/// Loop devices whose file lies in a folder.
fn loop_devices(folder: &Path) -> Vec<PathBuf> {
    let devices = std::fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path());
    let is_in = |device: &PathBuf| {
        std::fs::read_to_string(device.join("loop/backing_file"))
            .is_ok_and(|file| Path::new(&file).starts_with(folder))
    };
    devices.filter(is_in).collect()
}

fn log_file(data: &Path) -> PathBuf {
    data.join("test.log")
}

/// The layers of the host's image are the same for every server, and making them takes a second.
fn shared_layers() -> PathBuf {
    let folder = std::env::temp_dir().join("mayfly-test-layers");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
    folder
}
