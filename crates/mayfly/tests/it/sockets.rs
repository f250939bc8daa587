//! Web sockets by the thousand, and over the death of a server.
//!
//! `MAYFLY_TEST_SCALE=full` opens 10,000 at once instead of 500.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::cli::Foreground;
use super::house::{House, signal, wait_until};
use super::socket::{Frame, Socket};

const KEY: &str = "mf_key_of_the_tests_of_web_sockets_0123456789";
/// Terminals that a part of the sockets is spread over.
const TERMINALS: usize = 4;
/// Most memory of the server per open socket, bytes.
const EACH: u64 = 96 << 10;

/// A server with a sandbox named `box`.
struct Site {
    server: Foreground,
    house: House,
    id: String,
}

impl Site {
    fn new(variables: &[(&str, &str)]) -> Self {
        let own = [("MAYFLY_API_KEY", KEY), ("MAYFLY_STORAGE_POOL_BYTES", "1500000000")];
        let house = House::with(&[&own, variables].concat());
        let server = Foreground::start(&house, &[]);
        house.ok(&["sandbox", "create", "--name", "box"]);
        let id = house.json(&["sandbox", "show", "box"])["id"].as_str().unwrap().to_owned();
        Self { server, house, id }
    }

    /// A call of the toolbox with JSON both ways, which must succeed.
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let agent = self.agent(method, path, &body.to_string());
        let (head, body) = agent.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {agent}\n{}", self.log());
        serde_json::from_str(body).unwrap_or(Value::Null)
    }

    fn agent(&self, method: &str, path: &str, body: &str) -> String {
        use std::io::{Read as _, Write as _};
        let address = self.server.url.trim_start_matches("http://");
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let request = format!(
            "{method} /toolbox/{}/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Authorization: Bearer {KEY}\r\nContent-Length: {}\r\n\r\n{body}",
            self.id,
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.house.file("server.err")).unwrap_or_default()
    }

    /// Begins a command in a session of its own; the path of its log.
    fn begin(&self, session: &str, command: &str) -> String {
        self.call("POST", "process/session", &json!({ "sessionId": session }));
        let body = json!({ "command": command, "runAsync": true });
        let made = self.call("POST", &format!("process/session/{session}/exec"), &body);
        let command = made["cmdId"].as_str().unwrap();
        format!("process/session/{session}/command/{command}")
    }

    fn open(&self, path: &str) -> Result<Socket, u16> {
        Socket::open(&self.server.url, KEY, &format!("/toolbox/{}/{path}", self.id))
    }

    /// A field of `/proc/<server>/status` in bytes.
    fn memory(&self) -> u64 {
        let pid = self.house.server().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    fn descriptors(&self) -> usize {
        let pid = self.house.server().unwrap();
        std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
    }

    /// Kills the server and starts another.
    fn strike(self) -> Self {
        let Self { server, house, id } = self;
        signal(house.server().unwrap(), "KILL");
        drop(server);
        let server = Foreground::start(&house, &[]);
        Self { server, house, id }
    }
}

fn count() -> usize {
    let full = std::env::var("MAYFLY_TEST_SCALE").is_ok_and(|scale| scale == "full");
    if full { 10_000 } else { 500 }
}

