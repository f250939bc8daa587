//! What the network adds: to a cold create, and to a machine full of idle sandboxes.

use std::path::Path;
use std::time::{Duration, Instant};

use mayfly_core::ports::runtime::Runtime as _;
use mayfly_runtime::local::WEAK_POLICY;

use crate::Bench;
use crate::measure::{Limit, Times, print, samples};

/// Ready namespaces of each bench; creates come one at a time, so that they are always ready.
const READY: usize = 16;
/// Until a network process has prepared what it gave away.
const SETTLE: Duration = Duration::from_millis(3);
/// How long idle sandboxes are looked at.
const IDLE: Duration = Duration::from_secs(5);

/// Creates with and without the network process take turns, so that both meet the same machine.
pub(crate) async fn added(folder: &Path) {
    for (what, namespaces, limit) in [("ready namespace", READY, 300.0), ("empty pool", 0, 1000.0)]
    {
        let (with, without) = (folder.join("with"), folder.join("without"));
        let with = Bench::weakened(&with, namespaces, 0).await;
        let without = Bench::weakened(&without, namespaces, WEAK_POLICY).await;
        let (mut more, mut less) =
            ([Times::default(), Times::default()], [Times::default(), Times::default()]);
        let n = samples(300);
        for _ in 0..n {
            turn(&with, namespaces, &mut more).await;
            turn(&without, namespaces, &mut less).await;
        }
        for (verb, index, limit) in [("create", 0, limit), ("destroy", 1, 100.0)] {
            let at =
                |part: f64| (more[index].percentile(part) - less[index].percentile(part)).max(0.0);
            let name = format!("network added to a cold {verb} ({what})");
            print(&name, "us", n, (at(0.5), at(0.99)), None, Limit::AtMost(limit));
        }
    }
}

async fn turn(bench: &Bench, namespaces: usize, times: &mut [Times; 2]) {
    bench.runtime.warmed(namespaces).await;
    let spec = bench.spec();
    let began = Instant::now();
    bench.runtime.create(&spec).await.expect("create");
    times[0].add(began.elapsed());
    // What a create makes others prepare (a namespace, a program of the network process) is no part of a destroy.
    bench.runtime.warmed(namespaces).await;
    tokio::time::sleep(SETTLE).await;
    let began = Instant::now();
    bench.runtime.destroy(spec.id).await.expect("destroy");
    times[1].add(began.elapsed());
}

/// Processor time of the network processes while nothing happens inside.
pub(crate) async fn idle(bench: &Bench, sandboxes: usize) {
    let before = ticks(&bench.runtime.network_pids());
    tokio::time::sleep(IDLE).await;
    let used = ticks(&bench.runtime.network_pids()) - before;
    // A hundred ticks a second on every kernel that this runs on.
    let percent = used / IDLE.as_secs_f64();
    let name = "network: 1,000 sandboxes idle, of a core";
    print(name, "%", sandboxes, (percent, percent), None, Limit::AtMost(3.0));
}

fn ticks(pids: &[i32]) -> f64 {
    let of = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>()
    };
    pids.iter().map(of).sum()
}
