//! Workers that are killed or stopped: this program runs again as a child that works on the same file.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mayfly_flow::{
    AgentError, Durability, NewTaskSpec, Synchronous, TaskAgent, TaskContext, TaskFilter, TaskId,
    TaskResolution, TaskStatus, TaskSystem, TaskSystemBuilder, async_trait,
};
use serde_json::{Value, json};

/// In the child's environment: what it is to do.
const CHILD: &str = "MAYFLY_FLOW_TASKS_CHILD";
const TASKS: usize = 1_000;
/// Every task depends on the one so many before it.
const WIDTH: usize = 25;

/// Appends its input to a file; aborts its process near the effect of the given number, or waits for a file.
struct Effect {
    file: std::fs::File,
    count: AtomicU64,
    die_at: Option<u64>,
    lag: Duration,
    wait_for: Option<std::path::PathBuf>,
}

#[async_trait]
impl TaskAgent for Effect {
    fn name(&self) -> String {
        "effect".to_owned()
    }

    async fn execute(&self, input: Bytes, _ctx: Arc<TaskContext>) -> Result<Bytes, AgentError> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        if self.die_at == Some(number) {
            let lag = self.lag;
            // Somewhere between this effect and the commits after it.
            std::thread::spawn(move || {
                let began = Instant::now();
                while began.elapsed() < lag {
                    std::hint::spin_loop();
                }
                std::process::abort();
            });
        }
        let line = [&input[..], b"\n"].concat();
        (&self.file).write_all(&line).map_err(|error| AgentError::System(error.to_string()))?;
        while self.wait_for.as_ref().is_some_and(|path| !path.exists()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(input)
    }
}

fn effect(folder: &Path, order: &Value) -> Arc<Effect> {
    let file =
        std::fs::File::options().append(true).create(true).open(folder.join("effects")).unwrap();
    Arc::new(Effect {
        file,
        count: AtomicU64::new(0),
        die_at: order["die_at"].as_u64(),
        lag: Duration::from_micros(order["lag"].as_u64().unwrap_or(0)),
        wait_for: order["wait_for"].as_str().map(Into::into),
    })
}

async fn system(folder: &Path, workers: usize, order: &Value) -> TaskSystem {
    let millis = Duration::from_millis;
    let builder = TaskSystemBuilder::new()
        .workers(workers)
        .synchronous(Synchronous::Normal)
        .poll(millis(20))
        .lease(millis(500), millis(100))
        .agent(effect(folder, order))
        .unwrap();
    builder.open(&format!("sqlite:{}", folder.join("t.db").display())).await.unwrap()
}

