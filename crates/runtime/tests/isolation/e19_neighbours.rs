//! E19: files that every sandbox is given tell one sandbox nothing of what another does.

use crate::harness::{Bench, rootless};

/// Watches what all sandboxes get the same way, and locks it.
const WATCH: &str = "
import fcntl
queue = _libc.inotify_init1(0o4000)
locked = os.open('/dev/null', os.O_RDWR)
fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
for path in (b'/dev/urandom', b'/dev/null', b'/proc/kallsyms', b'/sys/devices/system/cpu/online',
    b'/etc/hosts', b'/usr/bin/true'):
    assert _libc.inotify_add_watch(queue, path, 0xfff) > 0, path
print('watching', flush=True)
if os.fork() == 0:
    os.setsid()
    for number in range(3):
        os.close(number)
    while True:
        while not os.path.exists('/tmp/tell'):
            time.sleep(0.005)
        try:
            seen = str(len(os.read(queue, 4096)))
        except BlockingIOError:
            seen = 'nothing'
        os.unlink('/tmp/tell')
        put('/tmp/new', seen)
        os.rename('/tmp/new', '/tmp/seen')
";

/// What was seen since the last time.
const TELL: &str =
    "rm -f /tmp/seen; : > /tmp/tell; while [ ! -e /tmp/seen ]; do sleep 0.01; done; cat /tmp/seen";

const USE: &str = "
import fcntl
for path in ('/dev/urandom', '/proc/kallsyms', '/sys/devices/system/cpu/online', '/etc/hosts', '/usr/bin/true'):
    with open(path, 'rb') as file:
        file.read(1)
with open('/dev/null', 'r+b') as file:
    attempt('lock', lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB))
";

#[test]
fn e19_neighbours_neither_see_nor_hinder_each_other() {
    let Some(bench) = Bench::open("E19") else { return };
    // An ordinary user makes no devices: those of the host are mounted, so watches and locks on them are
    // shared by everybody on the host. All the rest is each sandbox's own.
    let own = |script: &str| {
        if rootless() {
            script
                .replace("b'/dev/urandom', b'/dev/null', ", "")
                .replace("'/dev/urandom', ", "")
                .replace("/dev/null", "/etc/hosts")
        } else {
            script.to_owned()
        }
    };
    let (watch, r#use) = (own(WATCH), own(USE));
    let (watcher, neighbour) = (bench.sandbox(), bench.sandbox());
    assert!(watcher.python(&watch).says("watching"));
    // What the start itself caused.
    watcher.sh(TELL);
    assert_eq!(neighbour.python(&r#use).value("lock"), "OK");
    assert_eq!(watcher.sh(TELL).text, "nothing");
    // The same by its own commands is seen.
    assert_eq!(watcher.python(&r#use).value("lock"), "EAGAIN");
    assert_ne!(watcher.sh(TELL).text, "nothing");
}
