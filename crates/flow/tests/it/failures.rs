//! What fails: attempts, delays, time limits, and what becomes of the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mayfly_flow::{
    AgentError, DagConfig, DagError, NodeOutput, OnFailure, RetryStrategy, RunStatus,
};
use tokio::time::Instant;

use crate::site::{Site, quick, states};

const ABC: &str = "name: abc\nconfig: {on_failure: MODE, max_attempts: 1}\nnodes:\n  - {id: a, action: ACTION}\n  - {id: b, action: ok, dependencies: [a]}\n  - {id: c, action: ok}\n  - {id: d, action: ok, dependencies: [b, c]}\n";

fn abc(mode: &str, action: &str) -> String {
    ABC.replace("MODE", mode).replace("ACTION", action)
}

#[tokio::test(start_paused = true)]
async fn case_04_regression_03_05_continue_skips_what_needs_the_failed_node() {
    let site = Site::in_memory(quick()).await;
    let report = site.run(&abc("Continue", "fail")).await.unwrap();
    let states = states(&report);
    assert_eq!(
        (states["a"], states["b"], states["c"], states["d"]),
        ("failed", "skipped", "completed", "skipped")
    );
    assert!(!report.overall_success && report.status == RunStatus::Failed);
    assert!(report.error.unwrap().contains("node a failed: a went wrong"));
}