/// The child's life; an empty test when it is not one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_of_the_task_tests() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let order: Value = serde_json::from_str(&order).unwrap();
    let folder = Path::new(order["folder"].as_str().unwrap());
    let system = system(folder, 10, &order).await;
    loop {
        let stats = system.scheduler_stats();
        // What a parent wants to know of it.
        let told =
            json!({ "busy": stats.busy, "stale": stats.stale, "completed": stats.completed });
        let draft = folder.join("draft");
        std::fs::write(&draft, told.to_string()).unwrap();
        std::fs::rename(&draft, folder.join("stats")).unwrap();
        let open = system.queue_stats().await.unwrap();
        // What is blocked by then waits for paused tasks.
        if order["die_at"].is_u64() && open.ready + open.running + open.pending == 0 {
            // It had less to do than it was to die at.
            std::process::abort();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn child(folder: &Path, order: &mut Value) -> Child {
    order["folder"] = json!(folder);
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tasks_kill::child_of_the_task_tests", "--nocapture"])
        .env(CHILD, order.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn effects(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("effects")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn counts(folder: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in effects(folder) {
        *counts.entry(line).or_default() += 1;
    }
    counts
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..6_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// Seeded, printed, and the same again with the seed in `MAYFLY_TEST_SEED`.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("MAYFLY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        println!("MAYFLY_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn kills() -> u64 {
    let full = std::env::var("MAYFLY_TEST_SCALE").is_ok_and(|scale| scale == "full");
    if full { 100 } else { 8 }
}

async fn make_tasks(folder: &Path, durability: Durability) {
    let maker = system(folder, 0, &Value::Null).await;
    let mut ids: Vec<TaskId> = Vec::new();
    for chunk in 0..TASKS / WIDTH {
        let spec = |at: usize| NewTaskSpec {
            dependencies: chunk
                .checked_sub(1)
                .map(|before| ids[before * WIDTH + at])
                .into_iter()
                .collect(),
            durability,
            ..NewTaskSpec::new("effect", format!("t{}", chunk * WIDTH + at))
        };
        let made = maker.create_tasks((0..WIDTH).map(spec).collect()).await.unwrap();
        ids.extend(made);
    }
    maker.stop().await;
}

async fn completed(folder: &Path) -> Vec<String> {
    let look = system(folder, 0, &Value::Null).await;
    let filter = TaskFilter { status: Some(TaskStatus::Completed), ..TaskFilter::default() };
    let tasks = look.list(filter, 1_000).await.unwrap();
    tasks.iter().map(|task| String::from_utf8_lossy(&task.input).into_owned()).collect()
}

async fn finish(folder: &Path) -> TaskSystem {
    let last = system(folder, 10, &Value::Null).await;
    for id in 1..=TASKS {
        let id = TaskId(i64::try_from(id).unwrap());
        loop {
            let task = last.wait(id).await.unwrap();
            if task.status != TaskStatus::Paused {
                assert_eq!(task.status, TaskStatus::Completed, "{task:?}");
                break;
            }
            // In doubt, or lost more often than any task should be: whoever looks at it knows.
            let name = String::from_utf8_lossy(&task.input).into_owned();
            let once = task.durability == Durability::AtMostOnce;
            let resolution = if once && counts(folder).contains_key(&name) {
                TaskResolution::Complete(task.input)
            } else {
                TaskResolution::Retry
            };
            last.resolve(id, resolution).await.unwrap();
        }
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_14_a_thousand_tasks_survive_random_kills_of_their_workers() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut dice = Dice::new();
    make_tasks(folder, Durability::BestEffort).await;
    for _ in 0..kills() {
        let before = completed(folder).await;
        let already = counts(folder);
        let mut order = json!({ "die_at": dice.below(150), "lag": dice.below(2_000) });
        let status = child(folder, &mut order).wait().unwrap();
        assert_eq!(status.signal(), Some(6));
        let now = counts(folder);
        for task in before {
            assert_eq!(now[&task], already[&task], "{task} was completed and ran again");
        }
    }
    let last = finish(folder).await;
    assert_eq!(last.queue_stats().await.unwrap().running, 0);
    assert_eq!(counts(folder).len(), TASKS, "a task was lost");
    // Each task began after what it depends on had ended.
    let mut seen = std::collections::HashSet::new();
    for line in effects(folder) {
        let number: usize = line[1..].parse().unwrap();
        if let Some(before) = number.checked_sub(WIDTH) {
            assert!(seen.contains(&before), "{number} began before {before}");
        }
        seen.insert(number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_07_killed_tasks_at_most_once_are_never_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut dice = Dice::new();
    make_tasks(folder, Durability::AtMostOnce).await;
    for _ in 0..kills() / 2 {
        let mut order = json!({ "die_at": dice.below(200), "lag": dice.below(2_000) });
        assert_eq!(child(folder, &mut order).wait().unwrap().signal(), Some(6));
    }
    finish(folder).await;
    let counts = counts(folder);
    assert_eq!(counts.len(), TASKS);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_is_replaced_by_one_that_lives_without_waiting_for_leases() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let maker = system(folder, 0, &Value::Null).await;
    let id = maker.create_task(NewTaskSpec::new("effect", "a")).await.unwrap();
    let mut order = json!({ "wait_for": folder.join("never") });
    let mut worker = child(folder, &mut order);
    until("the child's attempt", async || !effects(folder).is_empty()).await;
    let second = system(folder, 2, &Value::Null).await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    let task = second.wait(id).await.unwrap();
    assert_eq!((task.status, task.recoveries), (TaskStatus::Completed, 1));
    assert_eq!(counts(folder)["a"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_08_a_stopped_process_past_its_lease_is_replaced_and_its_end_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let signal = |worker: &Child, name: &str| {
        let status = Command::new("kill").args([name, &worker.id().to_string()]).status().unwrap();
        assert!(status.success());
    };
    let maker = system(folder, 0, &Value::Null).await;
    let id = maker.create_task(NewTaskSpec::new("effect", "a")).await.unwrap();
    let mut order = json!({ "wait_for": folder.join("go") });
    let mut worker = child(folder, &mut order);
    until("the child's attempt", async || !effects(folder).is_empty()).await;
    signal(&worker, "-STOP");
    let second = system(folder, 2, &Value::Null).await;
    let task = second.wait(id).await.unwrap();
    assert_eq!(task.status, TaskStatus::Completed);
    let output = task.output.clone();
    std::fs::write(folder.join("go"), "").unwrap();
    signal(&worker, "-CONT");
    until("the child hears that it is too late", async || {
        let text = std::fs::read_to_string(folder.join("stats")).unwrap_or_default();
        serde_json::from_str::<Value>(&text).is_ok_and(|stats| stats["stale"] == json!(1))
    })
    .await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    let after = second.get(id).await.unwrap().unwrap();
    assert_eq!((after.version, after.output), (task.version, output));
}
