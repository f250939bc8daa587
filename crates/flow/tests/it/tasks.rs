//! Tasks from outside: what begins when, what is decided about it, what callers can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mayfly_flow::{
    AgentError, DagError, Durability, NewTaskSpec, TaskContext, TaskFilter, TaskId, TaskResolution,
    TaskStatus, TaskType, async_trait,
};
use serde_json::json;
use tokio::time::Instant;

use crate::tasks_site::{Desk, fast};

#[tokio::test(start_paused = true)]
async fn a_task_runs_and_its_output_is_kept() {
    let desk = Desk::in_memory(fast()).await;
    let spec = NewTaskSpec {
        description: "greet".into(),
        task_type: TaskType::Story,
        ..NewTaskSpec::new("echo", "hello")
    };
    let id = desk.system.submit(spec).await.unwrap();
    let task = desk.system.wait(id).await.unwrap();
    assert_eq!((task.status, task.output.as_deref()), (TaskStatus::Completed, Some(&b"hello"[..])));
    assert_eq!((task.deliveries, task.retries, task.version), (1, 0, 3));
    assert_eq!((task.description.as_str(), task.task_type), ("greet", TaskType::Story));
    let stats = desk.system.scheduler_stats();
    assert_eq!((stats.submitted, stats.claimed, stats.completed), (1, 1, 1));
    let counts = desk.system.queue_stats().await.unwrap();
    assert_eq!((counts.ready, counts.running, counts.capacity), (0, 0, 10_000));
}

#[tokio::test(start_paused = true)]
async fn regression_26_nothing_ticks_a_chain_takes_no_time_and_an_idle_system_no_turns() {
    let desk = Desk::in_memory(fast()).await;
    let began = Instant::now();
    let mut before = Vec::new();
    for _ in 0..50 {
        let spec = NewTaskSpec { dependencies: before, ..NewTaskSpec::new("echo", "x") };
        before = vec![desk.system.create_task(spec).await.unwrap()];
    }
    assert_eq!(desk.system.wait(before[0]).await.unwrap().status, TaskStatus::Completed);
    assert!(began.elapsed() < Duration::from_millis(1), "{:?}", began.elapsed());
    let turns = desk.system.scheduler_stats().turns;
    tokio::time::sleep(Duration::from_mins(10)).await;
    let idle = desk.system.scheduler_stats().turns - turns;
    assert!(idle <= 600 / 30 + 2, "{idle} turns in ten idle minutes");
}

#[tokio::test(start_paused = true)]
async fn priorities_come_first_and_equal_ones_in_order() {
    let desk = Desk::in_memory(fast().workers(1)).await;
    desk.gate.close();
    let gate = desk.make("gate", "first").await;
    desk.until_began("first", 1).await;
    let of =
        |priority, name: &'static str| NewTaskSpec { priority, ..NewTaskSpec::new("echo", name) };
    let specs = vec![of(0, "c"), of(5, "a"), of(0, "d"), of(5, "b"), of(-1, "e")];
    let ids = desk.system.create_tasks(specs).await.unwrap();
    desk.gate.open();
    for id in ids.into_iter().chain([gate]) {
        assert_eq!(desk.system.wait(id).await.unwrap().status, TaskStatus::Completed);
    }
    assert_eq!(desk.notes.all(), ["first", "a", "b", "c", "d", "e"]);
}

