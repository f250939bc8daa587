//! What goes through channels.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Millis;

/// Ending of the channel that takes what a subscriber could not handle.
pub(crate) const DEAD: &str = ".dead";
/// Ending of the channel that answers to requests go to.
pub(crate) const REPLIES: &str = ".replies";

/// One message. What publishing sets is ignored when it is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// When it was published, in milliseconds since the epoch. Set by publishing.
    pub timestamp: Millis,
    /// Who published it; an agent's name, or what the caller says. Agents never receive their own.
    pub source: String,
    /// The channel. Set by publishing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The task that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<i64>,
    /// What it says.
    pub payload: Value,
    /// Stored once per channel while that keeps it: publishing the same id again answers the first one's number. Made up
    /// when empty.
    pub message_id: String,
    /// Messages of one key stay in order; a failing one holds only its own key up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its place in the channel, from 1. Set by publishing.
    pub seq: i64,
    /// The channel that an answer is to go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// What an answer repeats, so that the asker knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The only subscriber that it is for. Set when a dead letter is replayed.
    #[serde(skip)]
    pub(crate) target: Option<String>,
}

impl Message {
    /// A message with a source and what it says.
    pub fn new(source: impl Into<String>, payload: impl Into<Value>) -> Self {
        Self { source: source.into(), payload: payload.into(), ..Self::default() }
    }

    /// Sets the key that it stays in order with.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the id under which it is stored once.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.message_id = id.into();
        self
    }

    /// Sets the task that it is about.
    #[must_use]
    pub fn with_task(mut self, task: i64) -> Self {
        self.task_id = Some(task);
        self
    }

    /// Asks for an answer in a channel, with an id that the answer repeats.
    #[must_use]
    pub fn with_reply_to(mut self, channel: impl Into<String>, id: impl Into<String>) -> Self {
        (self.reply_to, self.correlation_id) = (Some(channel.into()), Some(id.into()));
        self
    }
}

impl From<Value> for Message {
    fn from(payload: Value) -> Self {
        Self { payload, ..Self::default() }
    }
}

/// Where a new subscriber begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// After what is in the channel now.
    #[default]
    Latest,
    /// With the oldest message that is kept.
    Earliest,
    /// With this sequence number.
    Sequence(i64),
    /// With the first message published at this time or later, in milliseconds since the epoch.
    Time(Millis),
}
