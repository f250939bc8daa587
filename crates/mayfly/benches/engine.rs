//! Figures of the engine: from the call to output and exit, without HTTP.

mod measure;
mod network;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mayfly_core::id::SandboxId;
use mayfly_core::limits::Resources;
use mayfly_core::network::NetworkPolicy;
use mayfly_core::ports::runtime::{Runtime, SandboxSpec};
use mayfly_core::process::ExecRequest;
use mayfly_core::snapshot::Source;
use mayfly_runtime::local::{LocalRuntime, Options};
use measure::{Limit, Times, direct, print, print_times, samples};
use uuid::Uuid;

const ECHO: [&str; 2] = ["/bin/echo", "x"];

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    // On a worker, as in the server: the main thread would have to be woken for every step.
    let whole = runtime.spawn(figures(folder.path().to_owned()));
    runtime.block_on(whole).expect("every figure is taken");
}

async fn figures(folder: PathBuf) {
    let n = samples(500);
    let floor = direct(&ECHO, n);
    print_times("direct exec (floor)", &floor, None, Limit::None);
    let floor = floor.percentile(0.5);
    let bench = Bench::open(&folder, 0).await;
    cold(&bench, "cold create to output and exit, nothing prepared", n, floor, Limit::Ratio(6.0))
        .await;
    drop(bench);
    let bench = Arc::new(Bench::open(&folder, 64).await);
    bench.runtime.warmed(64).await;
    cold(&bench, "cold create to output and exit, namespaces ready", n, floor, Limit::Ratio(6.0))
        .await;
    warm(&bench, n, floor).await;
    throughput(&bench).await;
    density(&bench).await;
    drop(bench);
    network::added(&folder).await;
}

struct Bench {
    runtime: LocalRuntime,
    source: Source,
}

impl Bench {
    async fn open(folder: &Path, namespaces: usize) -> Self {
        Self::weakened(folder, namespaces, 0).await
    }

    async fn weakened(folder: &Path, namespaces: usize, weakened: u32) -> Self {
        let mut options = Options::new(folder);
        options.weakened = weakened;
        options.pool_bytes = Some(8 << 30);
        options.namespaces = namespaces;
        let runtime =
            LocalRuntime::open(options).await.expect("the runtime opens; see `mayfly doctor`");
        let source = runtime.host_source().await.expect("the host image is made");
        Self { runtime, source }
    }

    fn spec(&self) -> SandboxSpec {
        SandboxSpec {
            id: SandboxId::from_uuid(Uuid::now_v7()),
            source: self.source.clone(),
            resources: Resources::DEFAULT,
            user: "root".to_owned(),
            workdir: None,
            env: BTreeMap::new(),
            volumes: Vec::new(),
            network: NetworkPolicy::default(),
        }
    }

    async fn echo(&self, id: SandboxId) {
        let request = ExecRequest {
            argv: ECHO.map(str::to_owned).to_vec(),
            title: "echo".to_owned(),
            cwd: None,
            env: BTreeMap::new(),
            stdin: bytes::Bytes::new(),
            timeout: Duration::from_secs(10),
            max_output: 1024,
        };
        let outcome = self.runtime.exec(id, request).await.expect("echo runs");
        assert_eq!(&outcome.output[..], b"x\n");
    }
}

async fn cold(bench: &Bench, name: &str, n: usize, floor: f64, limit: Limit) {
    let (mut first, mut destroyed) = (Times::default(), Times::default());
    for _ in 0..n {
        let spec = bench.spec();
        let began = Instant::now();
        bench.runtime.create(&spec).await.expect("create");
        bench.echo(spec.id).await;
        first.add(began.elapsed());
        let began = Instant::now();
        bench.runtime.destroy(spec.id).await.expect("destroy");
        destroyed.add(began.elapsed());
    }
    print_times(name, &first, Some(floor), limit);
    print_times(&format!("destroy ({name})"), &destroyed, None, Limit::None);
}

/// A sandbox that waits ready, as the image-warm pool keeps them: its first command, then further ones.
async fn warm(bench: &Bench, n: usize, floor: f64) {
    let mut first = Times::default();
    let mut ready = Vec::new();
    for _ in 0..n.min(200) {
        let spec = bench.spec();
        bench.runtime.create(&spec).await.expect("create");
        ready.push(spec.id);
    }
    for id in &ready {
        let began = Instant::now();
        bench.echo(*id).await;
        first.add(began.elapsed());
    }
    print_times("image-warm sandbox to output and exit", &first, Some(floor), Limit::Ratio(1.8));
    let mut again = Times::default();
    for _ in 0..n {
        let began = Instant::now();
        bench.echo(ready[0]).await;
        again.add(began.elapsed());
    }
    print_times("exec in a running sandbox", &again, Some(floor), Limit::Ratio(1.5));
    for id in ready {
        bench.runtime.destroy(id).await.expect("destroy");
    }
}

async fn throughput(bench: &Arc<Bench>) {
    const WORKERS: usize = 4;
    let each = samples(400) / WORKERS;
    let began = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let bench = Arc::clone(bench);
        workers.spawn(async move {
            for _ in 0..each {
                let spec = bench.spec();
                bench.runtime.create(&spec).await.expect("create");
                bench.echo(spec.id).await;
                bench.runtime.destroy(spec.id).await.expect("destroy");
            }
        });
    }
    workers.join_all().await;
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let rate = (WORKERS * each) as f64 / began.elapsed().as_secs_f64();
    print(
        "create, exec, destroy per second",
        "1/s",
        WORKERS * each,
        (rate, rate),
        None,
        Limit::AtLeast(250.0),
    );
}

async fn density(bench: &Bench) {
    let n = samples(1000);
    let before = settled().await;
    let mut alive = Vec::new();
    let began = Instant::now();
    for _ in 0..n {
        let spec = bench.spec();
        bench.runtime.create(&spec).await.expect("create");
        bench.echo(spec.id).await;
        alive.push(spec.id);
    }
    #[expect(clippy::cast_precision_loss, reason = "a thousand")]
    let (rate, each) =
        (n as f64 / began.elapsed().as_secs_f64(), (before - memory_available()) / n as f64 / 1e6);
    print("memory per living sandbox, all told", "MB", n, (each, each), None, Limit::AtMost(1.2));
    print(
        "creates with all earlier ones alive, per second",
        "1/s",
        n,
        (rate, rate),
        None,
        Limit::None,
    );
    network::idle(bench, n).await;
    let alive = Arc::new(alive);
    let mut times = Times::default();
    for id in alive.iter().take(200) {
        let began = Instant::now();
        bench.echo(*id).await;
        times.add(began.elapsed());
    }
    print_times("exec with 1,000 alive", &times, None, Limit::None);
    for id in alive.iter() {
        bench.runtime.destroy(*id).await.expect("destroy");
    }
}

/// Bytes of memory that the machine has left once it gives no more of earlier sandboxes back, which the kernel does
/// for seconds after they ended.
async fn settled() -> f64 {
    let mut before = memory_available();
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = memory_available();
        if (now - before).abs() < 1e6 {
            return now;
        }
        before = now;
    }
    before
}

/// Bytes of memory that the whole machine has left.
fn memory_available() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("MemAvailable")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}
