//! Isolation cases N1-N4, N7, N8, N14 at this level: what no policy lets out, and what never gets in.

use std::io::{ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;

use mayfly_net::control::Request;
use mayfly_net::namespace::inside;

use crate::world::{RESOLVER, World, echo, eventually, question, resolve};

/// Every address at which the world's host, a neighbour or a cloud would listen.
const NEVER: [&str; 24] = [
    "169.254.169.254:7",
    "[fd00:ec2::254]:7",
    "168.63.129.16:7",
    "[::ffff:169.254.169.254]:7",
    "[64:ff9b::a9fe:a9fe]:7",
    "[2002:a9fe:a9fe::1]:7",
    "203.0.113.1:7",
    "93.184.1.1:7",
    "[2a0f:1::1]:7",
    "[::ffff:93.184.1.1]:7",
    "[64:ff9b::5db8:101]:7",
    "0.0.0.1:7",
    "10.0.0.2:7",
    "10.0.0.3:7",
    "172.16.0.1:7",
    "192.168.1.1:7",
    "100.64.0.1:7",
    "[fd00::2]:7",
    "[fd00::3]:7",
    "[fec0::1]:7",
    "198.18.0.1:7",
    "240.0.0.1:7",
    "1.1.1.1:853",
    "10.0.0.1:7",
];

#[test]
fn n1_to_n4_what_is_never_allowed_is_unreachable_even_if_listed() {
    let mut world = World::new();
    world.serve(7, echo);
    world.serve(853, echo);
    let _host = inside(world.host.as_fd(), || TcpListener::bind("[::]:7").unwrap()).unwrap();
    let listed = world.sandbox("mode public\ncidr 0.0.0.0/0\ncidr ::/0");
    let named = world.sandbox("mode allow\ncidr 0.0.0.0/0\ncidr ::/0");
    for sandbox in [&listed, &named] {
        assert!(sandbox.reaches("1.1.1.1:7"), "the world is open otherwise");
        for to in NEVER {
            assert!(!sandbox.reaches(to), "{to}");
        }
    }
    let permitted = world.sandbox("mode public\ncidr 10.0.0.0/8\npermit 10.0.0.0/8");
    assert!(permitted.reaches("10.0.0.3:7") && !permitted.reaches("192.168.1.1:7"));
}

#[test]
fn this_host_can_steer() {
    // In a thread: it moves to namespaces of its own.
    std::thread::spawn(|| crate::WAY.probe().unwrap()).join().unwrap();
}

#[test]
fn own_services_are_left_alone_and_neighbours_do_not_see_them() {
    let mut world = World::new();
    let (own, other) = (world.sandbox("mode public"), world.sandbox("mode public"));
    for address in ["127.0.0.1:80", "[::1]:80"] {
        let listener = own.inside(|| TcpListener::bind(address).unwrap());
        let stream = own.connect(address).unwrap();
        assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
        assert_eq!(other.connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn a_listener_inside_does_not_capture_what_should_go_out() {
    let mut world = World::new();
    world.serve(7, echo);
    let sandbox = world.sandbox("mode public");
    let listener = sandbox.inside(|| TcpListener::bind("1.1.1.1:7").unwrap());
    listener.set_nonblocking(true).unwrap();
    assert!(sandbox.reaches("1.1.1.1:7"));
    assert!(listener.accept().is_err());
}

#[test]
fn the_listener_of_the_process_refuses_the_sandbox_itself() {
    let mut world = World::new();
    let sandbox = world.sandbox("mode public\ncidr 127.0.0.0/8\npermit 127.0.0.0/8");
    let table = sandbox.inside(|| std::fs::read_to_string("/proc/thread-self/net/tcp6").unwrap());
    let line = table.lines().nth(1).unwrap();
    let port = line.split_whitespace().nth(1).unwrap().rsplit_once(':').unwrap().1;
    let port = u16::from_str_radix(port, 16).unwrap();
    assert!(!sandbox.reaches(&format!("127.0.0.1:{port}")));
    assert!(!sandbox.reaches(&format!("[::1]:{port}")));
    assert_eq!(world.statistics(&sandbox).denied, 2);
}

#[test]
fn n14_nothing_gets_in() {
    let mut world = World::new();
    let sandbox = world.sandbox("mode public");
    let _listener = sandbox.inside(|| TcpListener::bind("[::]:80").unwrap());
    for namespace in [&world.host, &world.internet] {
        for to in ["10.0.0.2:80", "[fd00::2]:80"] {
            let to = to.parse().unwrap();
            let answer = inside(namespace.as_fd(), || {
                TcpStream::connect_timeout(&to, std::time::Duration::from_millis(300))
            });
            assert!(answer.unwrap().is_err());
        }
    }
}

#[test]
fn n8_a_namespace_without_a_committed_policy_has_no_way_out() {
    let mut world = World::new();
    world.serve(7, echo);
    let sandbox = world.sandbox("mode public");
    world.remove(&sandbox);
    for to in ["1.1.1.1:7", "[2606:4700::1]:7"] {
        assert_eq!(sandbox.connect(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to}");
    }
}

#[test]
fn hostile_bytes_do_not_end_the_process() {
    const ROUNDS: usize = 300;
    let mut world = World::new();
    world.resolver();
    world.serve(80, echo);
    let sandbox =
        world.sandbox(&format!("mode allow\ndomain good.example.com\nresolver {RESOLVER}"));
    let socket = sandbox.udp("10.0.0.53:53");
    socket.send(&question(7, "good.example.com", 1)).unwrap();
    let mut buffer = [0_u8; 512];
    let count = socket.recv(&mut buffer).unwrap();
    let name = format!("{}:80", resolve(&buffer[..count]).1[0]);
    let request =
        b"POST / HTTP/1.1\r\nHost: good.example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n";
    let query = question(9, "good.example.com", 1);
    let framed = [&[0, u8::try_from(query.len()).unwrap()], query.as_slice()].concat();
    let hello = [&[22, 3, 1, 0, 40, 1, 0, 0, 36, 3, 3][..], &[7; 40]].concat();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 20).unwrap() % bound
    };
    for _ in 0..ROUNDS {
        for (to, good) in [
            (name.as_str(), request.as_slice()),
            (name.as_str(), hello.as_slice()),
            ("8.8.8.8:53", framed.as_slice()),
        ] {
            let mut bytes = good.to_vec();
            for _ in 0..=next(4) {
                let at = next(bytes.len());
                bytes[at] = u8::try_from(next(256)).unwrap();
            }
            bytes.truncate(1 + next(bytes.len()));
            let mut stream = sandbox.connect(to).unwrap();
            let _ = stream.write_all(&bytes);
        }
        let mut bytes = query.clone();
        let at = next(bytes.len());
        bytes[at] = u8::try_from(next(256)).unwrap();
        let _ = socket.send(&bytes[..next(bytes.len() + 1)]);
        let _ = world.client.ask(&Request::SetPolicy([0; 16], "mode\0".repeat(next(99))), None);
    }
    assert!(world.statistics(&sandbox).denied > 0, "the same process still answers");
    eventually("all are closed", || world.statistics(&sandbox).connections == 0);
}

#[test]
fn only_root_may_speak_with_the_process() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let world = World::new();
    let path = world.folder.join("control");
    for open in [&path, &world.folder] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let script = "import socket, sys\n\
                  s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
                  s.connect(sys.argv[1])\n\
                  s.settimeout(10)\n\
                  try:\n    s.send(bytes([1] + [0] * 23))\n    print(len(s.recv(100)))\n\
                  except OSError:\n    print(0)\n";
    let answered = |user: u32| {
        let mut python = std::process::Command::new("python3");
        let output = python.args(["-c", script]).arg(&path).uid(user).gid(user).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<usize>().unwrap()
    };
    assert_eq!(answered(65_534), 0);
    assert!(answered(0) > 8);
}
