//! Whether a graph can run: every problem of it at once.

use std::collections::{HashMap, HashSet};

use super::graph::{GraphDefinition, Node};

/// One thing that is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The node, when it is about one.
    pub node: Option<String>,
    /// Index of the node in the order of declaration.
    pub index: Option<usize>,
    /// What is wrong.
    pub message: String,
}

/// Everything that is wrong with a graph; empty when it can run.
pub(crate) fn check(graph: &GraphDefinition) -> Vec<Problem> {
    let mut problems = Vec::new();
    if graph.nodes.is_empty() {
        let message = "the graph has no nodes".to_owned();
        return vec![Problem { node: None, index: None, message }];
    }
    let mut index = HashMap::with_capacity(graph.nodes.len());
    for (at, node) in graph.nodes.iter().enumerate() {
        let mut wrong = |message: String| {
            problems.push(Problem { node: Some(node.id.clone()), index: Some(at), message });
        };
        if node.id.is_empty() {
            wrong(format!("node {} has no id", at + 1));
        } else if node.id.contains('.') {
            wrong("a node id holds no dot; dots lead into values".to_owned());
        } else if index.insert(node.id.as_str(), at).is_some() {
            wrong("this id is used twice".to_owned());
        }
        if node.action.is_empty() && node.flow.is_none() {
            wrong("it names no action".to_owned());
        }
        if node.max_parallel == Some(0) {
            wrong("max_parallel: expected at least 1".to_owned());
        }
    }
    for (at, node) in graph.nodes.iter().enumerate() {
        let mut wrong = |message: String| {
            problems.push(Problem { node: Some(node.id.clone()), index: Some(at), message });
        };
        for dependency in &node.dependencies {
            if *dependency == node.id {
                wrong("it depends on itself".to_owned());
            } else if !index.contains_key(dependency.as_str()) {
                wrong(format!("it depends on `{dependency}`, which is no node"));
            }
        }
    }
    if let Some(cycle) = cycle(&graph.nodes, &index) {
        let at = index.get(cycle[0].as_str()).copied();
        let message = format!("dependencies go round in a circle: {}", cycle.join(" -> "));
        problems.push(Problem { node: Some(cycle[0].clone()), index: at, message });
    }
    references(graph, &index, &mut problems);
    problems
}

/// Ids along one circle, the first one again at the end; each depends on the one before it.
fn cycle(nodes: &[Node], index: &HashMap<&str, usize>) -> Option<Vec<String>> {
    let mut unmet = vec![0_usize; nodes.len()];
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        for before in node.dependencies.iter().filter_map(|id| index.get(id.as_str())) {
            if *before != at {
                unmet[at] += 1;
                dependents[*before].push(at);
            }
        }
    }
    let mut free: Vec<usize> = (0..nodes.len()).filter(|at| unmet[*at] == 0).collect();
    while let Some(at) = free.pop() {
        for next in &dependents[at] {
            unmet[*next] -= 1;
            if unmet[*next] == 0 {
                free.push(*next);
            }
        }
    }
    // Whoever is left has a dependency that is left, so walking back comes round.
    let mut at = unmet.iter().position(|count| *count > 0)?;
    let mut path = vec![at];
    loop {
        let before = |id: &String| {
            index.get(id.as_str()).copied().filter(|before| unmet[*before] > 0 && *before != at)
        };
        at = nodes[at].dependencies.iter().find_map(before)?;
        if let Some(start) = path.iter().position(|seen| *seen == at) {
            let mut ring: Vec<usize> = path.split_off(start);
            ring.push(at);
            ring.reverse();
            // Begins with the one that is declared first.
            ring.pop();
            let first = ring.iter().enumerate().min_by_key(|(_, at)| **at).map_or(0, |(i, _)| i);
            ring.rotate_left(first);
            ring.push(ring[0]);
            return Some(ring.into_iter().map(|at| nodes[at].id.clone()).collect());
        }
        path.push(at);
    }
}

fn references(graph: &GraphDefinition, index: &HashMap<&str, usize>, problems: &mut Vec<Problem>) {
    for (at, node) in graph.nodes.iter().enumerate() {
        let inputs = node.inputs.iter().filter_map(|input| input.reference.as_deref());
        let conditions = node.when.as_deref().map(super::when::references).unwrap_or_default();
        let conditions: Vec<&str> = conditions.iter().map(String::as_str).collect();
        for reference in inputs.chain(node.for_each.as_deref()).chain(conditions) {
            if let Some(message) = bad_reference(graph, index, at, reference) {
                problems.push(Problem { node: Some(node.id.clone()), index: Some(at), message });
            }
        }
        if let Some(condition) = &node.when
            && let Err(message) = super::when::parse(condition)
        {
            problems.push(Problem { node: Some(node.id.clone()), index: Some(at), message });
        }
    }
}

