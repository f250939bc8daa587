//! E15 for what stays: hostile shells, profiles and account files harm only their own sandbox, and nothing hangs.

use mayfly_core::Kind;
use mayfly_core::ports::runtime::Runtime as _;
use mayfly_core::process::Wiring;

use crate::harness::{Bench, rootless};
use crate::staying::{Staying, TERMINAL};

#[test]
fn e15_a_shell_that_lies_is_only_its_own_trouble() {
    let Some(bench) = Bench::open("E15") else { return };
    let sandbox = bench.sandbox();
    let staying = Staying { bench: &bench, id: sandbox.id() };
    // Says for ever that commands are over, with numbers that are none.
    sandbox.put(
        "/liar",
        b"#!/bin/sh\nyes 99999999999999999999999999 >&8 & while :; do sleep 1; done\n",
    );
    // Never reads, and cannot be told to leave.
    sandbox.put("/deaf", b"#!/bin/sh\ntrap '' TERM HUP INT\nwhile :; do sleep 1; done\n");
    // Closes everything, and lives on.
    sandbox.put("/shut", b"#!/bin/sh\nexec <&- >&- 2>&- 3<&- 8>&-\nwhile :; do sleep 1; done\n");
    for program in ["/liar", "/deaf", "/shut"] {
        let shell = staying.start(&["/bin/sh", "-c", &format!("exec sh {program}")], Wiring::Shell);
        let mut refused = None;
        for _ in 0..300 {
            let answer = staying.try_queue(shell, "echo x");
            if let Err(error) = answer {
                refused = Some(error.kind());
                break;
            }
        }
        if program != "/liar" {
            assert_eq!(refused, Some(Kind::Limit), "{program}: what waits is bounded");
        }
        assert_eq!(sandbox.run(&["/bin/echo", "on"]).text, "on\n");
        staying.kill(shell);
        let last = staying.list().into_iter().rfind(|process| process.shell == Some(shell));
        assert!(last.is_some_and(|last| last.exit_code.is_some()), "{program}");
    }
}

#[test]
fn e15_hostile_profiles_and_accounts_do_not_hang_anybody() {
    let Some(bench) = Bench::open("E15") else { return };
    let sandbox = bench.sandbox();
    let staying = Staying { bench: &bench, id: sandbox.id() };
    sandbox.put("/root/.profile", b"while :; do sleep 1; done\n");
    sandbox.put("/root/.bash_profile", b"while :; do sleep 1; done\n");
    let terminal = staying.start(&[], TERMINAL);
    staying.write(terminal, "echo x\n").unwrap();
    staying.kill(terminal);
    assert_eq!(staying.whole(terminal).code, Some(137));
    let shell = staying.start(&[], Wiring::Shell);
    assert_eq!(staying.whole(staying.queue(shell, "echo on")).text(), "on\n");
    // A bash of the sandbox's own making runs inside as any program does, and nowhere else.
    sandbox.put("/usr/local/bin/bash", b"#!/bin/sh\nid -u > /ran; exit 9\n");
    sandbox.sh("chmod +x /usr/local/bin/bash");
    let shell = staying.start(&[], Wiring::Shell);
    assert_eq!(staying.whole(shell).code, Some(9));
    assert_eq!(sandbox.get("/ran").unwrap(), b"0\n");
    assert!(!std::path::Path::new("/ran").exists());
}

#[test]
fn e15_a_frozen_sandbox_answers_with_a_time_limit() {
    let Some(bench) = Bench::full("E15", "freezer") else { return };
    let sandbox = bench.sandbox();
    let staying = Staying { bench: &bench, id: sandbox.id() };
    let shell = staying.start(&[], Wiring::Shell);
    let mut follower = staying.follow(shell);
    bench.wait(bench.runtime().freeze(sandbox.id())).unwrap();
    let errors = [
        staying.try_queue(shell, "echo x").unwrap_err(),
        staying.try_start(&["true"], Wiring::Pipes).unwrap_err(),
        staying.write(shell, "x").unwrap_err(),
        bench.wait(staying.processes().kill(staying.id, shell)).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
    }
    assert_eq!(staying.list()[0].number, shell, "what is there is known all the same");
    assert!(bench.wait(follower.now(10)).unwrap().pieces.is_empty(), "and kept output is read");
    bench.wait(bench.runtime().thaw(sandbox.id())).unwrap();
    assert!(!rootless());
    staying.kill(shell);
}
