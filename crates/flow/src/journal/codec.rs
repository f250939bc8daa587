//! Entries as rows of the log, and back.

use serde_json::{Value, json};

use crate::error::DagError;
use crate::model::entry::Entry;
use crate::model::run::{Recorded, RunState};
use crate::model::status::RunStatus;

/// One row of a run's log. Kinds below 20 are states of an attempt, see the view `node_runs`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) sequence: i64,
    pub(crate) at: i64,
    pub(crate) kind: i64,
    pub(crate) node: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) attempt: Option<u32>,
    pub(crate) hash: Option<[u8; 32]>,
    pub(crate) artifact: Option<String>,
    pub(crate) data: Option<String>,
}

/// The row of an entry that was just recorded. Slots are written as names, so that rows mean something by themselves.
pub(crate) fn encode(run: &RunState, recorded: &Recorded) -> Row {
    let Recorded { sequence, at, attempt, entry } = recorded;
    let mut row = Row { sequence: *sequence, at: *at, kind: kind(entry), ..Row::default() };
    if let Some(slot) = entry.slot() {
        row.node = Some(run.node(slot).id.clone());
        row.key = Some(run.item(slot).key.clone());
        row.attempt = Some(*attempt);
    }
    let mut data = Value::Null;
    match entry {
        Entry::Run { status, reason } => {
            data = json!({ "status": status.name(), "reason": reason });
        }
        Entry::Planned { nodes } => data = json!(nodes),
        Entry::Started { attempt, hash, .. } => {
            (row.attempt, row.hash) = (Some(*attempt), Some(*hash));
        }
        Entry::Completed { attempt, hash, artifact, writes, ms, .. } => {
            (row.attempt, row.hash) = (Some(*attempt), Some(*hash));
            row.artifact.clone_from(artifact);
            if writes.is_empty() {
                row.data = Some(format!("{{\"ms\":{ms}}}"));
            } else {
                data = json!({ "ms": ms, "writes": writes });
            }
        }
        Entry::Failed { attempt, error, retry_at, ms, .. } => {
            row.attempt = Some(*attempt);
            data = json!({ "error": error, "retry_at": retry_at, "ms": ms });
        }
        Entry::Skipped { reason, by_condition, .. } => {
            data = json!({ "error": reason, "by_condition": by_condition });
        }
        Entry::Cancelled { .. } | Entry::Woken { .. } => {}
        Entry::Waiting { wait, until, .. } => {
            data = json!({ "wait": wait, "until": until });
        }
        Entry::InDoubt { reason, .. } => {
            data = json!({ "error": reason });
        }
        Entry::Again { fresh, .. } => {
            data = json!({ "fresh": fresh });
        }
        Entry::Expanded { node, keys } => {
            row.node = Some(run.nodes[*node].node.id.clone());
            data = json!(keys);
        }
        Entry::Added { nodes } => data = json!(nodes),
        Entry::InputsSet { node, values } => {
            row.node = Some(run.nodes[*node].node.id.clone());
            data = values.clone();
        }
        Entry::InputsGiven { values } => data = Value::Object(values.clone()),
        Entry::Branch { branch, paused } => data = json!({ "branch": branch, "paused": paused }),
        Entry::Signal { name, payload } => data = json!({ "name": name, "payload": payload }),
        Entry::Delivered { name: of, .. } => {
            data = json!({ "name": of });
        }
        Entry::Emitted { event, .. } => {
            data = event.clone();
        }
    }
    if !data.is_null() {
        row.data = Some(data.to_string());
    }
    row
}

