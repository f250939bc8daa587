//! Datagrams of a sandbox, end to end.

use crate::world::{World, eventually};

fn answer_all(world: &World, address: &str) {
    let socket = world.datagrams(address);
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 2048];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let answer = [b"re:", &buffer[..count]].concat();
            if socket.send_to(&answer, from).is_err() {
                return;
            }
        }
    });
}

#[test]
fn datagrams_are_answered_by_the_address_that_was_asked() {
    let mut world = World::new();
    answer_all(&world, "8.8.4.4:4000");
    answer_all(&world, "[2606:4700::64]:4000");
    let sandbox = world.sandbox("mode public");
    for to in ["8.8.4.4:4000", "[2606:4700::64]:4000"] {
        let socket = sandbox.udp(to);
        for text in ["one", "two", "three"] {
            socket.send(text.as_bytes()).unwrap();
            let mut buffer = [0_u8; 100];
            let count = socket.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..count], *format!("re:{text}").as_bytes());
        }
    }
    let counters = world.statistics(&sandbox);
    assert_eq!((counters.flows, counters.allowed, counters.up, counters.down), (2, 2, 22, 40));
    world.remove(&sandbox);
    let ends = world.audit(&sandbox).iter().filter(|record| record.verdict == "removed").count();
    assert_eq!(ends, 2);
}

#[test]
fn sockets_that_are_not_connected_hear_the_answers() {
    let mut world = World::new();
    answer_all(&world, "8.8.4.4:4000");
    answer_all(&world, "[2606:4700::64]:4000");
    let sandbox = world.sandbox("mode public");
    for (any, to) in [("0.0.0.0:0", "8.8.4.4:4000"), ("[::]:0", "[2606:4700::64]:4000")] {
        let socket = sandbox.inside(|| std::net::UdpSocket::bind(any).unwrap());
        socket.set_read_timeout(Some(crate::world::TIME)).unwrap();
        for text in ["one", "two"] {
            sandbox.inside(|| socket.send_to(text.as_bytes(), to).unwrap());
            let mut buffer = [0_u8; 100];
            let (count, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..count], *format!("re:{text}").as_bytes());
            assert_eq!(from.to_string(), to);
        }
    }
    assert!(world.audit(&sandbox).iter().all(|line| line.verdict == "allowed"));
}

#[test]
fn denied_datagrams_go_nowhere() {
    let mut world = World::new();
    let listening = world.datagrams("8.8.4.4:443");
    listening.set_nonblocking(true).unwrap();
    for (policy, to) in [
        ("mode block", "8.8.4.4:443"),
        ("mode allow\ncidr 1.1.1.0/24", "8.8.4.4:443"),
        ("mode allow\ndomain a.com", "8.8.4.4:443"),
        ("mode allow\ndomain a.com", "198.18.0.1:443"),
        ("mode public", "203.0.113.1:443"),
        ("mode public", "169.254.169.254:80"),
        ("mode public", "10.0.0.1:80"),
        ("mode public", "8.8.4.4:853"),
        ("mode public\nproxy http://8.8.4.4:3128", "8.8.4.4:443"),
    ] {
        let sandbox = world.sandbox(policy);
        let socket = sandbox.udp(to);
        let _ = socket.send(b"out");
        eventually(&format!("{policy} {to} is denied"), || world.statistics(&sandbox).denied == 1);
        let counters = world.statistics(&sandbox);
        assert_eq!((counters.allowed, counters.up), (0, 0), "{policy} {to}");
    }
    assert!(listening.recv(&mut [0; 8]).is_err());
}

#[test]
fn flows_of_one_sandbox_are_bounded() {
    let mut world = World::new();
    let sandbox = world.sandbox("mode public\nflows 3");
    let sockets: Vec<_> = (1..=5).map(|last| sandbox.udp(&format!("1.1.1.{last}:4000"))).collect();
    for socket in &sockets {
        socket.send(b"x").unwrap();
    }
    eventually("two are denied", || world.statistics(&sandbox).denied == 2);
    assert_eq!(world.statistics(&sandbox).flows, 3);
}
