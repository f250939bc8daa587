//! R8: what ignores the terminate signal or is frozen is killed after the grace; calls never hang on it.

use std::time::{Duration, Instant};

use mayfly_core::Code;
use mayfly_core::ports::runtime::Runtime as _;

use crate::census;
use crate::harness::{Bench, within};

const GRACE: Duration = Duration::from_millis(300);

fn parked_at_most(bench: &Bench) -> bool {
    within(|| census::processes(bench.dir()).len() <= 2)
}

#[test]
fn r08_the_terminate_signal_comes_first() {
    let Some(bench) = Bench::open("R8") else { return };
    let sandbox = bench.sandbox();
    sandbox.sh("sh -c 'trap \"echo asked > /var/asked; exit 0\" TERM; echo > /var/ready; while :; do sleep 0.01; done' >/dev/null 2>&1 &");
    assert!(within(|| sandbox.get("/var/ready").is_ok()));
    let begin = Instant::now();
    bench.wait(bench.runtime().stop(sandbox.id(), Duration::from_secs(10))).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "nobody waits longer than needed");
    sandbox.start().unwrap();
    assert_eq!(sandbox.get("/var/asked").unwrap(), b"asked\n");
}

#[test]
fn r08_what_ignores_it_is_killed_after_the_grace() {
    let Some(bench) = Bench::open("R8") else { return };
    let sandbox = bench.sandbox();
    sandbox.sh("sh -c 'trap \"\" TERM INT HUP; echo > /var/ready; while :; do sleep 1; done' >/dev/null 2>&1 &");
    assert!(within(|| sandbox.get("/var/ready").is_ok()));
    let begin = Instant::now();
    bench.wait(bench.runtime().stop(sandbox.id(), GRACE)).unwrap();
    let took = begin.elapsed();
    assert!(took >= GRACE && took < GRACE + Duration::from_secs(3), "{took:?}");
    assert!(parked_at_most(&bench), "{:?}", census::processes(bench.dir()));
}

#[test]
fn r08_a_frozen_sandbox_can_be_stopped_and_destroyed() {
    let Some(bench) = Bench::full("R8", "freezer") else { return };
    for grace in [GRACE, Duration::ZERO] {
        let sandbox = bench.sandbox();
        sandbox.sh("sleep 600 >/dev/null 2>&1 &");
        bench.wait(bench.runtime().freeze(sandbox.id())).unwrap();
        bench.wait(bench.runtime().stop(sandbox.id(), grace)).unwrap();
        sandbox.start().unwrap();
        bench.wait(bench.runtime().freeze(sandbox.id())).unwrap();
        bench.wait(bench.runtime().destroy(sandbox.id())).unwrap();
    }
    assert!(parked_at_most(&bench), "{:?}", census::processes(bench.dir()));
}

#[test]
fn r08_a_command_in_a_frozen_sandbox_ends_at_its_time_limit() {
    let Some(bench) = Bench::full("R8", "freezer") else { return };
    let sandbox = bench.sandbox();
    bench.wait(bench.runtime().freeze(sandbox.id())).unwrap();
    // With input that fits no socket buffer, too.
    for input in [0, 4 << 20] {
        let begin = Instant::now();
        let late = sandbox.exec(&["/bin/cat"], |request| {
            request.timeout = GRACE;
            request.stdin = vec![b'x'; input].into();
        });
        assert_eq!(late.unwrap_err().code(), Some(Code::ProcessExecutionTimeout));
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    }
    bench.wait(bench.runtime().thaw(sandbox.id())).unwrap();
    assert_eq!(sandbox.run(&["/bin/echo", "on"]).text, "on\n");
    let left = sandbox.sh("for p in /proc/[0-9]*; do cat $p/comm; done 2>/dev/null");
    assert!(!left.says("cat"), "nothing of them runs on: {}", left.text);
}
