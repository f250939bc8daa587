//! What tests share: an executor on a file or in memory, and actions that note what they did.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mayfly_flow::{
    ActionRegistry, Cache, DagConfig, DagError, DagExecutionReport, DagExecutor, NodeAction,
    NodeCtx, NodeOutput, RetryStrategy, SqliteStorage, StorageOptions, async_trait,
};
use tokio::sync::oneshot;

use crate::sim::SimClock;

type Doing = Pin<Box<dyn Future<Output = anyhow::Result<NodeOutput>> + Send>>;

/// An action made of a closure.
pub(crate) struct Closure<F>(pub(crate) &'static str, pub(crate) F);

#[async_trait]
impl<F: Fn(NodeCtx) -> Doing + Send + Sync> NodeAction for Closure<F> {
    fn name(&self) -> String {
        self.0.to_owned()
    }

    async fn execute(&self, ctx: &NodeCtx) -> anyhow::Result<NodeOutput> {
        (self.1)(ctx.clone()).await
    }
}

/// Which nodes ran, in order of their beginning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(pub(crate) Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for what in self.all() {
            *counts.entry(what).or_default() += 1;
        }
        counts
    }
}

/// An executor with the usual actions.
pub(crate) struct Site {
    pub(crate) executor: DagExecutor,
    pub(crate) notes: Notes,
}

impl Site {
    /// On a file, on a simulated clock.
    pub(crate) async fn on(path: &Path, config: DagConfig) -> Self {
        let clock = SimClock::new();
        let options = StorageOptions { clock, ..StorageOptions::default() };
        let url = format!("sqlite:{}", path.display());
        Self::with(SqliteStorage::open(&url, options).await.unwrap(), config).await
    }

    /// In memory, on a simulated clock.
    pub(crate) async fn in_memory(config: DagConfig) -> Self {
        let options = StorageOptions { clock: SimClock::new(), ..StorageOptions::default() };
        Self::with(SqliteStorage::open("sqlite::memory:", options).await.unwrap(), config).await
    }

    pub(crate) async fn with(storage: SqliteStorage, config: DagConfig) -> Self {
        let registry = ActionRegistry::new();
        let executor = DagExecutor::with_storage(config, registry, storage).await.unwrap();
        let site = Self { executor, notes: Notes::default() };
        site.usual();
        site
    }

    /// `ok` completes and gives its inputs, `fail` fails, `sleep` takes input `ms`, `pending` never ends.
    fn usual(&self) {
        let notes = self.notes.clone();
        self.add("ok", move |ctx| {
            notes.note(&ctx.node_id);
            Box::pin(async move { Ok(NodeOutput::success(ctx.inputs)) })
        });
        let notes = self.notes.clone();
        self.add("fail", move |ctx| {
            notes.note(&ctx.node_id);
            Box::pin(async move { anyhow::bail!("{} went wrong", ctx.node_id) })
        });
        let notes = self.notes.clone();
        self.add("sleep", move |ctx| {
            notes.note(&ctx.node_id);
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(ctx.get_input("ms")?)).await;
                Ok(NodeOutput::success_empty())
            })
        });
        let notes = self.notes.clone();
        self.add("pending", move |ctx| {
            notes.note(&ctx.node_id);
            Box::pin(std::future::pending())
        });
    }

    pub(crate) fn add(
        &self,
        name: &'static str,
        action: impl Fn(NodeCtx) -> Doing + Send + Sync + 'static,
    ) {
        self.executor.register(Arc::new(Closure(name, action))).unwrap();
    }

    /// Loads a definition and runs it.
    pub(crate) async fn run(&self, yaml: &str) -> Result<DagExecutionReport, DagError> {
        let name = self.executor.load_yaml(yaml)?;
        // A sender that is dropped does not cancel.
        let (_, cancel) = oneshot::channel();
        self.executor.execute_static_dag(&name, &Cache::new(), cancel).await
    }

    /// Lets others work until the condition holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..100_000 {
            if holds(self) {
                return;
            }
            tokio::task::yield_now().await;
            if tokio::runtime::Handle::current().runtime_flavor()
                == tokio::runtime::RuntimeFlavor::MultiThread
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            } else {
                std::thread::yield_now();
            }
        }
        panic!("never: {what}; ran {:?}", self.notes.all());
    }

    /// Lets others work until the node has begun so many times.
    pub(crate) async fn until_began(&self, node: &str, times: usize) {
        self.until(node, |site| site.notes.counts().get(node).copied() == Some(times)).await;
    }
}

/// Attempts follow each other without delay.
pub(crate) fn quick() -> DagConfig {
    DagConfig { retry_strategy: RetryStrategy::Immediate, ..DagConfig::default() }
}

/// State of each node: its first letters, by id.
pub(crate) fn states(report: &DagExecutionReport) -> BTreeMap<String, &'static str> {
    let outcome = |outcome: &mayfly_flow::NodeExecutionOutcome| {
        (outcome.node_id.clone(), outcome.state.name())
    };
    report.node_outcomes.iter().map(outcome).collect()
}
