//! Reaching a sandbox from outside: previews of real services, forwarded ports, and the OpenSSH programs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::cli::Foreground;
use super::house::{House, wait_until};

const KEY: &str = "mf_key_of_the_tests_of_reaching_a_sandbox";
/// Says its name to whoever connects, and echoes what else comes.
const SERVICE: &str = r"
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        if self.headers.get('Upgrade') == 'echo':
            self.send_response(101)
            self.send_header('Upgrade', 'echo')
            self.send_header('Connection', 'upgrade')
            self.end_headers()
            self.wfile.flush()
            while True:
                piece = self.rfile.read1(65536)
                if not piece:
                    return
                self.wfile.write(piece)
        body = ('%s %s' % (self.path, sorted(k.lower() for k in self.headers))).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        size = int(self.headers['Content-Length'])
        self.send_response(200)
        self.send_header('Content-Length', str(size))
        self.end_headers()
        while size > 0:
            piece = self.rfile.read(min(size, 65536))
            self.wfile.write(piece)
            size -= len(piece)
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(('127.0.0.1', 8000), Page).serve_forever()
";

/// A server with one sandbox, `box`, in which the service listens on port 8000.
struct Site {
    server: Foreground,
    house: House,
}

impl Site {
    fn new() -> Self {
        let house =
            House::with(&[("MAYFLY_API_KEY", KEY), ("MAYFLY_STORAGE_POOL_BYTES", "1500000000")]);
        let server = Foreground::start(&house, &[]);
        let site = Self { server, house };
        site.mayfly(&["sandbox", "create", "--name", "box"]);
        std::fs::write(site.house.file("service.py"), SERVICE).unwrap();
        let from = site.house.file("service.py");
        site.mayfly(&["sandbox", "cp", from.to_str().unwrap(), "box:/srv.py"]);
        site.inside("setsid python3 /srv.py > /dev/null 2>&1 < /dev/null &");
        wait_until(|| site.mayfly(&["sandbox", "port", "box"]).contains("8000"));
        site
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = self.house.command(arguments);
        command.env("MAYFLY_URL", &self.server.url).env("MAYFLY_API_KEY", KEY);
        command
    }

    #[track_caller]
    fn mayfly(&self, arguments: &[&str]) -> String {
        let output = self.client(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn inside(&self, script: &str) -> String {
        self.mayfly(&["sandbox", "exec", "box", "--", "sh", "-c", script])
    }

    fn address(&self) -> &str {
        self.server.url.trim_start_matches("http://")
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).unwrap()
    }

    /// Sends a head and reads to the end.
    fn ask(&self, head: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "{head}Connection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn api(&self, method: &str, path: &str) -> Value {
        let answer = self.ask(&format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 0\r\n"
        ));
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Host and token of the preview of the service.
    fn preview(&self) -> (String, String) {
        let preview: Value =
            serde_json::from_str(&self.mayfly(&["sandbox", "port", "box", "8000", "--json"]))
                .unwrap();
        let text = |field: &str| preview[field].as_str().unwrap().to_owned();
        (text("url").replace("http://", ""), text("token"))
    }

    /// Settings of the OpenSSH programs for `box`, with a fresh token; that token.
    fn ssh(&self) -> (PathBuf, String) {
        let access = self.api("POST", "/api/sandbox/box/ssh-access?expiresInMinutes=5");
        let text = |field: &str| access[field].as_str().unwrap().to_owned();
        let (token, known) = (text("token"), self.house.file("known_hosts"));
        std::fs::write(&known, format!("box {}\n", text("hostKey"))).unwrap();
        let file = self.house.file("ssh_config");
        let settings = format!(
            "Host box\n HostName 127.0.0.1\n Port {}\n User {token}\n HostKeyAlias box\n\
             UserKnownHostsFile {}\n StrictHostKeyChecking yes\n LogLevel ERROR\n BatchMode yes\n",
            access["port"],
            known.display()
        );
        std::fs::write(&file, settings).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        (file, token)
    }
}

/// Whether the OpenSSH client is here.
fn has_openssh(case: &str) -> bool {
    let there = Path::new("/usr/bin/sftp").exists();
    if !there {
        println!("SKIP {case}: /usr/bin/sftp, installed by `cargo xtask setup`");
    }
    there
}

fn with(program: &str, config: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-F").arg(config).stdin(Stdio::null());
    command
}

fn fed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut writing = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writing.write_all(input));
        child.wait_with_output().unwrap()
    })
}

/// A client that stays until it is dropped.
struct Staying(Child);

