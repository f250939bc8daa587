//! Reading definitions from YAML. Everything that is wrong is told at once, with line and node.

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::error::DagError;
use crate::model::check::check;
use crate::model::config::{DagConfig, HumanTimeoutAction, OnFailure, RetryStrategy};
use crate::model::graph::{Concurrency, Durability, GraphDefinition, IField, Node, OField};

/// Longest definition, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;

/// A definition and what is odd about it without being wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The graph.
    pub graph: GraphDefinition,
    /// One sentence each.
    pub warnings: Vec<String>,
}

/// Reads one definition.
///
/// [`DagError::ValidationError`] for text that is no definition, [`DagError::InvalidGraph`] with every problem, each
/// with its line and node, for one that cannot run.
pub fn parse(text: &str) -> Result<Loaded, DagError> {
    if text.len() > LONGEST {
        return Err(DagError::ValidationError(format!(
            "the definition has {} bytes, at most {LONGEST} are read",
            text.len()
        )));
    }
    let options = serde_saphyr::options! { budget: None, };
    let form: GraphForm = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| DagError::ValidationError(format!("the definition: {error}")))?;
    let mut warnings = Vec::new();
    warnings.extend(form.other.keys().map(|key| format!("unknown key `{key}` in the graph")));
    let lines: Vec<u64> = form.nodes.iter().map(|node| node.defined.line()).collect();
    for (node, line) in form.nodes.iter().zip(&lines) {
        let (keys, id) = (node.value.other.keys(), &node.value.id);
        warnings.extend(keys.map(|key| format!("line {line}: unknown key `{key}` in node {id}")));
    }
    let graph = form.into_graph();
    let mut problems: Vec<String> = check(&graph)
        .into_iter()
        .map(|problem| match (problem.index.and_then(|at| lines.get(at)), problem.node) {
            (Some(line), Some(node)) => format!("line {line}: node {node}: {}", problem.message),
            _ => problem.message,
        })
        .collect();
    if let Some(Err(error)) = graph.config.as_ref().map(DagConfig::validate) {
        problems.push(error.to_string());
    }
    if problems.is_empty() {
        return Ok(Loaded { graph, warnings });
    }
    Err(DagError::InvalidGraph(format!("flow {}: {}", graph.name, problems.join("; "))))
}

/// Keys that nobody reads.
type Other = std::collections::BTreeMap<String, serde_json::Value>;

#[derive(Deserialize)]
struct GraphForm {
    name: String,
    #[serde(default)]
    nodes: Vec<Spanned<NodeForm>>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    author: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    instructions: Option<Vec<String>>,
    #[serde(default)]
    config: Option<ConfigForm>,
    #[serde(flatten)]
    other: Other,
}

impl GraphForm {
    fn into_graph(self) -> GraphDefinition {
        GraphDefinition {
            name: self.name,
            nodes: self.nodes.into_iter().map(|node| node.value.into_node()).collect(),
            description: self.description.unwrap_or_default(),
            tags: self.tags.unwrap_or_default(),
            author: self.author.unwrap_or_default(),
            version: self.version.unwrap_or_default(),
            signature: self.signature.unwrap_or_default(),
            instructions: self.instructions.unwrap_or_default(),
            config: self.config.map(ConfigForm::into_config),
            agent: false,
        }
    }
}

#[derive(Deserialize)]
struct NodeForm {
    id: String,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    dependencies: Option<Vec<String>>,
    #[serde(default)]
    inputs: Option<Vec<IField>>,
    #[serde(default)]
    outputs: Option<Vec<OField>>,
    #[serde(default)]
    failure: Option<String>,
    #[serde(default)]
    onfailure: Option<bool>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    timeout: Option<u64>,
    #[serde(default)]
    try_count: Option<u32>,
    #[serde(default)]
    instructions: Option<Vec<String>>,
    #[serde(default)]
    priority: Option<i64>,
    #[serde(default)]
    cache: Option<bool>,
    #[serde(default)]
    durability: Option<Durability>,
    #[serde(default)]
    for_each: Option<String>,
    #[serde(default)]
    max_parallel: Option<usize>,
    #[serde(default)]
    branch: Option<String>,
    #[serde(default)]
    when: Option<String>,
    #[serde(default)]
    always: Option<bool>,
    #[serde(default)]
    flow: Option<String>,
    #[serde(default)]
    concurrency: Option<Concurrency>,
    #[serde(default)]
    values: Option<serde_json::Value>,
    #[serde(flatten)]
    other: Other,
}

impl NodeForm {
    fn into_node(self) -> Node {
        Node {
            id: self.id,
            dependencies: self.dependencies.unwrap_or_default(),
            inputs: self.inputs.unwrap_or_default(),
            outputs: self.outputs.unwrap_or_default(),
            action: self.action.unwrap_or_default(),
            failure: self.failure.unwrap_or_default(),
            onfailure: self.onfailure.unwrap_or(true),
            description: self.description.unwrap_or_default(),
            timeout: self.timeout,
            try_count: self.try_count,
            instructions: self.instructions.unwrap_or_default(),
            priority: self.priority.unwrap_or_default(),
            cache: self.cache,
            durability: self.durability.unwrap_or_default(),
            for_each: self.for_each,
            max_parallel: self.max_parallel,
            branch: self.branch,
            when: self.when,
            always: self.always.unwrap_or(false),
            flow: self.flow,
            concurrency: self.concurrency,
            values: self.values.unwrap_or_default(),
        }
    }
}

