//! Many clients at once, honest and not: every request is answered, none with a fault of ours, and nothing stays.
//!
//! `MAYFLY_TEST_SCALE=full` makes 10,000 requests a mix instead of 500.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cli::Foreground;
use super::house::House;

const KEY: &str = "mf_key_of_the_tests_of_load_0123456789abcdef";
const CLIENTS: usize = 64;
/// Longest that any answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

struct Site {
    server: Foreground,
    house: House,
}

impl Site {
    fn new(variables: &[(&str, &str)]) -> Self {
        let own = [("MAYFLY_API_KEY", KEY), ("MAYFLY_STORAGE_POOL_BYTES", "4000000000")];
        let house = House::with(&[&own, variables].concat());
        Self { server: Foreground::start(&house, &[]), house }
    }

    fn address(&self) -> &str {
        self.server.url.trim_start_matches("http://")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.house.file("server.err")).unwrap_or_default()
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        Client { stream: self.connect(), site: self }.call(method, path, body)
    }

    fn assert_sound(&self) {
        // Without a key, whose rate may be used up.
        let mut stream = self.connect();
        let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", self.address());
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(answer(&mut stream).0, 200);
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }
}

/// One kept connection.
struct Client<'a> {
    stream: TcpStream,
    site: &'a Site,
}

impl Client<'_> {
    fn call(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {}\r\n\
             Content-Type: application/json\r\n\r\n{body}",
            self.site.address(),
            body.len()
        );
        self.stream.write_all(request.as_bytes()).unwrap();
        let (status, body) = answer(&mut self.stream);
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

/// Reads one answer that says how long it is.
fn answer(stream: &mut TcpStream) -> (u16, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (head[9..12].parse().unwrap(), body)
}

fn requests() -> usize {
    let full = std::env::var("MAYFLY_TEST_SCALE").is_ok_and(|scale| scale == "full");
    if full { 10_000 } else { 500 }
}

/// Lets 64 clients do something so many times in all; how often each status came.
fn mix(
    site: &Site,
    count: usize,
    work: impl Fn(&mut Client<'_>, usize) -> Vec<u16> + Sync,
) -> BTreeMap<u16, usize> {
    let (next, seen) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client { stream: site.connect(), site };
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    for status in work(&mut client, number) {
                        *seen.lock().unwrap().entry(status).or_default() += 1;
                    }
                }
            });
        }
    });
    seen.into_inner().unwrap()
}

#[test]
fn sixty_four_clients_are_all_served_whatever_they_mix() {
    let site = Site::new(&[]);
    site.house.ok(&["sandbox", "create", "--name", "box"]);
    let made = site.call("GET", "/api/sandbox/box", &Value::Null).1;
    let toolbox = format!("/toolbox/{}", made["id"].as_str().unwrap());
    let count = requests();

    let reads = mix(&site, count, |client, number| {
        let paths = [
            "/api/sandbox",
            "/api/sandbox/box",
            "/api/config",
            "/api/snapshots",
            "/api/sandbox/none",
        ];
        vec![client.call("GET", paths[number % paths.len()], &Value::Null).0]
    });
    assert_eq!(reads, BTreeMap::from([(200, count - count / 5), (404, count / 5)]), "reads");

    let files = mix(&site, count, |client, number| {
        let path = format!("/tmp/f{}", number % 50);
        let (made, _) = client.call(
            "POST",
            &format!("{toolbox}/files/folder?path={path}&mode=0755"),
            &Value::Null,
        );
        let (listed, _) = client.call("GET", &format!("{toolbox}/files?path=/tmp"), &Value::Null);
        vec![made, listed]
    });
    assert_eq!(files, BTreeMap::from([(200, count), (201, count)]), "files");

    // More than one sandbox runs at once, so that those which ended must have been let go meanwhile.
    let many = count.max(1500);
    let commands = mix(&site, many, |client, number| {
        let command = json!({ "command": format!("echo {number}") });
        let (status, answer) = client.call("POST", &format!("{toolbox}/process/execute"), &command);
        assert_eq!(answer["result"], format!("{number}\n"), "{answer}");
        vec![status]
    });
    assert_eq!(commands, BTreeMap::from([(200, many)]), "commands");

    let lives = mix(&site, count / 10, |client, number| {
        let name = format!("life-{number}");
        let labels = json!({ "labels": { "n": number.to_string() } });
        let (made, _) = client.call("POST", "/api/sandbox", &json!({ "name": name }));
        let (labelled, _) = client.call("PUT", &format!("/api/sandbox/{name}/labels"), &labels);
        let (deleted, _) = client.call("DELETE", &format!("/api/sandbox/{name}"), &Value::Null);
        vec![made, labelled, deleted]
    });
    assert_eq!(lives, BTreeMap::from([(200, 3 * (count / 10))]), "lives");
    let left = site.call("GET", "/api/sandbox", &Value::Null).1;
    let names: Vec<_> =
        left["items"].as_array().unwrap().iter().map(|item| &item["name"]).collect();
    assert_eq!(names, ["box"], "{left}");
    site.assert_sound();
}

