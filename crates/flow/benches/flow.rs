//! Figures of the flow library beside a bare group-commit loop in the same run, one JSON line each.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends with the reason")]
#![expect(clippy::print_stdout, reason = "its figures are its output")]
#![expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]

#[path = "flow/tasks.rs"]
mod tasks;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mayfly_flow::{
    ActionRegistry, Cache, DagConfig, DagExecutor, Execution, GraphDefinition, Message, NodeAction,
    NodeCtx, NodeOutput, PubSubAgent, PubSubConfig, PubSubExecutor, SqliteStorage, StartOptions,
    Synchronous, async_trait,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

const STEPS: usize = 20_000;
const IN_FLIGHT: usize = 1_000;
const MESSAGES: usize = 40_000;

struct NoOp;

#[async_trait]
impl NodeAction for NoOp {
    fn name(&self) -> String {
        "noop".to_owned()
    }

    async fn execute(&self, _ctx: &NodeCtx) -> anyhow::Result<NodeOutput> {
        Ok(NodeOutput::success_empty())
    }
}

struct Sleep;

#[async_trait]
impl NodeAction for Sleep {
    fn name(&self) -> String {
        "sleep".to_owned()
    }

    async fn execute(&self, _ctx: &NodeCtx) -> anyhow::Result<NodeOutput> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(NodeOutput::success_empty())
    }
}

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(Box::pin(all()));
}

/// Whether a part is to be measured: all are, unless arguments name some.
fn is_wanted(part: &str) -> bool {
    let mut named =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    named.peek().is_none() || named.any(|name| name == part)
}

async fn all() {
    let folder = tempfile::tempdir().unwrap();
    if is_wanted("tasks") {
        tasks::all(folder.path()).await;
    }
    if is_wanted("steps") {
        steps(folder.path()).await;
    }
    if is_wanted("messages") {
        messages(folder.path()).await;
    }
    if is_wanted("graphs") {
        graphs(folder.path()).await;
    }
}

async fn steps(folder: &Path) {
    for (mode, name) in [(Synchronous::Full, "FULL"), (Synchronous::Normal, "NORMAL")] {
        let floor = bare_loop(&folder.join(format!("bare-{name}.db")), mode).await;
        let ours = steps_in_flight(folder, mode, name).await;
        at_least(
            &format!("flow: durable no-op steps, 1,000 in flight, {name}"),
            "1/s",
            STEPS,
            ours,
            Some((floor, 0.6)),
        );
        let serial = serial_commits(&folder.join(format!("serial-{name}.db")), mode);
        let chain = chain(folder, mode, name).await;
        let limit = if mode == Synchronous::Full { (serial, 0.5) } else { (10_000.0, 1.0) };
        at_least(&format!("flow: chain of 100, {name}"), "steps/s", 20, chain, Some(limit));
    }
}

async fn messages(folder: &Path) {
    for (mode, name) in [(Synchronous::Full, "FULL"), (Synchronous::Normal, "NORMAL")] {
        let rate = deliveries(folder, mode, name).await;
        let title = format!("flow: durable messages, one channel, 4 subscribers, {name}");
        at_least(&title, "deliveries/s", MESSAGES, rate, Some((50_000.0, 1.0)));
    }
}

async fn graphs(folder: &Path) {
    at_most("flow: fan-out 1,000 and join, NORMAL", "ms", 9, fan_out(folder).await, 25.0);
    let (bare, ours) = three_sleeps(folder).await;
    at_most("flow: three 100 ms nodes beside a bare join", "ms more", 9, ours - bare, 1.0);
    at_most("flow: resume of 10,000 finished steps", "ms", 5, resume(folder).await, 200.0);
    let (parser, ours) = load_large();
    at_most(
        "flow: parse and validate 10,000 nodes, by the parser alone",
        "x",
        5,
        ours / parser,
        2.0,
    );
    at_most("flow: schedule overhead per node of 10,000", "us", 3, schedule(folder).await, 20.0);
    at_least(
        "flow: one-step runs, NORMAL",
        "runs/s",
        10_000,
        one_step_runs(folder).await,
        Some((10_000.0, 1.0)),
    );
}

