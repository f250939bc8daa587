//! Rows about tasks.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mayfly_flow::bytes::Bytes;
use mayfly_flow::{
    AgentError, NewTaskSpec, SqliteStorage, TaskAgent, TaskContext, TaskSystem, TaskSystemBuilder,
    async_trait,
};

use super::{at_least, at_most, median};

const TASKS: usize = 10_000;
const QUEUED: usize = 100_000;

struct NoOp;

#[async_trait]
impl TaskAgent for NoOp {
    fn name(&self) -> String {
        "noop".to_owned()
    }

    async fn execute(&self, input: Bytes, _ctx: Arc<TaskContext>) -> Result<Bytes, AgentError> {
        Ok(input)
    }
}

pub(super) async fn all(folder: &Path) {
    // First, while nothing else has grown the process.
    let queued = queue(&folder.join("queued.db")).await;
    at_most("flow: memory of 100,000 queued tasks", "MB more", 1, queued, 200.0);
    let (mut worked, mut through) = (Vec::new(), Vec::new());
    for round in 0..3 {
        worked.push(work_off(&folder.join(format!("work-{round}.db"))).await);
        through.push(enqueue_and_work(&folder.join(format!("through-{round}.db"))).await);
    }
    at_least(
        "flow: 10,000 tasks through lease, run, complete, NORMAL",
        "tasks/s",
        TASKS,
        median(worked),
        Some((25_000.0, 1.0)),
    );
    at_least(
        "flow: 10,000 tasks made, leased, run and completed, NORMAL",
        "tasks/s",
        TASKS,
        median(through),
        Some((25_000.0, 1.0)),
    );
}

fn builder() -> TaskSystemBuilder {
    TaskSystemBuilder::high_throughput()
}

async fn make(system: &TaskSystem, count: usize) {
    for _ in 0..count / 500 {
        system.create_tasks(vec![NewTaskSpec::new("noop", "x"); 500]).await.unwrap();
    }
}

async fn finished(system: &TaskSystem, count: usize) {
    let began = Instant::now();
    while system.scheduler_stats().completed < count as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(began.elapsed() < Duration::from_mins(1), "10,000 tasks took a minute");
    }
}

async fn open(path: &Path) -> SqliteStorage {
    SqliteStorage::new(&format!("sqlite:{}", path.display())).await.unwrap()
}

/// Tasks per second that are ready in the file when the workers begin.
async fn work_off(path: &Path) -> f64 {
    let storage = open(path).await;
    let maker = builder().workers(0).build(storage.clone()).unwrap();
    make(&maker, TASKS).await;
    maker.stop().await;
    let began = Instant::now();
    let system = builder().agent(Arc::new(NoOp)).unwrap().build(storage).unwrap();
    finished(&system, TASKS).await;
    let rate = TASKS as f64 / began.elapsed().as_secs_f64();
    system.stop().await;
    rate
}

/// Tasks per second from their making to their end.
async fn enqueue_and_work(path: &Path) -> f64 {
    let system = builder().agent(Arc::new(NoOp)).unwrap().build(open(path).await).unwrap();
    let began = Instant::now();
    make(&system, TASKS).await;
    finished(&system, TASKS).await;
    let rate = TASKS as f64 / began.elapsed().as_secs_f64();
    system.stop().await;
    rate
}

/// Megabytes that the process has more with so many tasks waiting.
async fn queue(path: &Path) -> f64 {
    let before = resident();
    let system = builder().build(open(path).await).unwrap();
    make(&system, QUEUED).await;
    assert_eq!(system.queue_stats().await.unwrap().ready, QUEUED);
    let more = resident() - before;
    system.stop().await;
    more
}

fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kilobytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes / 1024.0
}
