//! A world for tests: a network process in a private host namespace, and a pretend internet behind a veth pair
//! that answers at every address. Needs root and iproute2; nothing touches the machine's own network.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mayfly_net::audit::{Record, file_name};
use mayfly_net::client::{Client, listen};
use mayfly_net::control::{Answer, Request, SandboxId, Statistics, Status};
use mayfly_net::namespace::{fresh, inside};
use mayfly_net::way::Way;

/// Longest wait of a test for anything.
pub(crate) const TIME: Duration = Duration::from_secs(10);
/// The resolver that policies name.
pub(crate) const RESOLVER: &str = "9.9.9.9:53";

pub(crate) struct World {
    pub(crate) host: OwnedFd,
    pub(crate) internet: OwnedFd,
    pub(crate) folder: PathBuf,
    process: Option<Child>,
    pub(crate) client: Client,
    way: Way,
    next: u8,
}

pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) namespace: OwnedFd,
}

pub(crate) fn ip(namespace: &OwnedFd, lines: &str) {
    let mut ip = inside(namespace.as_fd(), || {
        Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap()
    })
    .unwrap();
    ip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success(), "iproute2 refused {lines}");
}

impl World {
    pub(crate) fn new() -> Self {
        Self::steered(crate::WAY)
    }

    pub(crate) fn steered(way: Way) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (host, internet) = (fresh().unwrap(), fresh().unwrap());
        let peer = format!("/proc/{}/fd/{}", std::process::id(), internet.as_raw_fd());
        ip(
            &host,
            &format!(
                "link set lo up\nlink add h0 type veth peer name i0\nlink set i0 netns {peer}\n\
                 addr add 203.0.113.1/24 dev h0\naddr add 2a0f:1::1/64 dev h0 nodad\n\
                 addr add 93.184.1.1/32 dev lo\nlink set h0 up\n"
            ),
        );
        ip(
            &internet,
            "link set lo up\naddr add 203.0.113.2/24 dev i0\naddr add 2a0f:1::2/64 dev i0 nodad\n\
             addr add 9.9.9.9/32 dev lo\naddr add 8.8.4.4/32 dev lo\n\
             addr add 2606:4700::64/128 dev lo nodad\nlink set i0 up\n\
             route add local default dev lo table main\nroute add local ::/0 dev lo table main\n",
        );
        ip(&host, "route add default via 203.0.113.2\nroute add ::/0 via 2a0f:1::2\n");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("mayfly-net-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (process, client) = start(&host, way, &folder);
        Self { host, internet, folder, process: Some(process), client, way, next: 1 }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        let (process, client) = start(&self.host, self.way, &self.folder);
        (self.process, self.client) = (Some(process), client);
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Answer {
        self.client.ask(request, None).unwrap()
    }

    /// A sandbox under a policy.
    pub(crate) fn sandbox(&mut self, policy: &str) -> Sandbox {
        let sandbox = Sandbox { id: [self.next; 16], namespace: fresh().unwrap() };
        self.next += 1;
        self.add(&sandbox, policy);
        sandbox
    }

    pub(crate) fn add(&mut self, sandbox: &Sandbox, policy: &str) {
        let request = Request::Add(sandbox.id, policy.to_owned());
        let answer = self.client.ask(&request, Some(sandbox.namespace.as_fd())).unwrap();
        assert_eq!(answer.status, Status::Done, "{}", String::from_utf8_lossy(&answer.body));
    }

    pub(crate) fn set_policy(&mut self, sandbox: &Sandbox, policy: &str) {
        let answer = self.ask(&Request::SetPolicy(sandbox.id, policy.to_owned()));
        assert_eq!(answer.status, Status::Done, "{}", String::from_utf8_lossy(&answer.body));
    }

    pub(crate) fn remove(&mut self, sandbox: &Sandbox) {
        assert_eq!(self.ask(&Request::Remove(sandbox.id)).status, Status::Done);
    }

    pub(crate) fn statistics(&mut self, sandbox: &Sandbox) -> Statistics {
        Statistics::decode(&self.ask(&Request::Statistics(sandbox.id)).body).unwrap()
    }

    /// The audit of a sandbox so far.
    pub(crate) fn audit(&self, sandbox: &Sandbox) -> Vec<Record> {
        let path = self.folder.join(file_name(&sandbox.id));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// A TCP server of the internet at this port of every address, one thread per connection.
    pub(crate) fn serve(&self, port: u16, handle: fn(TcpStream)) {
        let listener =
            inside(self.internet.as_fd(), || TcpListener::bind(("::", port)).unwrap()).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                std::thread::spawn(move || handle(stream));
            }
        });
    }

    /// A UDP socket of the internet.
    pub(crate) fn datagrams(&self, address: &str) -> UdpSocket {
        inside(self.internet.as_fd(), || UdpSocket::bind(address).unwrap()).unwrap()
    }

    /// Descriptors that the network process holds.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

