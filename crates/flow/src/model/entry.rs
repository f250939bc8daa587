//! What can happen in a run. The log of a run is a list of these; its state is what they lead to.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::graph::Node;
use super::status::RunStatus;

/// One invocation of a node: its place in the graph and among its node's invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Index of the node, in the order of declaration.
    pub node: usize,
    /// Index of the invocation.
    pub item: usize,
}

/// What a waiting node waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum Wait {
    /// A person's approval or rejection.
    Human,
    /// A signal of this name.
    Signal {
        /// The name.
        name: String,
    },
}

/// A value that an attempt wrote beside its outputs, applied when it completes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// Node id, or `global:<dag>`.
    pub scope: String,
    /// Name within the scope.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Whether it is added to a list instead of replacing what is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub append: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The run changed its state.
    Run {
        /// To this.
        status: RunStatus,
        /// Why.
        reason: Option<String>,
    },
    /// These nodes will run when their time comes.
    Planned {
        /// Their ids.
        nodes: Vec<String>,
    },
    /// An attempt began.
    Started {
        /// Which.
        slot: Slot,
        /// From 1; counts those cut short by a crash.
        attempt: u32,
        /// Hash of action and inputs.
        hash: [u8; 32],
    },
    /// An attempt ended well.
    Completed {
        /// Which.
        slot: Slot,
        /// Which attempt; 0 when an earlier run's output was taken.
        attempt: u32,
        /// Hash of action and inputs.
        hash: [u8; 32],
        /// Name of its output, unless that is empty.
        artifact: Option<String>,
        /// What else it wrote.
        writes: Vec<Write>,
        /// How long the attempt took.
        ms: i64,
    },
    /// An attempt failed.
    Failed {
        /// Which.
        slot: Slot,
        /// Which attempt.
        attempt: u32,
        /// Why.
        error: String,
        /// When the next one begins; none when this was the last.
        retry_at: Option<i64>,
        /// How long the attempt took.
        ms: i64,
    },
    /// It will never begin.
    Skipped {
        /// Which.
        slot: Slot,
        /// Why.
        reason: String,
        /// Whether a condition said so, which is no failure.
        by_condition: bool,
    },
    /// A caller ended it.
    Cancelled {
        /// Which.
        slot: Slot,
    },
    /// It waits without an attempt in flight.
    Waiting {
        /// Which.
        slot: Slot,
        /// For what.
        wait: Wait,
        /// How long, in milliseconds since the epoch.
        until: Option<i64>,
    },
    /// What it waited for came, and the same attempt goes on.
    Woken {
        /// Which.
        slot: Slot,
    },
    /// An attempt that must not be repeated was cut short.
    InDoubt {
        /// Which.
        slot: Slot,
        /// Why.
        reason: String,
    },
    /// It gets fresh attempts, or its attempt cut short is to be repeated.
    Again {
        /// Which.
        slot: Slot,
        /// Whether failures so far are forgotten.
        fresh: bool,
    },
    /// A node fans out.
    Expanded {
        /// Which.
        node: usize,
        /// One invocation each.
        keys: Vec<String>,
    },
    /// The graph grew.
    Added {
        /// By these.
        nodes: Vec<Node>,
    },
    /// Fixed inputs of a node that had not begun were replaced.
    InputsSet {
        /// Which.
        node: usize,
        /// The new ones.
        values: Value,
    },
    /// A caller gave the run more inputs.
    InputsGiven {
        /// By name.
        values: serde_json::Map<String, Value>,
    },
    /// A branch was paused (true) or resumed.
    Branch {
        /// Node id or label.
        branch: String,
        /// Whether it stands.
        paused: bool,
    },
    /// A signal came.
    Signal {
        /// Its name.
        name: String,
        /// What it says.
        payload: Value,
    },
    /// The oldest signal of a name went to an invocation.
    Delivered {
        /// To which.
        slot: Slot,
        /// The name.
        name: String,
    },
    /// An action told something.
    Emitted {
        /// Who.
        slot: Slot,
        /// The event.
        event: Value,
    },
}

impl Entry {
    /// The invocation it is about.
    pub(crate) fn slot(&self) -> Option<Slot> {
        match self {
            Self::Started { slot, .. }
            | Self::Completed { slot, .. }
            | Self::Failed { slot, .. }
            | Self::Skipped { slot, .. }
            | Self::Cancelled { slot }
            | Self::Waiting { slot, .. }
            | Self::Woken { slot }
            | Self::InDoubt { slot, .. }
            | Self::Again { slot, .. }
            | Self::Delivered { slot, .. }
            | Self::Emitted { slot, .. } => Some(*slot),
            _ => None,
        }
    }
}
