//! The handle that programs hold: definitions, actions, settings, and the runs that are in memory.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::action::NodeAction;
use super::cache::{Cache, INPUTS, Scopes};
use super::definitions::Definition;
use super::driver::{Driver, INBOX, Message};
use super::observe::Observers;
use super::registry::{ActionRegistry, Registered};
use super::report::DagExecutionReport;
use crate::error::DagError;
use crate::journal::NewRun;
use crate::model::config::DagConfig;
use crate::model::control::{HUMAN_INTERRUPT, SUPERVISOR_STEP};
use crate::model::graph::{GraphDefinition, Node};
use crate::model::run::RunState;
use crate::storage::SqliteStorage;

/// Loads, runs and controls flows. A cheap handle; clones share everything.
#[derive(Clone)]
pub struct DagExecutor {
    pub(crate) inner: Arc<Inner>,
    /// What an action's handle belongs to.
    pub(crate) bound: Option<Arc<Bound>>,
}

/// The run that an action's handle belongs to, and the name of its flow.
#[derive(Debug)]
pub(crate) struct Bound {
    run: String,
    flow: String,
}

impl fmt::Debug for DagExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DagExecutor").field("bound", &self.bound).finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    storage: SqliteStorage,
    registry: ActionRegistry,
    config: DagConfig,
    pub(super) dags: RwLock<BTreeMap<String, Definition>>,
    live: Mutex<HashMap<String, LiveRun>>,
    /// The newest run of each flow.
    newest: Mutex<HashMap<String, String>>,
    pub(super) app: RwLock<Option<Arc<dyn Any + Send + Sync>>>,
    pub(super) services: RwLock<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    pub(super) places: Mutex<HashMap<String, Arc<Semaphore>>>,
    pub(super) all_places: RwLock<Option<Arc<Semaphore>>>,
    pub(crate) observers: Observers,
}

/// A run with a driver.
#[derive(Clone)]
pub(crate) struct LiveRun {
    pub(crate) driver: mpsc::Sender<Message>,
    pub(crate) stalled: Arc<AtomicBool>,
    pub(crate) progress: watch::Receiver<i64>,
}

/// How a run is started.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Its id; one is made up without. Starting the same id again answers the run that is there.
    pub run_id: Option<String>,
    /// A second start with the same key answers the first one's run.
    pub idempotency_key: Option<String>,
    /// Settings that win over the graph's.
    pub config: Option<DagConfig>,
    /// The run that this one is part of.
    pub parent_run_id: Option<String>,
}

impl DagExecutor {
    /// Opens the file of `url` (`sqlite:flow.db`, `sqlite::memory:`) and gives a handle on it.
    ///
    /// Runs that an earlier process left are resumed by [`DagExecutor::recover`], once actions are registered.
    pub async fn new(
        config: Option<DagConfig>,
        registry: impl Into<ActionRegistry>,
        url: &str,
    ) -> Result<Self, DagError> {
        let storage = SqliteStorage::new(url).await?;
        Self::with_storage(config.unwrap_or_default(), registry.into(), storage).await
    }

