//! Figures of the network process next to direct loopback in the same run, one JSON line each: connect with echo,
//! one stream each way, adding and dropping a sandbox, idle sandboxes; steered by a BPF program and by packet rules. Needs
//! root and iproute2.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends with the reason")]
#![expect(clippy::print_stdout, reason = "its figures are its output")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use mayfly_net::control::Request;
use mayfly_net::namespace::{fresh, inside};
use mayfly_net::way::Way;
use world::{World, echo, ip};

#[expect(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../tests/it/world.rs"]
mod world;

/// How sandboxes are steered where the host allows it.
const WAY: Way = Way::SkLookup;
const CONNECTIONS: usize = 3_000;
const RUNS: usize = 9;
const STREAM: usize = 1024 * 1024 * 1024;
const SANDBOXES: usize = 1_000;

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let mut worlds = [Through::new(WAY), Through::new(Way::Tproxy)];
    let direct = direct();
    let (mut near, mut up, mut down) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        near.extend(connects(&direct, "127.0.0.1:7", CONNECTIONS / RUNS, run));
        up.push(stream(&direct, "127.0.0.1:9", true));
        down.push(stream(&direct, "127.0.0.1:9", false));
        for through in &mut worlds {
            through.run(run);
        }
    }
    let direct = (at(&mut near, 50), at(&mut near, 99));
    let name = "network: connect and echo, directly";
    print(name, "us", near.len(), direct, ",\"floor\":null");
    for through in worlds {
        through.print(direct.0, at(&mut up, 50), at(&mut down, 50));
    }
}

/// The figures of one way of steering.
struct Through {
    way: Way,
    world: World,
    sandbox: world::Sandbox,
    connects: Vec<f64>,
    up: Vec<f64>,
    down: Vec<f64>,
}

impl Through {
    fn new(way: Way) -> Self {
        let mut world = World::steered(way);
        for namespace in [&world.host, &world.internet] {
            inside(namespace.as_fd(), prefer_reno).unwrap();
        }
        world.serve(7, echo);
        world.serve(9, sink_or_source);
        let sandbox = world.sandbox("mode public");
        Self { way, world, sandbox, connects: Vec::new(), up: Vec::new(), down: Vec::new() }
    }

    fn run(&mut self, run: usize) {
        let namespace = &self.sandbox.namespace;
        self.connects.extend(connects(namespace, "1.0.0.0:7", CONNECTIONS / RUNS, run));
        self.up.push(stream(namespace, "1.1.1.1:9", true));
        self.down.push(stream(namespace, "1.1.1.1:9", false));
    }

    /// One line per figure, beside the direct ones: microseconds of a connect, GB/s up and down.
    fn print(mut self, near: f64, near_up: f64, near_down: f64) {
        let holds = |most: bool| if most { "true" } else { "false" };
        let way = if self.way == WAY { "" } else { ", by packet rules" };
        let connect = (at(&mut self.connects, 50), at(&mut self.connects, 99));
        let ratio = connect.0 / near;
        let promise = format!(
            ",\"floor\":{near:.2},\"ratio\":{ratio:.2},\"limit\":\"<= 4x\",\"holds\":{}",
            holds(ratio <= 4.0)
        );
        let name = format!("network: connect and echo, through the policy{way}");
        print(&name, "us", self.connects.len(), connect, &promise);
        for (name, direct, through) in
            [("up", near_up, &mut self.up), ("down", near_down, &mut self.down)]
        {
            let through = at(through, 50);
            let ratio = through / direct;
            let promise = format!(
                ",\"floor\":{direct:.2},\"ratio\":{ratio:.2},\"limit\":\">= 0.3x, 1 GB/s\",\"holds\":{}",
                holds(ratio >= 0.3 && through >= 1.0)
            );
            let name = format!("network: one stream {name}{way}");
            print(&name, "GB/s", RUNS, (through, through), &promise);
        }
        let (adds, drops, percent) = life(&mut self.world);
        for (name, times, most) in
            [("add a sandbox", &adds, 300.0), ("drop a sandbox", &drops, 100.0)]
        {
            let (middle, tail) = (at(&mut times.clone(), 50), at(&mut times.clone(), 99));
            let promise = format!(",\"limit\":\"<= {most}\",\"holds\":{}", holds(middle <= most));
            print(&format!("network: {name}{way}"), "us", times.len(), (middle, tail), &promise);
        }
        let promise = format!(",\"limit\":\"<= 3\",\"holds\":{}", holds(percent <= 3.0));
        let name = format!("network: 1,000 idle sandboxes, of a core{way}");
        print(&name, "%", SANDBOXES, (percent, percent), &promise);
    }
}

