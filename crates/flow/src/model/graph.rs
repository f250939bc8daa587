//! Definitions: a graph and its nodes, as they are loaded, pinned by runs, and added while a run goes on.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::DagConfig;
pub use crate::durability::Durability;

/// The name of the one invocation of a node that does not fan out.
pub const DEFAULT_KEY: &str = "default";

/// A named input of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IField {
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `inputs.<key>` or `<node>.<output>`, then dots into objects and arrays. Without one, `inputs.<name>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Taken when the reference leads nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

/// A named output of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OField {
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// At most `limit` nodes with equal `key` run at once, over all runs of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// What is limited.
    pub key: String,
    /// At least 1.
    pub limit: usize,
}

/// One node of a graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Unique within its graph, without a dot.
    pub id: String,
    /// Ids of the nodes that must complete before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
    /// What it reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<IField>,
    /// What it gives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OField>,
    /// Name of the registered action.
    pub action: String,
    /// Action to run once after the last failed attempt; empty is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failure: String,
    /// Whether a failed attempt is repeated. Default true.
    #[serde(skip_serializing_if = "is_true")]
    pub onfailure: bool,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Seconds an attempt may take. Default: the run's limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Attempts in total; 0 is 1. Default: the run's `max_attempts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub try_count: Option<u32>,
    /// For the action.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instructions: Vec<String>,
    /// Higher begins earlier. Default 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: i64,
    /// Whether its output may be that of an earlier equal step. Default: the run's `reuse_cached_outputs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<bool>,
    /// Default [`Durability::BestEffort`].
    pub durability: Durability,
    /// Reference to an array or object: one invocation per element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_each: Option<String>,
    /// Invocations of this node that may run at once. Default: the run's limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<usize>,
    /// Label under which it is paused, resumed and cancelled together with others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Comparison of references; when it is false, the node and what needs it are skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Runs even when what it depends on was skipped or failed. Default false.
    #[serde(skip_serializing_if = "is_false")]
    pub always: bool,
    /// Name of a flow to run as this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// A limit shared by all nodes with its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Fixed inputs besides the named ones: an object.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub values: Value,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            id: String::new(),
            dependencies: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            action: String::new(),
            failure: String::new(),
            onfailure: true,
            description: String::new(),
            timeout: None,
            try_count: None,
            instructions: Vec::new(),
            priority: 0,
            cache: None,
            durability: Durability::BestEffort,
            for_each: None,
            max_parallel: None,
            branch: None,
            when: None,
            always: false,
            flow: None,
            concurrency: None,
            values: Value::Null,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// A graph: what a flow is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GraphDefinition {
    /// Its name; loading another one of the same name replaces it for later runs.
    pub name: String,
    /// In the order of declaration.
    pub nodes: Vec<Node>,
    /// For people.
    pub description: String,
    /// For search.
    pub tags: Vec<String>,
    /// For people.
    pub author: String,
    /// For people, and part of the name under which outputs are reused.
    pub version: String,
    /// For people.
    pub signature: String,
    /// For actions.
    pub instructions: Vec<String>,
    /// What wins over the executor's settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<DagConfig>,
    /// Whether it is an agent: its steps are counted and reviewed.
    pub agent: bool,
}

/// A node to add, written in code.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// What becomes of it; an empty id is made up.
    pub node: Node,
}

impl NodeSpec {
    /// A node that runs this action.
    pub fn new(action: impl Into<String>) -> Self {
        Self { node: Node { action: action.into(), ..Node::default() } }
    }

    /// Its id; without one it gets one of its own.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.node.id = id.into();
        self
    }

    /// What it waits for.
    #[must_use]
    pub fn with_deps(mut self, ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.node.dependencies = ids.into_iter().map(Into::into).collect();
        self
    }

    /// One more thing it waits for.
    #[must_use]
    pub fn with_dep(mut self, id: impl Into<String>) -> Self {
        self.node.dependencies.push(id.into());
        self
    }

    /// Its fixed inputs: an object.
    #[must_use]
    pub fn with_inputs(mut self, inputs: Value) -> Self {
        self.node.values = inputs;
        self
    }

    /// Seconds an attempt may take.
    #[must_use]
    pub fn with_timeout(mut self, seconds: u64) -> Self {
        self.node.timeout = Some(seconds);
        self
    }

    /// Attempts in total.
    #[must_use]
    pub fn with_retries(mut self, attempts: u32) -> Self {
        self.node.try_count = Some(attempts);
        self
    }
}

impl From<Node> for NodeSpec {
    fn from(node: Node) -> Self {
        Self { node }
    }
}
