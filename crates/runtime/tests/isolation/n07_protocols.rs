//! N7: no protocol and no family goes round the policy; N8: block all lets nothing out, ever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mayfly_core::network::NetworkPolicy;
use mayfly_core::ports::runtime::Runtime as _;

use crate::harness::rounds;
use crate::internet::{Internet, lists};

const PROTOCOLS: &str = "
say('listed', tcp('1.1.1.1'))
say('listed udp', udp('1.1.1.1'))
say('other', tcp('8.8.8.8'))
say('other udp', udp('8.8.8.8'))
say('quic', udp('8.8.8.8', 443))
say('six', tcp('2606:4700::1'))
say('mapped', tcp('::ffff:8.8.8.8'))
say('nat64', tcp('64:ff9b::808:808'))
for what, family, kind, protocol in (('icmp', 2, 2, 1), ('icmp six', 10, 2, 58), ('raw', 2, 3, 255),
        ('raw icmp', 2, 3, 1), ('sctp', 2, 1, 132), ('sctp packets', 2, 5, 132), ('dccp', 2, 6, 33),
        ('udplite', 2, 2, 136), ('mptcp', 2, 1, 262), ('packet', 17, 3, 3)):
    try:
        with socket.socket(family, kind, protocol) as sock:
            sock.settimeout(0.5)
            sock.connect(('8.8.8.8' if family == 2 else '2606:4700::1', 7))
            sock.send(b'ping')
            say(what, sock.recv(4) == b'ping')
    except OSError:
        say(what, False)
with socket.socket() as bound:
    try:
        bound.settimeout(2)
        bound.setsockopt(socket.SOL_SOCKET, 25, b'lo')
        bound.connect(('8.8.8.8', 7))
        bound.sendall(b'ping')
        say('bound', bound.recv(4) == b'ping')
    except OSError:
        say('bound', False)
def reconnect():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.connect(('1.1.1.1', 7))
        sock.sendto(b'ping', ('8.8.8.8', 7))
        return sock.recv(4) == b'ping'
try:
    say('sendto', reconnect())
except OSError:
    say('sendto', False)
";

#[test]
fn n7_no_protocol_goes_round_the_policy() {
    let Some((internet, bench)) = Internet::open("N7", |_| {}) else { return };
    let near = internet.outside(PROTOCOLS);
    for what in ["listed", "other", "other udp", "six"] {
        assert_eq!(near.value(what), "True", "within reach where nothing judges: {}", near.text);
    }
    let ran = bench.sandbox_under(lists("1.1.1.0/24", "")).reach(PROTOCOLS);
    let reached: Vec<&str> = ran.text.lines().filter(|line| line.ends_with("=True")).collect();
    assert_eq!(reached, ["listed=True", "listed udp=True"], "{}", ran.text);
    let open = bench.sandbox_under(NetworkPolicy::default()).reach(PROTOCOLS);
    for what in ["other", "other udp", "six", "mapped"] {
        assert_eq!(open.value(what), "True", "{what}: {}", open.text);
    }
    for what in ["icmp", "raw", "sctp", "packet"] {
        assert_eq!(open.value(what), "False", "{what}: {}", open.text);
    }
}

#[test]
fn n8_block_all_lets_nothing_out() {
    let Some((internet, bench)) = Internet::open("N8", |_| {}) else { return };
    let blocked = NetworkPolicy { block_all: true, ..lists("0.0.0.0/0,::/0", "*.example") };
    let sandbox = bench.sandbox_under(blocked);
    let ran = sandbox.reach(PROTOCOLS);
    assert!(!ran.text.contains("=True"), "{}", ran.text);
    let ran = sandbox.reach(
        "say('name', tcp('good.example'))\nsay('self', socket.gethostbyname(socket.gethostname()))",
    );
    assert_eq!((ran.value("name"), ran.value("self")), ("False", "127.0.1.1"));
    assert_eq!(internet.asked("good.example"), 0, "no name leaves");
    let audit = bench.audit(&sandbox);
    assert!(!audit.is_empty() && audit.iter().all(|entry| entry.verdict == "blocked"), "{audit:?}");
}

/// The same attempts under the same lists, with nothing blocked.
#[test]
fn n8_shows_on_a_weakened_policy() {
    let Some((internet, bench)) = Internet::open("N8", |_| {}) else { return };
    let open = lists("0.0.0.0/0,::/0", "*.example");
    let sandbox = bench.sandbox_under(open.clone());
    let ran = sandbox.reach(PROTOCOLS);
    for what in ["listed", "listed udp", "other", "other udp", "six", "mapped"] {
        assert_eq!(ran.value(what), "True", "{what}: {}", ran.text);
    }
    let ran = sandbox.reach("say('name', tcp('good.example'))");
    assert_eq!((ran.value("name"), internet.asked("good.example") > 0), ("True", true));
    // A policy that comes late, or with a gap of some milliseconds, would be seen.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for policy in [&open, &NetworkPolicy::blocked()] {
                    bench.wait(bench.runtime().set_network(sandbox.id(), policy)).unwrap();
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let ran = sandbox.reach("say('other', sum(tcp('8.8.8.8') for _ in range(200)))");
        is_over.store(true, Ordering::Relaxed);
        assert_ne!(ran.value("other"), "0");
    });
}

#[test]
fn n8_nothing_leaves_before_the_first_policy_or_during_a_change() {
    let Some((_internet, bench)) = Internet::open("N8", |_| {}) else { return };
    let (narrow, wide) = (lists("1.1.1.1", ""), lists("1.1.1.1,9.0.0.0/8", ""));
    for _ in 0..rounds(20, 3) {
        // What runs first tries at once.
        let ran = bench.sandbox_under(narrow.clone()).reach("say('other', tcp('8.8.8.8'))");
        assert_eq!(ran.value("other"), "False");
    }
    let sandbox = bench.sandbox_under(narrow.clone());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for policy in [&wide, &narrow, &NetworkPolicy::blocked()] {
                    bench.wait(bench.runtime().set_network(sandbox.id(), policy)).unwrap();
                }
            }
        });
        let ran = sandbox.reach("say('other', sum(tcp('8.8.8.8') for _ in range(200)))");
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(ran.value("other"), "0");
    });
}
