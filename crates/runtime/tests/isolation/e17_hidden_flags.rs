//! E17: namespace flags get the same verdict however they are passed, and personality is bounded.

use crate::harness::{Bench, OPEN};

const ATTEMPT: &str = "
def ended(child):
    if child == 0:
        os._exit(0)
    if child > 0:
        os.waitpid(child, 0)
    return child
def cloned(flags):
    return ended(call('clone', flags | 17, None, None, None, None))
def cloned3(flags):
    return ended(call('clone3', struct.pack('8Q', flags, 0, 0, 0, 17, 0, 0, 0), 64))
for what, flag in (('mount', NEWNS), ('cgroup', NEWCGROUP), ('uts', NEWUTS), ('ipc', NEWIPC),
    ('user', NEWUSER), ('pid', NEWPID), ('net', NEWNET)):
    tried(f'unshare {what}', lambda: call('unshare', flag))
    tried(f'clone {what}', lambda: cloned(flag))
    tried(f'clone high {what}', lambda: cloned(flag | 1 << 40))
    tried(f'clone3 {what}', lambda: cloned3(flag))
tried('unshare time', lambda: call('unshare', 0x80))
tried('read implies exec', lambda: call('personality', 0x400000))
tried('read implies exec high', lambda: call('personality', 0x400000 | 1 << 32))
tried('mmap page zero', lambda: call('personality', 0x100000))
print('-', flush=True)
tried('clone nothing', lambda: cloned(0))
tried('no randomisation', lambda: call('personality', 0x40000))
";

#[test]
fn e17_hidden_flags_get_the_plain_verdict() {
    let Some(bench) = Bench::open("E17") else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    let (refused, allowed) = ran.text.split_once("-\n").unwrap();
    assert_eq!(refused.lines().count(), 32, "{refused}");
    for line in refused.lines() {
        let wanted = if line.starts_with("clone3") { "=ENOSYS" } else { "=EPERM" };
        assert!(line.ends_with(wanted), "{line}");
    }
    assert_eq!(allowed, "clone nothing=OK\nno randomisation=OK\n");
}

#[test]
fn e17_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened("E17", OPEN) else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    for verb in ["unshare", "clone", "clone3"] {
        for what in ["mount", "uts", "user", "pid", "net"] {
            assert_eq!(ran.value(&format!("{verb} {what}")), "OK", "{verb} {what}");
        }
    }
    assert_eq!(ran.value("read implies exec"), "OK");
}
