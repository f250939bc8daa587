//! L2 at density: very many sandboxes alive at once work, stay within what is promised of each, and leave
//! nothing. `cargo xtask soak density` runs it at 5,000 and shows its figures.

use std::fs;
use std::time::Instant;

use mayfly_core::id::SandboxId;
use mayfly_core::ports::runtime::{Runtime as _, SandboxSpec};
use uuid::Uuid;

use crate::census;
use crate::harness::{Bench, Sandbox, rounds, within};
use crate::l02_cycles::count;

/// Every so manyth runs a command while all live.
const SAMPLE: usize = 25;
/// Promise of the platform contract, section 7: host descriptors of each over all processes but inits.
const MAX_DESCRIPTORS: f64 = 8.0;

/// One figure as a line of JSON, in the form of the benches.
fn figure(name: &str, unit: &str, n: usize, value: f64, at_most: Option<f64>) {
    let limit = at_most.map_or_else(|| "null".to_owned(), |most| format!("\"<= {most}\""));
    let holds = at_most.map_or_else(|| "null".to_owned(), |most| (value <= most).to_string());
    println!(
        "{{\"name\":\"{name}\",\"unit\":\"{unit}\",\"n\":{n},\"p50\":{value:.3},\"p99\":null,\
         \"floor\":null,\"ratio\":null,\"limit\":{limit},\"holds\":{holds}}}"
    );
}

#[expect(clippy::cast_precision_loss, reason = "counts of thousands and bytes of one machine")]
fn each(whole: u64, n: usize) -> f64 {
    whole as f64 / n as f64
}

fn descriptors(pid: &str) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64)
}

/// Bytes of memory that the whole machine has left.
fn memory_left() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("MemAvailable")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn l02_many_alive_at_once_leave_nothing() {
    let n = rounds(5000, 100);
    let Some(bench) = Bench::with("L2", |options| options.pool_bytes = Some(8 << 30)) else {
        return;
    };
    let base = bench.spec();
    // The first life makes what is made once.
    drop(bench.sandbox().run(&["/bin/true"]));
    for observed in bench.wait(bench.runtime().list()).unwrap() {
        bench.wait(bench.runtime().destroy(observed.id)).unwrap();
    }
    let before = count(&bench);
    let (memory, held) = (memory_left(), descriptors("self"));

    let began = Instant::now();
    let alive: Vec<Sandbox<'_>> = (1..=n)
        .map(|made| {
            let id = SandboxId::from_uuid(Uuid::now_v7());
            let sandbox = bench.sandbox_of(SandboxSpec { id, ..base.clone() });
            if made % 500 == 0 {
                eprintln!("    {made} of {n} alive after {:.0?}", began.elapsed());
            }
            sandbox
        })
        .collect();
    figure(
        "creates with all earlier ones alive, per second",
        "1/s",
        n,
        1.0 / (began.elapsed().as_secs_f64() / each(n as u64, 1)),
        None,
    );
    let asked = Instant::now();
    let sample: Vec<_> = alive.iter().step_by(SAMPLE).collect();
    for sandbox in &sample {
        assert_eq!(sandbox.run(&["/bin/echo", "on"]).text, "on\n");
    }
    figure(
        "exec with all alive, mean",
        "ms",
        sample.len(),
        asked.elapsed().as_secs_f64() * 1000.0 / each(sample.len() as u64, 1),
        None,
    );

    let processes = census::processes(bench.dir()).len();
    assert_eq!(processes, n + 2, "one process 1 each, and two that are ready");
    let forkserver = bench.runtime().forkserver_pid().unwrap().to_string();
    let used = descriptors("self") + descriptors(&forkserver) - held;
    let memory = each(memory.saturating_sub(memory_left()), n) / 1e6;
    figure("processes per idle sandbox", "", n, each(processes as u64 - 2, n), Some(1.0));
    figure("host descriptors per idle sandbox", "", n, each(used, n), Some(MAX_DESCRIPTORS));
    figure("memory per idle sandbox, all told", "MB", n, memory, None);
    assert!(each(used, n) <= MAX_DESCRIPTORS, "{used} descriptors for {n} sandboxes");

    let ended = Instant::now();
    for sandbox in &alive {
        bench.wait(bench.runtime().destroy(sandbox.id())).unwrap();
    }
    figure(
        "destroys per second",
        "1/s",
        n,
        each(n as u64, 1) / ended.elapsed().as_secs_f64(),
        None,
    );
    assert!(within(|| descriptors("self") <= held), "descriptors stay open");
    assert_eq!(count(&bench), before);
}
