//! What happened in a run, in order and without gaps, as observers and callers are told it.

use serde::Serialize;
use serde_json::Value;

use super::executor::DagExecutor;
use crate::error::DagError;
use crate::journal::Row;

/// One event of a run. Sequence numbers begin at 1 and have no gap, so a reader goes on where it stopped.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuntimeEvent {
    /// Always 2.
    pub version: u8,
    /// Its place in the run.
    pub sequence: i64,
    /// The run.
    pub run_id: String,
    /// In milliseconds since the epoch.
    pub timestamp: i64,
    /// What happened.
    pub event: EventKind,
}

/// Which invocation and attempt an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StepRef {
    /// The node.
    pub node_id: String,
    /// Which invocation.
    pub invocation_key: String,
    /// From 1; 0 before the first.
    pub attempt: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type")]
#[non_exhaustive]
#[expect(missing_docs, reason = "fields are those of the step, named as in the log")]
pub enum EventKind {
    /// These nodes will run when their time comes.
    StepPlanned { nodes: Value },
    /// An attempt began.
    StepStarted { step: StepRef },
    /// An attempt ended well.
    StepCompleted { step: StepRef, success: bool, duration_ms: i64 },
    /// An attempt failed; `retry_at` says when the next begins.
    StepFailed { step: StepRef, error: String, retry_at: Option<i64>, duration_ms: i64 },
    /// It will never begin.
    StepSkipped { step: StepRef, reason: String },
    /// It was cancelled, waits, was woken, stands in doubt, or gets another attempt.
    StepStateUpdated { step: StepRef, state: String, detail: Value },
    /// The run changed its state.
    RunStateUpdated { status: String, reason: Option<String> },
    /// A branch was paused or resumed.
    BranchStateUpdated { branch: String, paused: bool },
    /// The graph grew.
    NodesAdded { nodes: Value },
    /// A node fanned out.
    NodeExpanded { node_id: String, keys: Value },
    /// Fixed inputs of a node were replaced, or the run was given more (then without a node).
    InputsUpdated { node_id: String },
    /// A signal came or went to somebody.
    SignalUpdated { name: String, step: Option<StepRef> },
    /// An action told something.
    Emitted { step: StepRef, event: Value },
}

impl DagExecutor {
    /// Events of a run after a sequence number, in order, at most 10,000.
    pub async fn events(&self, run: &str, after: i64) -> Result<Vec<RuntimeEvent>, DagError> {
        let run = self.run_of(run);
        let found = self.storage().journal().run(&run).await?;
        let row = found.ok_or_else(|| DagError::DagNotFound(format!("there is no run {run}")))?;
        let rows = self.storage().journal().log(row.row, after, 10_000).await?;
        rows.into_iter().map(|(row, _)| event(&run, &row)).collect()
    }
}

fn event(run: &str, row: &Row) -> Result<RuntimeEvent, DagError> {
    let data: Value = match &row.data {
        Some(text) => serde_json::from_str(text)?,
        None => Value::Null,
    };
    let step = StepRef {
        node_id: row.node.clone().unwrap_or_default(),
        invocation_key: row.key.clone().unwrap_or_default(),
        attempt: row.attempt.unwrap_or(0),
    };
    let text = |field: &str| data[field].as_str().map(str::to_owned);
    let plain = |field: &str| text(field).unwrap_or_default();
    let duration_ms = data["ms"].as_i64().unwrap_or(0);
    let state = |name: &str| EventKind::StepStateUpdated {
        step: step.clone(),
        state: name.to_owned(),
        detail: data.clone(),
    };
    let event = match row.kind {
        1 => EventKind::StepStarted { step },
        2 => EventKind::StepCompleted { step, success: true, duration_ms },
        3 => {
            let retry_at = data["retry_at"].as_i64();
            EventKind::StepFailed { step, error: plain("error"), retry_at, duration_ms }
        }
        4 => EventKind::StepSkipped { step, reason: plain("error") },
        5 => state("cancelled"),
        6 => state("waiting"),
        7 => state("paused"),
        8 => state("ready"),
        9 => state("running"),
        20 => EventKind::RunStateUpdated { status: plain("status"), reason: text("reason") },
        21 => EventKind::StepPlanned { nodes: data },
        22 => EventKind::NodeExpanded { node_id: step.node_id, keys: data },
        23 => EventKind::NodesAdded { nodes: data },
        24 | 29 => EventKind::InputsUpdated { node_id: step.node_id },
        25 => {
            let paused = data["paused"].as_bool().unwrap_or(false);
            EventKind::BranchStateUpdated { branch: plain("branch"), paused }
        }
        26 => EventKind::SignalUpdated { name: plain("name"), step: None },
        27 => EventKind::SignalUpdated { name: plain("name"), step: Some(step) },
        _ => EventKind::Emitted { step, event: data },
    };
    let (sequence, timestamp, run_id) = (row.sequence, row.at, run.to_owned());
    Ok(RuntimeEvent { version: 2, sequence, run_id, timestamp, event })
}