#[tokio::test(start_paused = true)]
async fn case_04_stop_aborts_a_sibling_that_sleeps() {
    let site = Site::in_memory(quick()).await;
    let yaml = "name: s\nconfig: {on_failure: Stop, max_attempts: 1}\nnodes:\n  - {id: long, action: sleep, values: {ms: 60000}}\n  - {id: a, action: fail}\n  - {id: b, action: ok, dependencies: [long]}\n";
    let began = Instant::now();
    let report = site.run(yaml).await.unwrap();
    let states = states(&report);
    assert_eq!((states["a"], states["long"], states["b"]), ("failed", "cancelled", "cancelled"));
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(report.status, RunStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn case_04_regression_10_22_pause_then_resume_runs_only_what_is_missing() {
    let site = Site::in_memory(quick()).await;
    let broken = Arc::new(AtomicU32::new(1));
    let (state, notes) = (broken.clone(), site.notes.clone());
    site.add("mend", move |ctx| {
        notes.note(&ctx.node_id);
        let fails = state.load(Ordering::SeqCst) == 1;
        Box::pin(async move {
            if fails {
                anyhow::bail!("not yet");
            }
            Ok(NodeOutput::success_empty())
        })
    });
    let report = site.run(&abc("Pause", "mend")).await.unwrap();
    assert_eq!(report.status, RunStatus::Paused, "{report:?}");
    let info = site.executor.run_status(&report.run_id).await.unwrap();
    assert_eq!(info.status, RunStatus::Paused);
    assert!(info.reason.unwrap().contains("node a failed"));
    broken.store(0, Ordering::SeqCst);
    let report = site.executor.resume_from_pause("abc", serde_json::Value::Null).await.unwrap();
    assert!(report.success, "{report:?}");
    assert_eq!(site.notes.counts()["a"], 2);
    assert_eq!(site.notes.counts()["c"], 1);
}

#[tokio::test(start_paused = true)]
async fn case_05_failed_attempts_wait_two_then_four_seconds() {
    let site = Site::in_memory(DagConfig::default()).await;
    let tries = Arc::new(AtomicU32::new(0));
    let began = Instant::now();
    let times = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (count, seen) = (tries.clone(), times.clone());
    site.add("third", move |_| {
        seen.lock().unwrap().push(began.elapsed().as_secs_f64());
        let n = count.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if n < 2 { Ok(NodeOutput::failure()) } else { Ok(NodeOutput::success_empty()) }
        })
    });
    let report = site.run("name: r\nnodes: [{id: a, action: third}]").await.unwrap();
    assert!(report.success);
    assert_eq!(report.node_outcomes[0].retry_messages.len(), 2);
    let times = times.lock().unwrap().clone();
    assert!((1.8..=2.3).contains(&(times[1] - times[0])), "{times:?}");
    assert!((3.6..=4.5).contains(&(times[2] - times[1])), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn regression_14_25_limits_of_nodes_hold_and_timeouts_are_repeated() {
    let site = Site::in_memory(DagConfig { on_failure: OnFailure::Continue, ..quick() }).await;
    let notes = site.notes.clone();
    site.add("user", move |ctx| {
        notes.note(&ctx.node_id);
        Box::pin(async { Err(AgentError::User("bad input".into()).into()) })
    });
    let yaml = "name: l\nnodes:\n  - {id: slow, action: pending, timeout: 1, try_count: 2}\n  - {id: once, action: fail, onfailure: false}\n  - {id: zero, action: fail, try_count: 0}\n  - {id: four, action: fail, try_count: 4}\n  - {id: user, action: user}\n";
    let report = site.run(yaml).await.unwrap();
    let counts = site.notes.counts();
    let of = |id: &str| counts[id];
    assert_eq!((of("slow"), of("once"), of("zero"), of("four"), of("user")), (2, 1, 1, 4, 1));
    assert!(report.node_outcomes[0].final_error.as_ref().unwrap().contains("longer than 1s"));
}

#[tokio::test(start_paused = true)]
async fn a_failure_action_runs_once_with_the_error() {
    let site = Site::in_memory(quick()).await;
    let notes = site.notes.clone();
    site.add("tell", move |ctx| {
        let error: String = ctx.get_input("error").unwrap();
        notes.note(format!("told: {error}"));
        Box::pin(async { Ok(NodeOutput::success_empty()) })
    });
    let yaml = "name: f\nnodes:\n  - {id: a, action: fail, failure: tell, try_count: 3}\n";
    let report = site.run(yaml).await.unwrap();
    assert_eq!(site.notes.all(), ["a", "a", "a", "told: a went wrong"]);
    assert_eq!(states(&report)["a"], "failed");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failed_attempt() {
    let site = Site::in_memory(quick()).await;
    site.add("panic", |_| Box::pin(async { panic!("oh no") }));
    let report = site.run("name: p\nnodes: [{id: a, action: panic, try_count: 1}]").await.unwrap();
    assert!(report.node_outcomes[0].final_error.as_ref().unwrap().contains("oh no"));
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_attempt_wrote_is_discarded() {
    let site = Site::in_memory(quick()).await;
    site.add("half", |ctx| {
        Box::pin(async move {
            let key = format!("attempt{}", ctx.attempt);
            mayfly_flow::insert_value(&ctx.cache, &ctx.node_id, key, true)?;
            if ctx.attempt == 1 {
                anyhow::bail!("first")
            }
            Ok(NodeOutput::success_empty())
        })
    });
    let report = site.run("name: h\nnodes: [{id: a, action: half}]").await.unwrap();
    let output = site.executor.get_node_output_json(&report.run_id, "a").await.unwrap();
    assert_eq!(output.unwrap(), serde_json::json!({ "attempt2": true }));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_is_an_error_and_can_be_resumed() {
    let site = Site::in_memory(DagConfig { timeout_seconds: Some(10), ..quick() }).await;
    let tries = Arc::new(AtomicU32::new(0));
    site.add("slow_once", move |_| {
        let first = tries.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move {
            if first {
                std::future::pending::<()>().await;
            }
            Ok(NodeOutput::success_empty())
        })
    });
    let yaml = "name: t\nnodes:\n  - {id: a, action: ok}\n  - {id: b, action: slow_once, dependencies: [a]}\n";
    let error = site.run(yaml).await.unwrap_err();
    assert!(matches!(error, DagError::ExecutionTimeout(_)), "{error}");
    let report = site.executor.resume_from_pause("t", serde_json::Value::Null).await.unwrap();
    assert!(report.success, "{report:?}");
    assert_eq!(site.notes.counts()["a"], 1);
    let strategy = RetryStrategy::Immediate;
    assert_eq!(site.executor.config().retry_strategy, strategy);
}