    /// A handle on a file that is open already.
    pub async fn with_storage(
        config: DagConfig,
        registry: ActionRegistry,
        storage: SqliteStorage,
    ) -> Result<Self, DagError> {
        config.validate()?;
        let inner = Inner {
            storage,
            registry,
            config,
            dags: RwLock::default(),
            live: Mutex::default(),
            newest: Mutex::default(),
            app: RwLock::default(),
            services: RwLock::default(),
            places: Mutex::default(),
            all_places: RwLock::default(),
            observers: Observers::default(),
        };
        let executor = Self { inner: Arc::new(inner), bound: None };
        executor.beat().await?;
        let weak = Arc::downgrade(&executor.inner);
        let every = Duration::from_secs(executor.config().heartbeat_seconds);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let Some(inner) = weak.upgrade() else { return };
                if let Err(error) = (Self { inner, bound: None }).beat().await {
                    tracing::warn!(%error, "the lease could not be extended");
                }
            }
        });
        Ok(executor)
    }

    async fn beat(&self) -> Result<(), DagError> {
        let seconds = i64::try_from(self.config().lease_seconds).unwrap_or(i64::MAX / 2000);
        let until = self.storage().clock().now() + seconds * 1000;
        self.storage().journal().heartbeat(self.storage().owner().name(), until).await
    }

    /// The file.
    pub fn storage(&self) -> &SqliteStorage {
        &self.inner.storage
    }

    /// The actions.
    pub fn registry(&self) -> &ActionRegistry {
        &self.inner.registry
    }

    /// Settings that graphs and runs may change for themselves.
    pub fn config(&self) -> &DagConfig {
        &self.inner.config
    }

    /// Registers an action under its own name; another one of the name is an error.
    pub fn register(&self, action: Arc<dyn NodeAction>) -> Result<(), DagError> {
        self.registry().register(action)
    }

    /// Runs a flow until it ends or pauses. Its values start as a copy of the cache's; what nodes give is written there.
    ///
    /// Only a value sent on `cancel` cancels. [`DagError::ExecutionTimeout`] when the run's own time is over.
    pub async fn execute_static_dag(
        &self,
        name: &str,
        cache: &Cache,
        cancel: oneshot::Receiver<()>,
    ) -> Result<DagExecutionReport, DagError> {
        let definition = self.definition(name)?;
        self.execute(definition, cache, cancel).await
    }

    /// Runs an agent: one node `supervisor_start` with the action `supervisor_step`, which adds what comes next.
    pub async fn execute_agent_dag(
        &self,
        name: &str,
        cache: &Cache,
        cancel: oneshot::Receiver<()>,
    ) -> Result<DagExecutionReport, DagError> {
        let first = Node {
            id: "supervisor_start".to_owned(),
            action: SUPERVISOR_STEP.to_owned(),
            ..Node::default()
        };
        let graph = GraphDefinition {
            name: name.to_owned(),
            nodes: vec![first],
            agent: true,
            ..GraphDefinition::default()
        };
        self.execute(Definition::new(graph)?, cache, cancel).await
    }

    async fn execute(
        &self,
        definition: Definition,
        cache: &Cache,
        cancel: oneshot::Receiver<()>,
    ) -> Result<DagExecutionReport, DagError> {
        let (scopes, options) = (cache.scopes(), StartOptions::default());
        let (run, mut answer) =
            self.launch(definition, scopes, Some(cache.clone()), options).await?;
        let cancelled = async {
            if cancel.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let answer = tokio::select! {
            answer = &mut answer => answer,
            () = cancelled => {
                self.cancel_run(&run).await?;
                answer.await
            }
        };
        answer.map_err(|_| DagError::ExecutionError(format!("run {run}: its driver ended")))?
    }

    /// Starts a run and answers its id once that is durable. `inputs` is an object.
    pub async fn start(
        &self,
        name: &str,
        inputs: Value,
        options: StartOptions,
    ) -> Result<String, DagError> {
        let values = match inputs {
            Value::Null => serde_json::Map::new(),
            Value::Object(fields) => fields,
            _ => return Err(DagError::ValidationError("inputs: expected an object".to_owned())),
        };
        let scopes = Scopes::from([(INPUTS.to_owned(), values)]);
        let existing = self.existing(&options).await?;
        if let Some(run) = existing {
            return Ok(run);
        }
        let definition = self.definition(name)?;
        let launched = self.launch(definition, scopes, None, options.clone()).await;
        match launched {
            Ok((run, _)) => Ok(run),
            // Somebody else was faster.
            Err(error) => self.existing(&options).await?.ok_or(error),
        }
    }

    async fn existing(&self, options: &StartOptions) -> Result<Option<String>, DagError> {
        if options.run_id.is_none() && options.idempotency_key.is_none() {
            return Ok(None);
        }
        let journal = self.storage().journal();
        journal.existing_run(options.run_id.clone(), options.idempotency_key.clone()).await
    }

    async fn launch(
        &self,
        definition: Definition,
        scopes: Scopes,
        caller: Option<Cache>,
        options: StartOptions,
    ) -> Result<(String, oneshot::Receiver<Result<DagExecutionReport, DagError>>), DagError> {
        let graph = &definition.graph;
        self.require_actions(&graph.nodes)?;
        let mut config = self.config().clone();
        for over in [graph.config.as_ref(), options.config.as_ref()].into_iter().flatten() {
            config = DagConfig::merge(&config, over);
        }
        config.validate()?;
        let run_id =
            options.run_id.unwrap_or_else(|| format!("run_{}", uuid::Uuid::now_v7().simple()));
        let new = NewRun {
            flow: graph.name.as_str().into(),
            config: serde_json::to_string(&config)?,
            definition: Arc::clone(&definition.body),
            hash: definition.hash,
            inputs: serde_json::to_string(&scopes)?,
            idempotency_key: options.idempotency_key,
            parent: options.parent_run_id,
            owner: self.storage().owner().name().to_owned(),
        };
        let mut run = RunState::new(&run_id, graph, config);
        run.start(self.storage().clock().now());
        let (waiter, answer) = oneshot::channel();
        let (durable, started) = oneshot::channel();
        let mut driver = self.driver(run, Cache::of(scopes));
        driver.create = Some(new);
        driver.caller = caller;
        driver.waiters.push(waiter);
        driver.after.push(Box::new(move |result| drop(durable.send(result))));
        self.spawn(driver);
        let ended = || DagError::ExecutionError(format!("run {run_id}: its driver ended"));
        started.await.map_err(|_| ended())??;
        Ok((run_id, answer))
    }

    /// A driver for a run, not yet at work.
    pub(crate) fn driver(&self, run: RunState, values: Cache) -> Driver {
        let (to_self, inbox) = mpsc::channel(INBOX);
        let executor = Self { inner: Arc::clone(&self.inner), bound: None };
        Driver::new(run, executor, values, inbox, to_self)
    }

    /// Puts a driver to work.
    pub(crate) fn spawn(&self, driver: Driver) {
        let (id, flow) = (driver.run.run_id.to_string(), driver.run.flow.to_string());
        let live = LiveRun {
            driver: driver.to_self.clone(),
            stalled: Arc::clone(&driver.stalled),
            progress: driver.progress.subscribe(),
        };
        self.inner.observers.follow(self, &id, &live);
        self.lives().insert(id.clone(), live);
        self.inner.newest.lock().unwrap_or_else(PoisonError::into_inner).insert(flow, id);
        tokio::spawn(driver.drive());
    }

    fn lives(&self) -> std::sync::MutexGuard<'_, HashMap<String, LiveRun>> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn live(&self, run: &str) -> Option<LiveRun> {
        self.lives().get(run).cloned()
    }

    pub(crate) fn all_live(&self) -> Vec<(String, LiveRun)> {
        self.lives().iter().map(|(id, live)| (id.clone(), live.clone())).collect()
    }

    /// Whether a run of this process is in memory and could not write its last step.
    pub(crate) fn is_stalled(&self, run: &str) -> bool {
        self.live(run).is_some_and(|live| live.stalled.load(Ordering::SeqCst))
    }

    /// A driver has ended.
    pub(crate) fn forget(&self, run: &str, driver: &mpsc::Sender<Message>) {
        let mut lives = self.lives();
        if lives.get(run).is_some_and(|live| live.driver.same_channel(driver)) {
            lives.remove(run);
        }
    }

    /// The id of a run, given that or the name of a flow, whose newest run is meant then.
    pub(crate) fn run_of(&self, dag_or_run: &str) -> String {
        if self.live(dag_or_run).is_some() {
            return dag_or_run.to_owned();
        }
        // Several runs of one flow may be in memory; an action means the one that it belongs to.
        if let Some(bound) = self.bound.as_ref().filter(|bound| bound.flow == dag_or_run) {
            return bound.run.clone();
        }
        let newest = self.inner.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.get(dag_or_run).cloned().unwrap_or_else(|| dag_or_run.to_owned())
    }

    /// The handle of an action's attempt.
    pub(crate) fn bound(&self, run: &str, flow: &str) -> Self {
        let bound = Some(Arc::new(Bound { run: run.to_owned(), flow: flow.to_owned() }));
        Self { inner: Arc::clone(&self.inner), bound }
    }

    pub(crate) fn find_action(&self, name: &str) -> Option<Arc<Registered>> {
        self.registry().find(name)
    }

    pub(crate) fn action_of(&self, node: &Node) -> Option<Arc<Registered>> {
        match &node.flow {
            Some(_) => Some(super::grow::sub_flow()),
            None => self.find_action(&node.action),
        }
    }

    /// Fails with the names of all actions that nobody registered.
    pub(crate) fn require_actions(&self, nodes: &[Node]) -> Result<(), DagError> {
        self.registry().check()?;
        let mut missing: Vec<&str> = nodes
            .iter()
            .filter(|node| node.action != HUMAN_INTERRUPT && self.action_of(node).is_none())
            .map(|node| node.action.as_str())
            .collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        Err(DagError::ActionNotRegistered(missing.join(", ")))
    }
}