impl World {
    /// The same once the process has done in idle moments what it does ahead.
    pub(crate) fn settled_descriptors(&self) -> usize {
        let mut count = 0;
        eventually("the process comes to rest", || {
            let former = std::mem::replace(&mut count, self.descriptors());
            std::thread::sleep(Duration::from_millis(20));
            former == count
        });
        count
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn start(host: &OwnedFd, way: Way, folder: &std::path::Path) -> (Child, Client) {
    let path = folder.join("control");
    let control = listen(&path).unwrap();
    let process = inside(host.as_fd(), || {
        // With a descriptor that somebody forgot.
        Command::new("sh")
            .args(["-c", r#"exec "$0" "$1" "$2" 9< /dev/zero"#, env!("CARGO_BIN_EXE_mayfly-net")])
            .arg(way.to_string())
            .arg(folder)
            .stdin(control)
            .spawn()
            .unwrap()
    })
    .unwrap();
    let mut client = Client::connect(&path).unwrap();
    assert_eq!(client.ask(&Request::Hello, None).unwrap().status, Status::Done);
    (process, client)
}

impl Sandbox {
    pub(crate) fn inside<T>(&self, act: impl FnOnce() -> T) -> T {
        inside(self.namespace.as_fd(), act).unwrap()
    }

    pub(crate) fn connect(&self, to: &str) -> std::io::Result<TcpStream> {
        let to: SocketAddr = to.parse().unwrap();
        let stream = self.inside(|| TcpStream::connect_timeout(&to, TIME))?;
        stream.set_read_timeout(Some(TIME))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(crate) fn udp(&self, to: &str) -> UdpSocket {
        let to: SocketAddr = to.parse().unwrap();
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = self.inside(|| {
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(to).unwrap();
            socket
        });
        socket.set_read_timeout(Some(TIME)).unwrap();
        socket
    }

    /// Whether bytes sent to an address come back from an echo server.
    pub(crate) fn reaches(&self, to: &str) -> bool {
        let Ok(mut stream) = self.connect(to) else { return false };
        let mut answer = [0_u8; 4];
        stream.write_all(b"ping").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && answer == *b"ping"
    }
}

/// A server that sends back what it gets.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0_u8; 64 * 1024];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 || stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < TIME, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A DNS question.
pub(crate) fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

/// The name asked for and the end of the question.
fn asked(message: &[u8]) -> (String, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while message[at] != 0 {
        let length = usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..at + 1 + length]).to_lowercase());
        at += 1 + length;
    }
    (labels.join("."), at + 5)
}

/// Code and addresses of an answer whose owners are all pointers.
pub(crate) fn resolve(message: &[u8]) -> (u8, Vec<IpAddr>) {
    let mut addresses = Vec::new();
    let mut at = asked(message).1;
    for _ in 0..u16::from_be_bytes([message[6], message[7]]) {
        let length = usize::from(message[at + 11]);
        let data = &message[at + 12..at + 12 + length];
        addresses.push(match length {
            4 => IpAddr::from(<[u8; 4]>::try_from(data).unwrap()),
            _ => IpAddr::from(<[u8; 16]>::try_from(data).unwrap()),
        });
        at += 12 + length;
    }
    (message[3] & 0xf, addresses)
}

/// What the pretend resolver says, by the first label: alias or nothing, and addresses.
fn zone(
    name: &str,
    kind: u16,
    count: u32,
) -> Option<(Option<&'static str>, &'static [&'static str])> {
    Some(match (name.split('.').next().unwrap(), kind) {
        ("good", 28) => (None, &["2606:4700::1"]),
        ("missing", _) => return None,
        (_, 28) => (None, &[]),
        ("good", _) => (None, &["1.1.1.1"]),
        ("mixed", _) => (None, &["10.0.0.9", "1.1.1.1", "169.254.169.254"]),
        ("alias", _) => (Some("other.example.org"), &["1.1.1.2"]),
        ("cut", _) => (None, &["1.1.1.3"]),
        ("private", _) => (None, &["10.0.0.9", "192.168.0.1"]),
        ("host", _) => (None, &["203.0.113.1"]),
        ("aliasprivate", _) => (Some("inner.example.org"), &["10.0.0.9"]),
        ("rebinding", _) if count == 0 => (None, &["1.1.1.1"]),
        ("metadata" | "rebinding", _) => (None, &["169.254.169.254"]),
        _ => return None,
    })
}

fn zone_answer(query: &[u8], count: u32, over_tcp: bool) -> Vec<u8> {
    let (name, end) = asked(query);
    let mut answer = query[..end].to_vec();
    let kind = u16::from_be_bytes([query[end - 4], query[end - 3]]);
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    let Some((alias, addresses)) = zone(&name, kind, count) else {
        answer[3] = 0x83;
        return answer;
    };
    if name.starts_with("cut") && !over_tcp {
        answer[2] |= 2;
        return answer;
    }
    answer[7] = u8::try_from(addresses.len() + usize::from(alias.is_some())).unwrap();
    let mut owner = 12_u8;
    if let Some(alias) = alias {
        let target = question(0, alias, 1);
        let target = &target[12..target.len() - 4];
        answer.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0]);
        answer.push(u8::try_from(target.len()).unwrap());
        owner = u8::try_from(answer.len()).unwrap();
        answer.extend_from_slice(target);
    }
    for address in addresses {
        let octets = match address.parse().unwrap() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        answer.extend_from_slice(&[0xc0, owner]);
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&[0, 1, 0, 0, 0, 9, 0, u8::try_from(octets.len()).unwrap()]);
        answer.extend_from_slice(&octets);
    }
    answer
}

impl World {
    /// A resolver at [`RESOLVER`], over UDP and TCP.
    pub(crate) fn resolver(&self) {
        let socket = self.datagrams(RESOLVER);
        std::thread::spawn(move || {
            let mut buffer = [0_u8; 512];
            let mut rebindings = 0;
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let answer = zone_answer(&buffer[..length], rebindings, false);
                rebindings += u32::from(asked(&buffer[..length]).0.starts_with("rebinding"));
                // A forged answer first: another id.
                let mut forged = answer.clone();
                forged[0] ^= 0xff;
                socket.send_to(&forged, from).unwrap();
                socket.send_to(&answer, from).unwrap();
            }
        });
        self.serve(53, |mut stream| {
            let mut length = [0_u8; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut query).unwrap();
            let answer = zone_answer(&query, 0, true);
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length, answer.as_slice()].concat()).unwrap();
        });
    }
}
