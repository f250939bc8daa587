//! E19: what the kernel tells inside says nothing of the host's addresses, names, mounts and neighbours.

use std::fs;

use crate::harness::{Bench, OPEN, rootless};

/// Prints the beginning of every file that can be read below these folders, once each.
const READ_ALL: &str = "
tops = ['/proc/1', '/proc/self', '/sys', '/etc', '/run', '/dev'] + ['/proc/' + entry for entry in os.listdir('/proc')
    if not entry.isdigit() and entry not in ('self', 'thread-self', 'kmsg')]
def show(path):
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            sys.stdout.buffer.write(b'@' + path.encode() + b' ' + os.read(file, 4096) + b'\\n')
        finally:
            os.close(file)
    except OSError:
        pass
for top in tops:
    if not os.path.isdir(top):
        show(top)
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name not in ('task', 'cwd', 'root', 'ssl', 'fd', 'map_files')]
        for file in files:
            if not folder.startswith('/dev'):
                show(os.path.join(folder, file))
";

const ATTEMPT: &str = "
for path in ('/proc/kallsyms', '/proc/keys', '/proc/key-users', '/proc/timer_list', '/proc/modules',
    '/proc/cmdline', '/proc/interrupts', '/proc/kcore', '/proc/kpagecount', '/proc/config.gz',
    '/proc/partitions', '/proc/diskstats', '/proc/sys/kernel/random/boot_id',
    '/proc/vmallocinfo', '/proc/slabinfo', '/proc/1/environ', '/proc/1/stack', '/proc/1/maps'):
    def read():
        with open(path, 'rb') as file:
            return 'shown' if file.read(64) else 'empty'
    attempt(path, read)
with open('/proc/iomem') as file:
    print('iomem=' + ('hidden' if all(line.split('-')[0].strip() in ('00000000', '') for line in file) else 'shown'))
print('log=' + name(call('syslog', 10, None, 0)))
print('pids=' + str(max(int(entry) for entry in os.listdir('/proc') if entry.isdigit())))
print('node=' + os.uname().nodename)
print('class=' + str(os.path.exists('/sys/class') or os.path.exists('/sys/firmware')))
";

/// What only the host knows: its network addresses, its machine and boot ids, where the sandboxes are.
fn facts(bench: &Bench) -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let mut facts = vec![
        bench.dir().display().to_string(),
        "pool.btrfs".to_owned(),
        read("/etc/machine-id"),
        read("/proc/sys/kernel/random/boot_id"),
        read("/sys/class/dmi/id/product_uuid"),
        read("/sys/class/dmi/id/product_serial"),
        read("/proc/cmdline"),
    ];
    for device in fs::read_dir("/sys/class/net").unwrap().flatten() {
        let address = read(device.path().join("address").to_str().unwrap());
        if address != "00:00:00:00:00:00" {
            facts.push(address);
        }
    }
    // Very short ones would be found by chance.
    facts.retain(|fact| fact.len() >= 8);
    facts
}

#[test]
fn e19_the_kernel_says_nothing_of_the_host() {
    let Some(bench) = Bench::open("E19") else { return };
    let sandbox = bench.sandbox();
    let ran = sandbox.python(ATTEMPT);
    assert!(!ran.text.contains("shown"), "{}", ran.text);
    assert_eq!((ran.value("log"), ran.value("class")), ("EPERM", "False"));
    assert!(ran.value("pids").parse::<u32>().unwrap() < 300, "{}", ran.value("pids"));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(ran.value("node").starts_with("mayfly-") && ran.value("node") != host.trim());
    let all = sandbox.exec(
        &["/usr/bin/python3", "-I", "-c", &format!("{}\n{READ_ALL}", crate::prelude::PRELUDE)],
        |request| request.max_output = 16 << 20,
    );
    let all = String::from_utf8_lossy(&all.unwrap().output).into_owned();
    assert!(all.contains("@/proc/mounts") && all.contains("@/etc/passwd"), "{}", all.len());
    for fact in facts(&bench) {
        let found = all.split("\n@").find(|file| file.contains(&fact));
        assert_eq!(found.map(|file| file.split(' ').next()), None, "`{fact}` is told");
    }
}

#[test]
fn e19_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened("E19", OPEN) else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    if rootless() {
        for path in ["/proc/kallsyms", "/proc/cmdline", "/proc/interrupts", "/proc/partitions"] {
            assert_eq!(ran.value(path), "shown", "{path}");
        }
        return;
    }
    for path in [
        "/proc/kallsyms",
        "/proc/cmdline",
        "/proc/interrupts",
        "/proc/slabinfo",
        "/proc/partitions",
        "iomem",
    ] {
        assert_eq!(ran.value(path), "shown", "{path}");
    }
    assert_eq!(ran.value("log"), "OK");
}
