//! E12: no packet, vsock, raw or other odd socket, and no change of the network.

use std::fs;

use crate::harness::{Bench, OPEN};

const ATTEMPT: &str = "
for what, family, kind, protocol in (
    ('packet', 17, 3, 0x300), ('packet datagram', 17, 2, 0), ('vsock', 40, 1, 0), ('raw', 2, 3, 1),
    ('raw with flags', 2, 3 | 0o2000000, 255), ('raw 6', 10, 3, 58), ('old packet', 2, 10, 0x300),
    ('netfilter', 16, 3, 12), ('audit', 16, 3, 9), ('uevent', 16, 2, 15), ('crypto', 38, 5, 0),
    ('key', 15, 3, 2), ('xdp', 44, 3, 0), ('bluetooth', 31, 3, 1), ('sctp', 2, 1, 132), ('can', 29, 3, 1)):
    attempt(what, lambda: socket.socket(family, kind, protocol).close())
def link_down():
    route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    route.send(struct.pack('IHHII', 32, 16, 5, 1, 0) + struct.pack('BxHiII', 0, 0, 1, 0, 1))
    return struct.unpack('i', route.recv(4096)[16:20])[0]
attempt('link down', link_down)
def flags():
    import fcntl
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack('16sH14x', b'lo', 0))
attempt('flags', flags)
attempt('tcp', lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close())
attempt('udp', lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close())
print('devices=' + ' '.join(name for _, name in socket.if_nameindex()))
";

#[test]
fn e12_only_plain_sockets() {
    let Some(bench) = Bench::open("E12") else { return };
    let before = fs::read("/sys/class/net/lo/flags").unwrap();
    let ran = bench.sandbox().python(ATTEMPT);
    let open: Vec<&str> = ran.text.lines().filter(|line| line.ends_with("=OK")).collect();
    assert_eq!(open, ["tcp=OK", "udp=OK"], "{}", ran.text);
    assert_eq!((ran.value("link down"), ran.value("flags")), ("EPERM", "EPERM"));
    assert_eq!(ran.value("devices"), "lo");
    assert_eq!(fs::read("/sys/class/net/lo/flags").unwrap(), before);
}

#[test]
fn e12_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened("E12", OPEN) else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    // Its network is still its own, so this harms nobody.
    for what in ["packet", "raw", "raw 6", "link down", "flags"] {
        assert_eq!(ran.value(what), "OK", "{what} in {}", ran.text);
    }
}
