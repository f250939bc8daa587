//! Processes that end and begin again, or share a file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mayfly_flow::{
    DagConfig, DagError, NodeOutput, Resolution, RunStatus, SqliteStorage, StartOptions,
    StorageOptions,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::sim::SimClock;
use crate::site::{Site, quick, states};

async fn start(site: &Site, yaml: &str) -> String {
    let name = site.executor.load_yaml(yaml).unwrap();
    site.executor.start(&name, Value::Null, StartOptions::default()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn case_07_an_attempt_that_must_not_be_repeated_waits_to_be_resolved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.db");
    let yaml = "name: once\nnodes:\n  - {id: free, action: ok}\n  - {id: pay, action: pending, durability: AtMostOnce}\n  - id: after\n    action: ok\n    dependencies: [pay]\n    inputs: [{name: paid, reference: pay.amount}]\n";
    let site = Site::on(&path, quick()).await;
    let run = start(&site, yaml).await;
    site.until_began("pay", 1).await;
    site.until_began("free", 1).await;
    site.executor.stop().await;
    drop(site);
    let site = Site::on(&path, quick()).await;
    assert_eq!(site.executor.recover().await.unwrap(), std::slice::from_ref(&run));
    let report = site.executor.wait_run(&run).await.unwrap();
    assert_eq!(report.status, RunStatus::Paused);
    assert_eq!((states(&report)["pay"], states(&report)["free"]), ("paused", "completed"));
    assert!(report.error.unwrap().contains("must be resolved"));
    assert!(!site.notes.all().contains(&"pay".to_owned()), "it was repeated");
    let paid = Resolution::Complete(json!({ "amount": 7 }));
    site.executor.resolve(&run, "pay", paid).await.unwrap();
    let report = site.executor.wait_run(&run).await.unwrap();
    assert!(report.success, "{report:?}");
    let output = site.executor.get_node_output_json(&run, "after").await.unwrap().unwrap();
    assert_eq!(output["paid"], json!(7));
}

#[tokio::test(start_paused = true)]
async fn case_05_regression_13_a_restart_in_the_second_wait_leaves_only_the_third_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.db");
    let config = DagConfig { retry_jitter: 0.0, ..DagConfig::default() };
    let site = Site::on(&path, config.clone()).await;
    let run = start(&site, "name: r\nnodes: [{id: a, action: fail}]").await;
    site.until_began("a", 1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(site.notes.counts()["a"], 2);
    let clock = site.executor.storage().clone();
    site.executor.stop().await;
    let again = Site::with(clock, config).await;
    let began = Instant::now();
    again.executor.recover().await.unwrap();
    let report = again.executor.wait_run(&run).await.unwrap();
    assert_eq!(again.notes.counts()["a"], 1);
    let waited = began.elapsed().as_millis();
    assert!((2_900..=3_100).contains(&waited), "{waited}");
    assert_eq!(report.node_outcomes[0].attempts, 3);
    assert_eq!(report.node_outcomes[0].retry_messages.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn case_11_signals_approvals_and_branches_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.db");
    let listen = |site: &Site| {
        let notes = site.notes.clone();
        site.add("listen", move |ctx| {
            notes.note(&ctx.node_id);
            Box::pin(async move {
                let got = ctx.wait_signal("go", None).await?;
                Ok(NodeOutput::success(json!({ "got": got })))
            })
        });
    };
    let yaml = "name: w\nnodes:\n  - {id: ask, action: human_interrupt}\n  - {id: ear, action: listen}\n  - {id: side, action: ok, dependencies: [ask], branch: b}\n";
    let site = Site::on(&path, quick()).await;
    listen(&site);
    let run = start(&site, yaml).await;
    site.until_began("ear", 1).await;
    site.executor.pause_branch(&run, "b").await.unwrap();
    site.executor.stop().await;
    drop(site);
    let site = Site::on(&path, quick()).await;
    listen(&site);
    site.executor.recover().await.unwrap();
    site.executor.approve(&run, "ask", Value::Null).await.unwrap();
    site.executor.signal(&run, "go", json!("now")).await.unwrap();
    site.until_began("ear", 1).await;
    site.executor.signal(&run, "unheard", json!(1)).await.unwrap();
    assert!(!site.notes.all().contains(&"side".to_owned()));
    site.executor.resume_branch(&run, "b").await.unwrap();
    let report = site.executor.wait_run(&run).await.unwrap();
    assert!(report.success, "{report:?}");
    let output = site.executor.get_node_output_json(&run, "ear").await.unwrap().unwrap();
    assert_eq!(output["got"], json!("now"));
}

#[tokio::test(start_paused = true)]
async fn case_08_a_process_past_its_lease_is_replaced_and_its_writes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("f.db").display());
    let clock = SimClock::new();
    let open = async || {
        let options = StorageOptions { clock: clock.clone(), ..StorageOptions::default() };
        SqliteStorage::open(&url, options).await.unwrap()
    };
    // It extends its lease so rarely that it looks like a stopped process.
    let sleepy = DagConfig {
        lease_seconds: 100_000,
        heartbeat_seconds: 90_000,
        timeout_seconds: None,
        ..quick()
    };
    let first = Site::with(open().await, sleepy).await;
    let gate = Arc::new(tokio::sync::Notify::new());
    let held = gate.clone();
    first.add("work", move |_| {
        let held = held.clone();
        Box::pin(async move {
            held.notified().await;
            Ok(NodeOutput::success_empty())
        })
    });
    let run = start(
        &first,
        "name: t\nnodes:\n  - {id: a, action: ok}\n  - {id: b, action: work, dependencies: [a]}\n",
    )
    .await;
    first.until_began("a", 1).await;
    let second = Site::with(open().await, quick()).await;
    let count = Arc::new(AtomicU32::new(0));
    let seen = count.clone();
    second.add("work", move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(NodeOutput::success_empty()) })
    });
    assert!(second.executor.recover().await.unwrap().is_empty(), "the first one's lease holds");
    first.executor.storage().clone().init_database().await.unwrap();
    let db = rusqlite::Connection::open(folder.path().join("f.db")).unwrap();
    db.execute("UPDATE owners SET lease_expires_at = 0", []).unwrap();
    assert_eq!(second.executor.recover().await.unwrap(), std::slice::from_ref(&run));
    assert!(second.executor.wait_run(&run).await.unwrap().success);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let executor = first.executor.clone();
    let id = run.clone();
    let waiting = tokio::spawn(async move { executor.wait_run(&id).await });
    first.until("a waiter", |_| true).await;
    tokio::task::yield_now().await;
    gate.notify_one();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, DagError::StaleLease(_)), "{error}");
    let events = second.executor.events(&run, 0).await.unwrap();
    let last = events.last().unwrap().sequence;
    assert_eq!(usize::try_from(last).unwrap(), events.len());
}

