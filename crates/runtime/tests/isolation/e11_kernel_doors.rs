//! E11: the kernel's dangerous subsystems are closed by the filter.

use crate::harness::{Bench, OPEN, rootless};

/// Arguments are wrong on purpose, so that a call that reaches the kernel does nothing.
const ATTEMPT: &str = "
for number, arguments in {
    'bpf': (0, None, 0), 'io_uring_setup': (0, None), 'userfaultfd': (0x7fffffff,),
    'keyctl': (0xffff, 0, 0, 0, 0), 'add_key': (None, None, None, 0, 0),
    'request_key': (None, None, None, 0), 'perf_event_open': (None, 0, 0, 0, 0),
    'kexec_load': (0, 0, None, 0x8000), 'init_module': (None, 0, b''), 'finit_module': (-1, b'', 0),
    'delete_module': (b'mayfly-none', 0x800), 'open_by_handle_at': (-1, None, 0),
    'name_to_handle_at': (-100, None, None, None, 0), 'quotactl': (0xffff, None, 0, None),
    'reboot': (0, 0, 0, None), 'swapon': (None, 0), 'syslog': (10, None, 0),
    'fanotify_init': (0xffffffff, 0), 'setns': (-1, 0), 'pivot_root': (None, None),
    'sethostname': (None, 5), 'mount': (None, None, None, 0, None), 'fsopen': (None, 0),
}.items():
    tried(number, lambda: call(number, *arguments))
";

#[test]
fn e11_dangerous_calls_end_at_the_filter() {
    let Some(bench) = Bench::open("E11") else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    assert_eq!(ran.text.lines().count(), 23, "{}", ran.text);
    for line in ran.text.lines() {
        assert!(line.ends_with("=EPERM"), "{line}");
    }
}

#[test]
fn e11_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened("E11", OPEN) else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    if rootless() {
        // Most of them are root's alone; the kernel itself says no.
        for verb in ["keyctl", "add_key", "setns", "mount", "fsopen", "pivot_root", "sethostname"] {
            assert_ne!(ran.value(verb), "EPERM", "{verb} in {}", ran.text);
        }
        return;
    }
    for line in ran.text.lines() {
        // A host may have switched this one off for everybody.
        let reached = !line.ends_with("=EPERM") || line.starts_with("io_uring_setup");
        assert!(reached, "{line}");
    }
}
