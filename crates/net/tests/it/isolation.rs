//! Isolation cases N1-N4, N7, N8, N14 at this level: what no policy lets out, and what never gets in.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};

use mayfly_net::namespace::inside;
use std::os::fd::AsFd as _;

use crate::world::{World, echo};

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
    mayfly_net::namespace::probe().unwrap();
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