#[tokio::test(start_paused = true)]
async fn a_missing_action_pauses_a_recovered_run_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.db");
    let site = Site::on(&path, quick()).await;
    site.add("special", |_| Box::pin(async { Ok(NodeOutput::success_empty()) }));
    let yaml = "name: m\nnodes:\n  - {id: gate, action: human_interrupt}\n  - {id: a, action: special, dependencies: [gate]}\n";
    let run = start(&site, yaml).await;
    site.executor.stop().await;
    drop(site);
    let site = Site::on(&path, quick()).await;
    site.executor.recover().await.unwrap();
    site.executor.approve(&run, "gate", Value::Null).await.unwrap();
    let report = site.executor.wait_run(&run).await.unwrap();
    assert_eq!(report.status, RunStatus::Paused);
    assert!(report.error.unwrap().contains("`special` is not registered"));
    site.add("special", |_| Box::pin(async { Ok(NodeOutput::success_empty()) }));
    site.executor.resume_run(&run).await.unwrap();
    assert!(site.executor.wait_run(&run).await.unwrap().success);
}

#[tokio::test(start_paused = true)]
async fn case_17_a_full_disk_stops_the_run_and_resuming_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.db");
    let site = Site::on(&path, quick()).await;
    let notes = site.notes.clone();
    site.add("big", move |ctx| {
        notes.note(&ctx.node_id);
        Box::pin(async { Ok(NodeOutput::success(json!({ "data": "x".repeat(30_000) }))) })
    });
    let yaml = "name: d\nconfig: {enable_parallel_execution: false}\nnodes:\n  - {id: gate, action: human_interrupt}\n  - {id: a, action: big, dependencies: [gate]}\n  - {id: b, action: ok, dependencies: [a]}\n";
    let run = start(&site, yaml).await;
    site.executor.storage().limit_pages_for_tests(1).await;
    site.executor.approve(&run, "gate", Value::Null).await.ok();
    let failed = site.executor.wait_run(&run).await;
    assert!(
        matches!(&failed, Err(DagError::DatabaseError(text)) if text.contains("full")),
        "{failed:?}"
    );
    assert_eq!(site.executor.run_status(&run).await.unwrap().status, RunStatus::Paused);
    site.executor.storage().limit_pages_for_tests(1_000_000).await;
    site.executor.resume_run(&run).await.unwrap();
    let report = site.executor.wait_run(&run).await.unwrap();
    assert!(report.success, "{report:?}");
    assert_eq!(site.notes.all(), ["a", "b"]);
    let stored = site.executor.get_node_output_json(&run, "a").await.unwrap().unwrap();
    assert_eq!(stored["data"].as_str().unwrap().len(), 30_000);
}