fn bad_reference(
    graph: &GraphDefinition,
    index: &HashMap<&str, usize>,
    at: usize,
    reference: &str,
) -> Option<String> {
    let Some((head, rest)) = reference.split_once('.') else {
        return Some(format!(
            "reference `{reference}`: expected `inputs.<key>` or `<node>.<output>`"
        ));
    };
    if head == "inputs" {
        return None;
    }
    let Some(of) = index.get(head).copied() else {
        return Some(format!("reference `{reference}`: `{head}` is no node"));
    };
    if !is_ancestor(graph, index, at, of) {
        return Some(format!(
            "reference `{reference}`: `{head}` does not run before this node; add it to dependencies"
        ));
    }
    let declared = &graph.nodes[of].outputs;
    let output = rest.split('.').next().unwrap_or(rest);
    let is_known = declared.is_empty()
        || declared.iter().any(|known| known.name == output)
        || (graph.nodes[of].for_each.is_some() && output == "items");
    (!is_known).then(|| format!("reference `{reference}`: `{head}` declares no output `{output}`"))
}

fn is_ancestor(
    graph: &GraphDefinition,
    index: &HashMap<&str, usize>,
    at: usize,
    of: usize,
) -> bool {
    let mut seen = HashSet::from([at]);
    let mut left = vec![at];
    while let Some(at) = left.pop() {
        // The usual reference is to a direct dependency.
        for before in graph.nodes[at].dependencies.iter().filter_map(|id| index.get(id.as_str())) {
            if *before == of {
                return true;
            }
            if seen.insert(*before) {
                left.push(*before);
            }
        }
    }
    false
}

/// Nodes by level: each depends only on earlier levels.
pub(crate) fn levels(nodes: &[&Node]) -> Vec<Vec<String>> {
    let mut level: HashMap<&str, usize> = HashMap::with_capacity(nodes.len());
    let mut left: Vec<&Node> = nodes.to_vec();
    let mut rows: Vec<Vec<String>> = Vec::new();
    // Every round places at least one node of a graph without circles.
    while !left.is_empty() {
        let (now, later): (Vec<&Node>, Vec<&Node>) = left
            .into_iter()
            .partition(|node| node.dependencies.iter().all(|id| level.contains_key(id.as_str())));
        if now.is_empty() {
            break;
        }
        level.extend(now.iter().map(|node| (node.id.as_str(), rows.len())));
        rows.push(now.iter().map(|node| node.id.clone()).collect());
        left = later;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::graph::{IField, OField};
    use super::*;

    fn node(id: &str, dependencies: &[&str]) -> Node {
        let dependencies = dependencies.iter().map(|id| (*id).to_owned()).collect();
        Node { id: id.into(), action: "a".into(), dependencies, ..Node::default() }
    }

    fn texts(nodes: Vec<Node>) -> Vec<String> {
        let graph = GraphDefinition { nodes, ..GraphDefinition::default() };
        check(&graph).into_iter().map(|problem| problem.message).collect()
    }

    fn refers(id: &str, dependencies: &[&str], reference: &str) -> Node {
        let input =
            IField { name: "x".into(), reference: Some(reference.into()), ..IField::default() };
        Node { inputs: vec![input], ..node(id, dependencies) }
    }

    #[test]
    fn case_03_a_circle_is_printed_whole() {
        assert_eq!(
            texts(vec![node("a", &["b"]), node("b", &["a"])]),
            ["dependencies go round in a circle: a -> b -> a"]
        );
        let long =
            vec![node("x", &[]), node("a", &["x", "c"]), node("b", &["a"]), node("c", &["b"])];
        assert_eq!(texts(long), ["dependencies go round in a circle: a -> b -> c -> a"]);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let found = texts(vec![
            node("a", &["a"]),
            node("a", &[]),
            node("b.c", &["nobody"]),
            refers("d", &[], "a.x"),
            refers("e", &[], "plain"),
        ]);
        assert_eq!(found.len(), 6, "{found:#?}");
        assert!(texts(Vec::new())[0].contains("no nodes"));
    }

    #[test]
    fn references_lead_to_declared_outputs_of_ancestors() {
        let mut first = node("a", &[]);
        first.outputs = vec![OField { name: "x".into(), description: None }];
        let good = vec![first.clone(), node("b", &["a"]), refers("c", &["b"], "a.x.deep.0")];
        assert!(texts(good).is_empty());
        let bad = texts(vec![first, refers("c", &["a"], "a.y")]);
        assert_eq!(bad, ["reference `a.y`: `a` declares no output `y`"]);
    }
}
