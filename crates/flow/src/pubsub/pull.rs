//! Subscribers that ask for their messages themselves, requests, replays: what callers outside of agents need.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::channels::{Channel, check_name};
use super::executor::{PubSubExecutor, Publisher};
use super::message::{DEAD, Message, REPLIES, StartAt};
use crate::error::DagError;

/// Messages that one call gives at most.
const MOST: usize = 1_000;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// Who asks: begins after what this subscriber acknowledged, and leaves out its own messages. A new one begins as
    /// `from` says, else at the end of the channel.
    pub subscriber: Option<String>,
    /// Where to begin, whatever was acknowledged. Without it and without a subscriber: with the oldest that is kept.
    pub from: Option<StartAt>,
    /// Messages at most; 0 (the default) is 100, and more than 1,000 is 1,000.
    pub max: usize,
    /// How long to wait for the first one. Default: not at all.
    pub wait: Duration,
}

impl PubSubExecutor {
    /// Messages of a channel, in order. Reading acknowledges nothing: the same come again until [`PubSubExecutor::ack`].
    pub async fn read(&self, channel: &str, read: Read) -> Result<Vec<Message>, DagError> {
        let known = self.shared.channel(channel).await?;
        let mut after = self.begin(&known, &read).await?;
        let max = if read.max == 0 { 100 } else { read.max.min(MOST) };
        let mut head = known.watch();
        let until = tokio::time::Instant::now() + read.wait;
        let mut found = Vec::new();
        loop {
            head.mark_unchanged();
            let (id, name) = (known.id, Arc::clone(&known.name));
            let page = self.storage().journal().messages(id, name, after, max).await?;
            let is_last = page.len() < max;
            for message in page {
                after = message.seq;
                if is_for(&message, read.subscriber.as_deref()) && found.len() < max {
                    found.push(Arc::unwrap_or_clone(message));
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
            if is_last && !changed(&mut head, until).await {
                return Ok(found);
            }
        }
    }

    async fn begin(&self, channel: &Arc<Channel>, read: &Read) -> Result<i64, DagError> {
        let journal = self.storage().journal();
        if let Some(subscriber) = &read.subscriber {
            check_name("subscriber", subscriber)?;
            let start = read.from.unwrap_or_default();
            let now = self.shared.now();
            let cursor = journal.pull_cursor(subscriber, &channel.name, start, now).await?;
            if read.from.is_none() {
                return Ok(cursor.position);
            }
        }
        match read.from.unwrap_or(StartAt::Earliest) {
            StartAt::Earliest => Ok(0),
            StartAt::Sequence(seq) => Ok((seq - 1).max(0)),
            start => journal.place(&channel.name, start).await,
        }
    }

    /// Acknowledges for a subscriber everything of a channel up to a sequence number; answers its place, which never goes
    /// back.
    ///
    /// [`DagError::InvalidState`] when an agent of that name holds the place: it acknowledges by itself.
    pub async fn ack(&self, channel: &str, subscriber: &str, seq: i64) -> Result<i64, DagError> {
        check_name("subscriber", subscriber)?;
        let known = self.shared.channel(channel).await?;
        if seq < 0 || seq > known.head() {
            let row = self.storage().journal().channel(channel).await?;
            let head = row.as_ref().map_or(0, |row| self.shared.channels.learn(row).head());
            if seq < 0 || seq > head {
                return Err(DagError::ValidationError(format!(
                    "channel `{channel}`: cannot acknowledge {seq}; expected 0 to {head}"
                )));
            }
        }
        let (journal, now) = (self.storage().journal(), self.shared.now());
        let start = StartAt::Earliest;
        let cursor = journal.pull_cursor(subscriber, channel, start, now).await?;
        let place = journal.pull_ack(cursor.id, seq, now).await?;
        // Somebody may wait for room.
        self.shared.progress.send_modify(|steps| *steps += 1);
        place.ok_or_else(|| {
            DagError::InvalidState(format!(
                "channel `{channel}`: agent `{subscriber}` works and acknowledges by itself"
            ))
        })
    }

    /// Moves a subscriber to another place of a channel, to replay or to skip; answers the position. An agent goes on from
    /// there, after the message it has in hand.
    pub async fn seek(
        &self,
        channel: &str,
        subscriber: &str,
        to: StartAt,
    ) -> Result<i64, DagError> {
        check_name("subscriber", subscriber)?;
        let known = self.shared.channel(channel).await?;
        let now = self.shared.now();
        let place = self.storage().journal().seek(subscriber, &known.name, to, now).await?;
        if let Some(entry) = self.agent(subscriber) {
            entry.unsettle();
        }
        self.shared.progress.send_modify(|steps| *steps += 1);
        Ok(place)
    }

    /// Publishes dead letters of a channel again, each for the subscriber that could not handle it alone, the oldest 1,000
    /// that were not; answers how many.
    pub async fn replay_dead(&self, channel: &str) -> Result<usize, DagError> {
        let dead = format!("{channel}{DEAD}");
        let read = Read { subscriber: Some(REPLAYER.to_owned()), max: MOST, ..Read::default() };
        let known = self.shared.channel(&dead).await?;
        let (journal, now) = (self.storage().journal(), self.shared.now());
        let start = StartAt::Earliest;
        let cursor = journal.pull_cursor(REPLAYER, &known.name, start, now).await?;
        let mut count = 0;
        for letter in self.read(&dead, read).await? {
            let fields = &letter.payload;
            let mut message: Message = serde_json::from_value(fields["message"].clone())?;
            let subscriber = fields["subscriber"].as_str().unwrap_or_default();
            // The same letter replayed twice, as after a kill in between, is one message.
            message.message_id = format!("{}#{}", letter.message_id, letter.seq);
            message.target = Some(subscriber.to_owned());
            self.shared.publish(channel, message, Publisher::Outside).await?;
            let moved = journal.pull_ack(cursor.id, letter.seq, self.shared.now()).await?;
            count += usize::from(moved.is_some());
        }
        Ok(count)
    }

    /// Publishes a message and waits for its answer, which goes to `<channel>.replies` unless the message says otherwise.
    ///
    /// [`DagError::ExecutionTimeout`] when none comes in time; a late one stays in the channel for answers.
    pub async fn request(
        &self,
        channel: &str,
        message: impl Into<Message> + Send,
        timeout: Duration,
    ) -> Result<Message, DagError> {
        let mut message = message.into();
        let replies = message.reply_to.get_or_insert_with(|| format!("{channel}{REPLIES}"));
        let replies = self.shared.channel(replies).await?;
        let id = message
            .correlation_id
            .get_or_insert_with(|| uuid::Uuid::now_v7().simple().to_string())
            .clone();
        let mut head = replies.watch();
        let after = *head.borrow_and_update();
        let until = tokio::time::Instant::now() + timeout;
        self.shared.publish(channel, message, Publisher::Outside).await?;
        loop {
            let name = Arc::clone(&replies.name);
            let journal = self.storage().journal();
            if let Some(answer) = journal.answer(replies.id, name, after, id.clone()).await? {
                return Ok(answer);
            }
            if !changed(&mut head, until).await {
                return Err(DagError::ExecutionTimeout(format!(
                    "channel `{channel}`: no answer in `{}` within {timeout:?}",
                    replies.name
                )));
            }
        }
    }

    /// Publishes an answer to a message that asked for one; `None` when it did not.
    pub async fn reply(
        &self,
        to: &Message,
        source: &str,
        payload: Value,
    ) -> Result<Option<i64>, DagError> {
        let Some(channel) = &to.reply_to else { return Ok(None) };
        let mut answer = Message::new(source, payload);
        let id = to.correlation_id.as_ref().unwrap_or(&to.message_id);
        answer.correlation_id = Some(id.clone());
        self.publish(channel, answer).await.map(Some)
    }
}

/// The subscriber whose place says which dead letters were replayed.
const REPLAYER: &str = "mayfly.replay";

fn is_for(message: &Message, subscriber: Option<&str>) -> bool {
    let Some(name) = subscriber else { return true };
    message.source != name && message.target.as_deref().is_none_or(|target| target == name)
}

/// Waits for the channel's next message; false when the time is over.
async fn changed(head: &mut watch::Receiver<i64>, until: tokio::time::Instant) -> bool {
    matches!(tokio::time::timeout_at(until, head.changed()).await, Ok(Ok(())))
}
