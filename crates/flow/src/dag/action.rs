//! Actions: what nodes run. An action is a type, or a function that `register_action!` makes one of.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::attempt::Link;
use super::cache::Cache;
use super::executor::DagExecutor;
use crate::error::DagError;
use crate::model::graph::{Node, NodeSpec};

/// What an attempt gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeOutput {
    /// An object gives one output per field; anything else is the output `output`.
    pub outputs: Option<Value>,
    /// False is a failed attempt, which is repeated like one that returned an error.
    pub success: bool,
    /// For observers.
    pub metadata: Option<Value>,
}

impl NodeOutput {
    /// It went well and gives this.
    pub fn success(outputs: Value) -> Self {
        Self { outputs: Some(outputs), success: true, metadata: None }
    }

    /// It went well and gives nothing.
    pub fn success_empty() -> Self {
        Self { success: true, ..Self::default() }
    }

    /// It failed.
    pub fn failure() -> Self {
        Self::default()
    }

    /// Adds something for observers.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Value) -> Self {
        self.metadata = Some(metadata);
        self
    }
}

/// Tells an attempt that its run was cancelled.
#[derive(Clone, Debug)]
pub struct CancelToken(pub(crate) watch::Receiver<bool>);

impl CancelToken {
    /// Whether it was.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it is. An attempt that goes on is aborted after the grace of the run's settings.
    pub async fn cancelled(&mut self) {
        if self.0.wait_for(|cancelled| *cancelled).await.is_err() {
            // The run is over without a cancel.
            std::future::pending::<()>().await;
        }
    }
}

/// What an attempt knows and may do.
#[derive(Clone)]
pub struct NodeCtx {
    /// Name of the flow.
    pub dag_name: String,
    /// Id of the run.
    pub run_id: String,
    /// Id of the node.
    pub node_id: String,
    /// Which invocation; `default` unless the node fans out.
    pub invocation_key: String,
    /// From 1. With run, node and key it names the attempt, for others to know a repeated one by.
    pub attempt: u32,
    /// Resolved inputs: an object.
    pub inputs: Value,
    /// The run's values.
    pub cache: Cache,
    /// What [`DagExecutor::set_app_state`] was given.
    pub app_data: Option<Arc<dyn Any + Send + Sync>>,
    /// Whether the run was cancelled.
    pub cancel: CancelToken,
    pub(crate) node: Arc<Node>,
    pub(crate) executor: DagExecutor,
    pub(crate) link: Link,
}

impl fmt::Debug for NodeCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeCtx")
            .field("run_id", &self.run_id)
            .field("node_id", &self.node_id)
            .field("invocation_key", &self.invocation_key)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl NodeCtx {
    /// An input by name; [`DagError::ValidationError`] when there is none or it is of another type.
    pub fn get_input<T: DeserializeOwned>(&self, name: &str) -> Result<T, DagError> {
        self.get_input_opt(name)?.ok_or_else(|| {
            DagError::ValidationError(format!("node {}: there is no input `{name}`", self.node_id))
        })
    }

    /// An input by name, if there is one.
    pub fn get_input_opt<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, DagError> {
        let Some(value) = self.inputs.get(name) else { return Ok(None) };
        serde_json::from_value(value.clone()).map(Some).map_err(|error| {
            DagError::ValidationError(format!(
                "node {}: input `{name}` has another type: {error}",
                self.node_id
            ))
        })
    }

    /// The node's definition.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// A handle that is bound to this run and attempt: nodes that it adds reach the running graph.
    pub fn executor(&self) -> DagExecutor {
        self.executor.clone()
    }

    /// Says that the attempt is alive. The engine extends leases by itself; this fails with
    /// [`DagError::StaleLease`] or [`DagError::Cancelled`] when going on is in vain.
    pub async fn heartbeat(&self) -> Result<(), DagError> {
        if self.cancel.is_cancelled() {
            return Err(DagError::Cancelled(format!("run {}", self.run_id)));
        }
        // Gives others their turn, which long computations should do anyway.
        tokio::task::yield_now().await;
        self.link.alive()
    }

    /// Waits for a signal without holding a place among the running nodes; `None` when the time is over.
    ///
    /// It survives a restart: the action runs again then and gets the same signal here.
    pub async fn wait_signal(
        &self,
        name: &str,
        timeout: Option<Duration>,
    ) -> Result<Option<Value>, DagError> {
        self.link.wait_signal(name, timeout).await
    }

    /// Adds nodes to the running graph, all or none. A repeated attempt may add them again.
    pub async fn add_nodes(&self, nodes: Vec<NodeSpec>) -> Result<Vec<String>, DagError> {
        self.executor.add_nodes_atomic(&self.run_id, nodes).await
    }

    /// Tells observers something, durably and in order with the run's other events.
    pub async fn emit(&self, event: Value) -> Result<(), DagError> {
        self.link.emit(event).await
    }
}

/// What a node runs. One value serves all attempts, several at once.
#[async_trait]
pub trait NodeAction: Send + Sync {
    /// The name that definitions call it by.
    fn name(&self) -> String;

    /// One attempt. An error or `success: false` is a failed attempt; [`crate::Permanent`], [`crate::AgentError::User`]
    /// and validation errors are not repeated.
    async fn execute(&self, ctx: &NodeCtx) -> anyhow::Result<NodeOutput>;

    /// Refuses inputs before an attempt; what it refuses is not repeated. Default: takes all.
    fn validate_inputs(&self, _inputs: &Value) -> anyhow::Result<()> {
        Ok(())
    }

    /// JSON Schema that inputs must match.
    fn input_schema(&self) -> Option<Value> {
        None
    }

    /// JSON Schema that outputs must match.
    fn output_schema(&self) -> Option<Value> {
        None
    }

    /// Part of the name under which outputs are reused; change it with what the action does.
    fn version(&self) -> String {
        String::new()
    }
}

/// Registers `async fn(&mut DagExecutor, &Node, &Cache) -> Result<()>`, or an action made by `#[action]`, under a name.
///
/// It is registered at once, with or without `.await?`; another action of the name is an error.
#[macro_export]
macro_rules! register_action {
    ($executor:expr, $name:expr, $function:path) => {{
        struct Function(::std::string::String);
        #[$crate::async_trait]
        impl $crate::NodeAction for Function {
            fn name(&self) -> ::std::string::String {
                self.0.clone()
            }
            async fn execute(
                &self,
                ctx: &$crate::NodeCtx,
            ) -> $crate::anyhow::Result<$crate::NodeOutput> {
                let mut executor = ctx.executor();
                $function(&mut executor, ctx.node(), &ctx.cache)
                    .await
                    .map_err(|error| $crate::anyhow::Error::from(error))?;
                ::std::result::Result::Ok($crate::NodeOutput::success_empty())
            }
        }
        $crate::Registration::now(
            &$executor,
            ::std::sync::Arc::new(Function(::std::string::String::from($name))),
        )
    }};
}

/// Output values by name.
pub(crate) fn named(outputs: Option<Value>) -> serde_json::Map<String, Value> {
    match outputs {
        None | Some(Value::Null) => serde_json::Map::new(),
        Some(Value::Object(fields)) => fields,
        Some(value) => match json!({ "output": value }) {
            Value::Object(fields) => fields,
            _ => serde_json::Map::new(),
        },
    }
}
