//! N14: what listens in a sandbox cannot be reached from the host or a neighbour by any address.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use mayfly_init::protocol::WEAK_NETWORK;

use crate::harness::{Bench, Sandbox};

/// Longest wait for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// A port that a process of the sandbox listens on, on all addresses.
fn service(sandbox: &Sandbox<'_>) -> u16 {
    let script = "
door = socket.socket()
door.bind(('0.0.0.0', 0))
door.listen()
print(door.getsockname()[1], flush=True)
if os.fork() == 0:
    os.setsid()
    for number in range(3):
        os.close(number)
    while True:
        door.accept()[0].close()
";
    sandbox.python(script).text.trim().parse().expect("a port")
}

/// The host's addresses, and those that a sandbox might have.
fn addresses() -> Vec<IpAddr> {
    let own = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        // Sends nothing: only asks which address of ours would be used.
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let known = ["127.0.0.1", "10.0.0.2", "172.17.0.2", "198.18.0.1"];
    let mut all: Vec<IpAddr> = known.iter().map(|text| text.parse().unwrap()).collect();
    all.extend(own.ok().map(|address| address.ip()));
    all
}

#[test]
fn n14_ports_inside_are_closed_to_all_but_the_server() {
    let Some(bench) = Bench::open("N14") else { return };
    let (one, two) = (bench.sandbox(), bench.sandbox());
    let port = service(&one);
    for address in addresses() {
        let reached = TcpStream::connect_timeout(&SocketAddr::new(address, port), SILENCE);
        assert!(reached.is_err(), "{address}:{port} of a sandbox is reachable from the host");
        let knock = format!(
            "attempt('knock', lambda: socket.create_connection(('{address}', {port}), 0.3))"
        );
        let ran = two.python(&knock);
        assert_ne!(ran.value("knock"), "OK", "{address}:{port} is reachable from a neighbour");
    }
}

#[test]
fn n14_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened("N14", WEAK_NETWORK) else { return };
    let port = service(&bench.sandbox());
    let reached = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), SILENCE);
    assert!(reached.is_ok(), "{reached:?}");
}