#[tokio::test(start_paused = true)]
async fn failures_are_repeated_after_delays_and_a_user_error_is_not() {
    let desk = Desk::in_memory(fast().retry_jitter(0.0)).await;
    let began = Instant::now();
    let id = desk.make("fail", "system").await;
    let task = desk.system.wait(id).await.unwrap();
    assert_eq!((task.status, task.retries, task.deliveries), (TaskStatus::Failed, 3, 4));
    assert_eq!(began.elapsed().as_secs(), 1 + 2 + 4);
    assert_eq!(task.status_reason.as_deref(), Some("system went wrong"));
    let id = desk.make("fail", "user").await;
    let task = desk.system.wait(id).await.unwrap();
    assert_eq!((task.status, task.deliveries), (TaskStatus::Failed, 1));
    let stats = desk.system.scheduler_stats();
    assert_eq!((stats.failed, stats.retried), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn time_limits_end_attempts_and_panics_are_failures() {
    let desk = Desk::in_memory(fast()).await;
    let spec = NewTaskSpec {
        timeout: Some(Duration::from_secs(7)),
        max_retries: Some(0),
        ..NewTaskSpec::new("never", "x")
    };
    let began = Instant::now();
    let id = desk.system.create_task(spec).await.unwrap();
    let task = desk.system.wait(id).await.unwrap();
    assert!(task.status_reason.unwrap().contains("longer than 7s"));
    assert_eq!(began.elapsed().as_secs(), 7);
    let spec = NewTaskSpec { max_retries: Some(0), ..NewTaskSpec::new("panic", "x") };
    let id = desk.system.create_task(spec).await.unwrap();
    let reason = desk.system.wait(id).await.unwrap().status_reason.unwrap();
    assert!(reason.contains("panicked: on purpose"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_task_waits_for_its_time() {
    let desk = Desk::in_memory(fast()).await;
    let at = desk.in_millis(90_000);
    let spec = NewTaskSpec { run_at: Some(at), ..NewTaskSpec::new("echo", "x") };
    let id = desk.system.create_task(spec).await.unwrap();
    assert_eq!(desk.system.status(id).await.unwrap(), Some(TaskStatus::Pending));
    let began = Instant::now();
    desk.system.wait(id).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 90);
}

#[tokio::test(start_paused = true)]
async fn failures_spread_to_dependents_with_the_first_cause() {
    let desk = Desk::in_memory(fast()).await;
    let a = desk.make("fail", "user").await;
    let of = |on| NewTaskSpec { dependencies: vec![on], ..NewTaskSpec::new("echo", "x") };
    let b = desk.system.create_task(of(a)).await.unwrap();
    let c = desk.system.create_task(of(b)).await.unwrap();
    let last = desk.system.wait(c).await.unwrap();
    assert_eq!(last.status, TaskStatus::Failed);
    let reason = last.status_reason.unwrap();
    assert_eq!(reason, format!("depends on task {b}, which is failed: user went wrong"));
    assert_eq!(desk.system.status(b).await.unwrap(), Some(TaskStatus::Failed));
    // One that is made afterwards fails at once.
    let d = desk.system.create_task(of(a)).await.unwrap();
    assert_eq!(desk.system.status(d).await.unwrap(), Some(TaskStatus::Failed));
    assert_eq!(desk.notes.all(), ["user"]);
}

#[tokio::test(start_paused = true)]
async fn cycles_and_unknown_dependencies_are_refused() {
    let desk = Desk::in_memory(fast().workers(0)).await;
    let ids = desk.system.create_tasks(vec![NewTaskSpec::new("echo", "x"); 3]).await.unwrap();
    let [a, b, c] = ids[..] else { panic!("{ids:?}") };
    desk.system.add_dependency(a, b).await.unwrap();
    assert_eq!(desk.system.add_dependency(b, c).await.unwrap(), TaskStatus::Blocked);
    let error = desk.system.add_dependency(c, a).await.unwrap_err();
    let path = format!("{c} -> {a} -> {b} -> {c}");
    assert!(
        matches!(&error, DagError::InvalidGraph(text) if text.contains(&path)),
        "{error}, not {path}"
    );
    let error = desk.system.add_dependency(a, a).await.unwrap_err();
    assert!(matches!(error, DagError::InvalidGraph(_)), "{error}");
    let error = desk.system.add_dependency(a, TaskId(99)).await.unwrap_err();
    assert!(matches!(error, DagError::DependencyNotFound(_)), "{error}");
    let spec = NewTaskSpec { dependencies: vec![TaskId(99)], ..NewTaskSpec::new("echo", "x") };
    let error = desk.system.create_tasks(vec![NewTaskSpec::new("echo", "y"), spec]).await;
    assert!(matches!(error, Err(DagError::DependencyNotFound(_))));
    assert_eq!(desk.system.list(TaskFilter::default(), 100).await.unwrap().len(), 3, "all or none");
    assert_eq!(desk.system.status(c).await.unwrap(), Some(TaskStatus::Ready));
    assert_eq!(desk.system.dependencies(a).await.unwrap(), [b]);
}

/// Spawns two parts, waits for them, and joins their outputs.
struct Splitter(AtomicU32);

#[async_trait]
impl mayfly_flow::TaskAgent for Splitter {
    fn name(&self) -> String {
        "split".to_owned()
    }

    async fn execute(&self, input: Bytes, ctx: Arc<TaskContext>) -> Result<Bytes, AgentError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let mut parts = Vec::new();
        for word in String::from_utf8_lossy(&input).split(' ') {
            let spec = NewTaskSpec::new("echo", word.to_owned());
            parts.push(ctx.handle().spawn_task(spec).await?);
        }
        let last = NewTaskSpec::new("echo", "last");
        parts.push(ctx.handle().spawn_dependent(parts[0], last).await?);
        ctx.wait_for(&parts).await?;
        let mut joined = Vec::new();
        for part in parts {
            let output = ctx.dependency_output(part).await?.unwrap_or_default();
            joined.push(String::from_utf8_lossy(&output).into_owned());
        }
        Ok(joined.join("+").into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_new_ones_frees_its_worker_and_runs_again() {
    let desk = Desk::in_memory(fast().workers(1)).await;
    let agent = Arc::new(Splitter(AtomicU32::new(0)));
    desk.system.register(agent.clone()).unwrap();
    let id = desk.make("split", "a b a").await;
    let task = desk.system.wait(id).await.unwrap();
    assert_eq!(task.output.as_deref(), Some(&b"a+b+a+last"[..]), "{task:?}");
    assert_eq!((agent.0.load(Ordering::SeqCst), task.deliveries, task.retries), (2, 2, 0));
    let parts = TaskFilter { parent: Some(id), ..TaskFilter::default() };
    assert_eq!(desk.system.list(parts, 100).await.unwrap().len(), 4, "the second run made more");
    assert_eq!(desk.system.scheduler_stats().blocked, 1);
}

#[tokio::test(start_paused = true)]
async fn a_running_task_that_a_caller_blocks_runs_again_after_its_dependency() {
    let desk = Desk::in_memory(fast()).await;
    desk.gate.close();
    let current = desk.make("gate", "current").await;
    desk.until_began("current", 1).await;
    let spec =
        NewTaskSpec { run_at: Some(desk.in_millis(60_000)), ..NewTaskSpec::new("echo", "new") };
    let new = desk.system.create_task(spec).await.unwrap();
    assert_eq!(desk.system.add_dependency(current, new).await.unwrap(), TaskStatus::Running);
    let blocked = desk.system.update_status(current, TaskStatus::Blocked).await.unwrap();
    assert_eq!(blocked, TaskStatus::Blocked);
    desk.gate.open();
    let task = desk.system.wait(current).await.unwrap();
    assert_eq!((task.status, task.deliveries), (TaskStatus::Completed, 2));
    assert_eq!(desk.notes.all(), ["current", "new", "current"]);
    assert_eq!(desk.system.scheduler_stats().stale, 1, "the first attempt was too late");
}

#[tokio::test(start_paused = true)]
async fn cancelled_attempts_are_told_then_aborted_and_never_complete() {
    let desk = Desk::in_memory(fast()).await;
    let id = desk.make("never", "deaf").await;
    let after = NewTaskSpec { dependencies: vec![id], ..NewTaskSpec::new("echo", "after") };
    let after = desk.system.create_task(after).await.unwrap();
    desk.until_began("deaf", 1).await;
    assert_eq!(desk.system.cancel(id).await.unwrap(), TaskStatus::Rejected);
    assert_eq!(desk.system.cancel(id).await.unwrap(), TaskStatus::Rejected);
    assert_eq!(desk.system.wait(after).await.unwrap().status, TaskStatus::Failed);
    desk.until("a free worker", |desk| desk.system.scheduler_stats().busy == 0).await;
    let listening = desk.make("listen", "ear").await;
    desk.until_began("ear", 1).await;
    desk.system.pause(listening, "for lunch").await.unwrap();
    desk.until("heard", |desk| desk.notes.all().contains(&"heard".to_owned())).await;
    let task = desk.system.wait(listening).await.unwrap();
    assert_eq!(
        (task.status, task.status_reason.as_deref()),
        (TaskStatus::Paused, Some("for lunch"))
    );
    assert_eq!(desk.system.resume(listening).await.unwrap(), TaskStatus::Ready);
    desk.until_began("ear", 2).await;
    let parts = desk.system.cancel_with_parts(listening).await.unwrap();
    assert_eq!(parts, TaskStatus::Rejected);
}

#[tokio::test(start_paused = true)]
async fn results_are_accepted_or_rejected_and_races_have_one_winner() {
    let desk = Desk::in_memory(fast()).await;
    let (a, b) = (desk.make("echo", "a").await, desk.make("echo", "b").await);
    for id in [a, b] {
        desk.system.wait(id).await.unwrap();
    }
    assert_eq!(desk.system.accept(a).await.unwrap(), TaskStatus::Accepted);
    assert_eq!(desk.system.reject(b, "too short").await.unwrap(), TaskStatus::Rejected);
    let error = desk.system.update_status(a, TaskStatus::Running).await.unwrap_err();
    assert!(error.to_string().contains("is accepted; it cannot become running"), "{error}");
    let after = NewTaskSpec { dependencies: vec![a], ..NewTaskSpec::new("echo", "c") };
    let c = desk.system.create_task(after).await.unwrap();
    assert_eq!(desk.system.wait(c).await.unwrap().status, TaskStatus::Completed);
    let racers = (0..20).map(|_| {
        let system = desk.system.clone();
        tokio::spawn(async move {
            system.compare_and_set(c, TaskStatus::Completed, TaskStatus::Accepted).await
        })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert!(
                error.to_string().contains("expected status completed, actual status accepted"),
                "{error}"
            ),
        }
    }
    assert_eq!(won, 1);
}

#[tokio::test(start_paused = true)]
async fn keys_make_a_task_once_and_wrong_input_is_refused_at_once() {
    let desk = Desk::in_memory(fast()).await;
    let keyed = NewTaskSpec { key: Some("order 7".into()), ..NewTaskSpec::new("echo", "x") };
    let first = desk.system.create_task(keyed.clone()).await.unwrap();
    let again = desk.system.create_tasks(vec![keyed.clone(), keyed.clone()]).await.unwrap();
    assert_eq!(again, [first, first]);
    let elsewhere = NewTaskSpec { parent: Some(first), ..keyed };
    assert_ne!(desk.system.create_task(elsewhere).await.unwrap(), first);
    let error = desk.system.create_task(NewTaskSpec::json("strict", &json!(5))).await.unwrap_err();
    assert!(error.to_string().contains("input does not match its schema"), "{error}");
    let wrong = NewTaskSpec::json("strict", &json!({ "give": "text" }));
    let id = desk.system.create_task(wrong).await.unwrap();
    let task = desk.system.wait(id).await.unwrap();
    assert_eq!((task.status, task.deliveries), (TaskStatus::Failed, 1));
    assert!(task.status_reason.unwrap().contains("output does not match"));
    let right = NewTaskSpec::json("strict", &json!({ "give": 5 }));
    let id = desk.system.create_task(right).await.unwrap();
    assert_eq!(desk.system.wait(id).await.unwrap().output_json().unwrap(), json!(5));
}

#[tokio::test(start_paused = true)]
async fn the_outbox_tells_every_change_in_order_and_is_bounded() {
    let desk = Desk::in_memory(fast().outbox(10)).await;
    let id = desk.make("echo", "x").await;
    desk.system.wait(id).await.unwrap();
    let events = desk.system.outbox(100).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(kinds, ["task.ready", "task.running", "task.completed"]);
    let last: serde_json::Value = serde_json::from_slice(&events[2].payload).unwrap();
    assert_eq!((&last["task_id"], &last["from"]), (&json!(id.0), &json!("running")));
    desk.system.outbox_processed(events[1].id).await.unwrap();
    assert_eq!(desk.system.outbox(100).await.unwrap(), events[2..]);
    for _ in 0..10 {
        let id = desk.make("echo", "x").await;
        desk.system.wait(id).await.unwrap();
    }
    assert!(desk.system.outbox(100).await.unwrap().len() <= 13);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_system_gives_its_work_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let desk = Desk::on(&path, fast().workers(2)).await;
    let deaf = desk.make("never", "deaf").await;
    let once =
        NewTaskSpec { durability: Durability::AtMostOnce, ..NewTaskSpec::new("never", "once") };
    let once = desk.system.create_task(once).await.unwrap();
    desk.until_began("deaf", 1).await;
    desk.until_began("once", 1).await;
    let queued = desk.make("echo", "queued").await;
    desk.system.stop().await;
    desk.system.stop().await;
    let error = desk.system.wait(deaf).await.unwrap_err();
    assert!(matches!(error, DagError::InvalidState(_)), "{error}");
    let status = |id| desk.system.status(id);
    assert_eq!(status(deaf).await.unwrap(), Some(TaskStatus::Ready));
    assert_eq!(status(queued).await.unwrap(), Some(TaskStatus::Ready));
    let doubt = desk.system.get(once).await.unwrap().unwrap();
    assert_eq!(doubt.status, TaskStatus::Paused);
    assert!(doubt.status_reason.unwrap().contains("resolve"));
    let again = Desk::on(&path, fast()).await;
    let done = TaskResolution::Complete("paid".into());
    again.system.resolve(once, done).await.unwrap();
    assert_eq!(again.system.wait(once).await.unwrap().output.as_deref(), Some(&b"paid"[..]));
    assert_eq!(again.system.wait(queued).await.unwrap().status, TaskStatus::Completed);
}