#[test]
fn r11_thousands_of_web_sockets_at_once_are_served_bounded_and_let_go() {
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }).unwrap();
    let (count, most) = (count(), count().to_string());
    let site = Site::new(&[
        ("MAYFLY_SERVER_WEBSOCKETS", &most),
        ("MAYFLY_SERVER_WEBSOCKETS_PER_KEY", &most),
    ]);
    let other = site.house.json(&["sandbox", "create", "--name", "other"]);
    assert!(other.is_object());
    let log = site.begin(
        "s",
        "echo first; until [ -e /tmp/go ]; do sleep 0.05; done; seq 1 20000; echo last",
    );
    for number in 0..TERMINALS {
        site.call("POST", "process/pty", &json!({ "id": format!("t{number}") }));
    }
    let (before, held) = (site.memory(), site.descriptors());
    let (mut logs, mut terminals) = (Vec::new(), Vec::new());
    for number in 0..count {
        if number % 8 == 0 {
            let name = format!("process/pty/t{}/connect", number / 8 % TERMINALS);
            terminals.push(site.open(&name).unwrap());
        } else {
            logs.push(site.open(&format!("{log}/logs?follow=true")).unwrap());
        }
    }
    assert_eq!(site.open(&format!("{log}/logs?follow=true")).unwrap_err(), 429);
    assert_eq!(site.open("process/pty/t0/connect").unwrap_err(), 429);
    for socket in &mut logs {
        assert_eq!(socket.until("first\n"), b"\x01\x01\x01first\n");
    }
    // Whoever attaches again to a terminal sees what all of its clients type.
    for (number, socket) in terminals[..TERMINALS].iter_mut().enumerate() {
        socket.send(format!("echo $((40 + {number}))-$((6 * 7))\n").as_bytes());
    }
    for (number, socket) in terminals.iter_mut().enumerate() {
        socket.until(&format!("{}-42\r\n", 40 + number % TERMINALS));
    }
    assert_eq!(site.house.ok(&["sandbox", "exec", "other", "--", "echo", "there"]), "there\n");
    assert_eq!(site.house.ok(&["sandbox", "exec", "box", "--", "touch", "/tmp/go"]), "");
    // The first of them takes nothing; it is in nobody's way.
    for socket in logs.iter_mut().rev() {
        let (all, end) = socket.rest();
        assert_eq!(end, Frame::Close(1000));
        assert!(all.ends_with(b"\n20000\nlast\n") && all.starts_with(b"1\n2\n"), "{}", all.len());
        assert_eq!(all.len(), 108_894 + 5, "nothing is missing");
    }
    let used = site.memory().saturating_sub(before);
    println!("{count} sockets: {} KiB each", (used / count as u64) >> 10);
    assert!(used < count as u64 * EACH + (64 << 20), "{used} bytes for {count} sockets");
    assert_eq!(site.house.ok(&["sandbox", "exec", "other", "--", "echo", "there"]), "there\n");
    drop((logs, terminals));
    wait_until(|| site.descriptors() < held + 32);
    let again = site.open(&format!("{log}/logs?follow=true")).unwrap().rest();
    assert_eq!(again.1, Frame::Close(1000));
}

#[test]
fn what_is_followed_over_a_kill_of_the_server_is_complete_when_attached_again() {
    let site = Site::new(&[]);
    let done = site.begin("done", "echo out; echo err >&2; exit 3");
    wait_until(|| site.call("GET", &done, &Value::Null)["exitCode"] == 3);
    let log = site.begin("s", "for i in $(seq 1 400); do echo line $i; sleep 0.005; done");
    for id in ["t", "ended"] {
        site.call("POST", "process/pty", &json!({ "id": id }));
    }
    let mut ended = site.open("process/pty/ended/connect").unwrap();
    ended.send(b"exit 5\n");
    assert_eq!(ended.rest().1, Frame::Close(1000));
    let mut lines = site.open(&format!("{log}/logs?follow=true")).unwrap();
    let mut terminal = site.open("process/pty/t/connect").unwrap();
    terminal.send(b"for i in $(seq 1 300); do echo row $i; sleep 0.005; done; echo fin$((1))\n");
    lines.until("line 20\n");
    terminal.until("row 20\r\n");
    let site = site.strike();
    assert!(matches!(lines.rest().1, Frame::Gone | Frame::Close(_)), "it went with its server");
    assert!(matches!(terminal.rest().1, Frame::Gone | Frame::Close(_)));
    let mut lines = site.open(&format!("{log}/logs?follow=true")).unwrap();
    let mut terminal = site.open("process/pty/t/connect").unwrap();
    let (all, end) = lines.rest();
    let expected: Vec<String> = (1..=400).map(|n| format!("line {n}\n")).collect();
    let expected = expected.concat();
    assert_eq!(String::from_utf8_lossy(&all), format!("\x01\x01\x01{expected}"));
    assert_eq!(end, Frame::Close(1000));
    let seen = terminal.until("fin1\r\n");
    let seen = String::from_utf8_lossy(&seen).into_owned();
    // What a shell says to its terminal may stand before the first row on its line.
    let lines = seen.lines().filter_map(|line| line.rsplit('\r').next());
    let rows: Vec<&str> = lines.filter(|line| line.starts_with("row ")).collect();
    let expected: Vec<String> = (1..=300).map(|n| format!("row {n}")).collect();
    assert_eq!(rows, expected, "gapless");
    terminal.send(b"echo it $((2)) lives\n");
    terminal.until("it 2 lives\r\n");
    // What had ended before the kill is told as it was.
    assert_eq!(site.call("GET", &done, &Value::Null)["exitCode"], 3);
    let logs = site.call("GET", &format!("{done}/logs"), &Value::Null);
    assert_eq!((&logs["stdout"], &logs["stderr"]), (&json!("out\n"), &json!("err\n")));
    let (all, end) = site.open(&format!("{done}/logs?follow=true")).unwrap().rest();
    assert_eq!(
        (all.as_slice(), end),
        (&b"\x01\x01\x01out\n\x02\x02\x02err\n"[..], Frame::Close(1000))
    );
    assert_eq!(site.call("GET", "process/pty/ended", &Value::Null)["active"], false);
    let (_, end) = site.open("process/pty/ended/connect").unwrap().rest();
    assert!(matches!(end, Frame::Close(_)), "{end:?}");
}

