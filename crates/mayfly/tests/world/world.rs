//! A private host and a pretend internet: two network namespaces and the pair of devices between them.

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The only resolver there is.
pub(crate) const RESOLVER: &str = "9.9.9.9:53";
/// Addresses that no sandbox of these tests may ever reach: a public one that is not listed, private ones,
/// metadata. The pretend internet answers at all of them.
pub(crate) const FORBIDDEN: &[&str] =
    &["93.184.66.6", "10.0.0.9", "169.254.169.254", "2606:4700:66::6", "fd00::9", "fd00:ec2::254"];

/// The calling thread and all that it starts from now on is on the private host. Ends with the value.
#[derive(Debug)]
pub(crate) struct World {
    internet: Child,
    folder: TempDir,
}

impl World {
    /// Moves the calling thread onto a private host, whose one way out is a pretend internet.
    pub(crate) fn enter() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut internet = Command::new("unshare")
            .args(["--net", "--mount", "/usr/bin/python3", "-B"])
            .arg(source("internet/serve.py"))
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(internet.stdout.take().unwrap());
        expect(&mut said, "here");
        enter_fresh_namespace();
        ip(&format!(
            "link set lo up\nlink add h0 type veth peer name i0\nlink set i0 netns {}\n\
             addr add 203.0.113.1/24 dev h0\naddr add 2a0f:1::1/64 dev h0 nodad\nlink set h0 up\n\
             route add default via 203.0.113.2\nroute add ::/0 via 2a0f:1::2\n",
            internet.id()
        ));
        internet.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        expect(&mut said, "ready");
        Self { internet, folder }
    }

    /// A file of the internet's folder.
    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    /// Every arrival so far at one of these addresses, as `<kind> <address> <port>`.
    pub(crate) fn arrivals(&self, at: &[&str]) -> Vec<String> {
        let text = String::from_utf8(self.file("arrivals")).unwrap();
        let is_there = |line: &&str| line.split(' ').nth(1).is_some_and(|word| at.contains(&word));
        text.lines().filter(is_there).map(str::to_owned).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.internet.stdin.take());
        let _ = self.internet.wait();
    }
}

/// A file beside this one.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/world").join(name)
}

/// Waits until something holds; says how long that took.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}

/// A namespace lives as long as something is in it; this thread stays.
fn enter_fresh_namespace() {
    let mut maker = Command::new("unshare")
        .args(["--net", "sh", "-c", "echo here; read end"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    expect(&mut BufReader::new(maker.stdout.take().unwrap()), "here");
    let namespace = File::open(format!("/proc/{}/ns/net", maker.id())).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    drop(maker.stdin.take());
    maker.wait().unwrap();
}

fn expect(said: &mut impl BufRead, line: &str) {
    let mut word = String::new();
    said.read_line(&mut word).unwrap();
    assert_eq!(word.trim_end(), line, "the pretend internet failed");
}

fn ip(lines: &str) {
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    ip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success(), "iproute2 refused {lines}");
}

/// The negative tests say something: what a policy forbids is there to be reached.
#[test]
fn the_private_host_reaches_every_address_of_the_pretend_internet_and_each_arrival_is_noted() {
    let world = World::enter();
    for address in FORBIDDEN {
        let to = SocketAddr::new(address.parse().unwrap(), 80);
        TcpStream::connect_timeout(&to, PATIENCE).unwrap_or_else(|error| panic!("{to}: {error}"));
        eventually("the arrival is noted", || !world.arrivals(&[address]).is_empty());
    }
    assert_eq!(world.arrivals(&["93.184.10.1"]), [""; 0]);
}
