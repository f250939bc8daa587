//! N2: nothing of the host; N3: nothing of neighbours; N14: nothing comes in.

use mayfly_core::network::NetworkPolicy;
use mayfly_init::protocol::WEAK_NETWORK;

use crate::harness::Bench;
use crate::internet::{Internet, echo, lists};

/// The control API's port, and addresses that the host has.
const HOST: &str = "
for host in ('127.0.0.1', '::1', '0.0.0.0', '::', 'localhost', '203.0.113.1', '93.184.1.1', '2a0f:1::1',
        '::ffff:203.0.113.1', '64:ff9b::cb00:7101', '10.0.0.2', '203.0.113.255'):
    say(host, tcp(host, 3457))
say('name', tcp('host.example', 3457))
say('udp', udp('203.0.113.1', 3457))
say('broadcast', udp('255.255.255.255', 7))
say('beyond', tcp('1.1.1.1'))
";

#[test]
fn n2_no_address_of_the_host_answers() {
    let Some((internet, bench)) = Internet::open("N2", |_| {}) else { return };
    internet.serve_host(3457, echo);
    let near = internet.outside(HOST);
    for host in ["127.0.0.1", "203.0.113.1", "93.184.1.1", "2a0f:1::1"] {
        assert_eq!(near.value(host), "True", "within reach where nothing judges: {host}");
    }
    for policy in [NetworkPolicy::default(), lists("0.0.0.0/0,::/0", "*.example")] {
        let ran = bench.sandbox_under(policy).reach(HOST);
        let reached: Vec<&str> = ran.text.lines().filter(|line| line.ends_with("=True")).collect();
        assert_eq!(reached, ["beyond=True"], "{}", ran.text);
    }
}

#[test]
fn n3_neighbours_are_out_of_reach() {
    let Some((_internet, bench)) = Internet::open("N3", |_| {}) else { return };
    let (first, second) = (
        bench.sandbox_under(NetworkPolicy::default()),
        bench.sandbox_under(NetworkPolicy::default()),
    );
    let heard = first.reach(
        "
if os.fork() == 0:
    os.setsid()
    for number in range(3):
        os.close(number)
    listener = socket.create_server(('::', 8000), family=socket.AF_INET6, dualstack_ipv6=True)
    listener.settimeout(60)
    while True:
        stream, peer = listener.accept()
        open('/heard', 'a').write(peer[0] + ' ')
        stream.sendall(b'ping')
time.sleep(0.02)
for _ in range(200):
    if tcp('127.0.0.1', 8000):
        say('own', True)
        break
    time.sleep(0.01)
",
    );
    assert!(heard.says("own=True"), "its own listener answers: {}", heard.text);
    let own = first.get("/heard").unwrap();
    let tried = second.reach(
        "
for host in ('10.0.0.2', '127.0.0.1', '127.0.1.1', '::1', 'fe80::1%lo', '10.0.0.1', '224.0.0.1', 'ff02::1',
        '198.18.0.1', '172.17.0.2'):
    say(host, tcp(host, 8000))
def multicast():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        sock.sendto(b'ping', ('224.0.0.251', 5353))
        return sock.recv(4) == b'ping'
try:
    say('multicast', multicast())
except OSError:
    say('multicast', False)
",
    );
    assert!(!tried.text.contains("=True"), "{}", tried.text);
    assert_eq!(first.get("/heard").unwrap(), own, "nobody else was heard");
}

#[test]
fn n14_nothing_comes_in() {
    let Some((internet, bench)) = Internet::open("N14", |_| {}) else { return };
    let sandbox = bench.sandbox_under(NetworkPolicy::default());
    let ran = sandbox.reach(
        "
say('low port', socket.create_server(('0.0.0.0', 80)).getsockname()[1])
if os.fork() == 0:
    os.setsid()
    for number in range(3):
        os.close(number)
    listener = socket.create_server(('0.0.0.0', 8001))
    open('/ready', 'w').write('x')
    listener.settimeout(60)
    listener.accept()
    open('/came', 'w').write('x')
",
    );
    assert!(ran.says("low port=80"), "any port may be bound inside: {}", ran.text);
    assert!(crate::harness::within(|| sandbox.get("/ready").is_ok()));
    // The pretend internet answers in its stead, so that only the listener can tell.
    internet.outside("for host in ('10.0.0.2', '127.0.0.1', '203.0.113.1'): tcp(host, 8001)");
    assert!(sandbox.get("/came").is_err(), "somebody came in");
    assert!(sandbox.reach("say('own', tcp('127.0.0.1', 8001))").code == 0);
    assert!(crate::harness::within(|| sandbox.get("/came").is_ok()), "it would have told");
}

/// Where nothing keeps networks apart, a neighbour's listener answers.
#[test]
fn n3_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened_full("N3", WEAK_NETWORK) else { return };
    let (first, second) = (bench.sandbox(), bench.sandbox());
    let ran = first.reach(
        "
door = socket.create_server(('127.0.0.1', 0))
print(door.getsockname()[1], flush=True)
if os.fork() == 0:
    os.setsid()
    for number in range(3):
        os.close(number)
    while True:
        door.accept()[0].sendall(b'ping')
",
    );
    let port = ran.text.trim();
    let tried = second.reach(&format!("say('neighbour', tcp('127.0.0.1', {port}))"));
    assert_eq!(tried.value("neighbour"), "True", "{}", tried.text);
}
