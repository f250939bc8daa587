//! E2: kernel settings of the host cannot be opened for writing.

use std::fs;

use crate::harness::{Bench, OPEN};

/// Only opens: on a weakened sandbox a write would reach the machine.
const ATTEMPT: &str = "
for path in ('/proc/sys/kernel/core_pattern', '/proc/self/root/proc/sys/kernel/core_pattern',
    '/proc/sys/kernel/modprobe', '/proc/sysrq-trigger', '/proc/sys/vm/drop_caches',
    '/proc/sys/kernel/randomize_va_space', '/sys/kernel/uevent_helper', '/sys/power/state'):
    attempt(path, lambda: touch(path))
";

#[test]
fn e02_kernel_settings_cannot_be_opened_for_writing() {
    let Some(bench) = Bench::open("E2") else { return };
    let settings = || {
        ["core_pattern", "randomize_va_space", "hostname"]
            .map(|name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap())
    };
    let before = settings();
    let ran = bench.sandbox().python(ATTEMPT);
    assert_eq!(ran.text.lines().count(), 8, "{}", ran.text);
    for line in ran.text.lines() {
        let verdict = line.rsplit_once('=').unwrap().1;
        assert!(["EACCES", "EROFS", "EPERM", "ENOENT"].contains(&verdict), "{line}");
    }
    assert_eq!(settings(), before);
}

#[test]
fn e02_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened_full("E2", OPEN) else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    assert_eq!(ran.value("/proc/sys/kernel/core_pattern"), "OK");
    assert_eq!(ran.value("/proc/sys/vm/drop_caches"), "OK");
}
