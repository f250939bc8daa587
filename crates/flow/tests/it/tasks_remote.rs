//! Workers that are no part of the process, the port that tasks are kept by, and values that tasks share.

use std::time::Duration;

use mayfly_flow::{
    ClaimRequest, DagError, Durability, NewTaskSpec, SqliteStorage, Storage as _, Synchronous,
    TaskStatus, TaskSystemBuilder,
};
use tokio::time::Instant;

use crate::sim::SimClock;
use crate::tasks_site::{Desk, fast};

fn claim(max: usize, wait: u64) -> ClaimRequest {
    ClaimRequest {
        agents: vec!["python".into(), "shell".into()],
        max,
        lease: Duration::from_secs(10),
        wait: Duration::from_secs(wait),
    }
}

#[tokio::test(start_paused = true)]
async fn a_remote_worker_claims_beats_completes_fails_and_blocks() {
    let desk = Desk::in_memory(fast().workers(0)).await;
    let a = desk.make("python", "a").await;
    let urgent = NewTaskSpec { priority: 9, ..NewTaskSpec::new("shell", "b") };
    let b = desk.system.create_task(urgent).await.unwrap();
    desk.make("echo", "not for it").await;
    let tasks = desk.system.claim(claim(10, 0)).await.unwrap();
    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    assert_eq!(ids, [b, a], "the urgent one first");
    assert!(desk.system.claim(claim(10, 0)).await.unwrap().is_empty());
    let (mine, other) = (&tasks[0], &tasks[1]);
    let until = desk.system.heartbeat(b, mine.version, Duration::from_mins(1)).await.unwrap();
    assert_eq!(until, desk.in_millis(60_000));
    let error = desk.system.complete(b, mine.version - 1, "x").await.unwrap_err();
    assert!(matches!(error, DagError::StaleLease(_)), "{error}");
    let done = desk.system.complete(b, mine.version, "done").await.unwrap();
    assert_eq!(done, TaskStatus::Completed);
    for late in [
        desk.system.complete(b, mine.version, "again").await,
        desk.system.fail(b, mine.version, "late", true).await,
        desk.system.block(b, mine.version, vec![a]).await,
        desk.system
            .heartbeat(b, mine.version, Duration::from_secs(1))
            .await
            .map(|_| TaskStatus::Running),
    ] {
        assert!(matches!(late, Err(DagError::StaleLease(_))), "{late:?}");
    }
    let new = desk.make("python", "new").await;
    let cycle = NewTaskSpec { dependencies: vec![a], ..NewTaskSpec::new("python", "c") };
    let cycle = desk.system.create_task(cycle).await.unwrap();
    let refused = desk.system.block(a, other.version, vec![cycle]).await;
    assert!(matches!(refused, Err(DagError::InvalidGraph(_))), "{refused:?}");
    let blocked = desk.system.block(a, other.version, vec![new]).await.unwrap();
    assert_eq!(blocked, TaskStatus::Blocked);
    let tasks = desk.system.claim(claim(10, 0)).await.unwrap();
    assert_eq!(tasks.len(), 1);
    let retry = desk.system.fail(new, tasks[0].version, "flaky", false).await.unwrap();
    assert_eq!(retry, TaskStatus::Pending);
    // The delay passes while it waits.
    let tasks = desk.system.claim(claim(10, 30)).await.unwrap();
    assert_eq!((tasks[0].id, tasks[0].retries), (new, 1));
    desk.system.complete(new, tasks[0].version, "").await.unwrap();
    let tasks = desk.system.claim(claim(10, 0)).await.unwrap();
    assert_eq!((tasks[0].id, tasks[0].deliveries), (a, 2));
}

