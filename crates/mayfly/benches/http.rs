//! Figures of the server as its callers see it: the built binary over HTTP on loopback.

mod crowd;
mod measure;
mod plane;
mod preview;
mod sockets;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mayfly_core::ports::runtime::Runtime as _;
use mayfly_runtime::local::{LocalRuntime, Options};
use measure::{Limit, Times, direct, print, print_times, samples};
use serde_json::{Value, json};

const KEY: &str = "mf_key_benchmark0000000000000000000000000000000000";

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let n = samples(300);
    let chosen = Chosen::from_arguments();
    // The wire runs every command in a shell, so the shell is part of the floor.
    let floor = direct(&["/bin/sh", "-c", "/bin/echo x"], n);
    print_times("direct exec through a shell (floor)", &floor, None, Limit::None);
    let floor = floor.percentile(0.5);
    let mut server = Server::start(folder.path(), 0);
    if chosen.has("create") {
        creates(&mut server, n, floor, "HTTP cold create to output and exit", Limit::Ratio(9.0));
    }
    if chosen.has("exec") {
        running(&mut server, n, floor);
    }
    if chosen.has("files") {
        files(&mut server, n);
    }
    if chosen.has("preview") {
        previews(&mut server);
    }
    if chosen.has("sockets") {
        web_sockets(&mut server);
    }
    if chosen.has("throughput") {
        throughput(&server);
    }
    if chosen.has("empty") {
        plane::empty(&server.address, KEY);
    }
    if chosen.has("events") {
        let id = server.client.create();
        let (address, client) = (server.address.clone(), &mut server.client);
        plane::events(&address, KEY, &id, |path| drop(client.call("POST", path, None)));
        server.client.delete(&id);
    }
    if chosen.has("mixed") {
        crowd::mixed(&mut server);
    }
    if chosen.has("adoption") {
        crowd::adoption(server, folder.path());
    } else {
        drop(server);
    }
    clear(folder.path());
    if chosen.has("lists") {
        lists();
    }
    if chosen.has("warm") {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut server = Server::start(folder.path(), 64);
        std::thread::sleep(Duration::from_secs(3));
        let name = "HTTP image-warm claim to output and exit";
        creates(&mut server, n, floor, name, Limit::Ratio(4.0));
        drop(server);
        clear(folder.path());
    }
}

/// Pages of a list of ten thousand: records that a server finds at its start.
fn lists() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(Server::start(folder.path(), 0));
    plane::fill(folder.path(), plane::LONG);
    let mut server = Server::start(folder.path(), 0);
    plane::lists(|path| server.client.call("GET", path, None));
    // They stand for nothing, so there is nothing to delete.
    let _ = server.child.kill();
    let _ = server.child.wait();
    std::mem::forget(server);
    clear(folder.path());
}

/// Ends the sandboxes of a server that has ended: they would outlive the benchmark, warm ones above all.
fn clear(folder: &Path) {
    let work = async {
        let mut options = Options::new(folder);
        options.namespaces = 0;
        let runtime = LocalRuntime::open(options).await.expect("the runtime opens");
        for seen in runtime.list().await.expect("a list of what runs") {
            runtime.destroy(seen.id).await.expect("destroy");
        }
    };
    tokio::runtime::Runtime::new().expect("a runtime starts").block_on(work);
}

/// Groups of figures to take, by the names that the command line gives; all when it gives none.
struct Chosen(Vec<String>);

impl Chosen {
    fn from_arguments() -> Self {
        Self(std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect())
    }

    fn has(&self, group: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|name| name == group)
    }
}

struct Server {
    child: Child,
    address: String,
    client: Client,
    ready: Duration,
}

impl Server {
    fn start(folder: &Path, warm: u32) -> Self {
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_mayfly"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder)
            .env_remove("MAYFLY_BENCH_N")
            .env("MAYFLY_API_KEY", KEY)
            .env("MAYFLY_POOL_WARM", warm.to_string())
            .env("MAYFLY_SERVER_RATE", "1000000")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output is a pipe");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let ready = began.elapsed();
        let address = line.trim().rsplit("http://").next().unwrap_or_default().to_owned();
        let client = Client::connect(&address);
        Self { child, address, client, ready }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let all = self.client.call("GET", "/api/sandbox?limit=200", None);
        for sandbox in all["items"].as_array().into_iter().flatten() {
            let id = sandbox["id"].as_str().unwrap_or_default();
            self.client.call("DELETE", &format!("/api/sandbox/{id}"), None);
        }
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// One keep-alive connection; small enough to cost nothing that counts.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("an open socket");
        Self { stream: BufReader::new(stream) }
    }

    fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map(Value::to_string).unwrap_or_default();
        let (status, answer) = self.raw(method, path, "application/json", body.as_bytes());
        assert!(status < 300, "{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).unwrap_or(Value::Null)
    }

    fn raw(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        self.stream.get_mut().write_all(&request).expect("the server reads");
        let (mut status, mut length, mut chunked) = (0, 0_usize, false);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("the server answers");
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap_or(0);
            } else if let Some(rest) = lower.strip_prefix("content-length: ") {
                length = rest.parse().unwrap_or(0);
            } else if lower == "transfer-encoding: chunked" {
                chunked = true;
            }
        }
        if chunked {
            return (status, self.chunks());
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("the whole body comes");
        (status, body)
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a chunk comes");
            let length = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
            let mut chunk = vec![0; length + 2];
            self.stream.read_exact(&mut chunk).expect("the whole chunk comes");
            if length == 0 {
                return body;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }

    fn create(&mut self) -> String {
        let mut sandbox = self.call("POST", "/api/sandbox", Some(&json!({})));
        let id = sandbox["id"].as_str().expect("a sandbox has an id").to_owned();
        // The first one on a fresh data directory waits for the image to be made.
        let began = Instant::now();
        while sandbox["state"] == "creating" && began.elapsed() < Duration::from_mins(2) {
            std::thread::sleep(Duration::from_millis(20));
            sandbox = self.call("GET", &format!("/api/sandbox/{id}"), None);
        }
        assert_eq!(sandbox["state"], "started", "{sandbox}");
        id
    }

    fn echo(&mut self, id: &str) {
        let path = format!("/toolbox/{id}/process/execute");
        let answer = self.call("POST", &path, Some(&json!({"command": "/bin/echo x"})));
        assert_eq!(answer["result"], "x\n");
    }

    fn delete(&mut self, id: &str) {
        self.call("DELETE", &format!("/api/sandbox/{id}"), None);
    }
}

fn creates(server: &mut Server, n: usize, floor: f64, name: &str, limit: Limit) {
    let mut times = Times::default();
    for _ in 0..n {
        let began = Instant::now();
        let id = server.client.create();
        server.client.echo(&id);
        times.add(began.elapsed());
        server.client.delete(&id);
    }
    print_times(name, &times, Some(floor), limit);
}

fn running(server: &mut Server, n: usize, floor: f64) {
    let id = server.client.create();
    let mut times = Times::default();
    for _ in 0..n {
        let began = Instant::now();
        server.client.echo(&id);
        times.add(began.elapsed());
    }
    server.client.delete(&id);
    print_times("HTTP exec in a running sandbox", &times, Some(floor), Limit::Ratio(3.5));
}

fn files(server: &mut Server, n: usize) {
    let id = server.client.create();
    let content = vec![7_u8; 4096];
    let [mut empty, mut new, mut replaced, mut read] = std::array::from_fn(|_| Times::default());
    for number in 0..n {
        let began = Instant::now();
        server.client.call("GET", &format!("/toolbox/{id}/version"), None);
        empty.add(began.elapsed());
        upload(server, &id, &format!("/root/file-{number}"), &content, &mut new);
        upload(server, &id, "/root/file-0", &content, &mut replaced);
        let download = format!("/toolbox/{id}/files/download?path=/root/file-{number}");
        let began = Instant::now();
        let (status, body) = server.client.raw("GET", &download, "text/plain", b"");
        read.add(began.elapsed());
        assert_eq!((status, body.as_slice()), (200, content.as_slice()), "download");
    }
    server.client.delete(&id);
    let floor = empty.percentile(0.5);
    print_times("HTTP empty authenticated request", &empty, None, Limit::None);
    for (name, times) in [
        ("HTTP write of a new file of 4 KiB", new),
        ("HTTP replacement of a file of 4 KiB", replaced),
        ("HTTP read of 4 KiB", read),
    ] {
        print_times(name, &times, Some(floor), Limit::Ratio(2.0));
    }
}

fn upload(server: &mut Server, id: &str, path: &str, content: &[u8], times: &mut Times) {
    let form = multipart(path, content);
    let address = format!("/toolbox/{id}/files/bulk-upload");
    let began = Instant::now();
    let (status, _) = server.client.raw("POST", &address, "multipart/form-data; boundary=B", &form);
    times.add(began.elapsed());
    assert_eq!(status, 200, "upload");
}

