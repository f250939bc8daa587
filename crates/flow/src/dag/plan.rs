//! Plans: what a language model asked for, as nodes.

use serde_json::{Value, json};

use crate::model::graph::NodeSpec;

/// Action of a tool call; inputs `tool` and `arguments`.
pub const TOOL_ACTION: &str = "tool_invoke_node";
/// Action that joins tool results.
pub const CONTINUATION_ACTION: &str = "continuation_node";
/// Action of the model's next turn.
pub const LLM_ACTION: &str = "provider_llm_node";

/// Nodes to add together.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In the order in which they were added.
    pub nodes: Vec<NodeSpec>,
}

impl Plan {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds any node.
    pub fn add_node(&mut self, node: NodeSpec) -> &mut Self {
        self.nodes.push(node);
        self
    }

    /// Adds a tool call: 30 s, two attempts.
    pub fn add_tool(&mut self, id: &str, tool: &str, arguments: &Value, after: &str) -> &mut Self {
        self.add_node(
            NodeSpec::new(TOOL_ACTION)
                .with_id(id)
                .with_dep(after)
                .with_inputs(json!({ "tool": tool, "arguments": arguments }))
                .with_timeout(30)
                .with_retries(2),
        )
    }

    /// Adds the join of tool results.
    pub fn add_continuation(&mut self, id: &str, after: &[String]) -> &mut Self {
        let node = NodeSpec::new(CONTINUATION_ACTION).with_id(id).with_deps(after.iter().cloned());
        self.add_node(node.with_inputs(json!({ "tools": after })))
    }

    /// Adds the model's next turn: 120 s, one attempt.
    pub fn add_next_llm(&mut self, id: &str, after: &str) -> &mut Self {
        let node = NodeSpec::new(LLM_ACTION).with_id(id).with_dep(after);
        self.add_node(node.with_timeout(120).with_retries(1))
    }
}

/// Tool calls of a model's output (`tool_calls[{name, arguments}]`) as parallel nodes, their join, and the next turn.
/// None when there is no valid call. Ids derive from the node's, so a repeated attempt makes the same plan.
pub fn plan_from_llm_output(run_id: &str, llm_node_id: &str, output: &Value) -> Option<Plan> {
    let calls = output["tool_calls"].as_array()?.iter().filter_map(|call| {
        let name = call["name"].as_str().filter(|name| !name.is_empty())?;
        Some((name, call.get("arguments").cloned().unwrap_or_else(|| json!({}))))
    });
    let mut plan = Plan::new();
    let mut ids = Vec::new();
    for (at, (name, arguments)) in calls.enumerate() {
        let id = format!("{llm_node_id}_tool_{}_{at}", name.replace('.', "_"));
        plan.add_tool(&id, name, &arguments, llm_node_id);
        ids.push(id);
    }
    if ids.is_empty() {
        return None;
    }
    tracing::debug!(run_id, llm_node_id, tools = ids.len(), "planned tool calls");
    let join = format!("{llm_node_id}_continuation");
    plan.add_continuation(&join, &ids);
    plan.add_next_llm(&format!("{llm_node_id}_next"), &join);
    Some(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_calls_become_parallel_nodes_with_a_join() {
        let output = json!({ "tool_calls": [
            { "name": "search", "arguments": { "q": "a" } },
            { "name": "search", "arguments": { "q": "b" } },
            { "broken": true },
        ]});
        let plan = plan_from_llm_output("run", "llm", &output).unwrap();
        let ids: Vec<&str> = plan.nodes.iter().map(|spec| spec.node.id.as_str()).collect();
        assert_eq!(ids, ["llm_tool_search_0", "llm_tool_search_1", "llm_continuation", "llm_next"]);
        assert_eq!(plan.nodes[2].node.dependencies, ids[..2]);
        assert_eq!((plan.nodes[0].node.timeout, plan.nodes[0].node.try_count), (Some(30), Some(2)));
        assert_eq!(
            (plan.nodes[3].node.timeout, plan.nodes[3].node.try_count),
            (Some(120), Some(1))
        );
        for nothing in [json!({}), json!({ "tool_calls": [] }), json!({ "tool_calls": [{}] })] {
            assert!(plan_from_llm_output("run", "llm", &nothing).is_none());
        }
    }
}
