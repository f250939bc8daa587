//! Channels in a file: restarts, kills, several processes.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mayfly_flow::{
    DagError, Execution, PubSubConfig, PubSubExecutor, Read, SqliteStorage, StartAt, StorageOptions,
};
use serde_json::{Value, json};

use crate::kill::Dice;
use crate::pubsub::{Got, Made, noting, start};
use crate::sim::SimClock;

/// In the child's environment: folder, and after how many messages it dies.
const CHILD: &str = "MAYFLY_FLOW_KILL_PUBSUB";
const MESSAGES: i64 = 5_000;
/// Messages whose acknowledgement may not be written yet.
const UNWRITTEN: usize = 513;

async fn open(folder: &Path) -> PubSubExecutor {
    let database = format!("sqlite:{}", folder.join("f.db").display());
    let config = PubSubConfig { database, retry_initial_ms: 1, ..PubSubConfig::default() };
    PubSubExecutor::new(Some(config)).await.unwrap()
}

/// Appends what it gets to a file; aborts at a message, or after so many.
fn effect(folder: &Path, die_after: Option<u64>) -> Made {
    let file = std::fs::File::options().append(true).create(true).open(folder.join("effects"));
    let (file, mut count) = (file.unwrap(), 0);
    let mut agent = Made::new("effect", &["c"], move |_, message| {
        (&file).write_all(format!("{}\n", message.payload).as_bytes())?;
        count += 1;
        if die_after == Some(count) || message.payload == json!("poison") {
            std::process::abort();
        }
        Ok(Vec::new())
    });
    agent.start = StartAt::Earliest;
    agent
}

/// The child's life; an empty test when it is not one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_of_the_pubsub_kill_tests() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let order: Value = serde_json::from_str(&order).unwrap();
    let folder = Path::new(order["folder"].as_str().unwrap());
    let executor = open(folder).await;
    executor.register_agent(effect(folder, order["die_after"].as_u64())).await.unwrap();
    executor.execute(Execution::Reactive).await.unwrap();
}

fn kill_child(folder: &Path, die_after: Option<u64>) {
    let order = json!({ "folder": folder, "die_after": die_after });
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pubsub_file::child_of_the_pubsub_kill_tests", "--nocapture"])
        .env(CHILD, order.to_string())
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(6), "{}", String::from_utf8_lossy(&output.stderr));
}

