//! The built server on a data directory of its own, started, killed and started again; its API.

use std::fs::{File, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::world::{PATIENCE, RESOLVER, eventually};

/// The API key that it takes.
pub(crate) const KEY: &str = "mf_key_for_the_world_0123456789abcdef";

/// A server; ended with all its sandboxes when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    data: TempDir,
}

/// A sandbox of a server.
#[derive(Debug)]
pub(crate) struct Sandbox<'a> {
    server: &'a Server,
    pub(crate) id: String,
}

impl Server {
    /// Starts the built program in the namespace of the calling thread and waits until it listens.
    pub(crate) fn start() -> Self {
        let private = Permissions::from_mode(0o700);
        let data = tempfile::Builder::new().permissions(private).tempdir().unwrap();
        std::os::unix::fs::symlink(shared_layers(), data.path().join("layers")).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut server = Self { child: spawn(address, data.path()), address, data };
        server.wait_until_it_listens();
        server
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after a kill.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.address, self.data.path());
        self.wait_until_it_listens();
    }

    /// Starts it after a kill where it must end by itself, with an error; what it said.
    pub(crate) fn refuses_to_start(&mut self, variables: &[(&str, &str)]) -> String {
        let before = self.log().len();
        let mut child = command(self.address, self.data.path())
            .envs(variables.iter().copied())
            .spawn()
            .unwrap();
        let mut ended = None;
        eventually("the server refuses to start", || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        });
        assert!(!ended.unwrap().success());
        self.log().split_off(before)
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("test.log")).unwrap_or_default()
    }

    /// The folder that it keeps everything in.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// One request; status and body, or nothing where the server is gone.
    pub(crate) fn ask(&self, line: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{line} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {KEY}\r\nContent-Type: {}\r\n\
             Content-Length: {}\r\n\r\n",
            self.address,
            if line.contains("/files/") { "application/octet-stream" } else { "application/json" },
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        Some((status, answer.split_off(end + 4)))
    }

    /// One request with JSON both ways, which must succeed; an empty answer is null.
    pub(crate) fn json(&self, line: &str, body: &Value) -> Value {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (status, answer) = self.ask(line, &body).expect("the server answers");
        let text = String::from_utf8_lossy(&answer);
        assert!((200..300).contains(&status), "{line}: {status} {text}\n{}", self.log());
        if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer).unwrap() }
    }

    /// A running sandbox.
    pub(crate) fn sandbox(&self, wishes: &Value) -> Sandbox<'_> {
        let made = self.json("POST /api/sandbox", wishes);
        let sandbox = Sandbox { server: self, id: made["id"].as_str().unwrap().to_owned() };
        eventually("the sandbox is started", || {
            self.json(&format!("GET /api/sandbox/{}", sandbox.id), &Value::Null)["state"]
                == "started"
        });
        sandbox
    }

    fn wait_until_it_listens(&mut self) {
        eventually("the server listens", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status} instead of starting\n{}", self.log());
            }
            self.ask("GET /api/health", b"").is_some_and(|(status, _)| status == 200)
        });
    }
}

impl Sandbox<'_> {
    /// The same sandbox, for a server that was started again.
    pub(crate) fn of<'a>(server: &'a Server, id: &str) -> Sandbox<'a> {
        Sandbox { server, id: id.to_owned() }
    }

    /// Runs a command line in its shell; exit code and output.
    pub(crate) fn run(&self, command: &str) -> (i64, String) {
        let answer =
            self.toolbox("POST", "process/execute", &json!({ "command": command, "timeout": 60 }));
        (answer["exitCode"].as_i64().unwrap(), answer["result"].as_str().unwrap().to_owned())
    }

    /// Its output; it must end with 0.
    pub(crate) fn ok(&self, command: &str) -> String {
        let (code, output) = self.run(command);
        assert_eq!(code, 0, "{command}\n{output}\n{}", self.server.log());
        output
    }

    /// A call of its toolbox, which must succeed.
    pub(crate) fn toolbox(&self, method: &str, path: &str, body: &Value) -> Value {
        self.server.json(&format!("{method} /toolbox/{}/{path}", self.id), body)
    }

    /// Puts a file into it.
    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        let line = format!("POST /toolbox/{}/files/upload-v2?path={path}", self.id);
        let (status, answer) = self.server.ask(&line, content).expect("the server answers");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    }

    /// Changes what it may reach.
    pub(crate) fn set_network(&self, settings: &Value) {
        self.server.json(&format!("POST /api/sandbox/{}/network-settings", self.id), settings);
    }

    /// Every denial in its audit, as `<protocol> <name or address> <port>`.
    pub(crate) fn denials(&self) -> Vec<String> {
        let page = self.control("GET", "network/audit?limit=1000");
        let items = page["items"].as_array().unwrap();
        let denied = items.iter().filter(|item| item["verdict"] == "denied");
        let text = |item: &Value, field: &str| item[field].as_str().map(str::to_owned);
        denied
            .map(|item| {
                let place = text(item, "name").or_else(|| text(item, "address")).unwrap();
                format!("{} {place} {}", text(item, "protocol").unwrap(), item["port"])
            })
            .collect()
    }

    /// A call of the control plane about it, which must succeed.
    pub(crate) fn control(&self, method: &str, path: &str) -> Value {
        self.server.json(&format!("{method} /api/sandbox/{}/{path}", self.id), &Value::Null)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Sandboxes outlive their server, so one that was killed is started for this.
        if !matches!(self.child.try_wait(), Ok(None)) {
            self.child = spawn(self.address, self.data.path());
            if !std::thread::panicking() {
                self.wait_until_it_listens();
            }
        }
        let list = self.ask("GET /api/sandbox", b"").unwrap_or_default().1;
        let list: Value = serde_json::from_slice(&list).unwrap_or_default();
        for item in list["items"].as_array().into_iter().flatten() {
            self.ask(&format!("DELETE /api/sandbox/{}", item["id"].as_str().unwrap()), b"");
        }
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            eventually("nothing of the server is left", || {
                processes_of(self.data.path()).is_empty()
            });
            let pools = loop_devices(self.data.path());
            assert!(pools.is_empty(), "the server left {pools:?}");
        }
    }
}

fn spawn(address: SocketAddr, data: &Path) -> Child {
    command(address, data).spawn().unwrap()
}

fn command(address: SocketAddr, data: &Path) -> Command {
    let log = File::options().append(true).create(true).open(data.join("test.log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mayfly"));
    command
        .args(["serve", "--listen", &address.to_string(), "--data-dir"])
        .arg(data)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("MAYFLY_API_KEY", KEY)
        .env("MAYFLY_POOL_NAMESPACES", "2")
        .env("MAYFLY_NETWORK_RESOLVERS", RESOLVER)
        .env("MAYFLY_SERVER_PREVIEW_LISTEN", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command
}

/// Processes whose command line names the folder, or something in it, with their command lines.
pub(crate) fn processes_of(folder: &Path) -> Vec<(u32, String)> {
    let folder = folder.to_str().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(folder).then_some((pid, line))
        })
        .collect()
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

/// The layers of the host's image are the same for every server, and making them takes a second.
fn shared_layers() -> PathBuf {
    let folder = std::env::temp_dir().join("mayfly-test-layers");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
    folder
}
