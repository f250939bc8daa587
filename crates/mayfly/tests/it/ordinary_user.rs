//! The built program run by an ordinary user: real sandboxes over HTTP, without root anywhere.
//!
//! Root starts the server as the user that `cargo xtask setup` makes; an ordinary user as himself.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The user that root becomes.
const USER: &str = "mayfly-test";
const KEY: &str = "key-of-the-test-of-ordinary-users";
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of the user, deleted at the end together with what belongs to his subordinate ids.
struct Place {
    folder: PathBuf,
    /// His ids, where he is not the caller.
    ids: Option<(u32, u32)>,
}

impl Place {
    /// `None`, with a line that says why, where there is no such user.
    fn new(case: &str) -> Option<Self> {
        let root = std::fs::metadata("/proc/self").is_ok_and(|own| {
            use std::os::unix::fs::MetadataExt as _;
            own.uid() == 0
        });
        let ids = if root {
            let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
            let line = accounts.lines().find(|line| line.starts_with(&format!("{USER}:")));
            let Some(line) = line else {
                println!("SKIP {case}: the user {USER}, made by `cargo xtask setup`");
                return None;
            };
            let fields: Vec<&str> = line.split(':').collect();
            Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
        } else {
            None
        };
        let folder =
            std::env::temp_dir().join(format!("mayfly-user-{}-{case}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        if let Some((uid, gid)) = ids {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        Some(Self { folder, ids })
    }

    /// The program as that user. It is started by descriptor, since its folder may be closed to him.
    fn command(&self, arguments: &[&str]) -> (Command, File) {
        let program = File::open(env!("CARGO_BIN_EXE_mayfly")).unwrap();
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &self.folder);
        command.env("MAYFLY_POOL_NAMESPACES", "2").env("MAYFLY_API_KEY", KEY);
        command.env("MAYFLY_STORAGE_DATA_DIR", self.folder.join("data"));
        command.current_dir(&self.folder).args(arguments).stdin(Stdio::null());
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        (command, program)
    }

    fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    fn serve_with(&self, settings: &[(&str, &str)]) -> Server {
        let (mut command, _program) = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.envs(settings.iter().copied());
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("mayfly listens on http://").map(str::to_owned));
        Server { address: address.unwrap_or_else(|| panic!("no server: {}", self.log())), child }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// How many sandboxes have a folder.
    fn folders(&self) -> usize {
        std::fs::read_dir(self.folder.join("data/sandboxes")).unwrap().count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.ids.is_some() {
            let _ = std::fs::remove_dir_all(&self.folder);
        } else {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--map-auto", "rm", "-rf", "--"]);
            let _ = command.arg(&self.folder).status();
        }
    }
}

struct Server {
    address: String,
    child: Child,
}

impl Server {
    /// Status and body of an answer.
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = body.to_string();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// Output of a shell command in a sandbox.
    fn sh(&self, name: &str, script: &str) -> String {
        let path = format!("/toolbox/{name}/process/execute");
        let answer = self.ok("POST", &path, &json!({ "command": script }));
        answer["result"].as_str().unwrap().to_owned()
    }

