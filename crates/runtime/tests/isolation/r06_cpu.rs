//! R6: a processor hog gets the share of its sandbox and no more.

use std::time::{Duration, Instant};

use mayfly_core::ports::runtime::Runtime as _;

use crate::harness::{Bench, Sandbox};

/// Processor time per wall time of four busy loops, over a little more than half a second.
fn share(bench: &Bench, sandbox: &Sandbox<'_>) -> f64 {
    let used = || bench.wait(bench.runtime().usage(sandbox.id())).unwrap().cpu_nanos;
    let (begin, before) = (Instant::now(), used());
    let ran =
        sandbox.sh("for i in 1 2 3 4; do timeout 0.6 sh -c 'while :; do :; done' & done; wait");
    assert_eq!(ran.code, 0, "{}", ran.text);
    let spent = Duration::from_nanos(used() - before);
    spent.as_secs_f64() / begin.elapsed().as_secs_f64()
}

fn hog(cores: u32) -> Option<(Bench, mayfly_core::ports::runtime::SandboxSpec)> {
    let bench = Bench::full("R6", "limit of processor time")?;
    let mut spec = bench.spec();
    spec.resources.cpu = cores;
    Some((bench, spec))
}

#[test]
fn r06_four_busy_loops_share_one_core() {
    let Some((bench, spec)) = hog(1) else { return };
    let sandbox = bench.sandbox_of(spec);
    let share = share(&bench, &sandbox);
    // One period of 100 ms may be begun at either end.
    assert!(share < 1.35, "{share} cores");
    assert!(share > 0.05, "it did run: {share} cores");
}

#[test]
fn r06_shows_under_a_raised_limit() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cores < 2 {
        return println!("SKIP R6: one core cannot show a second one");
    }
    let Some((bench, spec)) = hog(2) else { return };
    let sandbox = bench.sandbox_of(spec);
    // Other work on the machine may take its cores: some tries.
    let best = (0..4).map(|_| share(&bench, &sandbox)).fold(0.0, f64::max);
    if best < 1.35 {
        println!("SKIP R6: other work left the raised limit only {best} cores");
    }
}
