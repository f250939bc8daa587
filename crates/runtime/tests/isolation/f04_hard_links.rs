//! F4: hard links reach no file of the host.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::harness::{Bench, rootless};

const ATTEMPT: &str = "
for source, target in (('/usr/bin/true', '/tmp/true'), ('/dev/null', '/tmp/null'), ('/proc/version', '/tmp/v'),
    ('/proc/1/exe', '/tmp/exe'), ('/sys/devices/system/cpu/online', '/tmp/cpu'), ('/proc/bus', '/tmp/bus')):
    attempt(source, lambda: os.link(source, target, follow_symlinks=True))
attempt('within', lambda: os.link('/usr/bin/true', '/usr/bin/true2'))
attempt('etc', lambda: os.link('/etc/hosts', '/tmp/hosts'))
";

#[test]
fn f04_hard_links_reach_nothing_of_the_host() {
    let Some(bench) = Bench::open("F4") else { return };
    let sandbox = bench.sandbox();
    let host = ["/usr/bin/true", "/etc/hosts"];
    let state = || host.map(|path| (fs::read(path).unwrap(), fs::metadata(path).unwrap().nlink()));
    let before = state();
    let ran = sandbox.python(ATTEMPT);
    for line in ran.text.lines().take(6) {
        assert!(!line.ends_with("=OK"), "{line}");
    }
    // Links that are possible are links to the sandbox's own copy; both names change, the host does not.
    // What belongs to nobody inside is not copied.
    let within = if rootless() { "EPERM" } else { "OK" };
    assert_eq!((ran.value("within"), ran.value("etc")), (within, "OK"));
    if rootless() {
        sandbox.sh("rm /usr/bin/true; echo true > /usr/bin/true; ln /usr/bin/true /usr/bin/true2");
    }
    let changed = sandbox.sh(
        "echo changed > /usr/bin/true2; echo changed > /tmp/hosts; cat /etc/hosts /usr/bin/true",
    );
    assert_eq!(changed.text, "changed\nchanged\n");
    sandbox.put("/usr/bin/true2", b"changed");
    sandbox.put("/tmp/hosts", b"changed");
    assert!(state() == before);
    // A second sandbox of the same image does not see it either.
    assert!(!bench.sandbox().sh("cat /etc/hosts; ls /usr/bin/true2").text.contains("changed"));
}