    fn reaches(&self, name: &str, state: &str) {
        let start = Instant::now();
        while self.ok("GET", &format!("/api/sandbox/{name}"), &Value::Null)["state"] != state {
            assert!(start.elapsed() < PATIENCE, "{name} is not {state}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn c07_a_sandbox_lives_its_life_without_root() {
    let Some(place) = Place::new("life") else { return };
    let server = place.serve();
    assert!(place.log().contains("isolation profile: unprivileged"), "{}", place.log());
    assert!(place.log().contains("steered by nftables tproxy"), "{}", place.log());
    let made = server.ok("POST", "/api/sandbox", &json!({ "name": "box" }));
    assert_eq!(made["networkBlockAll"], false, "the public internet is what nobody asks for");
    server.reaches("box", "started");
    let limits = ["cpu", "memory", "disk"].map(|field| made[field].as_u64());
    assert_eq!(limits, [Some(0); 3], "nothing is limited: {made}");
    let said = server.sh("box", "id -u; echo kept > /root/file; cat /proc/self/uid_map");
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    assert_eq!(lines[0], "0");
    assert!(!lines[1].starts_with("0 0 "), "root inside is nobody outside: {said}");
    server.ok("POST", "/api/sandbox/box/stop", &Value::Null);
    server.reaches("box", "stopped");
    server.ok("POST", "/api/sandbox/box/start", &Value::Null);
    server.reaches("box", "started");
    assert_eq!(server.sh("box", "cat /root/file"), "kept\n");
    // The next server finds it running.
    server.sh("box", "sleep 1000 >/dev/null 2>&1 & echo $! > /root/pid");
    drop(server);
    let server = place.serve();
    let alive = server.sh("box", "kill -0 $(cat /root/pid) && echo alive");
    assert_eq!(alive, "alive\n");
    assert_eq!(place.folders(), 1);
    server.ok("DELETE", "/api/sandbox/box", &Value::Null);
    let start = Instant::now();
    while place.folders() != 0 {
        assert!(start.elapsed() < PATIENCE, "its folder stays");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn c06_what_cannot_be_limited_is_refused_and_shown_as_null() {
    let Some(place) = Place::new("limits") else { return };
    let server = place.serve();
    for field in ["cpu", "memory", "disk"] {
        let (status, answer) =
            server.ask("POST", "/api/sandbox", &json!({ "name": "no", (field): 1 }));
        assert_eq!(status, 400, "{answer}");
        let message = answer["message"].as_str().unwrap();
        let told = [field, "`unprivileged`", "as root"].iter().all(|part| message.contains(part));
        assert!(told, "{message}");
    }
    let (status, _) = server.ask("GET", "/api/sandbox/no", &Value::Null);
    assert_eq!(status, 404, "nothing half made");
    server.ok("POST", "/api/sandbox", &json!({ "name": "box" }));
    server.reaches("box", "started");
    let (status, _) = server.ask("POST", "/api/sandbox/box/resize", &json!({ "disk": 9 }));
    assert_eq!(status, 400);
    let (status, answer) = server.ask("POST", "/api/sandbox/box/pause", &Value::Null);
    assert_eq!(status, 501, "{answer}");
    server.reaches("box", "started");
    let mount = json!({ "volumes": [{ "volumeId": "data", "mountPath": "/data" }] });
    for (path, body) in [("/api/volumes", json!({ "name": "data" })), ("/api/sandbox", mount)] {
        let (status, answer) = server.ask("POST", path, &body);
        assert_eq!(status, 501, "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains("`unprivileged`") && message.contains("as root"), "{message}");
    }
    let metrics = server.ok("GET", "/toolbox/box/system/metrics", &Value::Null);
    for field in ["cpuCount", "cpuUsedPct", "memTotal", "diskTotal", "diskUsed"] {
        assert!(metrics[field].is_null(), "{field} in {metrics}");
    }
    assert!(metrics["memUsed"].as_u64().is_some_and(|used| used > 0), "{metrics}");
    server.ok("DELETE", "/api/sandbox/box", &Value::Null);
}

/// Enough of a resolver's client to be refused by the policy: its answer code.
const ASK: &str = r#"python3 -c '
import socket
ask = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ask.settimeout(5)
ask.sendto(b"\x12\x34\1\0\0\1\0\0\0\0\0\0\6secret\4test\0\0\1\0\1", ("9.9.9.9", 53))
print(ask.recv(99)[3] & 15)'"#;

#[test]
fn c07_lists_are_granted_and_judged_without_root() {
    let Some(place) = Place::new("lists") else { return };
    let server = place.serve();
    let lists = json!({ "name": "box", "domainAllowList": "*.example.com" });
    let made = server.ok("POST", "/api/sandbox", &lists);
    assert_eq!(made["domainAllowList"], "*.example.com");
    server.reaches("box", "started");
    assert_eq!(server.sh("box", ASK).trim(), "5", "a name that is not listed is refused");
    let audit = server.ok("GET", "/api/sandbox/box/network/audit", &Value::Null);
    let told = audit["items"].as_array().unwrap().iter().any(|line| line["name"] == "secret.test");
    assert!(told, "{audit}");
    server.ok("POST", "/api/sandbox/box/network-settings", &json!({ "networkBlockAll": true }));
    server.ok("DELETE", "/api/sandbox/box", &Value::Null);
}

#[test]
fn c06_without_a_way_to_steer_all_is_blocked_and_lists_are_refused() {
    let Some(place) = Place::new("blocked") else { return };
    let server = place.serve_with(&[("MAYFLY_NETWORK_STEERING", "sk_lookup")]);
    assert!(place.log().contains("sandboxes have loopback only"), "{}", place.log());
    let wanted = json!({ "name": "no", "networkAllowList": "1.1.1.1" });
    let (status, answer) = server.ask("POST", "/api/sandbox", &wanted);
    assert_eq!(status, 400, "{answer}");
    assert!(answer["message"].as_str().unwrap().starts_with("networkAllowList"), "{answer}");
    let made = server.ok("POST", "/api/sandbox", &json!({ "name": "box" }));
    assert_eq!(made["networkBlockAll"], true, "the record says what is in force");
    server.reaches("box", "started");
    server.ok("DELETE", "/api/sandbox/box", &Value::Null);
}

#[test]
fn c07_the_other_profile_is_refused_with_the_remedy() {
    let Some(place) = Place::new("profile") else { return };
    let (mut command, _program) = place.command(&["serve", "--listen", "127.0.0.1:0"]);
    let refused = command.env("MAYFLY_ISOLATION_PROFILE", "full").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(said.contains("`full` needs root") && said.contains("isolation.profile"), "{said}");
}

#[test]
fn c05_the_doctor_tells_the_layers_of_the_profile() {
    let Some(place) = Place::new("doctor") else { return };
    let (mut command, _program) = place.command(&["doctor", "--json"]);
    let output = command.env("TMPDIR", &place.folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let layers: Value = serde_json::from_str(&said).unwrap();
    let find = |name: &str| {
        let mut layers = layers.as_array().unwrap().iter();
        layers.find(|layer| layer["name"] == name).unwrap_or_else(|| panic!("{name} in {said}"))
    };
    for name in
        ["user namespace", "system call filter", "Landlock", "resource limits", "tmpfs sizes"]
    {
        assert_eq!(find(name)["state"], "holds", "{said}");
        assert_eq!(find(name)["required"], true, "{said}");
    }
    let network = find("network");
    assert_eq!((&network["state"], &network["required"]), (&json!("holds"), &json!(true)));
    assert!(network["evidence"].as_str().unwrap().contains("steered by nftables tproxy"), "{said}");
    for name in ["cpu limit", "memory limit", "disk quota"] {
        assert_eq!(find(name)["state"], "absent", "{said}");
        assert_eq!(find(name)["required"], false, "{said}");
    }
    let left = std::fs::read_dir(&place.folder).unwrap().count();
    assert_eq!(left, 0, "the doctor cleans up after itself");
}
