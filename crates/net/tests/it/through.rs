//! Connections that go through something: the proxy of the policy, and the server behind `mayfly.internal`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;

use crate::world::{RESOLVER, World, echo};

fn head(stream: &mut impl std::io::Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0_u8];
        if stream.read_exact(&mut byte).is_err() {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn proxy(mut stream: TcpStream) {
    let head = head(&mut stream);
    let is_ours = head.starts_with("CONNECT 1.1.1.1:7 HTTP/1.1\r\nHost: 1.1.1.1:7\r\n")
        && head.contains("Proxy-Authorization: Basic dTpwQHc=\r\n");
    if is_ours {
        stream.write_all(b"HTTP/1.1 200 Connected\r\nVia: x\r\n\r\nfirst").unwrap();
        echo(stream);
    } else {
        stream.write_all(b"HTTP/1.1 407 Denied\r\n\r\n").unwrap();
    }
}

#[test]
fn all_tcp_goes_through_the_proxy() {
    let mut world = World::new();
    world.resolver();
    world.serve(3128, proxy);
    world.serve(7, echo);
    for place in ["5.6.7.8", "good.example.com"] {
        let policy =
            format!("mode public\nresolver {RESOLVER}\nproxy http://u:p%40w@{place}:3128\n");
        let sandbox = world.sandbox(&policy);
        let mut stream = sandbox.connect("1.1.1.1:7").unwrap();
        stream.write_all(b"and more").unwrap();
        let mut answer = [0_u8; 13];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"firstand more", "{place}");
        assert!(!sandbox.reaches("1.1.1.2:7"), "the proxy refuses it");
        assert!(!sandbox.reaches("169.254.169.254:7"), "the policy does");
    }
}

#[test]
fn the_proxy_itself_is_judged() {
    let mut world = World::new();
    world.resolver();
    world.serve(3128, proxy);
    for place in ["203.0.113.1", "169.254.169.254", "10.1.1.1", "private.example.com"] {
        let policy =
            format!("mode public\nresolver {RESOLVER}\nproxy http://u:p%40w@{place}:3128\n");
        let sandbox = world.sandbox(&policy);
        assert!(!sandbox.reaches("1.1.1.1:7"), "{place}");
        assert_eq!(world.statistics(&sandbox).denied, 1, "{place}");
    }
}

#[test]
fn the_internal_name_reaches_the_server_that_is_told_whose_connection_it_is() {
    let mut world = World::new();
    let path = world.folder.join("internal");
    let internal = format!("mode block\ninternal {}\n", path.display());
    let sandbox = world.sandbox(&internal);
    assert!(!sandbox.reaches("10.0.0.1:80"), "nobody listens");
    let listener = UnixListener::bind(&path).unwrap();
    let mut stream = sandbox.connect("10.0.0.1:80").unwrap();
    stream.write_all(b"GET /").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut got = [0_u8; 43 + 5];
    server.read_exact(&mut got).unwrap();
    let expected = format!("MAYFLY 1 {}\r\nGET /", "01".repeat(16));
    assert_eq!(String::from_utf8_lossy(&got), expected);
    server.write_all(b"answer").unwrap();
    drop(server);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    assert!(!sandbox.reaches("10.0.0.1:81"));
    let off = world.sandbox("mode public");
    assert!(!off.reaches("10.0.0.1:80"));
}
