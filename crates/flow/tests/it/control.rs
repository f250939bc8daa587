//! What callers and people do to runs: signals, approvals, pauses, branches, cancelling, looking.

use std::sync::Arc;
use std::time::Duration;

use mayfly_flow::{
    Cache, DagConfig, DagError, EventKind, ExecutionObserver, HumanTimeoutAction, NodeOutput,
    RunStatus, StartOptions,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::site::{Site, quick, states};

async fn start(site: &Site, yaml: &str) -> String {
    let name = site.executor.load_yaml(yaml).unwrap();
    site.executor.start(&name, Value::Null, StartOptions::default()).await.unwrap()
}

const GATE: &str = "name: gate\nnodes:\n  - {id: ask, action: human_interrupt}\n  - id: after\n    action: ok\n    dependencies: [ask]\n    inputs: [{name: said, reference: ask.said, default: nothing}]\n";

#[tokio::test(start_paused = true)]
async fn case_11_regression_27_a_person_approves_or_rejects_once() {
    let site = Site::in_memory(quick()).await;
    let run = start(&site, GATE).await;
    site.executor.approve(&run, "ask", json!({ "said": "yes" })).await.unwrap();
    let report = site.executor.wait_run(&run).await.unwrap();
    assert!(report.success, "{report:?}");
    let output = site.executor.get_node_output_json(&run, "after").await.unwrap().unwrap();
    assert_eq!(output["said"], json!("yes"));
    let again = site.executor.approve(&run, "ask", Value::Null).await.unwrap_err();
    assert!(matches!(again, DagError::InvalidState(_)), "{again}");
    let run = start(&site, GATE).await;
    site.executor.reject(&run, "ask", "no budget").await.unwrap();
    let report = site.executor.wait_run(&run).await.unwrap();
    assert_eq!(report.status, RunStatus::Paused);
    assert_eq!(report.node_outcomes[0].final_error.as_deref(), Some("rejected: no budget"));
}

#[tokio::test(start_paused = true)]
async fn case_11_autopilot_goes_on_when_nobody_answers_and_waits_are_not_counted() {
    let config = DagConfig {
        human_wait_minutes: Some(30),
        human_timeout_action: HumanTimeoutAction::Autopilot,
        timeout_seconds: Some(60),
        ..quick()
    };
    let site = Site::in_memory(config.clone()).await;
    let began = Instant::now();
    let report = site.run(GATE).await.unwrap();
    assert!(report.success, "{report:?}");
    assert_eq!(began.elapsed().as_secs(), 30 * 60);
    let pausing = DagConfig { human_timeout_action: HumanTimeoutAction::Pause, ..config };
    let site = Site::in_memory(pausing).await;
    let report = site.run(GATE).await.unwrap();
    assert_eq!(report.status, RunStatus::Paused);
    assert!(report.error.unwrap().contains("nobody answered"));
}

#[tokio::test(start_paused = true)]
async fn case_11_signals_are_kept_delivered_once_and_may_be_awaited_for_a_time() {
    let site = Site::in_memory(DagConfig { max_parallel_nodes: 1, ..quick() }).await;
    let notes = site.notes.clone();
    site.add("listen", move |ctx| {
        let notes = notes.clone();
        Box::pin(async move {
            notes.note(&ctx.node_id);
            let got = ctx.wait_signal("go", Some(Duration::from_mins(1))).await?;
            Ok(NodeOutput::success(json!({ "got": got })))
        })
    });
    let yaml = "name: s\nnodes:\n  - {id: a, action: listen}\n  - {id: b, action: listen}\n  - {id: c, action: listen}\n  - {id: free, action: ok}\n";
    let run = start(&site, yaml).await;
    // Who waits holds no place: with one place all four begin.
    site.until_began("free", 1).await;
    site.executor.signal(&run, "go", json!(1)).await.unwrap();
    site.executor.signal(&run, "other", json!(0)).await.unwrap();
    site.executor.signal(&run, "go", json!(2)).await.unwrap();
    let report = site.executor.wait_run(&run).await.unwrap();
    assert!(report.success, "{report:?}");
    let mut got = Vec::new();
    for node in ["a", "b", "c"] {
        let output = site.executor.get_node_output_json(&run, node).await.unwrap().unwrap();
        got.push(output["got"].clone());
    }
    got.sort_by_key(Value::to_string);
    assert_eq!(got, [json!(1), json!(2), Value::Null]);
}

#[tokio::test(start_paused = true)]
async fn case_12_regression_16_cancel_ends_every_state_once() {
    let site = Site::in_memory(DagConfig { max_parallel_nodes: 9, ..DagConfig::default() }).await;
    let yaml = "name: c\nnodes:\n  - {id: retrying, action: fail}\n  - {id: human, action: human_interrupt}\n  - {id: running, action: pending}\n  - {id: later, action: ok, dependencies: [running]}\n  - {id: done, action: ok}\n";
    let run = start(&site, yaml).await;
    site.until_began("running", 1).await;
    site.until_began("retrying", 1).await;
    let began = Instant::now();
    let (first, second) =
        tokio::join!(site.executor.cancel_run(&run), site.executor.cancel_run(&run));
    first.unwrap();
    second.unwrap();
    let report = site.executor.wait_run(&run).await.unwrap();
    assert_eq!(report.status, RunStatus::Cancelled);
    assert!(began.elapsed() >= Duration::from_secs(5), "what runs has its grace");
    let found = states(&report);
    for node in ["retrying", "human", "running", "later"] {
        assert_eq!(found[node], "cancelled", "{node}");
    }
    site.executor.cancel_run(&run).await.unwrap();
    let events = site.executor.events(&run, 0).await.unwrap();
    let ends = events.iter().filter(|event| {
        matches!(&event.event,
        EventKind::RunStateUpdated { status, .. } if status == "cancelled")
    });
    assert_eq!(ends.count(), 1);
    assert_eq!(site.notes.counts()["retrying"], 1);
}

#[tokio::test(start_paused = true)]
async fn only_a_sent_value_cancels_and_an_action_may_end_by_itself() {
    let site = Site::in_memory(quick()).await;
    site.add("listens", |ctx| {
        Box::pin(async move {
            let mut cancel = ctx.cancel.clone();
            cancel.cancelled().await;
            Ok(NodeOutput::success_empty())
        })
    });
    site.executor.load_yaml("name: l\nnodes: [{id: a, action: listens}]").unwrap();
    let (send, cancel) = oneshot::channel();
    let executor = site.executor.clone();
    let running =
        tokio::spawn(async move { executor.execute_static_dag("l", &Cache::new(), cancel).await });
    let began = Instant::now();
    send.send(()).unwrap();
    let report = running.await.unwrap().unwrap();
    assert_eq!(report.status, RunStatus::Cancelled);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(states(&report)["a"], "cancelled");
}

#[tokio::test(start_paused = true)]
async fn regression_23_28_branches_stand_go_on_and_are_cancelled_alone() {
    let site = Site::in_memory(DagConfig { max_parallel_nodes: 2, ..quick() }).await;
    let yaml = "name: b\nnodes:\n  - {id: gate, action: human_interrupt}\n  - {id: l1, action: ok, dependencies: [gate], branch: left}\n  - {id: l2, action: ok, dependencies: [l1], branch: left}\n  - {id: r1, action: ok, dependencies: [gate]}\n  - {id: r2, action: pending, dependencies: [r1]}\n  - {id: join, action: ok, dependencies: [l2, r2]}\n";
    let run = start(&site, yaml).await;
    site.executor.pause_branch(&run, "left").await.unwrap();
    site.executor.approve(&run, "gate", Value::Null).await.unwrap();
    site.until_began("r2", 1).await;
    assert!(!site.notes.all().contains(&"l1".to_owned()));
    let executor = site.executor.clone();
    let (id, waiting) = (
        run.clone(),
        tokio::spawn({
            let (executor, run) = (site.executor.clone(), run.clone());
            async move { executor.await_branch_resumed(&run, "left").await }
        }),
    );
    executor.resume_branch(&id, "left").await.unwrap();
    waiting.await.unwrap().unwrap();
    site.until_began("l2", 1).await;
    assert_eq!(site.notes.counts()["r2"], 1, "a sibling was restarted");
    executor.cancel_branch(&id, "r2").await.unwrap();
    let report = executor.wait_run(&run).await.unwrap();
    let states = states(&report);
    assert_eq!(
        (states["r2"], states["join"], states["l2"]),
        ("cancelled", "cancelled", "completed")
    );
    assert!(executor.pause_branch(&id, "nothing").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_paused_run_begins_nothing_until_it_is_resumed() {
    let site = Site::in_memory(quick()).await;
    let yaml = "name: p\nnodes:\n  - {id: a, action: sleep, values: {ms: 1000}}\n  - {id: b, action: ok, dependencies: [a]}\n";
    let run = start(&site, yaml).await;
    site.executor.pause_run(&run).await.unwrap();
    let report = site.executor.wait_run(&run).await.unwrap();
    assert_eq!((report.status, states(&report)["a"]), (RunStatus::Paused, "completed"));
    assert_eq!(site.notes.all(), ["a"]);
    site.executor.resume_run(&run).await.unwrap();
    assert!(site.executor.wait_run(&run).await.unwrap().success);
    assert_eq!(site.notes.all(), ["a", "b"]);
}

struct Bad;

impl ExecutionObserver for Bad {
    fn on_node_started(&self, _run: &str, _node: &str) {
        panic!("an observer's own fault");
    }

    fn on_node_completed(&self, _run: &str, _node: &str) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn case_16_observers_that_panic_or_sleep_hold_nothing_up_and_events_have_no_gap() {
    let site = Site::in_memory(quick()).await;
    site.executor.add_observer(Arc::new(Bad));
    let (sender, mut events) = tokio::sync::mpsc::channel(1);
    site.executor.set_event_channel(sender);
    let nodes: Vec<String> = (0..30).map(|n| format!("{{id: n{n}, action: ok}}")).collect();
    let nodes = nodes.join(", ");
    let report = site.run(&format!("name: o\nnodes: [{nodes}]")).await.unwrap();
    assert!(report.success);
    let mut seen = 0;
    loop {
        let event = events.recv().await.unwrap();
        seen += 1;
        assert_eq!((event.sequence, event.version), (seen, 2));
        assert_eq!(event.run_id, report.run_id);
        if matches!(&event.event, EventKind::RunStateUpdated { status, .. } if status == "completed")
        {
            break;
        }
    }
    let all = site.executor.events(&report.run_id, 0).await.unwrap();
    assert_eq!(all.len(), usize::try_from(seen).unwrap());
    assert_eq!(site.executor.events(&report.run_id, seen - 2).await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_drawn_with_its_states() {
    let site = Site::in_memory(quick()).await;
    let report = site.run("name: d\nnodes:\n  - {id: 'a \"b', action: ok}\n  - {id: c, action: ok, dependencies: ['a \"b']}\n").await.unwrap();
    let dot = site.executor.serialize_tree_to_dot(&report.run_id).await.unwrap();
    assert!(dot.contains(r#""a \"b" -> "c";"#) && dot.contains("completed"), "{dot}");
    let mermaid = site.executor.serialize_tree_to_mermaid("d").await.unwrap();
    assert!(mermaid.contains("n0 --> n1"), "{mermaid}");
    let json: Value =
        serde_json::from_str(&site.executor.serialize_tree_to_json("d").await.unwrap()).unwrap();
    assert_eq!(json["nodes"][1]["state"], json!("completed"));
}
