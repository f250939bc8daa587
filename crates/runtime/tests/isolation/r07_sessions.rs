//! R7 for what stays: what a session or terminal leaves is reaped while it lives and dead when it is killed.

use mayfly_core::process::Wiring;

use crate::harness::{Bench, Sandbox, within};
use crate::staying::{Staying, TERMINAL};

/// Processes inside but the one that looks and process 1, with their states.
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

const DAEMONS: &str = "for i in 1 2 3; do (setsid sh -c 'trap \"\" TERM HUP; sleep 605 & sleep 606' &); done; echo be''gun";

#[test]
fn r07_a_killed_session_leaves_nothing() {
    let Some(bench) = Bench::open("R7") else { return };
    let sandbox = bench.sandbox();
    let staying = Staying { bench: &bench, id: sandbox.id() };
    for wiring in [Wiring::Shell, TERMINAL] {
        let number = staying.start(&["sh"], wiring);
        if wiring == Wiring::Shell {
            let command = staying.queue(number, DAEMONS);
            assert_eq!(staying.whole(command).code, Some(0));
        } else {
            staying.write(number, &format!("{DAEMONS}\n")).unwrap();
            staying.until(number, "begun\r\n");
        }
        assert!(within(|| inside(&sandbox).len() == 10), "{wiring:?} {:?}", inside(&sandbox));
        staying.kill(number);
        assert!(within(|| inside(&sandbox).is_empty()), "{wiring:?} {:?}", inside(&sandbox));
    }
}

#[test]
fn r07_orphans_of_a_session_are_reaped() {
    let Some(bench) = Bench::open("R7") else { return };
    let sandbox = bench.sandbox();
    let staying = Staying { bench: &bench, id: sandbox.id() };
    let shell = staying.start(&[], Wiring::Shell);
    let number =
        staying.queue(shell, "for i in $(seq 50); do (setsid sh -c 'sleep 0.01 &' &) ; done");
    assert_eq!(staying.whole(number).code, Some(0));
    // What its shell does not reap it does with its next command at the latest.
    let only = || {
        staying.whole(staying.queue(shell, "true"));
        inside(&sandbox).len() == 1
    };
    assert!(within(only), "{:?}", inside(&sandbox));
}