#[test]
fn what_is_set_later_reaches_whatever_starts_then_also_after_a_kill_of_the_server() {
    let site = Site::new(&[]);
    let odd = "a=b \"c\" $(id) `id`\n\u{fc} '";
    let set = json!({ "set": { "LATER": odd, "HOME": "/tmp" } });
    assert_eq!(site.call("POST", "env", &set), set["set"]);
    let site = site.strike();
    let show = "printf '%s|%s' \"$LATER\" \"$HOME\"";
    let expected = format!("{odd}|/tmp");
    let run = |body: &Value| site.call("POST", "process/execute", body)["result"].clone();
    assert_eq!(run(&json!({ "command": show })), expected);
    let over = json!({ "command": show, "envs": { "HOME": "/usr" } });
    assert_eq!(run(&over), format!("{odd}|/usr"), "a call's own wins");
    site.call("POST", "process/session", &json!({ "sessionId": "s" }));
    let shell = site.call("POST", "process/session/s/exec", &json!({ "command": show }));
    assert_eq!(shell["stdout"], expected);
    let code = json!({ "language": "python",
        "code": "import os; print(os.environ['LATER'] + '|' + os.environ['HOME'], end='')" });
    assert_eq!(site.call("POST", "process/code-run", &code)["result"], expected);
    site.call("POST", "process/pty", &json!({ "id": "t" }));
    let mut terminal = site.open("process/pty/t/connect").unwrap();
    terminal.send(b"printf %s \"$LATER$HOME\" | md5sum\n");
    let sum = run(&json!({ "command": "printf %s \"$LATER$HOME\" | md5sum" }));
    terminal.until(&sum.as_str().unwrap().replace('\n', "\r\n"));
    let rest = site.call("POST", "env", &json!({ "unset": ["HOME"], "unsetValuePrefix": "a=" }));
    assert_eq!(rest, json!({}));
    assert_eq!(run(&json!({ "command": show })), "|/root");
}

#[test]
fn a_language_server_is_of_use_again_after_a_kill_of_the_server() {
    if !std::path::Path::new("/usr/local/bin/pyright-langserver").exists() {
        println!("SKIP lsp-restart: pyright-langserver is missing; run cargo xtask setup");
        return;
    }
    let site = Site::new(&[]);
    let make = "mkdir -p /root/p && echo 'def first(): ...' > /root/p/a.py";
    site.house.ok(&["sandbox", "exec", "box", "--", "sh", "-c", make]);
    let server = json!({ "languageId": "python", "pathToProject": "/root/p" });
    site.call("POST", "lsp/start", &server);
    let file = "file:///root/p/a.py";
    let open = json!({ "languageId": "python", "pathToProject": "/root/p", "uri": file });
    site.call("POST", "lsp/did-open", &open);
    let path = format!("lsp/document-symbols?languageId=python&pathToProject=/root/p&uri={file}");
    assert_eq!(site.call("GET", &path, &Value::Null)[0]["name"], "first");
    let site = site.strike();
    assert_eq!(site.call("GET", &path, &Value::Null)[0]["name"], "first");
    let change = "echo 'def second(): ...' > /root/p/a.py";
    site.house.ok(&["sandbox", "exec", "box", "--", "sh", "-c", change]);
    site.call("POST", "lsp/did-close", &open);
    site.call("POST", "lsp/did-open", &open);
    assert_eq!(site.call("GET", &path, &Value::Null)[0]["name"], "second");
    site.call("POST", "lsp/stop", &server);
    assert_eq!(site.call("GET", "process/session", &Value::Null), json!([]));
}