#[test]
fn a_flood_beyond_the_rate_is_told_when_to_come_back_and_others_are_served() {
    let site = Site::new(&[("MAYFLY_SERVER_RATE", "20"), ("MAYFLY_TENANTS_ORGANIZATIONS", "calm")]);
    let flood =
        mix(&site, 2_000, |client, _| vec![client.call("GET", "/api/sandbox", &Value::Null).0]);
    assert_eq!(flood.values().sum::<usize>(), 2_000);
    assert!(flood.keys().all(|status| [200, 429].contains(status)), "{flood:?}");
    assert!(flood[&429] > 1_000, "{flood:?}");
    // Another caller has a rate of its own.
    assert!(site.house.json(&["--org", "calm", "sandbox", "list"]).is_array());
    site.assert_sound();
}

#[test]
fn clients_that_never_finish_what_they_say_take_no_place_from_others() {
    let site = Site::new(&[("MAYFLY_SERVER_CONNECTIONS", "512")]);
    // A key that the server has seen is served however many strangers come from the same address.
    assert_eq!(site.call("GET", "/api/sandbox", &Value::Null).0, 200);
    let beginnings: [&[u8]; 4] = [
        b"",
        b"GET /api/sand",
        b"GET /api/sandbox HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /api/sandbox HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n{",
    ];
    let mut held = Vec::new();
    for number in 0..400 {
        let mut stream = site.connect();
        stream.write_all(beginnings[number % beginnings.len()]).unwrap();
        held.push(stream);
    }
    let began = Instant::now();
    let served =
        mix(&site, 200, |client, _| vec![client.call("GET", "/api/sandbox", &Value::Null).0]);
    assert_eq!(served, BTreeMap::from([(200, 200)]));
    assert!(began.elapsed() < PATIENCE);
    site.assert_sound();
}

#[test]
fn bodies_and_heads_beyond_the_limits_are_refused_and_nothing_is_made() {
    let site = Site::new(&[]);
    let host = site.address().to_owned();
    let large = "x".repeat(11 << 20);
    let (status, answer) = site.call("POST", "/api/sandbox", &json!({ "name": large }));
    assert_eq!((status, answer["code"].as_str()), (413, Some("PAYLOAD_TOO_LARGE")), "{answer}");
    let mut stream = site.connect();
    let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Long: {}\r\n\r\n", "y".repeat(1 << 20));
    // The server may close before all of it was taken.
    let sent = stream.write_all(head.as_bytes()).map_err(|error| error.kind());
    let mut said = Vec::new();
    let read = stream.read_to_end(&mut said).map_err(|error| error.kind());
    let cut = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    assert!(
        said.starts_with(b"HTTP/1.1 431")
            || sent.is_err_and(|kind| cut.contains(&kind))
            || read.is_err_and(|kind| cut.contains(&kind)),
        "{}",
        String::from_utf8_lossy(&said)
    );
    let left = site.call("GET", "/api/sandbox", &Value::Null).1;
    assert_eq!(left["items"], json!([]));
    site.assert_sound();
}