fn effects(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("effects")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_15_five_thousand_messages_and_two_kills_keep_order_and_repeat_only_what_was_not_acknowledged()
 {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path()).await;
    executor.declare_channel("c").await.unwrap();
    let mut publishing = tokio::task::JoinSet::new();
    for n in 1..=MESSAGES {
        // In order, since each is given to the queue before the next.
        let executor = executor.clone();
        publishing.spawn(async move { executor.publish("c", json!(n)).await.unwrap() });
        if n % 500 == 0 {
            while publishing.join_next().await.is_some() {}
        }
    }
    drop(executor);
    let mut dice = Dice::new();
    for _ in 0..2 {
        kill_child(folder.path(), Some(1 + dice.below(2_400)));
    }
    let executor = open(folder.path()).await;
    let expected: Vec<String> = {
        let all = executor.read("c", Read { max: 1_000, ..Read::default() }).await.unwrap();
        assert_eq!(all.len(), 1_000);
        let mut seen = Vec::new();
        for page in 0..5 {
            let from = Some(StartAt::Sequence(page * 1_000 + 1));
            let read = Read { from, max: 1_000, ..Read::default() };
            let page = executor.read("c", read).await.unwrap();
            seen.extend(page.into_iter().map(|message| message.payload.to_string()));
        }
        seen
    };
    executor.register_agent(effect(folder.path(), None)).await.unwrap();
    executor.execute(start("c", json!("end"))).await.unwrap();
    let mut all = effects(folder.path());
    assert_eq!(all.pop().as_deref(), Some("\"end\""));
    // Each life goes on in order from something that an earlier one had in hand.
    let (mut at, mut repeated) = (0, 0);
    for effect in all {
        if expected.get(at) != Some(&effect) {
            let back = expected.iter().position(|known| *known == effect).unwrap();
            assert!(back < at && at - back <= UNWRITTEN, "{back} after {at}");
            repeated += at - back;
            at = back;
        }
        at += 1;
    }
    assert_eq!(at, expected.len());
    assert!(repeated <= 2 * UNWRITTEN, "{repeated} repeated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_ends_the_process_each_time_lands_among_the_dead() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path()).await;
    executor.declare_channel("c").await.unwrap();
    for payload in [json!("poison"), json!("good")] {
        executor.publish("c", payload).await.unwrap();
    }
    drop(executor);
    // The first end is not counted: nobody knew yet that attempts had to be.
    for _ in 0..4 {
        kill_child(folder.path(), None);
    }
    let executor = open(folder.path()).await;
    executor.register_agent(effect(folder.path(), None)).await.unwrap();
    executor.execute(start("c", json!("end"))).await.unwrap();
    let poison = effects(folder.path()).iter().filter(|line| *line == "\"poison\"").count();
    assert_eq!(poison, 4);
    let dead = executor.read("c.dead", Read::default()).await.unwrap();
    assert!(dead[0].payload["error"].as_str().unwrap().contains("cut short"), "{dead:?}");
    assert_eq!(effects(folder.path())[4..], ["\"good\"", "\"end\""]);
}

async fn shared(url: &str, clock: &Arc<SimClock>) -> PubSubExecutor {
    let options = StorageOptions { clock: clock.clone(), ..StorageOptions::default() };
    let storage = SqliteStorage::open(url, options).await.unwrap();
    PubSubExecutor::with_storage(PubSubConfig::default(), storage).await.unwrap()
}

fn run(executor: &PubSubExecutor) -> tokio::task::JoinHandle<()> {
    let executor = executor.clone();
    tokio::spawn(async move { drop(executor.execute(Execution::Reactive).await) })
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_the_subscriber_was_and_new_ones_begin_where_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("f.db").display());
    let clock = SimClock::new();
    let executor = shared(&url, &clock).await;
    let got = Got::default();
    executor.register_agent(noting("a", &["c"], &got)).await.unwrap();
    executor.execute(start("c", json!(1))).await.unwrap();
    executor.stop().await;
    executor.publish("c", json!(2)).await.unwrap();
    drop(executor);
    let executor = shared(&url, &clock).await;
    executor.register_agent(noting("a", &["c"], &got)).await.unwrap();
    let (early, third) = (Got::default(), Got::default());
    let mut agent = noting("early", &["c"], &early);
    agent.start = StartAt::Earliest;
    executor.register_agent(agent).await.unwrap();
    let mut agent = noting("second", &["c"], &third);
    agent.start = StartAt::Sequence(2);
    executor.register_agent(agent).await.unwrap();
    executor.execute(start("c", json!(3))).await.unwrap();
    assert_eq!(got.all(), [json!(1), json!(2), json!(3)]);
    assert_eq!(early.all(), [json!(1), json!(2), json!(3)]);
    assert_eq!(third.all(), [json!(2), json!(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_works_in_one_process_at_a_time_and_a_late_one_is_fenced() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("f.db").display());
    let clock = SimClock::new();
    let (first, second) = (shared(&url, &clock).await, shared(&url, &clock).await);
    let (mine, yours) = (Got::default(), Got::default());
    first.register_agent(noting("a", &["c"], &mine)).await.unwrap();
    second.register_agent(noting("a", &["c"], &yours)).await.unwrap();
    let running = [run(&first), run(&second)];
    // Published by the one, handled by the other.
    second.publish("c", json!(1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!((mine.all(), yours.all()), (vec![json!(1)], vec![]));
    // The first looks like a process that was stopped: its lease is over.
    let db = rusqlite::Connection::open(folder.path().join("f.db")).unwrap();
    let owner: String =
        db.query_row("SELECT owner FROM message_cursors", [], |row| row.get(0)).unwrap();
    db.execute("UPDATE owners SET lease_expires_at = 0 WHERE owner = ?1", [&owner]).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let now: String =
        db.query_row("SELECT owner FROM message_cursors", [], |row| row.get(0)).unwrap();
    assert_ne!(owner, now, "nobody took it over");
    second.publish("c", json!(2)).await.unwrap();
    first.publish("c", json!(3)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let all = yours.all();
    assert!(all.ends_with(&[json!(2), json!(3)]), "{all:?}");
    assert_eq!(mine.all(), [json!(1)], "it went on after its subscriber was taken over");
    second.stop().await;
    first.publish("c", json!(4)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(mine.all().last(), Some(&json!(4)));
    first.stop().await;
    for task in running {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_a_lost_subscriber_cannot_publish() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("f.db").display());
    let executor = shared(&url, &SimClock::new()).await;
    let path = folder.path().join("f.db");
    let mut is_first = true;
    let mut agent = Made::new("a", &["c"], move |_, _| {
        if !std::mem::take(&mut is_first) {
            return Ok(Vec::new());
        }
        // Another process takes the subscriber over just now.
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute("UPDATE message_cursors SET version = version + 1, owner = NULL", []).unwrap();
        Ok(vec![("out".to_owned(), json!("late"))])
    });
    agent.gives = vec!["out"];
    executor.register_agent(agent).await.unwrap();
    let running = run(&executor);
    executor.publish("c", json!(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    executor.stop().await;
    running.await.unwrap();
    for channel in ["out", "c.dead"] {
        let found = executor.read(channel, Read::default()).await.unwrap();
        assert!(found.is_empty(), "{found:?}");
    }
    assert!(matches!(executor.execute(Execution::Reactive).await, Err(DagError::InvalidState(_))));
}