/// Handles nothing, and says when it has had all.
struct Sink {
    name: String,
    left: usize,
    done: mpsc::Sender<()>,
}

#[async_trait]
impl PubSubAgent for Sink {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn subscriptions(&self) -> Vec<String> {
        vec!["news".to_owned()]
    }

    fn publications(&self) -> Vec<String> {
        Vec::new()
    }

    async fn handle_message(&mut self, _message: Message) -> anyhow::Result<()> {
        self.left -= 1;
        if self.left == 0 {
            self.done.send(()).await?;
        }
        Ok(())
    }
}

/// Messages published by as many callers as are in flight, each after its commit; all of them to four agents.
async fn deliveries(folder: &Path, mode: Synchronous, name: &str) -> f64 {
    const AGENTS: usize = 4;
    let database = format!("sqlite:{}", folder.join(format!("news-{name}.db")).display());
    let config = PubSubConfig { database, synchronous: mode, ..PubSubConfig::default() };
    let executor = PubSubExecutor::new(Some(config)).await.unwrap();
    let (done, mut all_done) = mpsc::channel(AGENTS);
    for at in 0..AGENTS {
        let agent = Sink { name: format!("agent{at}"), left: MESSAGES, done: done.clone() };
        executor.register_agent(agent).await.unwrap();
    }
    let running = executor.clone();
    tokio::spawn(async move { running.execute(Execution::Reactive).await });
    let began = Instant::now();
    for caller in 0..IN_FLIGHT {
        let executor = executor.clone();
        tokio::spawn(async move {
            for n in 0..MESSAGES / IN_FLIGHT {
                executor.publish("news", json!({ "caller": caller, "n": n })).await.unwrap();
            }
        });
    }
    for _ in 0..AGENTS {
        all_done.recv().await.unwrap();
    }
    let rate = (MESSAGES * AGENTS) as f64 / began.elapsed().as_secs_f64();
    executor.stop().await;
    rate
}

fn at_least(name: &str, unit: &str, n: usize, value: f64, limit: Option<(f64, f64)>) {
    let (floor, share) = limit.unwrap_or((1.0, 0.0));
    let (ratio, holds) = (value / floor, value >= floor * share);
    println!(
        "{{\"name\":\"{name}\",\"unit\":\"{unit}\",\"n\":{n},\"p50\":{value:.1},\"p99\":{value:.1},\"floor\":{floor:.1},\"ratio\":{ratio:.2},\"limit\":\">= {share}x\",\"holds\":{holds}}}"
    );
}

fn at_most(name: &str, unit: &str, n: usize, value: f64, limit: f64) {
    let holds = value <= limit;
    println!(
        "{{\"name\":\"{name}\",\"unit\":\"{unit}\",\"n\":{n},\"p50\":{value:.2},\"p99\":{value:.2},\"floor\":null,\"limit\":\"<= {limit}\",\"holds\":{holds}}}"
    );
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn connection(path: &Path, mode: Synchronous) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(path).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    let mode = if mode == Synchronous::Full { "FULL" } else { "NORMAL" };
    db.pragma_update(None, "synchronous", mode).unwrap();
    db.execute_batch(
        "CREATE TABLE step (id INTEGER PRIMARY KEY, run INTEGER, seq INTEGER, state INTEGER, hash BLOB, out BLOB);
         CREATE UNIQUE INDEX step_order ON step (run, seq);
         CREATE TABLE cursor (run INTEGER PRIMARY KEY, seq INTEGER)",
    )
    .unwrap();
    db
}

fn two_rows(db: &rusqlite::Connection, run: i64, seq: i64) {
    db.prepare_cached("INSERT INTO step (run, seq, state, hash, out) VALUES (?1, ?2, 1, zeroblob(32), zeroblob(16))")
        .unwrap()
        .execute([run, seq])
        .unwrap();
    db.prepare_cached(
        "INSERT INTO cursor VALUES (?1, ?2) ON CONFLICT (run) DO UPDATE SET seq = excluded.seq",
    )
    .unwrap()
    .execute([run, seq])
    .unwrap();
}