fn kind(entry: &Entry) -> i64 {
    match entry {
        Entry::Started { .. } => 1,
        Entry::Completed { .. } => 2,
        Entry::Failed { .. } => 3,
        Entry::Skipped { .. } => 4,
        Entry::Cancelled { .. } => 5,
        Entry::Waiting { .. } => 6,
        Entry::InDoubt { .. } => 7,
        Entry::Again { .. } => 8,
        Entry::Woken { .. } => 9,
        Entry::Run { .. } => 20,
        Entry::Planned { .. } => 21,
        Entry::Expanded { .. } => 22,
        Entry::Added { .. } => 23,
        Entry::InputsSet { .. } => 24,
        Entry::Branch { .. } => 25,
        Entry::Signal { .. } => 26,
        Entry::Delivered { .. } => 27,
        Entry::Emitted { .. } => 28,
        Entry::InputsGiven { .. } => 29,
    }
}

/// The entry of a row; `run` is the state before it.
pub(crate) fn decode(run: &RunState, row: &Row) -> Result<Entry, DagError> {
    let wrong = |what: &str| {
        DagError::DatabaseError(format!(
            "run {}: entry {} of its log has {what}; restore the file from a backup",
            run.run_id, row.sequence
        ))
    };
    let data: Value = match row.data.as_deref() {
        Some(text) => serde_json::from_str(text).map_err(|_| wrong("damaged data"))?,
        None => Value::Null,
    };
    let text = |field: &str| data[field].as_str().map(str::to_owned);
    let flag = |field: &str| data[field].as_bool().unwrap_or(false);
    let slot = || {
        let node = row.node.as_deref().ok_or_else(|| wrong("no node"))?;
        run.find(node, row.key.as_deref()).ok_or_else(|| wrong("an unknown node"))
    };
    let node = || {
        let id = row.node.as_deref().ok_or_else(|| wrong("no node"))?;
        run.index.get(id).copied().ok_or_else(|| wrong("an unknown node"))
    };
    let attempt = row.attempt.unwrap_or(0);
    let hash = row.hash.unwrap_or_default();
    let ms = data["ms"].as_i64().unwrap_or(0);
    Ok(match row.kind {
        1 => Entry::Started { slot: slot()?, attempt, hash },
        2 => {
            let writes = match &data["writes"] {
                Value::Null => Vec::new(),
                writes => serde_json::from_value(writes.clone())?,
            };
            let (slot, artifact) = (slot()?, row.artifact.clone());
            Entry::Completed { slot, attempt, hash, artifact, writes, ms }
        }
        3 => Entry::Failed {
            slot: slot()?,
            attempt,
            error: text("error").unwrap_or_default(),
            retry_at: data["retry_at"].as_i64(),
            ms,
        },
        4 => Entry::Skipped {
            slot: slot()?,
            reason: text("error").unwrap_or_default(),
            by_condition: flag("by_condition"),
        },
        5 => Entry::Cancelled { slot: slot()? },
        6 => Entry::Waiting {
            slot: slot()?,
            wait: serde_json::from_value(data["wait"].clone())?,
            until: data["until"].as_i64(),
        },
        7 => Entry::InDoubt { slot: slot()?, reason: text("error").unwrap_or_default() },
        8 => Entry::Again { slot: slot()?, fresh: flag("fresh") },
        9 => Entry::Woken { slot: slot()? },
        20 => {
            let status = text("status").as_deref().and_then(RunStatus::from_name);
            Entry::Run {
                status: status.ok_or_else(|| wrong("an unknown status"))?,
                reason: text("reason"),
            }
        }
        21 => Entry::Planned { nodes: serde_json::from_value(data)? },
        22 => Entry::Expanded { node: node()?, keys: serde_json::from_value(data)? },
        23 => Entry::Added { nodes: serde_json::from_value(data)? },
        24 => Entry::InputsSet { node: node()?, values: data },
        25 => Entry::Branch { branch: text("branch").unwrap_or_default(), paused: flag("paused") },
        26 => Entry::Signal {
            name: text("name").unwrap_or_default(),
            payload: data["payload"].clone(),
        },
        27 => Entry::Delivered { slot: slot()?, name: text("name").unwrap_or_default() },
        29 => Entry::InputsGiven { values: serde_json::from_value(data)? },
        28 => Entry::Emitted { slot: slot()?, event: data },
        _ => return Err(wrong("an unknown kind; it was written by a newer program")),
    })
}
