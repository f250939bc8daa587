//! `kill -9` at seeded points: this program runs again as a child that aborts, then the run is finished here.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mayfly_flow::{
    ActionRegistry, DagConfig, DagExecutor, Durability, GraphDefinition, Node, NodeAction, NodeCtx,
    NodeOutput, RetryStrategy, RunStatus, StartOptions, async_trait,
};
use serde_json::{Value, json};

/// In the child's environment: folder, width, and at which effect it dies.
const CHILD: &str = "MAYFLY_FLOW_KILL";
const STEPS: usize = 200;

/// Appends its node to a file; aborts near the effect of the given number.
struct Effect {
    file: std::fs::File,
    count: AtomicU32,
    die_at: Option<u32>,
    lag: Duration,
}

#[async_trait]
impl NodeAction for Effect {
    fn name(&self) -> String {
        "effect".to_owned()
    }

    async fn execute(&self, ctx: &NodeCtx) -> anyhow::Result<NodeOutput> {
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
        (&self.file).write_all(format!("{}\n", ctx.node_id).as_bytes())?;
        let before: u64 = ctx.get_input_opt("before")?.unwrap_or(0);
        Ok(NodeOutput::success(json!({ "n": before + 1 })))
    }
}

fn graph(width: usize, durability: Durability) -> GraphDefinition {
    let node = |n: usize| {
        let before = n.checked_sub(width).map(|n| format!("n{n}"));
        let input = before.as_ref().map(|id| mayfly_flow::IField {
            name: "before".into(),
            reference: Some(format!("{id}.n")),
            ..Default::default()
        });
        Node {
            id: format!("n{n}"),
            action: "effect".into(),
            dependencies: before.into_iter().collect(),
            inputs: input.into_iter().collect(),
            durability,
            ..Node::default()
        }
    };
    let nodes = (0..STEPS).map(node).collect();
    GraphDefinition { name: "chain".into(), nodes, ..GraphDefinition::default() }
}

async fn executor(folder: &Path, width: usize, die_at: Option<u32>, lag: Duration) -> DagExecutor {
    let config = DagConfig {
        retry_strategy: RetryStrategy::Immediate,
        max_parallel_nodes: width,
        ..DagConfig::default()
    };
    let file =
        std::fs::File::options().append(true).create(true).open(folder.join("effects")).unwrap();
    let registry = ActionRegistry::new();
    registry.register(Arc::new(Effect { file, count: AtomicU32::new(0), die_at, lag })).unwrap();
    let url = format!("sqlite:{}", folder.join("f.db").display());
    DagExecutor::new(Some(config), registry, &url).await.unwrap()
}

/// The child's life; an empty test when it is not one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_of_the_kill_tests() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let order: Value = serde_json::from_str(&order).unwrap();
    let folder = Path::new(order["folder"].as_str().unwrap());
    let width = usize::try_from(order["width"].as_u64().unwrap()).unwrap();
    let die_at = u32::try_from(order["die_at"].as_u64().unwrap()).unwrap();
    let lag = Duration::from_micros(order["lag"].as_u64().unwrap());
    let executor = executor(folder, width, Some(die_at), lag).await;
    let durability =
        if order["once"] == json!(true) { Durability::AtMostOnce } else { Durability::BestEffort };
    executor.load(graph(width, durability)).unwrap();
    let options = StartOptions { run_id: Some("run".into()), ..StartOptions::default() };
    executor.start("chain", Value::Null, options).await.unwrap();
    executor.wait_run("run").await.unwrap();
    // The thread that aborts may be late.
    std::process::abort();
}

fn effects(folder: &Path) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(folder.join("effects")).unwrap();
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

fn kill_child(folder: &Path, width: usize, die_at: u64, lag: u64, once: bool) {
    let order =
        json!({ "folder": folder, "width": width, "die_at": die_at, "lag": lag, "once": once });
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child_of_the_kill_tests", "--nocapture"])
        .env(CHILD, order.to_string())
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(6), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Seeded, printed, and the same again with the seed in `MAYFLY_TEST_SEED`.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Self {
        let seed = std::env::var("MAYFLY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        println!("MAYFLY_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn points(part: usize) -> usize {
    let full = std::env::var("MAYFLY_TEST_SCALE").is_ok_and(|scale| scale == "full");
    if full { part * 20 } else { part }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_06_a_killed_chain_repeats_at_most_what_was_in_flight() {
    let mut dice = Dice::new();
    for point in 0..points(17) {
        let width = if point % 3 == 2 { 8 } else { 1 };
        let folder = tempfile::tempdir().unwrap();
        kill_child(folder.path(), width, dice.below(STEPS as u64), dice.below(2_000), false);
        let executor = executor(folder.path(), width, None, Duration::ZERO).await;
        executor.recover().await.unwrap();
        let report = executor.wait_run("run").await.unwrap();
        assert!(report.success, "{:?}", report.error);
        let counts = effects(folder.path());
        assert_eq!(counts.len(), STEPS);
        let repeated: usize = counts.values().map(|count| count - 1).sum();
        assert!(repeated <= width, "{repeated} repeated at width {width}");
        let last = executor.get_node_output_json("run", &format!("n{}", STEPS - 1)).await.unwrap();
        assert_eq!(last.unwrap()["n"], json!(STEPS / width));
        let events = executor.events("run", 0).await.unwrap();
        assert!(events.iter().zip(1..).all(|(event, number)| event.sequence == number));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_07_a_killed_chain_of_steps_at_most_once_repeats_none() {
    let mut dice = Dice::new();
    for _ in 0..points(8) {
        let folder = tempfile::tempdir().unwrap();
        kill_child(folder.path(), 1, dice.below(STEPS as u64), dice.below(2_000), true);
        let executor = executor(folder.path(), 1, None, Duration::ZERO).await;
        executor.recover().await.unwrap();
        let report = executor.wait_run("run").await.unwrap();
        if report.status == RunStatus::Paused {
            let doubt =
                report.node_outcomes.iter().find(|outcome| outcome.state.name() == "paused");
            let node = &doubt.unwrap().node_id;
            let had_effect = effects(folder.path()).contains_key(node);
            let number: u64 = node[1..].parse().unwrap();
            let mut resolution = mayfly_flow::Resolution::Retry;
            if had_effect {
                resolution = mayfly_flow::Resolution::Complete(json!({ "n": number + 1 }));
            }
            executor.resolve("run", node, resolution).await.unwrap();
        }
        assert!(executor.wait_run("run").await.unwrap().success);
        let counts = effects(folder.path());
        assert_eq!(counts.len(), STEPS);
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    }
}