/// Two rows per step and nothing else: as many chains as steps are in flight, one thread that commits in groups.
async fn bare_loop(path: &Path, mode: Synchronous) -> f64 {
    let db = connection(path, mode);
    let (queue, mut jobs) = mpsc::channel::<(i64, i64, oneshot::Sender<()>)>(1024);
    let writer = std::thread::spawn(move || {
        let mut batch = Vec::new();
        while jobs.blocking_recv_many(&mut batch, 512) > 0 {
            db.execute_batch("BEGIN IMMEDIATE").unwrap();
            for (run, seq, _) in &batch {
                two_rows(&db, *run, *seq);
            }
            db.execute_batch("COMMIT").unwrap();
            for (.., reply) in batch.drain(..) {
                reply.send(()).unwrap();
            }
        }
    });
    let began = Instant::now();
    let each = i64::try_from(STEPS / IN_FLIGHT).unwrap();
    let chains = (0_i64..1_000).map(|run| {
        let queue = queue.clone();
        tokio::spawn(async move {
            for seq in 0..each {
                let (reply, answer) = oneshot::channel();
                queue.send((run, seq, reply)).await.unwrap();
                answer.await.unwrap();
            }
        })
    });
    for chain in chains.collect::<Vec<_>>() {
        chain.await.unwrap();
    }
    let rate = STEPS as f64 / began.elapsed().as_secs_f64();
    drop(queue);
    writer.join().unwrap();
    rate
}

fn serial_commits(path: &Path, mode: Synchronous) -> f64 {
    let db = connection(path, mode);
    let began = Instant::now();
    for seq in 0..2_000 {
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        two_rows(&db, 1, seq);
        db.execute_batch("COMMIT").unwrap();
    }
    2_000.0 / began.elapsed().as_secs_f64()
}

async fn executor(path: &Path, mode: Synchronous, width: usize) -> DagExecutor {
    let config = DagConfig { synchronous: mode, max_parallel_nodes: width, ..DagConfig::default() };
    let storage = SqliteStorage::new(&format!("sqlite:{}", path.display())).await.unwrap();
    let registry = ActionRegistry::new();
    registry.register(Arc::new(NoOp)).unwrap();
    registry.register(Arc::new(Sleep)).unwrap();
    DagExecutor::with_storage(config, registry, storage).await.unwrap()
}

fn chain_yaml(name: &str, length: usize) -> String {
    let mut text = format!("name: {name}\nnodes:\n  - {{id: n0, action: noop}}\n");
    for n in 1..length {
        writeln!(text, "  - {{id: n{n}, action: noop, dependencies: [n{}]}}", n - 1).unwrap();
    }
    text
}

async fn finished(executor: &DagExecutor, run: &str) {
    assert!(executor.wait_run(run).await.unwrap().success);
}

