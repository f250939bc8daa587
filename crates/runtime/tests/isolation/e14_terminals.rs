//! E14: nothing inside types into its terminal: neither call that can reaches the kernel.

use crate::harness::{Bench, OPEN};
use crate::staying::{Staying, TERMINAL};

/// Tries to type on its own terminal what would then be read as input.
const ATTEMPT: &str = "
import fcntl, termios, errno, os
def name(number, value):
    try:
        fcntl.ioctl(0, number, value)
        return 'OK'
    except OSError as error:
        return errno.errorcode.get(error.errno)
print('TIOCSTI=' + name(0x5412, b'x'), 'TIOCLINUX=' + name(0x541c, b'\\x03'), end=' end\\n', flush=True)
";

fn attempt(bench: &Bench) -> String {
    let sandbox = bench.sandbox();
    let staying = Staying { bench, id: sandbox.id() };
    let number = staying.start(&["/usr/bin/python3", "-I", "-c", ATTEMPT], TERMINAL);
    let said = staying.whole(number);
    assert_eq!(said.code, Some(0), "{}", said.text());
    said.text()
}

#[test]
fn e14_no_call_types_into_a_terminal() {
    let Some(bench) = Bench::open("E14") else { return };
    let text = attempt(&bench);
    assert!(text.contains("TIOCSTI=EPERM TIOCLINUX=EPERM"), "{text}");
}

#[test]
fn e14_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened("E14", OPEN) else { return };
    let text = attempt(&bench);
    // The kernel itself may be set not to allow the first; the second it knows of no such terminal.
    assert!(!text.contains("TIOCLINUX=EPERM"), "{text}");
}