#[tokio::test(start_paused = true)]
async fn case_20_a_waiting_claim_is_woken_and_a_silent_worker_is_replaced_after_its_lease() {
    let desk = Desk::in_memory(fast().workers(0)).await;
    let system = desk.system.clone();
    let waiting = tokio::spawn(async move { system.claim(claim(1, 60)).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let began = Instant::now();
    let id = desk.make("python", "a").await;
    let first = waiting.await.unwrap();
    assert_eq!(first[0].id, id);
    assert!(began.elapsed() < Duration::from_millis(1), "it did not wait for a poll");
    let again = desk.system.claim(claim(1, 60)).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 10, "as soon as the lease was over");
    assert_eq!((again[0].id, again[0].recoveries), (id, 1));
    let error = desk.system.complete(id, first[0].version, "late").await.unwrap_err();
    assert!(matches!(error, DagError::StaleLease(_)), "{error}");
    desk.system.complete(id, again[0].version, "in time").await.unwrap();
    let began = Instant::now();
    assert!(desk.system.claim(claim(1, 60)).await.unwrap().is_empty());
    assert_eq!(began.elapsed().as_secs(), 60);
    let recovered = desk.system.recovery_stats().await.unwrap();
    assert_eq!((recovered.retried, recovered.paused, recovered.failed), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_loses_every_worker_is_paused_and_one_that_must_not_repeat_at_once() {
    let desk = Desk::in_memory(fast().workers(0)).await;
    let id = desk.make("python", "poison").await;
    for delivery in 1..=6 {
        let tasks = desk.system.claim(claim(1, 60)).await.unwrap();
        assert_eq!(tasks[0].deliveries, delivery);
    }
    let task = desk.system.wait(id).await.unwrap();
    assert_eq!((task.status, task.recoveries), (TaskStatus::Paused, 5));
    assert_eq!(task.status_reason.as_deref(), Some("its worker was lost 6 times"));
    let once = NewTaskSpec { durability: Durability::AtMostOnce, ..NewTaskSpec::new("shell", "x") };
    let once = desk.system.create_task(once).await.unwrap();
    desk.system.claim(claim(1, 0)).await.unwrap();
    let task = desk.system.wait(once).await.unwrap();
    assert_eq!((task.status, task.deliveries), (TaskStatus::Paused, 1));
    assert_eq!(desk.system.recovery_stats().await.unwrap().paused, 2);
    assert_eq!(desk.system.resume(id).await.unwrap(), TaskStatus::Ready);
}

#[tokio::test(start_paused = true)]
async fn claims_that_make_no_sense_are_refused_by_field() {
    let desk = Desk::in_memory(fast().workers(0)).await;
    let cases = [
        (ClaimRequest { agents: Vec::new(), ..claim(1, 0) }, "`agents`"),
        (claim(0, 0), "`max`"),
        (claim(1, 61), "`wait`"),
        (ClaimRequest { lease: Duration::ZERO, ..claim(1, 0) }, "`lease`"),
    ];
    for (request, field) in cases {
        let error = desk.system.claim(request).await.unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_systems_on_one_file_share_the_work_and_each_task_runs_once() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("t.db").display());
    let clock = SimClock::new();
    let first = Desk::open(&url, clock.clone(), fast()).await;
    let second = Desk::open(&url, clock, fast().poll(Duration::from_millis(20))).await;
    let specs = (0..300).map(|n| NewTaskSpec::new("echo", format!("t{n}")));
    let ids = first.system.create_tasks(specs.collect()).await.unwrap();
    for id in ids {
        assert_eq!(second.system.wait(id).await.unwrap().status, TaskStatus::Completed);
    }
    let (mut all, others) = (first.notes.counts(), second.notes.counts());
    all.extend(others.clone());
    assert_eq!(all.len(), 300);
    let sum: usize = first.notes.all().len() + second.notes.all().len();
    assert_eq!(sum, 300, "a task ran in both");
}

#[tokio::test(start_paused = true)]
async fn the_port_of_the_seed_puts_gets_swaps_and_reserves() {
    let storage = SqliteStorage::new("sqlite::memory:").await.unwrap();
    let system = TaskSystemBuilder::new().workers(0).build(storage.clone()).unwrap();
    let id = system.create_task(NewTaskSpec::new("a", "in")).await.unwrap();
    let mut task = storage.get(id).await.unwrap().unwrap();
    let reserved = storage.next_task_id().await.unwrap();
    assert!(reserved > id);
    task.id = reserved;
    storage.put(&task).await.unwrap();
    assert!(system.create_task(NewTaskSpec::new("a", "in")).await.unwrap() > reserved);
    let (ready, running) = (TaskStatus::Ready, TaskStatus::Running);
    storage.update_status(reserved, ready, running).await.unwrap();
    let error = storage.update_status(reserved, ready, running).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("expected status ready, actual status running"), "{text}");
    assert_eq!(storage.get_status(reserved).await.unwrap(), Some(running));
    assert_eq!(storage.list_running().await.unwrap()[0].id, reserved);
    storage.update_output(reserved, b"out").await.unwrap();
    assert_eq!(storage.get_output(reserved).await.unwrap().as_deref(), Some(&b"out"[..]));
    storage.update_status(reserved, running, TaskStatus::Completed).await.unwrap();
    assert!(storage.list_running().await.unwrap().is_empty());
    storage.flush().await.unwrap();
    let missing = storage.update_status(mayfly_flow::TaskId(99), ready, running).await;
    assert!(matches!(missing, Err(DagError::NodeNotFound(_))), "{missing:?}");
    storage.set_shared_state("s", "k", b"v").await.unwrap();
    assert_eq!(storage.get_shared_state("s", "k").await.unwrap().as_deref(), Some(&b"v"[..]));
    assert!(storage.delete_shared_state("s", "k").await.unwrap());
    assert!(!storage.delete_shared_state("s", "k").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn shared_values_are_swapped_by_version_and_end() {
    let desk = Desk::in_memory(fast().synchronous(Synchronous::Normal)).await;
    let shared = desk.system.shared_state();
    assert_eq!(shared.get("s", "k").await.unwrap(), None);
    let first = shared.put_if("s", "k", "one", 0, None).await.unwrap();
    let second = shared.put_if("s", "k", "two", first, None).await.unwrap();
    let error = shared.put_if("s", "k", "three", first, None).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("expected version {first}, actual version {second}")),
        "{error}"
    );
    assert!(shared.put_if("s", "k", "three", 0, None).await.is_err());
    assert!(shared.delete_if("s", "k", first).await.is_err());
    assert!(shared.delete("s", "k").await.unwrap());
    let third = shared.put("s", "k", "again").await.unwrap();
    assert!(third > second, "a version came twice");
    shared.put_for("s", "short", "lived", Duration::from_mins(1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(shared.get("s", "short").await.unwrap().as_deref(), Some(&b"lived"[..]));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(shared.get("s", "short").await.unwrap(), None);
    let racers = (0..10).map(|n: u32| {
        let shared = shared.clone();
        tokio::spawn(
            async move { shared.put_if("s", "race", n.to_string(), 0, None).await.is_ok() },
        )
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        won += u32::from(racer.await.unwrap());
    }
    assert_eq!(won, 1);
}

#[tokio::test(start_paused = true)]
async fn case_17_a_full_disk_keeps_ends_of_attempts_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::on(&folder.path().join("t.db"), fast()).await;
    desk.gate.close();
    let id = desk.make("gate", &"x".repeat(100_000)).await;
    desk.until("a busy worker", |desk| desk.system.scheduler_stats().busy == 1).await;
    desk.system.storage().limit_pages_for_tests(1).await;
    desk.gate.open();
    let failed = async || desk.system.recovery_stats().await.unwrap().failed;
    while failed().await == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Pages that were given back make room for less than this.
    let refused = desk.system.create_task(NewTaskSpec::new("echo", "x".repeat(900_000))).await;
    assert!(matches!(&refused, Err(DagError::DatabaseError(text)) if text.contains("full")));
    assert_eq!(desk.system.status(id).await.unwrap(), Some(TaskStatus::Running));
    desk.system.storage().limit_pages_for_tests(1_000_000).await;
    let task = desk.system.wait(id).await.unwrap();
    assert_eq!((task.status, task.deliveries), (TaskStatus::Completed, 1));
    assert_eq!(desk.notes.all().len(), 1, "it ran again");
}

#[tokio::test(start_paused = true)]
async fn tasks_that_are_over_are_forgotten_unless_an_open_one_needs_them() {
    let desk = Desk::in_memory(fast()).await;
    let (old, needed) = (desk.make("echo", "old").await, desk.make("echo", "needed").await);
    desk.system.wait(needed).await.unwrap();
    desk.system.wait(old).await.unwrap();
    let open = NewTaskSpec {
        dependencies: vec![needed],
        run_at: Some(desk.in_millis(7_200_000)),
        ..NewTaskSpec::new("echo", "open")
    };
    let open = desk.system.create_task(open).await.unwrap();
    let part = NewTaskSpec { parent: Some(open), ..NewTaskSpec::new("echo", "part") };
    let part = desk.system.create_task(part).await.unwrap();
    desk.system.wait(part).await.unwrap();
    assert_eq!(desk.system.forget(Duration::from_hours(1)).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_mins(61)).await;
    assert_eq!(desk.system.forget(Duration::from_hours(1)).await.unwrap(), 1);
    assert!(desk.system.get(old).await.unwrap().is_none());
    desk.system.wait(open).await.unwrap();
    assert_eq!(desk.system.forget(Duration::ZERO).await.unwrap(), 2);
    assert!(desk.make("echo", "new").await > part, "an id came again");
}