impl Drop for Staying {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn n11_n12_a_preview_shows_a_real_service_and_ends_with_its_sandbox() {
    let site = Site::new();
    let (host, token) = site.preview();
    let named = |more: &str| format!("GET /a?b=1 HTTP/1.1\r\nHost: {host}\r\n{more}");
    assert!(site.ask(&named("")).starts_with("HTTP/1.1 401"));
    let opened = format!("X-Daytona-Preview-Token: {token}\r\nAuthorization: Bearer {KEY}\r\n");
    let page = site.ask(&named(&opened));
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("/a?b=1"), "{page}");
    let told = page.split("\r\n\r\n").nth(1).unwrap();
    assert!(!told.contains("authorization") && !told.contains("token"), "{told}");
    // A port of the host is none of the sandbox's.
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = outside.local_addr().unwrap().port();
    let url: Value = serde_json::from_str(&site.mayfly(&[
        "sandbox",
        "port",
        "box",
        &port.to_string(),
        "--json",
    ]))
    .unwrap();
    let other = host.replacen("8000-", &format!("{port}-"), 1);
    let other = format!(
        "GET / HTTP/1.1\r\nHost: {other}\r\nX-Daytona-Preview-Token: {}\r\n",
        url["token"].as_str().unwrap()
    );
    assert!(site.ask(&other).starts_with("HTTP/1.1 502"));
    // A large body comes back byte by byte, over a connection that then changes its protocol.
    let body: Vec<u8> =
        (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut stream = site.connect();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nX-Daytona-Preview-Token: {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut writing = stream.try_clone().unwrap();
    let sent = body.clone();
    let sending = std::thread::spawn(move || {
        writing.write_all(head.as_bytes()).unwrap();
        writing.write_all(&sent).unwrap();
    });
    assert!(head_of(&mut stream).starts_with("HTTP/1.1 200"));
    let mut back = vec![0; body.len()];
    stream.read_exact(&mut back).unwrap();
    sending.join().unwrap();
    assert!(back == body, "the body changed on its way");
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nX-Daytona-Preview-Token: {token}\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).unwrap();
    assert!(head_of(&mut stream).starts_with("HTTP/1.1 101"));
    stream.write_all(b"a\0b").unwrap();
    let mut echo = [0; 3];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"a\0b");
    site.mayfly(&["sandbox", "stop", "box"]);
    // The changed connection ends with the sandbox.
    assert_eq!(stream.read(&mut echo).unwrap_or(0), 0);
    assert!(site.ask(&named(&opened)).starts_with("HTTP/1.1 409"));
}

fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn a_forwarded_port_passes_bytes_as_they_are() {
    let site = Site::new();
    let mut child = site
        .client(&["sandbox", "port", "box", "8000", "--listen", "0", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _child = Staying(child);
    let said: Value = serde_json::from_str(&line).unwrap();
    let mut stream = TcpStream::connect(said["listen"].as_str().unwrap()).unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("/x ['connection', 'host']"),
        "{answer}"
    );
}

#[test]
fn commands_over_ssh_keep_their_streams_and_codes_apart() {
    if !has_openssh("SSH") {
        return;
    }
    let site = Site::new();
    let (config, _) = site.ssh();
    let ran =
        with("ssh", &config).args(["box", "echo out; echo err >&2; exit 7"]).output().unwrap();
    assert_eq!(
        (ran.status.code(), &ran.stdout[..], &ran.stderr[..]),
        (Some(7), &b"out\n"[..], &b"err\n"[..])
    );
    let ran = with("ssh", &config).args(["box", "kill -9 $$"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(137));
    // A slow reader loses nothing, and a slow program gets all.
    let input: Vec<u8> =
        (0..25_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let ran = fed(with("ssh", &config).args(["box", "sleep 0.3; cat"]), &input);
    assert!(ran.status.success() && ran.stdout == input, "100 MB changed on their way");
    // The shell of a terminal, with its size.
    let typed = b"stty size\nexit 3\n";
    let ran = fed(with("ssh", &config).args(["-tt", "box"]), typed);
    let seen = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.code() == Some(3) && seen.contains("24 80"), "{seen}");
    let ran =
        site.client(&["sandbox", "ssh", "box", "--", "echo $0 from; exit 4"]).output().unwrap();
    assert_eq!(
        (ran.status.code(), String::from_utf8_lossy(&ran.stdout).contains("from")),
        (Some(4), true)
    );
}

#[test]
fn files_go_through_sftp_and_scp() {
    if !has_openssh("SFTP") {
        return;
    }
    let site = Site::new();
    let (config, _) = site.ssh();
    let big: Vec<u8> =
        (0..2_000_000_u32).flat_map(|n| n.wrapping_mul(40_503).to_le_bytes()).collect();
    let (there, back) = (site.house.file("big file"), site.house.file("back"));
    std::fs::write(&there, &big).unwrap();
    std::fs::set_permissions(&there, std::fs::Permissions::from_mode(0o751)).unwrap();
    let batch = format!(
        "mkdir d\nput -p \"{}\" d/big\nget d/big \"{}\"\nln -s big d/link\nrename d/big d/moved\n\
         chmod 600 d/moved\nls -l d\nrm d/link\nmkdir d/e\nrmdir d/e\n-rmdir d\nrmdir nothing\n",
        there.display(),
        back.display()
    );
    let ran = fed(with("sftp", &config).args(["-b", "-", "box"]), batch.as_bytes());
    let (said, errors) =
        (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert_eq!(ran.status.code(), Some(1), "the last command fails: {said}{errors}");
    assert!(errors.contains("nothing") || said.contains("nothing"), "{said}{errors}");
    assert!(std::fs::read(&back).unwrap() == big);
    assert!(said.contains("-rw-------") && said.contains("lrwxrwxrwx"), "{said}");
    assert_eq!(site.inside("cd; ls d; stat -c '%a %s' d/moved"), "moved\n600 8000000\n");
    let there = there.to_str().unwrap();
    let ran = with("scp", &config).args(["-q", "-p", there, "box:copy"]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(site.inside("cd; stat -c '%a %s' copy"), "751 8000000\n");
    let folder = site.house.file("out");
    let ran = with("scp", &config).args(["-q", "-r", "box:d"]).arg(&folder).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(std::fs::read(folder.join("moved")).unwrap() == big);
}

#[test]
fn n11_ports_are_forwarded_both_ways_and_only_inside() {
    if !has_openssh("N11") {
        return;
    }
    let site = Site::new();
    let (config, _) = site.ssh();
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let (outside, free) = (host.local_addr().unwrap().port(), free_port());
    let stray = free_port();
    let visitor = with("ssh", &config)
        .args(["-N", "-o", "ExitOnForwardFailure=yes"])
        .args(["-L", &format!("{free}:localhost:8000"), "-L", &format!("{stray}:10.0.0.1:80")])
        .args(["-R", &format!("9001:127.0.0.1:{outside}"), "box"])
        .spawn()
        .unwrap();
    let _visitor = Staying(visitor);
    let mut answer = String::new();
    wait_until(|| {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", free)) else { return false };
        let _ = stream.write_all(b"GET /in HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        answer.clear();
        stream.read_to_string(&mut answer).is_ok() && answer.contains("/in")
    });
    let mut refused = TcpStream::connect(("127.0.0.1", stray)).unwrap();
    assert_eq!(refused.read(&mut [0; 9]).unwrap_or(0), 0, "only the sandbox's own ports");
    let greeting = std::thread::spawn(move || host.accept().unwrap().0.write_all(b"host").unwrap());
    let knock =
        "import socket; print(socket.create_connection(('127.0.0.1', 9001)).recv(9).decode())";
    assert_eq!(site.mayfly(&["sandbox", "exec", "box", "--", "python3", "-c", knock]), "host\n");
    greeting.join().unwrap();
    assert!(
        TcpStream::connect("127.0.0.1:9001").is_err(),
        "the port is the sandbox's, not the host's"
    );
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn tokens_let_in_until_they_are_taken_back() {
    if !has_openssh("SSH tokens") {
        return;
    }
    let site = Site::new();
    let (config, token) = site.ssh();
    let valid =
        |token: &str| site.api("GET", &format!("/api/sandbox/ssh-access/validate?token={token}"));
    let seen = valid(&token);
    assert_eq!(seen["valid"], true);
    assert!(seen["sandboxId"].as_str().is_some_and(|id| id.len() == 36));
    assert_eq!(valid("mf_ssh_0")["valid"], false);
    let wrong = with("ssh", &config).args(["-l", "mf_ssh_0", "box", "true"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("Permission denied"));
    let mut open = Staying(with("ssh", &config).args(["box", "sleep 600"]).spawn().unwrap());
    wait_until(|| {
        site.inside("ls /proc/*/cmdline | xargs cat 2>/dev/null | tr '\\0' ' '")
            .contains("sleep 600")
    });
    site.api("DELETE", &format!("/api/sandbox/box/ssh-access?token={token}"));
    assert_eq!(valid(&token)["valid"], false);
    wait_until(|| open.0.try_wait().unwrap().is_some());
    wait_until(|| {
        !site
            .inside("ls /proc/*/cmdline | xargs cat 2>/dev/null | tr '\\0' ' '")
            .contains("sleep 600")
    });
    let late = with("ssh", &config).args(["box", "true"]).output().unwrap();
    assert_eq!(late.status.code(), Some(255));
    let log = std::fs::read_to_string(site.house.file("server.err")).unwrap_or_default();
    assert!(!log.contains(&token), "the token stands in the log");
}
