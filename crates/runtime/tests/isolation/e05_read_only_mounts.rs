//! E5: what is mounted read-only stays so.

use crate::harness::{Bench, OPEN, rootless};

const ATTEMPT: &str = "
REMOUNT_BIND, BIND = 32 | 4096, 4096
for path in ('/sys', '/dev', '/proc/sys', '/proc/kallsyms', '/proc/bus'):
    attempt(f'remount {path}', lambda: call('mount', b'none', path.encode(), b'', REMOUNT_BIND, None))
    attempt(f'again {path}', lambda: call('mount', path.encode(), b'/mnt', b'', BIND, None))
    attributes = struct.pack('QQQQ', 0, 1, 0, 0)
    attempt(f'attributes {path}', lambda: call('mount_setattr', -100, path.encode(), 0, attributes, 32))
attempt('proc', lambda: mount('proc', '/srv/proc', 'proc'))
attempt('sysfs', lambda: mount('sysfs', '/srv/sys', 'sysfs'))
attempt('fsopen', lambda: call('fsopen', b'proc', 0))
attempt('open_tree', lambda: call('open_tree', -100, b'/sys', 1))
attempt('umount', lambda: call('umount2', b'/proc/sys', 0))
attempt('write /sys', lambda: put('/sys/x', ''))
attempt('write /dev', lambda: put('/dev/x', ''))
attempt('write /proc/sys', lambda: touch('/proc/sys/vm/drop_caches'))
attempt('write mask', lambda: put('/proc/bus/x', ''))
";

#[test]
fn e05_read_only_mounts_stay_read_only() {
    let Some(bench) = Bench::open("E5") else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    assert!(ran.text.lines().count() > 20, "{}", ran.text);
    assert!(!ran.text.lines().any(|line| line.ends_with("=OK")), "{}", ran.text);
    // Every door of the mount code is closed by the filter itself.
    for verb in ["remount /sys", "attributes /sys", "proc", "fsopen", "open_tree", "umount"] {
        assert_eq!(ran.value(verb), "EPERM", "{verb}");
    }
}

#[test]
fn e05_shows_on_a_weakened_sandbox() {
    // Masks stay, so that there is something read-only to attack.
    let weak = OPEN & !mayfly_init::protocol::WEAK_MASKS;
    let Some(bench) = Bench::weakened("E5", weak) else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    for verb in ["remount /proc/sys", "remount /sys", "write /proc/sys", "proc", "sysfs"] {
        // Settings of the host are closed to an ordinary user anyway, and what it shows in `/proc` and `/sys`
        // must be visible whole to be mounted again.
        if rootless() && !verb.starts_with("remount") {
            continue;
        }
        assert_eq!(ran.value(verb), "OK", "{verb} in {}", ran.text);
    }
    // What comes from a template has no writable layer, whatever the mount is told.
    for verb in ["write /sys", "write /dev", "write mask"] {
        assert_eq!(ran.value(verb), "EROFS", "{verb} in {}", ran.text);
    }
}
