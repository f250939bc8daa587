//! Domain policies: the name is proven at dial time and by the first bytes (N1, N5, N10).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::world::{RESOLVER, Sandbox, World, echo, question, resolve};

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn policy(domains: &str) -> String {
    format!("mode allow\n{domains}resolver {RESOLVER}\n")
}

fn synthetic(sandbox: &Sandbox, name: &str) -> String {
    let socket = sandbox.udp("10.0.0.53:53");
    socket.send(&question(7, name, 1)).unwrap();
    let mut buffer = [0_u8; 1024];
    let count = socket.recv(&mut buffer).unwrap();
    resolve(&buffer[..count]).1[0].to_string()
}

/// Answers every request with an empty 200, and counts nothing: requests are told apart by the sandbox.
fn web(mut stream: TcpStream) {
    let mut seen = Vec::new();
    let mut buffer = [0_u8; 4096];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            return;
        }
        seen.extend_from_slice(&buffer[..count]);
        while let Some(end) = seen.windows(4).position(|part| part == b"\r\n\r\n") {
            let head: Vec<u8> = seen.drain(..end + 4).collect();
            let is_switch = head.windows(8).any(|part| part.eq_ignore_ascii_case(b"upgrade:"));
            let answer = if is_switch { b"HTTP/1.1 101 X\r\n\r\n".as_slice() } else { HELLO };
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

/// Sends requests one after the other; how many were answered.
fn answered(sandbox: &Sandbox, to: &str, requests: &[&str]) -> usize {
    let Ok(mut stream) = sandbox.connect(to) else { return 0 };
    requests
        .iter()
        .take_while(|request| {
            let mut answer = [0_u8; HELLO.len()];
            stream.write_all(request.as_bytes()).is_ok() && stream.read_exact(&mut answer).is_ok()
        })
        .count()
}

#[test]
fn n5_every_request_must_be_to_the_name_that_was_dialled() {
    let mut world = World::new();
    world.resolver();
    world.serve(80, web);
    world.serve(8080, web);
    let sandbox = world.sandbox(&policy("domain good.example.com\ndomain alias.example.com\n"));
    let address = synthetic(&sandbox, "good.example.com");
    let good = "GET / HTTP/1.1\r\nHost: good.example.com\r\n\r\n";
    let other = "GET / HTTP/1.1\r\nHost: alias.example.com\r\n\r\n";
    let (web, proxy) = (format!("{address}:80"), format!("{address}:8080"));
    assert_eq!(answered(&sandbox, &web, &[good, good, good]), 3);
    assert_eq!(answered(&sandbox, &web, &[good, other, good]), 1);
    assert_eq!(answered(&sandbox, &web, &[other]), 0);
    assert_eq!(answered(&sandbox, &proxy, &[other]), 0);
    let connect = "CONNECT alias.example.com:443 HTTP/1.1\r\nHost: good.example.com\r\n\r\n";
    assert_eq!(answered(&sandbox, &web, &[connect]), 0);
    assert_eq!(answered(&sandbox, &web, &["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]), 0);
    assert_eq!(answered(&sandbox, &web, &["\0\0\0"]), 0);
    assert_eq!(answered(&sandbox, "1.1.1.1:80", &[good]), 0, "a raw address");
    let verdicts: Vec<String> =
        world.audit(&sandbox).into_iter().map(|line| line.verdict).collect();
    assert!(
        verdicts.contains(&"unproven".to_owned()) && verdicts.contains(&"not-listed".to_owned())
    );
}

#[test]
fn a_web_socket_is_free_once_the_server_has_switched() {
    let mut world = World::new();
    world.resolver();
    world.serve(80, |mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0_u8];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 101 Switching\r\n\r\n").unwrap();
        echo(stream);
    });
    let sandbox = world.sandbox(&policy("domain good.example.com\n"));
    let mut stream =
        sandbox.connect(&format!("{}:80", synthetic(&sandbox, "good.example.com"))).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: good.example.com\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    let mut answer = [0_u8; 26];
    stream.read_exact(&mut answer).unwrap();
    let frame = b"\x81\x05hello and GET / HTTP/1.1\r\nHost: other\r\n\r\n";
    stream.write_all(frame).unwrap();
    let mut back = vec![0; frame.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, frame);
}

/// A hello that names this server, in records of so many bytes.
fn hello(name: &str, size: usize) -> Vec<u8> {
    let sized = |size: usize, bytes: &[u8]| {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[4 - size..], bytes].concat()
    };
    let entry = [vec![0], sized(2, name.as_bytes())].concat();
    let extension = [vec![0, 0], sized(2, &sized(2, &entry))].concat();
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend(
        [sized(1, &[]), sized(2, &[0x13, 1]), sized(1, &[0]), sized(2, &extension)].concat(),
    );
    let handshake = [vec![1], sized(3, &body)].concat();
    handshake.chunks(size).flat_map(|part| [vec![22, 3, 1], sized(2, part)].concat()).collect()
}

#[test]
fn n5_tls_must_name_the_server_that_was_dialled() {
    let mut world = World::new();
    world.resolver();
    world.serve(443, echo);
    let sandbox = world.sandbox(&policy("domain good.example.com\ndomain alias.example.com\n"));
    let to = format!("{}:443", synthetic(&sandbox, "good.example.com"));
    for (name, size, passes) in [
        ("good.example.com", 4096, true),
        ("GOOD.example.com", 7, true),
        ("alias.example.com", 4096, false),
        ("evil.org", 4096, false),
        ("", 4096, false),
    ] {
        let mut stream = sandbox.connect(&to).unwrap();
        let sent = [hello(name, size), vec![b'd'; 1000]].concat();
        let mut back = vec![0; sent.len()];
        for part in sent.chunks(50) {
            let _ = stream.write_all(part);
        }
        assert_eq!(stream.read_exact(&mut back).is_ok() && back == sent, passes, "{name} {size}");
    }
}

#[test]
fn n1_n10_a_name_that_leads_inside_is_refused_at_dial_time() {
    let mut world = World::new();
    world.resolver();
    world.serve(7, echo);
    let sandbox = world.sandbox(&policy("domain *.example.com\n"));
    for (name, passes) in [
        ("good.example.com", true),
        ("alias.example.com", true),
        ("mixed.example.com", true),
        ("private.example.com", false),
        ("metadata.example.com", false),
        ("host.example.com", false),
        ("aliasprivate.example.com", false),
        ("missing.example.com", false),
    ] {
        let to = format!("{}:7", synthetic(&sandbox, name));
        assert_eq!(sandbox.reaches(&to), passes, "{name}");
    }
    // Rebinding: public when it is first asked for, the metadata service afterwards.
    let to = format!("{}:7", synthetic(&sandbox, "rebinding.example.com"));
    assert!(sandbox.reaches(&to));
    assert!(!sandbox.reaches(&to));
}

#[test]
fn a_domain_that_is_taken_off_the_list_is_cut() {
    let mut world = World::new();
    world.resolver();
    world.serve(7, echo);
    let sandbox = world.sandbox(&policy("domain good.example.com\ndomain alias.example.com\n"));
    let to = format!("{}:7", synthetic(&sandbox, "good.example.com"));
    let mut stream = sandbox.connect(&to).unwrap();
    stream.write_all(b"+ping").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    world.set_policy(&sandbox, &policy("domain alias.example.com\n"));
    assert!(stream.read_exact(&mut [0; 1]).is_err());
    assert!(!sandbox.reaches(&to));
}
