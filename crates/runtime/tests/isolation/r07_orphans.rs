//! R7: orphans, zombies and daemons are reaped while the sandbox lives, and all are dead when it stops.

use std::time::Duration;

use mayfly_core::Code;

use crate::census;
use crate::harness::{Bench, Sandbox, within};

/// Names and states of the processes inside, but of the shell that looks.
fn inside(sandbox: &Sandbox<'_>) -> Vec<String> {
    let looked = sandbox.python(
        "for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        text = open(f'/proc/{pid}/stat').read()
        if int(pid) not in (1, os.getpid()):
            print(text[text.index('(') + 1:text.rindex(')')], text[text.rindex(')') + 2])
    except OSError:
        pass",
    );
    looked.text.lines().map(str::to_owned).collect()
}

#[test]
fn r07_orphans_are_reaped() {
    let Some(bench) = Bench::open("R7") else { return };
    let sandbox = bench.sandbox();
    let ran =
        sandbox.sh("for i in $(seq 100); do (setsid sh -c 'sleep 0.01 &' &) ; done; echo done");
    assert_eq!(ran.text, "done\n");
    assert!(within(|| inside(&sandbox).is_empty()), "{:?}", inside(&sandbox));
}

#[test]
fn r07_daemons_outlive_their_command_and_die_with_the_sandbox() {
    let Some(bench) = Bench::open("R7") else { return };
    let sandbox = bench.sandbox();
    let ran = sandbox.sh(
        "for i in 1 2 3 4 5; do setsid sh -c 'trap \"\" TERM HUP; sleep 600 & sleep 600' >/dev/null 2>&1 & done",
    );
    assert_eq!(ran.code, 0);
    assert!(within(|| inside(&sandbox).len() == 15), "{:?}", inside(&sandbox));
    assert!(census::processes(bench.dir()).len() >= 16, "the census sees them");
    let pid = sandbox.pid();
    sandbox.stop();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    // What is left are the parked processes of ready namespaces.
    assert!(
        within(|| census::processes(bench.dir()).len() <= 2),
        "{:?}",
        census::processes(bench.dir())
    );
}

#[test]
fn r07_a_timed_out_command_takes_its_daemons_with_it() {
    let Some(bench) = Bench::open("R7") else { return };
    let sandbox = bench.sandbox();
    let bystander = sandbox.sh("sleep 601 >/dev/null 2>&1 &");
    assert_eq!(bystander.code, 0);
    let script =
        "(setsid sh -c 'trap \"\" TERM; (setsid sleep 602 &); setsid sleep 603' &); sleep 604";
    let late = sandbox.exec(&["/bin/sh", "-c", script], |request| {
        request.timeout = Duration::from_millis(300);
    });
    assert_eq!(late.unwrap_err().code(), Some(Code::ProcessExecutionTimeout));
    assert!(
        within(|| inside(&sandbox).len() == 1),
        "only the bystander stays: {:?}",
        inside(&sandbox)
    );
}
