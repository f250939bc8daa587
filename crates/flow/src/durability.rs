//! What an attempt that a crash cut short means, for nodes and for tasks.

use serde::{Deserialize, Serialize};

/// What an attempt that a crash cut short means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// It runs again.
    #[default]
    #[serde(alias = "best_effort")]
    BestEffort,
    /// It waits for a caller to say what happened; it is never repeated by itself.
    #[serde(alias = "at_most_once")]
    AtMostOnce,
}
