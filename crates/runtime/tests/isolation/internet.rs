//! A pretend internet for one test: a namespace that traffic leaves from, and behind it one that answers at
//! every address. Nothing touches the machine's own network.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use mayfly_core::network::{AuditEntry, NetworkPolicy, cidrs, domains};
use mayfly_core::ports::runtime::Runtime as _;
use mayfly_runtime::local::Options;

use crate::by_rules;
use crate::harness::{Bench, Ran, Sandbox, only_full, rootless};
use crate::internet_ground::Ground;
use crate::prelude::PRELUDE;

/// Attempts that print `what=True` when something beyond the sandbox answered.
pub(crate) const REACH: &str = r"
socket.setdefaulttimeout(3)
def tcp(host, port=7):
    try:
        with socket.create_connection((host, port)) as stream:
            stream.sendall(b'ping')
            return stream.recv(4) == b'ping'
    except OSError:
        return False
def udp(host, port=7, wait=0.5):
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(info[0], info[1]) as sock:
            sock.settimeout(wait)
            sock.connect(info[4])
            sock.send(b'ping')
            return sock.recv(4) == b'ping'
    except OSError:
        return False
def say(what, value):
    print(f'{what}={value}', flush=True)
";

pub(crate) struct Internet {
    ground: Ground,
    /// Questions per name that the resolver was asked.
    asked: Arc<Mutex<HashMap<String, u32>>>,
}

/// What a sandbox may reach, from two lists.
pub(crate) fn lists(ranges: &str, names: &str) -> NetworkPolicy {
    NetworkPolicy {
        cidrs: cidrs(ranges).unwrap(),
        domains: domains(names).unwrap(),
        ..NetworkPolicy::default()
    }
}

impl Internet {
    /// A bench whose sandboxes reach this internet and no other. An ordinary user cannot make one: root does, in
    /// [`crate::by_rules`], and runs the test as him.
    pub(crate) fn open(
        case: &'static str,
        change: impl FnOnce(&mut Options),
    ) -> Option<(Self, Bench)> {
        let ground = if !rootless() {
            Ground::make()
        } else if let Some(lender) = by_rules::lender() {
            Ground::Lent(lender)
        } else {
            only_full(case, "right to make a pretend internet; root makes it for him in by_rules");
            return None;
        };
        let internet = Self { ground, asked: Arc::default() };
        internet.serve(7, echo);
        internet.echo_datagrams(7);
        internet.resolver();
        let bench = Bench::with(case, |options| {
            options.network.home = internet.ground.home();
            options.network.steering = by_rules::steering();
            options.network.resolvers = vec!["9.9.9.9:53".parse().unwrap()];
            change(options);
        })?;
        Some((internet, bench))
    }

    /// A TCP server at this port of every address.
    pub(crate) fn serve(&self, port: u16, handle: fn(TcpStream)) {
        accept(self.ground.listen(port), handle);
    }

    /// A TCP server of the host at this port of every address.
    pub(crate) fn serve_host(&self, port: u16, handle: fn(TcpStream)) {
        let listen = || TcpListener::bind(("::", port)).unwrap();
        accept(self.ground.on_host(listen), handle);
    }

    fn echo_datagrams(&self, port: u16) {
        // One address each: the answer must come from the one that was asked.
        for address in ["1.1.1.1", "8.8.8.8", "10.0.0.9"] {
            let socket = self.ground.datagrams(&format!("{address}:{port}"));
            std::thread::spawn(move || {
                let mut buffer = [0_u8; 2048];
                while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..count], from);
                }
            });
        }
    }

    /// The resolver: names say by their first label what they stand at.
    fn resolver(&self) {
        let socket = self.ground.datagrams("9.9.9.9:53");
        let asked = Arc::clone(&self.asked);
        std::thread::spawn(move || {
            let mut buffer = [0_u8; 2048];
            while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&answer(&buffer[..count], &asked), from);
            }
        });
    }

    /// How often the resolver was asked for a name.
    pub(crate) fn asked(&self, name: &str) -> u32 {
        self.asked.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    /// Runs a script beside the sandboxes, where nothing judges: what it reaches there is within reach.
    pub(crate) fn outside(&self, script: &str) -> Ran {
        let whole = format!("{PRELUDE}\n{REACH}\n{script}");
        let run = || Command::new("/usr/bin/python3").args(["-I", "-c", &whole]).output().unwrap();
        let output = self.ground.on_host(run);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), text }
    }
}

fn accept(listener: TcpListener, handle: fn(TcpStream)) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || handle(stream));
        }
    });
}

/// Sends back what it gets.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = [0_u8; 4096];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 || stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// What a name stands at; `rebinding` changes its mind after the first question.
fn zone(name: &str, count: u32) -> Option<&'static str> {
    Some(match name.split('.').next()? {
        "good" | "www" => "1.1.1.1",
        "other" => "8.8.8.8",
        "private" => "10.0.0.9",
        "host" => "203.0.113.1",
        "rebinding" if count <= 1 => "1.1.1.1",
        "rebinding" | "metadata" => "169.254.169.254",
        _ => return None,
    })
}

fn answer(question: &[u8], asked: &Mutex<HashMap<String, u32>>) -> Vec<u8> {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_lowercase());
        at += 1 + length;
    }
    let (name, end) = (labels.join("."), at + 5);
    let is_v4 = question[at + 1..at + 3] == [0, 1];
    let mut counts = asked.lock().unwrap();
    let count = counts.entry(name.clone()).or_default();
    *count += u32::from(is_v4);
    let mut answer = question[..end].to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[6..12].fill(0);
    match zone(&name, *count) {
        None => answer[3] = 0x83,
        Some(address) if is_v4 => {
            let Ok(IpAddr::V4(address)) = address.parse() else { panic!("{address}") };
            answer[7] = 1;
            answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            answer.extend_from_slice(&address.octets());
        }
        Some(_) => {}
    }
    answer
}

impl Bench {
    /// A running sandbox under a policy.
    #[track_caller]
    pub(crate) fn sandbox_under(&self, network: NetworkPolicy) -> Sandbox<'_> {
        self.sandbox_of(mayfly_core::ports::runtime::SandboxSpec { network, ..self.spec() })
    }

    /// Changes what a running sandbox may reach.
    #[track_caller]
    pub(crate) fn set_network(&self, sandbox: &Sandbox<'_>, network: &NetworkPolicy) {
        self.wait(self.runtime().set_network(sandbox.id(), network)).unwrap();
    }

    /// The audit of a sandbox so far.
    #[track_caller]
    pub(crate) fn audit(&self, sandbox: &Sandbox<'_>) -> Vec<AuditEntry> {
        self.wait(self.runtime().network_audit(sandbox.id(), None, 1000)).unwrap().items
    }
}

impl Sandbox<'_> {
    /// Runs a script of attempts to reach something.
    #[track_caller]
    pub(crate) fn reach(&self, script: &str) -> Ran {
        self.python(&format!("{REACH}\n{script}"))
    }
}
