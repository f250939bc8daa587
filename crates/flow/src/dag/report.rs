//! What a run came to.

use serde::Serialize;

use crate::model::run::RunState;
use crate::model::status::{RunStatus, State};

/// What became of one invocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeExecutionOutcome {
    /// The node.
    pub node_id: String,
    /// Which invocation.
    pub invocation_key: String,
    /// Whether it completed.
    pub success: bool,
    /// Errors of attempts that were followed by another one.
    pub retry_messages: Vec<String>,
    /// Why it did not complete.
    pub final_error: Option<String>,
    /// Its state.
    pub state: State,
    /// Number of its newest attempt; 0 when none began.
    pub attempts: u32,
}

/// What a run came to; one outcome per invocation, in the order of declaration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DagExecutionReport {
    /// One per invocation.
    pub node_outcomes: Vec<NodeExecutionOutcome>,
    /// False if anything failed, was cancelled, or was skipped because of that.
    pub overall_success: bool,
    /// The same.
    pub success: bool,
    /// Why it is no success.
    pub error: Option<String>,
    /// The run.
    pub run_id: String,
    /// Its state.
    pub status: RunStatus,
}

pub(crate) fn report(run: &RunState) -> DagExecutionReport {
    let outcomes = run.nodes.iter().flat_map(|state| {
        state.items.iter().map(|item| {
            let success = item.state == State::Completed;
            let mut errors = item.errors.clone();
            let last = (item.state == State::Failed).then(|| errors.pop()).flatten();
            NodeExecutionOutcome {
                node_id: state.node.id.clone(),
                invocation_key: item.key.clone(),
                success,
                retry_messages: errors,
                final_error: last.or_else(|| {
                    (!success && item.state.is_final()).then(|| item.state.name().to_owned())
                }),
                state: item.state,
                attempts: item.attempt,
            }
        })
    });
    let success = run.status == RunStatus::Completed;
    DagExecutionReport {
        node_outcomes: outcomes.collect(),
        overall_success: success,
        success,
        error: run.reason.clone().filter(|_| !success),
        run_id: run.run_id.to_string(),
        status: run.status,
    }
}
