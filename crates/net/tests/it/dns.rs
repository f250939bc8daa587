//! The DNS server of a sandbox.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;

use crate::world::{RESOLVER, Sandbox, World, eventually, question, resolve};

const A: u16 = 1;
const AAAA: u16 = 28;

fn answer(sandbox: &Sandbox, server: &str, name: &str, kind: u16) -> (u8, Vec<IpAddr>) {
    let socket = sandbox.udp(server);
    socket.send(&question(7, name, kind)).unwrap();
    let mut buffer = [0_u8; 1024];
    let count = socket.recv(&mut buffer).unwrap();
    resolve(&buffer[..count])
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn public_names_are_resolved_and_denied_addresses_left_out() {
    let mut world = World::new();
    world.resolver();
    let sandbox = world.sandbox(&format!("mode public\nresolver {RESOLVER}"));
    for (name, kind, code, expected) in [
        ("good.example.com", A, 0, addresses(&["1.1.1.1"])),
        ("GOOD.example.com", A, 0, addresses(&["1.1.1.1"])),
        ("good.example.com", AAAA, 0, addresses(&["2606:4700::1"])),
        ("mixed.example.com", A, 0, addresses(&["1.1.1.1"])),
        ("alias.example.com", A, 0, addresses(&["1.1.1.2"])),
        ("cut.example.com", A, 0, addresses(&["1.1.1.3"])),
        ("private.example.com", A, 5, vec![]),
        ("metadata.example.com", A, 5, vec![]),
        ("aliasprivate.example.com", A, 5, vec![]),
        ("missing.example.com", A, 3, vec![]),
        ("good.example.com", 16, 0, vec![]),
        ("mayfly.internal", A, 0, addresses(&["10.0.0.1"])),
        ("mayfly.internal", AAAA, 0, vec![]),
    ] {
        for server in ["10.0.0.53:53", "8.8.8.8:53", "[2001:4860:4860::8888]:53"] {
            assert_eq!(answer(&sandbox, server, name, kind), (code, expected.clone()), "{name}");
        }
    }
}

#[test]
fn a_silent_resolver_is_passed_over_and_none_is_an_error() {
    let mut world = World::new();
    world.resolver();
    let _silent = world.datagrams("8.8.4.4:53");
    let sandbox = world.sandbox(&format!("mode public\nresolver 8.8.4.4:53\nresolver {RESOLVER}"));
    let expected = (0, addresses(&["1.1.1.1"]));
    assert_eq!(answer(&sandbox, "10.0.0.53:53", "good.example.com", A), expected);
    let without = world.sandbox("mode public");
    assert_eq!(answer(&without, "10.0.0.53:53", "good.example.com", A).0, 2);
}

#[test]
fn block_all_answers_its_own_names_only() {
    let mut world = World::new();
    let sandbox = world.sandbox("mode block");
    let internal = answer(&sandbox, "10.0.0.53:53", "mayfly.internal", A);
    assert_eq!(internal, (0, addresses(&["10.0.0.1"])));
    // Its own host name ends like its id.
    let digits = mayfly_net::control::hexadecimal(&sandbox.id)[20..].to_owned();
    let own = answer(&sandbox, "10.0.0.53:53", &format!("mayfly-{digits}"), A);
    assert_eq!(own, (0, addresses(&["127.0.1.1"])));
    assert_eq!(answer(&sandbox, "10.0.0.53:53", "mayfly-000000000000", A), (5, vec![]));
    assert_eq!(answer(&sandbox, "10.0.0.53:53", "good.example.com", A), (5, vec![]));
    assert_eq!(world.statistics(&sandbox).denied, 2);
}

#[test]
fn n6_only_allowed_names_are_answered_whatever_server_is_asked() {
    let mut world = World::new();
    world.resolver();
    let sandbox = world.sandbox("mode allow\ndomain a.com\ndomain *.b.com");
    let (code, first) = answer(&sandbox, "8.8.8.8:53", "A.com", A);
    assert!(code == 0 && first.len() == 1 && mayfly_net::judge::is_synthetic(first[0]));
    assert_eq!(answer(&sandbox, "10.0.0.53:53", "a.com", A).1, first);
    assert_ne!(answer(&sandbox, "10.0.0.53:53", "x.b.com", A).1, first);
    assert_eq!(answer(&sandbox, "10.0.0.53:53", "a.com", AAAA), (0, vec![]));
    for name in ["b.com", "a.com.evil.org", "dGhpcyBpcyBhIHR1bm5lbA.evil.org", "xa.com"] {
        assert_eq!(answer(&sandbox, "1.1.1.1:53", name, A), (5, vec![]), "{name}");
    }
    eventually("four are denied", || world.statistics(&sandbox).denied == 4);
    let denied = world.audit(&sandbox);
    assert!(denied.iter().any(|line| line.name.as_deref() == Some("a.com.evil.org")));
    let other = world.sandbox("mode allow\ndomain a.com");
    assert!(!other.reaches(&format!("{}:7", answer(&sandbox, "1.1.1.1:53", "x.b.com", A).1[0])));
}

#[test]
fn questions_over_tcp_are_answered_too() {
    let mut world = World::new();
    world.resolver();
    let sandbox = world.sandbox(&format!("mode public\nresolver {RESOLVER}"));
    let mut stream = sandbox.connect("8.8.8.8:53").unwrap();
    for name in ["good.example.com", "good.example.com"] {
        let question = question(9, name, A);
        let length = u16::try_from(question.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length, question.as_slice()].concat()).unwrap();
        let mut length = [0_u8; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(resolve(&answer), (0, addresses(&["1.1.1.1"])));
    }
    stream.write_all(&[255, 255, 0]).unwrap();
    assert_eq!(stream.read(&mut [0; 2]).unwrap_or(0), 0);
}