/// Settings as they may be written: what is absent keeps its default.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigForm {
    max_attempts: Option<u32>,
    on_failure: OnFailure,
    timeout_seconds: Option<u64>,
    human_wait_minutes: Option<u32>,
    human_timeout_action: HumanTimeoutAction,
    max_tokens: Option<u64>,
    max_iterations: Option<u32>,
    review_frequency: Option<u32>,
    retry_strategy: RetryStrategy,
    retry_jitter: f64,
    enable_parallel_execution: bool,
    max_parallel_nodes: usize,
    reuse_cached_outputs: bool,
    lease_seconds: u64,
    heartbeat_seconds: u64,
    cancel_grace_seconds: u64,
    synchronous: crate::journal::Synchronous,
    enable_incremental_cache: bool,
    cache_snapshot_interval: u64,
}

macro_rules! same_fields {
    ($from:expr, $to:ident) => {
        $to {
            max_attempts: $from.max_attempts,
            on_failure: $from.on_failure,
            timeout_seconds: $from.timeout_seconds,
            human_wait_minutes: $from.human_wait_minutes,
            human_timeout_action: $from.human_timeout_action,
            max_tokens: $from.max_tokens,
            max_iterations: $from.max_iterations,
            review_frequency: $from.review_frequency,
            retry_strategy: $from.retry_strategy,
            retry_jitter: $from.retry_jitter,
            enable_parallel_execution: $from.enable_parallel_execution,
            max_parallel_nodes: $from.max_parallel_nodes,
            reuse_cached_outputs: $from.reuse_cached_outputs,
            lease_seconds: $from.lease_seconds,
            heartbeat_seconds: $from.heartbeat_seconds,
            cancel_grace_seconds: $from.cancel_grace_seconds,
            synchronous: $from.synchronous,
            enable_incremental_cache: $from.enable_incremental_cache,
            cache_snapshot_interval: $from.cache_snapshot_interval,
        }
    };
}

impl Default for ConfigForm {
    fn default() -> Self {
        let plain = DagConfig::default();
        same_fields!(plain, ConfigForm)
    }
}

impl ConfigForm {
    fn into_config(self) -> DagConfig {
        same_fields!(self, DagConfig)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "
name: data_pipeline
nodes:
  - id: fetch
    dependencies: []
    action: fetch_data

  - id: process_a
    dependencies: [fetch]
    action: process_type_a
";

    const FULL: &str = "
name: full
description: all of it
tags: [a, b]
author: me
version: 1.0.2
signature: s
instructions: [be kind]
config:
  max_attempts: 5
  on_failure: Continue
  retry_strategy: !Linear
    delay_secs: 3
nodes:
  - id: one
    dependencies: []
    inputs:
      - name: text
        description: what
        reference: inputs.text
        default: none
    outputs:
      - name: result
    action: act
    failure: tell
    onfailure: false
    description: first
    timeout: 30
    try_count: 2
    instructions: [quick]
    priority: 4
    cache: true
    durability: AtMostOnce
    branch: left
  - id: two
    dependencies: [one]
    action: act
    for_each: one.result
    max_parallel: 2
    when: one.result != null
    colour: red
";

    #[test]
    fn regression_09_minimal_yaml_loads() {
        let loaded = parse(SEED).unwrap();
        assert_eq!((loaded.graph.nodes.len(), loaded.warnings.len()), (2, 0));
        assert_eq!(loaded.graph.nodes[1].dependencies, ["fetch"]);
        assert!(loaded.graph.nodes[0].onfailure && loaded.graph.config.is_none());
        assert_eq!(
            parse("name: a\nnodes: [{id: b, action: c}]\nconfig: {}").unwrap().graph.config,
            Some(DagConfig::default())
        );
    }

    #[test]
    fn case_01_the_full_form_loads_and_unknown_keys_warn() {
        let loaded = parse(FULL).unwrap();
        let [one, two] = loaded.graph.nodes.as_slice() else { panic!("two nodes") };
        assert_eq!((one.timeout, one.try_count, one.onfailure), (Some(30), Some(2), false));
        assert_eq!((one.durability, one.failure.as_str()), (Durability::AtMostOnce, "tell"));
        assert_eq!(one.inputs[0].default, Some("none".into()));
        assert_eq!(two.for_each.as_deref(), Some("one.result"));
        let config = loaded.graph.config.unwrap();
        assert_eq!(config.on_failure, OnFailure::Continue);
        assert_eq!(config.retry_strategy, RetryStrategy::Linear { delay_secs: 3 });
        assert_eq!(loaded.graph.version, "1.0.2");
        assert_eq!(loaded.warnings.len(), 1);
        assert!(loaded.warnings[0].contains("colour"), "{:?}", loaded.warnings);
    }

    #[test]
    fn regression_02_all_problems_come_with_line_and_node() {
        let text = "name: bad\nnodes:\n  - id: a\n    action: x\n    dependencies: [b]\n  - id: b\n    action: x\n    dependencies: [a, c]\n";
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains("a -> b -> a"), "{error}");
        assert!(error.contains("line 6: node b: it depends on `c`"), "{error}");
        let error = parse("name: x\nnodes: [{id: a, action: b, timeout: soon}]").unwrap_err();
        assert!(matches!(error, DagError::ValidationError(_)), "{error}");
        assert!(parse("name: x\nnodes: []").unwrap_err().to_string().contains("no nodes"));
    }
}
