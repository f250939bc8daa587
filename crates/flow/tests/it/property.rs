//! Any graph with any failures ends in the state that a few lines of plain rules predict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mayfly_flow::{
    Cache, DagConfig, GraphDefinition, Node, NodeOutput, OnFailure, RunStatus, State,
};
use proptest::prelude::*;

use crate::site::{Site, quick};

/// Dependencies on earlier nodes, and how many attempts fail.
#[derive(Clone, Debug)]
struct Plan {
    nodes: Vec<(Vec<usize>, u32)>,
    width: usize,
    attempts: u32,
    stop: bool,
}

fn plans() -> impl Strategy<Value = Plan> {
    let node = (
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        prop_oneof![4 => Just(0), 1 => 1_u32..4],
    );
    (prop::collection::vec(node, 1..25), 1_usize..6, 1_u32..4, any::<bool>()).prop_map(
        |(nodes, width, attempts, stop)| {
            let nodes = nodes
                .into_iter()
                .enumerate()
                .map(|(at, (before, fails))| {
                    let mut before: Vec<usize> =
                        before.iter().filter(|_| at > 0).map(|index| index.index(at)).collect();
                    before.sort_unstable();
                    before.dedup();
                    (before, fails)
                })
                .collect();
            Plan { nodes, width, attempts, stop }
        },
    )
}

/// State and attempts of each node when failures are passed over.
fn predicted(plan: &Plan) -> Vec<(State, u32)> {
    let mut ends: Vec<(State, u32)> = Vec::new();
    for (before, fails) in &plan.nodes {
        ends.push(if before.iter().any(|at| ends[*at].0 != State::Completed) {
            (State::Skipped, 0)
        } else if *fails < plan.attempts {
            (State::Completed, fails + 1)
        } else {
            (State::Failed, plan.attempts)
        });
    }
    ends
}

async fn run(plan: Plan) {
    let on_failure = if plan.stop { OnFailure::Stop } else { OnFailure::Continue };
    let config = DagConfig {
        max_parallel_nodes: plan.width,
        max_attempts: Some(plan.attempts),
        on_failure,
        ..quick()
    };
    let site = Site::in_memory(config).await;
    let fails: BTreeMap<String, u32> =
        plan.nodes.iter().enumerate().map(|(at, node)| (format!("n{at}"), node.1)).collect();
    let running = Arc::new(AtomicU32::new(0));
    let width = u32::try_from(plan.width).unwrap();
    site.add("maybe", move |ctx| {
        let fails = fails[&ctx.node_id] >= ctx.attempt;
        let running = running.clone();
        assert!(running.fetch_add(1, Ordering::SeqCst) < width);
        Box::pin(async move {
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            if fails { Ok(NodeOutput::failure()) } else { Ok(NodeOutput::success_empty()) }
        })
    });
    let node = |(at, (before, _)): (usize, &(Vec<usize>, u32))| Node {
        id: format!("n{at}"),
        action: "maybe".into(),
        dependencies: before.iter().map(|at| format!("n{at}")).collect(),
        ..Node::default()
    };
    let nodes = plan.nodes.iter().enumerate().map(node).collect();
    site.executor.load(GraphDefinition { name: "p".into(), nodes, ..Default::default() }).unwrap();
    let (_keep, cancel) = tokio::sync::oneshot::channel();
    let report = site.executor.execute_static_dag("p", &Cache::new(), cancel).await.unwrap();
    let ends: Vec<(State, u32)> =
        report.node_outcomes.iter().map(|outcome| (outcome.state, outcome.attempts)).collect();
    let expected = predicted(&plan);
    let success = expected.iter().all(|(state, _)| *state == State::Completed);
    assert_eq!(report.success, success);
    assert_eq!(report.status, if success { RunStatus::Completed } else { RunStatus::Failed });
    if plan.stop && !success {
        // What ended before the stop is as predicted; the rest was cancelled.
        for (end, expected) in ends.iter().zip(&expected) {
            assert!(end == expected || end.0 == State::Cancelled, "{end:?} {expected:?}");
        }
    } else {
        assert_eq!(ends, expected);
    }
    // The log leads to the same state.
    let again = site.executor.report(&report.run_id).await.unwrap();
    assert_eq!(again, report);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_graph_ends_as_predicted(plan in plans()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(plan));
    }
}
