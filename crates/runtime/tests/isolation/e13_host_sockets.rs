//! E13: sockets of the host, abstract or with a path, cannot be reached.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use mayfly_init::protocol::{WEAK_LANDLOCK, WEAK_NETWORK};

use crate::harness::Bench;
use crate::outside::{Bait, unprotected};

struct Door {
    name: String,
    bait: Bait,
    _listeners: [UnixListener; 2],
}

impl Door {
    fn open(case: &str) -> Self {
        let name = format!("mayfly-door-{case}-{}", std::process::id());
        let bait = Bait::new(case);
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listeners = [
            UnixListener::bind_addr(&address).unwrap(),
            UnixListener::bind(bait.path().join("socket")).unwrap(),
        ];
        Self { name, bait, _listeners: listeners }
    }

    fn attack(&self) -> String {
        format!(
            "
def knock(address):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(address)
attempt('abstract', lambda: knock('\\0{}'))
attempt('path', lambda: knock('{}/socket'))
",
            self.name,
            self.bait.path().display()
        )
    }
}

#[test]
fn e13_sockets_of_the_host_are_unreachable() {
    let Some(bench) = Bench::open("E13") else { return };
    let door = Door::open("strong");
    let sandbox = bench.sandbox();
    let ran = sandbox.python(&door.attack());
    assert_eq!((ran.value("abstract"), ran.value("path")), ("ECONNREFUSED", "ENOENT"));
    let found =
        sandbox.sh("find / -xdev -type s; find /run /var/run/ -name '*.sock' -o -name '*bus*'");
    assert_eq!(found.text, "");
    // The channel to process 1 has no name inside.
    assert_eq!(sandbox.sh("grep -c @ /proc/net/unix; wc -l < /proc/net/unix").text, "0\n1\n");
    // Where nothing is in the way, both are open.
    let ran = unprotected(&door.attack());
    assert_eq!((ran.value("abstract"), ran.value("path")), ("OK", "OK"));
}

#[test]
fn e13_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened("E13", WEAK_NETWORK | WEAK_LANDLOCK) else { return };
    let door = Door::open("weak");
    assert_eq!(bench.sandbox().python(&door.attack()).value("abstract"), "OK");
    // Either of the two layers closes it.
    let Some(bench) = Bench::weakened("E13", WEAK_LANDLOCK) else { return };
    assert_eq!(bench.sandbox().python(&door.attack()).value("abstract"), "ECONNREFUSED");
    let Some(bench) = Bench::weakened("E13", WEAK_NETWORK) else { return };
    assert_eq!(bench.sandbox().python(&door.attack()).value("abstract"), "EPERM");
}
