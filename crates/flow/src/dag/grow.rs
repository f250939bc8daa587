//! Graphs that change while they run: nodes added by actions and callers, flows within flows.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::action::{NodeAction, NodeCtx, NodeOutput};
use super::cache::Cache;
use super::executor::{DagExecutor, StartOptions};
use super::registry::Registered;
use crate::error::{DagError, Permanent};
use crate::model::entry::Write;
use crate::model::graph::{Node, NodeSpec};
use crate::model::status::RunStatus;

impl DagExecutor {
    /// Adds nodes to a running graph: all or, if anything is wrong with one, none. Answers the ids of those that are new.
    ///
    /// A node that is there in the same form is left alone, so a repeated attempt may add again;
    /// [`DagError::NodeAlreadyExists`] for another form, [`DagError::DependencyNotFound`],
    /// [`DagError::ActionNotRegistered`], [`DagError::InvalidGraph`] for a circle.
    pub async fn add_nodes_atomic(
        &self,
        dag_or_run: &str,
        nodes: Vec<NodeSpec>,
    ) -> Result<Vec<String>, DagError> {
        let nodes: Vec<Node> = nodes
            .into_iter()
            .map(|spec| {
                if spec.node.id.is_empty() {
                    return Node { id: self.gen_node_id(&spec.node.action), ..spec.node };
                }
                spec.node
            })
            .collect();
        self.require_actions(&nodes)?;
        self.act(dag_or_run, move |driver, now| driver.run.add(now, nodes)).await
    }

    /// Adds one node; see [`DagExecutor::add_nodes_atomic`].
    pub async fn add_node(
        &self,
        dag_or_run: &str,
        id: impl Into<String> + Send,
        action: impl Into<String> + Send,
        dependencies: Vec<String>,
    ) -> Result<(), DagError> {
        let spec = NodeSpec::new(action).with_id(id).with_deps(dependencies);
        self.add_nodes_atomic(dag_or_run, vec![spec]).await.map(drop)
    }

    /// Adds one node whose attempts may take so many seconds.
    pub async fn add_node_with_timeout(
        &self,
        dag_or_run: &str,
        id: impl Into<String> + Send,
        action: impl Into<String> + Send,
        dependencies: Vec<String>,
        timeout_seconds: u64,
    ) -> Result<(), DagError> {
        let spec = NodeSpec::new(action).with_id(id).with_deps(dependencies);
        self.add_nodes_atomic(dag_or_run, vec![spec.with_timeout(timeout_seconds)]).await.map(drop)
    }

    /// An id that no node has.
    pub fn gen_node_id(&self, prefix: &str) -> String {
        let prefix = prefix.replace('.', "_");
        format!("{prefix}_{}", uuid::Uuid::now_v7().simple())
    }

    /// Whether a run has a node.
    pub async fn node_exists(&self, dag_or_run: &str, id: &str) -> Result<bool, DagError> {
        let id = id.to_owned();
        self.act(dag_or_run, move |driver, _| Ok(driver.run.index.contains_key(&id))).await
    }

    /// [`DagError::DependencyNotFound`] unless a run has the node.
    pub async fn require_dep(&self, dag_or_run: &str, id: &str) -> Result<(), DagError> {
        if self.node_exists(dag_or_run, id).await? {
            return Ok(());
        }
        Err(DagError::DependencyNotFound(format!("{dag_or_run}: there is no node {id}")))
    }

    /// Replaces the fixed inputs of a node that has not begun.
    pub async fn set_node_inputs_json(
        &self,
        dag_or_run: &str,
        id: &str,
        inputs: Value,
    ) -> Result<(), DagError> {
        let id = id.to_owned();
        self.act(dag_or_run, move |driver, now| driver.run.set_inputs(now, &id, inputs)).await
    }

