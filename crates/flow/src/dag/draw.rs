//! Pictures of runs and definitions: DOT, Mermaid, JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::executor::DagExecutor;
use crate::error::DagError;
use crate::model::config::DagConfig;
use crate::model::run::{NodeState, RunState};
use crate::model::status::State;

impl DagExecutor {
    /// A run, or a flow that never ran, as JSON: nodes with their state, edges.
    pub async fn serialize_tree_to_json(&self, dag_or_run: &str) -> Result<String, DagError> {
        let run = self.picture(dag_or_run).await?;
        let nodes: Vec<Value> = run.nodes.iter().map(json_node).collect();
        Ok(json!({
            "runId": &*run.run_id,
            "flow": &*run.flow,
            "status": run.status,
            "reason": run.reason,
            "nodes": nodes,
        })
        .to_string())
    }

    /// A run, or a flow that never ran, in the language of Graphviz.
    pub async fn serialize_tree_to_dot(&self, dag_or_run: &str) -> Result<String, DagError> {
        let run = self.picture(dag_or_run).await?;
        let mut text = format!(
            "digraph {} {{\n  rankdir=LR;\n  node [shape=box, style=filled];\n",
            quoted(&run.flow)
        );
        for node in &run.nodes {
            let (state, attempts, ms) = summary(node);
            let mut label = format!("{}\n{}", node.node.id, state.name());
            if attempts > 0 {
                // Writing to a string cannot fail.
                let _ = write!(label, "\nattempt {attempts}, {ms} ms");
            }
            let (id, label, colour) = (quoted(&node.node.id), quoted(&label), colour(state));
            let _ = writeln!(text, "  {id} [label={label}, fillcolor=\"{colour}\"];");
        }
        for node in &run.nodes {
            for before in &node.before {
                let from = quoted(&run.nodes[*before].node.id);
                let _ = writeln!(text, "  {from} -> {};", quoted(&node.node.id));
            }
        }
        text.push_str("}\n");
        Ok(text)
    }

    /// A run, or a flow that never ran, in the language of Mermaid.
    pub async fn serialize_tree_to_mermaid(&self, dag_or_run: &str) -> Result<String, DagError> {
        let run = self.picture(dag_or_run).await?;
        let mut text = "flowchart LR\n".to_owned();
        for (at, node) in run.nodes.iter().enumerate() {
            let (state, ..) = summary(node);
            let id = node.node.id.replace('"', "#quot;");
            let _ = writeln!(text, "  n{at}[\"{id}: {}\"]:::{}", state.name(), state.name());
        }
        for (at, node) in run.nodes.iter().enumerate() {
            for before in &node.before {
                let _ = writeln!(text, "  n{before} --> n{at}");
            }
        }
        for state in [State::Completed, State::Failed, State::Running, State::Skipped] {
            let _ = writeln!(text, "  classDef {} fill:{}", state.name(), colour(state));
        }
        Ok(text)
    }

    async fn picture(&self, dag_or_run: &str) -> Result<RunState, DagError> {
        match self.restore(&self.run_of(dag_or_run)).await {
            Ok((run, _)) => Ok(run),
            Err(DagError::DagNotFound(_)) => {
                Ok(RunState::new("", &*self.dag(dag_or_run)?, DagConfig::default()))
            }
            Err(error) => Err(error),
        }
    }
}

fn json_node(node: &NodeState) -> Value {
    let items: Vec<Value> = node
        .items
        .iter()
        .map(|item| {
            json!({
                "invocationKey": item.key,
                "attempt": item.attempt,
                "state": item.state,
                "error": item.errors.last(),
                "durationMs": item.ms,
                "artifact": item.artifact,
            })
        })
        .collect();
    json!({
        "id": node.node.id,
        "action": node.node.action,
        "dependencies": node.node.dependencies,
        "state": summary(node).0,
        "invocations": items,
    })
}

/// One state for all invocations: the one that says most, with attempts and time in sum.
fn summary(node: &NodeState) -> (State, u32, i64) {
    const TELLING: [State; 8] = [
        State::Failed,
        State::Running,
        State::Paused,
        State::Waiting,
        State::Ready,
        State::Pending,
        State::Cancelled,
        State::Skipped,
    ];
    let has = |state: &State| node.items.iter().any(|item| item.state == *state);
    let mut state = TELLING.into_iter().find(has).unwrap_or(State::Completed);
    if node.items.is_empty() && !node.expanded {
        state = State::Pending;
    }
    let attempts = node.items.iter().map(|item| item.attempt).sum();
    (state, attempts, node.items.iter().map(|item| item.ms).sum())
}

fn colour(state: State) -> &'static str {
    match state {
        State::Completed => "#b7e4c7",
        State::Failed => "#f4a6a6",
        State::Running => "#a6c8f4",
        State::Waiting | State::Paused => "#ffe08a",
        State::Skipped | State::Cancelled => "#d0d0d0",
        State::Pending | State::Ready => "#ffffff",
    }
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}
