//! N11: a connection into a sandbox reaches that sandbox's ports only, never the host's or a neighbour's.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

use mayfly_core::ports::runtime::Runtime as _;
use mayfly_core::{Code, Kind};
use mayfly_init::protocol::WEAK_NETWORK;

use crate::harness::{Bench, Sandbox};

/// Says a word to whoever connects, from a process that stays.
fn service(sandbox: &Sandbox<'_>, addresses: &[&str], word: &str) -> u16 {
    let script = format!(
        "
import select
port, doors = 0, []
for address in {addresses:?}:
    door = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)
    if ':' in address:
        door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    door.bind((address, port))
    door.listen()
    port = door.getsockname()[1]
    doors.append(door)
print(port, flush=True)
if os.fork() == 0:
    os.setsid()
    for number in range(3):
        os.close(number)
    while True:
        for door in select.select(doors, [], [])[0]:
            client = door.accept()[0]
            client.sendall(b'{word}')
            client.close()
"
    );
    sandbox.python(&script).text.trim().parse().expect("a port")
}

fn hear(sandbox: &Sandbox<'_>, bench: &Bench, port: u16) -> mayfly_core::Result<String> {
    let socket = bench.wait(bench.runtime().connect(sandbox.id(), port))?;
    let mut stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    let mut word = String::new();
    stream.read_to_string(&mut word).unwrap();
    Ok(word)
}

fn refused(sandbox: &Sandbox<'_>, bench: &Bench, port: u16) {
    let error = hear(sandbox, bench, port).expect_err("nothing listens there");
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.message().contains(&port.to_string()), "{error}");
}

fn ports(sandbox: &Sandbox<'_>, bench: &Bench) -> Vec<u16> {
    bench.wait(bench.runtime().ports(sandbox.id())).unwrap()
}

#[test]
fn n11_a_connection_reaches_only_the_named_sandbox_s_port() {
    let Some(bench) = Bench::open("N11") else { return };
    let host = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let outside = host.local_addr().unwrap().port();
    let (one, two) = (bench.sandbox(), bench.sandbox());
    assert_eq!(ports(&one, &bench), []);
    let first = service(&one, &["127.0.0.1"], "one");
    let everywhere = service(&one, &["0.0.0.0"], "all");
    let six = service(&one, &["::1"], "six");
    let elsewhere = service(&one, &["127.0.0.9"], "far");
    let second = service(&two, &["127.0.0.1", "::1"], "two");
    assert_eq!(hear(&one, &bench, first).unwrap(), "one");
    assert_eq!(hear(&one, &bench, everywhere).unwrap(), "all");
    assert_eq!(hear(&one, &bench, six).unwrap(), "six");
    assert_eq!(hear(&two, &bench, second).unwrap(), "two");
    let mut expected = vec![first, everywhere, six];
    expected.sort_unstable();
    assert_eq!(ports(&one, &bench), expected);
    assert_eq!(ports(&two, &bench), [second]);
    refused(&one, &bench, outside);
    refused(&one, &bench, elsewhere);
    for (sandbox, port) in [(&one, second), (&two, first), (&two, everywhere)] {
        // The kernel hands out free ports by chance, so two sandboxes may have the same.
        if !ports(sandbox, &bench).contains(&port) {
            refused(sandbox, &bench, port);
        }
    }
    one.stop();
    let error = hear(&one, &bench, first).expect_err("it is stopped");
    assert_eq!(error.code(), Some(Code::SandboxNotStarted));
    one.start().unwrap();
    refused(&one, &bench, first);
}

#[test]
fn n11_listens_inside_where_only_the_sandbox_reaches_it() {
    let Some(bench) = Bench::open("N11") else { return };
    let (one, two) = (bench.sandbox(), bench.sandbox());
    let door = bench.wait(bench.runtime().bind(one.id(), 0)).unwrap();
    let door = TcpListener::from(door);
    door.set_nonblocking(false).unwrap();
    let port = door.local_addr().unwrap().port();
    assert_eq!(ports(&one, &bench), [], "a port of the host's own is none of the sandbox's");
    let again = bench.wait(bench.runtime().bind(one.id(), port)).expect_err("it is taken");
    assert_eq!(again.kind(), Kind::Conflict, "{again}");
    let answering = std::thread::spawn(move || {
        let (mut client, _) = door.accept().unwrap();
        client.write_all(b"host").unwrap();
    });
    let knock = format!(
        "
with socket.create_connection(('127.0.0.1', {port}), 5) as client:
    print(client.recv(9).decode())
"
    );
    assert_eq!(one.python(&knock).text, "host\n");
    answering.join().unwrap();
    let knock =
        format!("attempt('neighbour', lambda: socket.create_connection(('127.0.0.1', {port}), 5))");
    assert_eq!(two.python(&knock).value("neighbour"), "ECONNREFUSED");
    // A low port too: nothing inside is told apart by it.
    drop(bench.wait(bench.runtime().bind(one.id(), 80)).unwrap());
}

#[test]
fn n11_ports_are_reached_by_the_next_server_too() {
    let Some(mut bench) = Bench::open("N11") else { return };
    let sandbox = bench.sandbox();
    let port = service(&sandbox, &["127.0.0.1"], "one");
    let spec = sandbox.spec;
    bench.reopen();
    let sandbox = bench.adopted(spec);
    assert_eq!(hear(&sandbox, &bench, port).unwrap(), "one");
    drop(bench.wait(bench.runtime().bind(sandbox.id(), 0)).unwrap());
}

#[test]
fn n11_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened_full("N11", WEAK_NETWORK) else { return };
    let host = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let port = host.local_addr().unwrap().port();
    let sandbox = bench.sandbox();
    let reached = bench.wait(bench.runtime().connect(sandbox.id(), port));
    assert!(reached.is_ok(), "{reached:?}");
}