fn multipart(path: &str, content: &[u8]) -> Vec<u8> {
    let head = format!(
        "--B\r\nContent-Disposition: form-data; name=\"files[0].path\"\r\n\r\n{path}\r\n--B\r\nContent-Disposition: form-data; name=\"files[0].file\"; filename=\"f\"\r\n\r\n"
    );
    [head.as_bytes(), content, b"\r\n--B--\r\n"].concat()
}

fn throughput(server: &Server) {
    const WORKERS: usize = 4;
    let each = samples(400) / WORKERS;
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut client = Client::connect(&server.address);
                for _ in 0..each {
                    let id = client.create();
                    client.echo(&id);
                    client.delete(&id);
                }
            });
        }
    });
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let rate = (WORKERS * each) as f64 / began.elapsed().as_secs_f64();
    print(
        "HTTP create, exec, delete per second",
        "1/s",
        WORKERS * each,
        (rate, rate),
        None,
        Limit::AtLeast(120.0),
    );
}

/// What a preview adds to a request of 1 KiB.
fn previews(server: &mut Server) {
    let id = server.client.create();
    let command = format!("setsid python3 -I -c \"{}\" > /tmp/port 2>&1 &", preview::SERVICE);
    let wait = "for i in $(seq 200); do [ -s /tmp/port ] && break; sleep 0.02; done; cat /tmp/port";
    let body = json!({ "command": format!("{command}\n{wait}") });
    let answer = server.client.call("POST", &format!("/toolbox/{id}/process/execute"), Some(&body));
    let port = answer["result"].as_str().unwrap_or_default().trim().to_owned();
    let path = format!("/api/sandbox/{id}/ports/{port}/preview-url");
    let preview = server.client.call("GET", &path, None);
    let text = |field: &str| preview[field].as_str().unwrap_or_default().to_owned();
    let (host, token) = (text("url").replace("http://", ""), text("token"));
    let (direct, through) = preview::compare(&server.address, (&host, &token), samples(3000));
    print_times("service of 1 KiB on loopback (floor)", &direct, None, Limit::None);
    let floor = direct.percentile(0.5);
    print_times("the same through a preview", &through, Some(floor), Limit::None);
    let added = |part: f64| through.percentile(part) - direct.percentile(part);
    let name = "preview added latency, 1 KiB";
    print(name, "us", through.count(), (added(0.5), added(0.99)), None, Limit::AtMost(500.0));
    server.client.delete(&id);
}

/// How fast a session's log comes, and how soon a key is echoed.
fn web_sockets(server: &mut Server) {
    let id = server.client.create();
    let base = format!("/toolbox/{id}/process");
    server.client.call("POST", &format!("{base}/session"), Some(&json!({ "sessionId": "s" })));
    let mut rates = Vec::new();
    for _ in 0..samples(300).div_ceil(100) {
        let command = format!(
            "until [ -e /tmp/go ]; do sleep 0.01; done; rm /tmp/go; head -c {} /dev/zero",
            sockets::LOG
        );
        let body = json!({ "command": command, "runAsync": true });
        let made = server.client.call("POST", &format!("{base}/session/s/exec"), Some(&body));
        let command = made["cmdId"].as_str().unwrap_or_default().to_owned();
        let path = format!("{base}/session/s/command/{command}/logs?follow=true");
        let log = sockets::Socket::open(&server.address, KEY, &path);
        let body = json!({ "command": "touch /tmp/go" });
        server.client.call("POST", &format!("{base}/execute"), Some(&body));
        let (bytes, time) = sockets::drain(log);
        assert_eq!(bytes, sockets::LOG + 3, "all of it, behind the mark of its stream");
        #[expect(clippy::cast_precision_loss, reason = "a few hundred million")]
        rates.push(bytes as f64 / 1e6 / time.as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let figures = (rates[rates.len() / 2], rates[0]);
    print("session log WebSocket", "MB/s", rates.len(), figures, None, Limit::AtLeast(100.0));
    let path = format!("{base}/pty/create-connect?id=keys");
    let times = sockets::keys(sockets::Socket::open(&server.address, KEY, &path), samples(1000));
    print_times("PTY keystroke echo", &times, None, Limit::AtMost(2000.0));
    server.client.delete(&id);
}