    /// The fixed inputs of a node.
    pub async fn get_node_inputs_json(
        &self,
        dag_or_run: &str,
        id: &str,
    ) -> Result<Value, DagError> {
        let id = id.to_owned();
        self.act(dag_or_run, move |driver, _| {
            let run = &driver.run;
            let at = run.index.get(&id).copied();
            let missing = || DagError::NodeNotFound(format!("run {}: node {id}", run.run_id));
            Ok(run.nodes[at.ok_or_else(missing)?].node.values.clone())
        })
        .await
    }

    /// What a node has given; `None` before it has.
    pub async fn get_node_output_json(
        &self,
        dag_or_run: &str,
        id: &str,
    ) -> Result<Option<Value>, DagError> {
        let run = self.run_of(dag_or_run);
        let values = match self.live(&run) {
            Some(_) => self.act(&run, |driver, _| Ok(driver.values.clone())).await?,
            None => self.restore(&run).await?.1,
        };
        Ok(values.read(|scopes| scopes.get(id).cloned()).map(Value::Object))
    }

    /// The values of a run, as a copy.
    pub async fn run_cache(&self, run: &str) -> Result<Cache, DagError> {
        Ok(Cache::of(self.restore(&self.run_of(run)).await?.1.scopes()))
    }

    /// Writes values into a cache.
    pub fn update_cache(cache: &Cache, scope: &str, values: Map<String, Value>) {
        let write = |(key, value)| Write { scope: scope.to_owned(), key, value, append: false };
        cache.apply(&values.into_iter().map(write).collect::<Vec<_>>());
    }
}

/// The action of nodes that name a flow.
pub(crate) fn sub_flow() -> Arc<Registered> {
    static SUB_FLOW: OnceLock<Arc<Registered>> = OnceLock::new();
    Arc::clone(SUB_FLOW.get_or_init(|| {
        let version = String::new();
        Arc::new(Registered { action: Arc::new(SubFlow), input: None, output: None, version })
    }))
}

/// Runs a flow as a node: one run of its own, which a repeated attempt finds again.
struct SubFlow;

#[async_trait]
impl NodeAction for SubFlow {
    fn name(&self) -> String {
        "flow".to_owned()
    }

    async fn execute(&self, ctx: &NodeCtx) -> anyhow::Result<NodeOutput> {
        let flow = ctx.node().flow.clone().unwrap_or_default();
        let run = format!("{}/{}/{}", ctx.run_id, ctx.node_id, ctx.invocation_key);
        let options = StartOptions {
            run_id: Some(run.clone()),
            parent_run_id: Some(ctx.run_id.clone()),
            ..StartOptions::default()
        };
        let executor = ctx.executor();
        executor.start(&flow, ctx.inputs.clone(), options).await?;
        if executor.live(&run).is_none() && !executor.run_status(&run).await?.status.is_final() {
            executor.revive(&run, None).await?;
        }
        let mut cancel = ctx.cancel.clone();
        let report = tokio::select! {
            report = executor.wait_run(&run) => report?,
            () = cancel.cancelled() => {
                executor.cancel_run(&run).await?;
                executor.wait_run(&run).await?
            }
        };
        if report.status != RunStatus::Completed {
            let (status, error) = (report.status.name(), report.error.unwrap_or_default());
            let error = anyhow::anyhow!("flow {flow} (run {run}) is {status}: {error}");
            // Its own nodes had their attempts; a failed run never becomes another.
            if report.status.is_final() {
                return Err(Permanent(error).into());
            }
            return Err(error);
        }
        let graph = executor.dag(&flow)?;
        let is_inner = |id: &String| graph.nodes.iter().any(|node| node.dependencies.contains(id));
        let values = executor.run_cache(&run).await?;
        let ends = graph.nodes.iter().filter(|node| !is_inner(&node.id)).filter_map(|node| {
            let outputs = values.read(|scopes| scopes.get(&node.id).cloned())?;
            Some((node.id.clone(), Value::Object(outputs)))
        });
        Ok(NodeOutput::success(Value::Object(ends.collect())))
    }
}