/// One figure as the task runner reads it; `rest` = floor, ratio and promise.
fn print(name: &str, unit: &str, n: usize, (p50, p99): (f64, f64), rest: &str) {
    println!(
        "{{\"name\":\"{name}\",\"unit\":\"{unit}\",\"n\":{n},\"p50\":{p50:.2},\"p99\":{p99:.2}{rest}}}"
    );
}

/// Has this thread's namespace begin connections with reno.
fn prefer_reno() {
    std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno").unwrap();
}

/// A namespace with loopback and reno, and the same servers in it.
fn direct() -> OwnedFd {
    let namespace = fresh().unwrap();
    ip(&namespace, "link set lo up\n");
    inside(namespace.as_fd(), || {
        prefer_reno();
        for (port, handle) in [(7, echo as fn(TcpStream)), (9, sink_or_source)] {
            let listener = TcpListener::bind(("::", port)).unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let stream = stream.unwrap();
                    std::thread::spawn(move || handle(stream));
                }
            });
        }
    })
    .unwrap();
    namespace
}

/// `u` = takes all until the end and answers one byte; `d` = sends a stream.
fn sink_or_source(mut stream: TcpStream) {
    let mut way = [0_u8];
    let mut buffer = vec![0_u8; 1024 * 1024];
    if stream.read_exact(&mut way).is_err() {
        return;
    }
    if way == *b"u" {
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
        let _ = stream.write_all(b".");
    } else {
        for _ in 0..STREAM / buffer.len() {
            if stream.write_all(&buffer).is_err() {
                return;
            }
        }
    }
}

/// Microseconds of connect and echo of one byte; another address and port for each, as for real clients.
fn connects(namespace: &OwnedFd, to: &str, count: usize, run: usize) -> Vec<f64> {
    let first: SocketAddr = to.parse().unwrap();
    inside(namespace.as_fd(), || {
        let connect = |index: usize| {
            let SocketAddr::V4(mut to) = first else { unreachable!("an IPv4 address") };
            if !to.ip().is_loopback() {
                let place = u32::try_from(run * count + index + 1).unwrap();
                to.set_ip((to.ip().to_bits() + place).into());
            }
            let start = Instant::now();
            let mut stream = TcpStream::connect(to).unwrap();
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            start.elapsed().as_secs_f64() * 1e6
        };
        (0..count).map(connect).collect()
    })
    .unwrap()
}

/// GB/s of one stream.
fn stream(namespace: &OwnedFd, to: &str, is_up: bool) -> f64 {
    let mut stream = inside(namespace.as_fd(), || TcpStream::connect(to).unwrap()).unwrap();
    let mut buffer = vec![0_u8; 1024 * 1024];
    let start = Instant::now();
    stream.write_all(if is_up { b"u" } else { b"d" }).unwrap();
    if is_up {
        for _ in 0..STREAM / buffer.len() {
            stream.write_all(&buffer).unwrap();
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    } else {
        let mut all = 0;
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            all += count;
        }
        assert_eq!(all, STREAM);
    }
    f64::from(u32::try_from(STREAM).unwrap()) / start.elapsed().as_secs_f64() / 1e9
}

/// Microseconds of ADD to a ready namespace and of REMOVE, and the processor time of all when idle.
fn life(world: &mut World) -> (Vec<f64>, Vec<f64>, f64) {
    let (mut adds, mut drops) = (Vec::new(), Vec::new());
    let ready: Vec<OwnedFd> = (0..SANDBOXES).map(|_| fresh().unwrap()).collect();
    let id = |index: usize| u128::try_from(index + 1000).unwrap().to_be_bytes();
    for (index, namespace) in ready.iter().enumerate() {
        let request = Request::Add(id(index), "mode public".to_owned());
        let start = Instant::now();
        world.client.ask(&request, Some(namespace.as_fd())).unwrap();
        adds.push(start.elapsed().as_secs_f64() * 1e6);
        // Sandboxes come at intervals, in which the process loads what it needs for the next ones.
        std::thread::sleep(Duration::from_millis(1));
    }
    let before = ticks(world.pid());
    std::thread::sleep(Duration::from_secs(5));
    let percent = (ticks(world.pid()) - before) / 5.0;
    for index in 0..SANDBOXES {
        let start = Instant::now();
        world.ask(&Request::Remove(id(index)));
        drops.push(start.elapsed().as_secs_f64() * 1e6);
    }
    (adds, drops, percent)
}

/// Hundredths of a second that a process has used.
fn ticks(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
}

/// The value at a percentile.
fn at(values: &mut [f64], percentile: usize) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[(values.len() - 1) * percentile / 100]
}
