//! Limits over several runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use mayfly_flow::{NodeOutput, StartOptions};
use serde_json::Value;

use crate::site::{Site, quick};

async fn most_at_once(limit_all: Option<usize>, yaml: &str) -> usize {
    let site = Site::in_memory(quick()).await;
    if let Some(limit) = limit_all {
        site.executor.set_max_running(limit);
    }
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (running, top) = (now.clone(), most.clone());
    site.add("count", move |_| {
        let (now, most) = (running.clone(), top.clone());
        Box::pin(async move {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, SeqCst);
            Ok(NodeOutput::success_empty())
        })
    });
    let name = site.executor.load_yaml(yaml).unwrap();
    let mut runs = Vec::new();
    for _ in 0..6 {
        runs.push(site.executor.start(&name, Value::Null, StartOptions::default()).await.unwrap());
    }
    for run in runs {
        assert!(site.executor.wait_run(&run).await.unwrap().success);
    }
    most.load(SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_key_limits_nodes_of_all_runs() {
    let yaml = "name: k\nnodes:\n  - {id: a, action: count, concurrency: {key: api, limit: 2}}\n";
    assert_eq!(most_at_once(None, yaml).await, 2);
}

#[tokio::test(start_paused = true)]
async fn one_limit_is_shared_by_all_runs() {
    let yaml = "name: a\nnodes:\n  - {id: a, action: count}\n  - {id: b, action: count}\n";
    assert_eq!(most_at_once(Some(3), yaml).await, 3);
}