/// A thousand runs, each a chain: every step waits for its own commit.
async fn steps_in_flight(folder: &Path, mode: Synchronous, name: &str) -> f64 {
    let executor = executor(&folder.join(format!("steps-{name}.db")), mode, 1).await;
    executor.load_yaml(&chain_yaml("chain", STEPS / IN_FLIGHT)).unwrap();
    let began = Instant::now();
    let runs = (0..IN_FLIGHT).map(|_| {
        let executor = executor.clone();
        tokio::spawn(async move {
            let run = executor.start("chain", Value::Null, StartOptions::default()).await.unwrap();
            finished(&executor, &run).await;
        })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap();
    }
    STEPS as f64 / began.elapsed().as_secs_f64()
}

async fn run_once(executor: &DagExecutor, name: &str) -> Duration {
    let began = Instant::now();
    let (_keep, cancel) = oneshot::channel();
    let report = executor.execute_static_dag(name, &Cache::new(), cancel).await.unwrap();
    assert!(report.success);
    began.elapsed()
}

async fn chain(folder: &Path, mode: Synchronous, name: &str) -> f64 {
    let executor = executor(&folder.join(format!("chain-{name}.db")), mode, 1).await;
    executor.load_yaml(&chain_yaml("chain", 100)).unwrap();
    let mut times = Vec::new();
    for _ in 0..20 {
        times.push(run_once(&executor, "chain").await.as_secs_f64());
    }
    100.0 / median(times)
}

async fn fan_out(folder: &Path) -> f64 {
    let executor = executor(&folder.join("fan.db"), Synchronous::Normal, 1_000).await;
    let yaml = "name: fan\nnodes:\n  - {id: all, action: noop, for_each: inputs.items}\n  - {id: join, action: noop, dependencies: [all]}\n";
    executor.load_yaml(yaml).unwrap();
    let items: Vec<u32> = (0..1_000).collect();
    let mut times = Vec::new();
    for _ in 0..9 {
        let began = Instant::now();
        let run = executor
            .start("fan", json!({ "items": items }), StartOptions::default())
            .await
            .unwrap();
        finished(&executor, &run).await;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    median(times)
}

async fn three_sleeps(folder: &Path) -> (f64, f64) {
    let executor = executor(&folder.join("three.db"), Synchronous::Normal, 3).await;
    executor.load_yaml("name: three\nnodes: [{id: a, action: sleep}, {id: b, action: sleep}, {id: c, action: sleep}]").unwrap();
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let began = Instant::now();
        let sleep = || tokio::time::sleep(Duration::from_millis(100));
        tokio::join!(sleep(), sleep(), sleep());
        bare.push(began.elapsed().as_secs_f64() * 1e3);
        ours.push(run_once(&executor, "three").await.as_secs_f64() * 1e3);
    }
    (median(bare), median(ours))
}

/// From opening the file to the next step's end, with 10,000 steps behind.
async fn resume(folder: &Path) -> f64 {
    let path = folder.join("resume.db");
    let first = executor(&path, Synchronous::Normal, 100).await;
    let mut text = "name: long\nnodes:\n".to_owned();
    for n in 0..10_000 {
        writeln!(text, "  - {{id: n{n}, action: noop}}").unwrap();
    }
    text.push_str("  - {id: gate, action: human_interrupt}\n  - {id: last, action: noop, dependencies: [gate]}\n");
    first.load_yaml(&text).unwrap();
    let options = StartOptions { run_id: Some("long".into()), ..StartOptions::default() };
    first.start("long", Value::Null, options).await.unwrap();
    // The beginning, the plan, the gate, and two entries per step.
    let mut waited = 0;
    while first.events("long", 20_002).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        waited += 1;
        assert!(waited < 3_000, "10,000 steps took a minute");
    }
    first.stop().await;
    drop(first);
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let again = executor(&path, Synchronous::Normal, 100).await;
        assert_eq!(again.recover().await.unwrap(), ["long"]);
        assert!(again.node_exists("long", "last").await.unwrap());
        times.push(began.elapsed().as_secs_f64() * 1e3);
        again.stop().await;
    }
    median(times)
}

fn load_large() -> (f64, f64) {
    let text = chain_yaml("large", 10_000);
    let (mut parser, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let began = Instant::now();
        let options = serde_saphyr::options! { budget: None, };
        let graph: GraphDefinition = serde_saphyr::from_str_with_options(&text, options).unwrap();
        assert_eq!(graph.nodes.len(), 10_000);
        parser.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        assert_eq!(mayfly_flow::dag::yaml::parse(&text).unwrap().graph.nodes.len(), 10_000);
        ours.push(began.elapsed().as_secs_f64());
    }
    (median(parser), median(ours))
}

/// Microseconds per node of a wide graph of no-op nodes, commits in NORMAL mode included.
async fn schedule(folder: &Path) -> f64 {
    let executor = executor(&folder.join("wide.db"), Synchronous::Normal, 1_000).await;
    let mut text = "name: wide\nnodes:\n".to_owned();
    for n in 0..10_000 {
        writeln!(text, "  - {{id: n{n}, action: noop}}").unwrap();
    }
    executor.load_yaml(&text).unwrap();
    let mut times = Vec::new();
    for _ in 0..3 {
        times.push(run_once(&executor, "wide").await.as_secs_f64() * 1e6 / 1e4);
    }
    median(times)
}

async fn one_step_runs(folder: &Path) -> f64 {
    let executor = executor(&folder.join("one.db"), Synchronous::Normal, 1).await;
    executor.load_yaml("name: one\nnodes: [{id: a, action: noop}]").unwrap();
    let began = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..100 {
        let executor = executor.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..100 {
                run_once(&executor, "one").await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    10_000.0 / began.elapsed().as_secs_f64()
}
