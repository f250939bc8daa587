//! E4: no device can be made or opened beyond the harmless ones.

use std::fs;

use crate::harness::{Bench, OPEN};

/// The log of the kernel (1, 11) stands for devices of the host: opening it changes nothing.
const ATTEMPT: &str = "
import stat
attempt('char', lambda: os.mknod('/tmp/kmsg', 0o600 | stat.S_IFCHR, os.makedev(1, 11)))
attempt('block', lambda: os.mknod('/tmp/disk', 0o600 | stat.S_IFBLK, os.makedev(7, 0)))
attempt('open', lambda: os.close(os.open('/tmp/kmsg', os.O_RDONLY)))
attempt('dev', lambda: os.mknod('/dev/kmsg', 0o600 | stat.S_IFCHR, os.makedev(1, 11)))
attempt('shm', lambda: os.mknod('/dev/shm/kmsg', 0o600 | stat.S_IFCHR, os.makedev(1, 11)))
attempt('tmpfs', lambda: mount('none', '/mnt/t', 'tmpfs'))
attempt('node', lambda: os.mknod('/mnt/t/kmsg', 0o600 | stat.S_IFCHR, os.makedev(1, 11)))
attempt('kernel log', lambda: os.close(os.open('/mnt/t/kmsg', os.O_RDONLY)))
for path in ('/dev/mem', '/dev/kmsg', '/dev/kvm', '/dev/port', '/dev/fuse', '/dev/net/tun', '/dev/loop0',
    '/dev/loop-control', '/dev/sda', '/dev/vda', '/dev/nvme0n1', '/dev/btrfs-control', '/dev/console'):
    attempt(path, lambda: os.close(os.open(path, os.O_RDONLY)))
print('names=' + ' '.join(sorted(os.listdir('/dev'))))
";

#[test]
fn e04_only_harmless_devices_exist() {
    let Some(bench) = Bench::open("E4") else { return };
    let sandbox = bench.sandbox();
    let ran = sandbox.python(ATTEMPT);
    for made in ["char", "block", "dev", "shm", "node"] {
        assert_ne!(ran.value(made), "OK", "{made}");
    }
    assert!(!ran.text.lines().any(|line| line.ends_with("=OK")), "{}", ran.text);
    assert_eq!(
        ran.value("names"),
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
    // No node appeared where the host would honour it either.
    let tmp = format!("/proc/{}/root/tmp", sandbox.pid());
    assert_eq!(fs::read_dir(tmp).unwrap().count(), 0);
}

#[test]
fn e04_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened_full("E4", OPEN) else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    assert_eq!(ran.value("char"), "OK");
    // The mount is `nodev` still; a file system of one's own is not.
    assert_eq!(ran.value("open"), "EACCES");
    assert_eq!(ran.value("kernel log"), "OK");
}
