//! Figures of the store; run with `--run-ignored only --no-capture`.

use std::sync::Arc;
use std::time::Instant;

use mayfly_core::ports::store::{Change, Store, Swap};

use crate::sample::{create, id, open, sandbox};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; asserts nothing about time"]
async fn replace_latency_and_throughput() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    create(&store, sandbox(1)).await;
    let alone = tokio::spawn(change_often(Arc::clone(&store), 1, 10_000)).await.unwrap();
    report("replace, one caller", alone);
    let reader = Arc::clone(&store);
    let reads = tokio::spawn(async move {
        let mut times = Vec::new();
        for _ in 0..10_000 {
            let start = Instant::now();
            assert!(reader.sandbox(id(1)).await.unwrap().is_some());
            times.push(start.elapsed().as_nanos());
        }
        times
    });
    report("read by id, one caller", reads.await.unwrap());
    let start = Instant::now();
    let mut callers = Vec::new();
    for n in 2..258 {
        create(&store, sandbox(n)).await;
        callers.push(tokio::spawn(change_often(Arc::clone(&store), n, 200)));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    println!("256 callers: {:.0} steps/s", 256.0 * 201.0 / start.elapsed().as_secs_f64());
}

async fn change_often(store: Arc<mayfly_store::SqliteStore>, n: u128, times: u64) -> Vec<u128> {
    let mut measured = Vec::new();
    for version in 1..=times {
        let mut next = sandbox(n);
        next.version = version + 1;
        let change = Change { next, expected: Some(version), events: Vec::new() };
        let start = Instant::now();
        assert_eq!(store.replace(change).await.unwrap(), Swap::Done);
        measured.push(start.elapsed().as_nanos());
    }
    measured
}

fn report(what: &str, mut times: Vec<u128>) {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100] / 1000;
    println!("{what}: p50 {} us, p99 {} us", at(50), at(99));
}
