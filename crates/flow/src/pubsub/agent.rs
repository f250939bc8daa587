//! Agents: they handle the messages of their channels one at a time, and publish to others.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::executor::{Publisher, Shared};
use super::message::{Message, StartAt};
use super::worker::Entry;
use crate::error::DagError;

/// Handles messages. [`PubSubAgent::subscriptions`], [`PubSubAgent::publications`] and one of the two handlers suffice.
#[async_trait]
pub trait PubSubAgent: Send {
    /// Its name, under which its places in channels are kept. Default: the name of its type.
    fn name(&self) -> String {
        let path = std::any::type_name::<Self>();
        let path = path.split('<').next().unwrap_or(path);
        path.rsplit("::").next().unwrap_or(path).to_owned()
    }

    /// What it does, for people.
    fn description(&self) -> String {
        String::new()
    }

    /// Channels that it takes messages from.
    fn subscriptions(&self) -> Vec<String>;

    /// Channels that it may publish to.
    fn publications(&self) -> Vec<String>;

    /// JSON Schema of the payloads that it takes; publishing anything else to its channels is refused.
    fn input_schema(&self) -> Option<Value> {
        None
    }

    /// JSON Schema of the payloads that it publishes.
    fn output_schema(&self) -> Option<Value> {
        None
    }

    /// Where it begins in a channel that it was never registered for before.
    fn start_at(&self) -> StartAt {
        StartAt::Latest
    }

    /// Handles one message; it is acknowledged when this answers `Ok`. After an error it is tried again, except after
    /// [`crate::Permanent`], [`crate::AgentError::User`] and what is as final; then it goes to `<channel>.dead`.
    async fn handle_message(&mut self, _message: Message) -> anyhow::Result<()> {
        let name = self.name();
        anyhow::bail!("agent {name} has neither `handle_message` nor `process_message`")
    }

    /// [`PubSubAgent::handle_message`] for agents that publish. Default: calls it.
    async fn process_message(&mut self, _ctx: &PubSubCtx, message: Message) -> anyhow::Result<()> {
        self.handle_message(message).await
    }
}

#[async_trait]
impl PubSubAgent for Box<dyn PubSubAgent> {
    fn name(&self) -> String {
        (**self).name()
    }
    fn description(&self) -> String {
        (**self).description()
    }
    fn subscriptions(&self) -> Vec<String> {
        (**self).subscriptions()
    }
    fn publications(&self) -> Vec<String> {
        (**self).publications()
    }
    fn input_schema(&self) -> Option<Value> {
        (**self).input_schema()
    }
    fn output_schema(&self) -> Option<Value> {
        (**self).output_schema()
    }
    fn start_at(&self) -> StartAt {
        (**self).start_at()
    }
    async fn handle_message(&mut self, message: Message) -> anyhow::Result<()> {
        (**self).handle_message(message).await
    }
    async fn process_message(&mut self, ctx: &PubSubCtx, message: Message) -> anyhow::Result<()> {
        (**self).process_message(ctx, message).await
    }
}

/// What a handler knows and may do besides its message.
pub struct PubSubCtx {
    pub(crate) shared: Arc<Shared>,
    pub(crate) entry: Arc<Entry>,
    /// The message's place, where an answer goes, and what an answer repeats.
    pub(crate) at: (i64, i64),
    pub(crate) reply_to: Option<String>,
    pub(crate) correlation_id: String,
    pub(crate) attempt: u32,
    pub(crate) fence: (i64, i64),
    pub(crate) published: Mutex<HashMap<[u8; 32], u32>>,
}

impl fmt::Debug for PubSubCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubSubCtx")
            .field("agent", &self.entry.name)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl PubSubCtx {
    /// The agent's name.
    pub fn agent(&self) -> &str {
        &self.entry.name
    }

    /// From 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Channels that the agent may publish to.
    pub fn publications(&self) -> &[String] {
        &self.entry.publications
    }

    /// Publishes to one of the agent's channels; answers its number after commit. It never waits for subscribers.
    ///
    /// Without an id of its own the message gets one made of the handled message and of what it says, so an attempt that is
    /// repeated publishes the same thing once. [`DagError::ValidationError`] for a channel that the agent does not declare
    /// and for a payload outside of the schemas, [`DagError::ChannelFull`], and [`DagError::StaleLease`] when the agent works
    /// in another process now.
    pub async fn publish(
        &self,
        channel: &str,
        message: impl Into<Message> + Send,
    ) -> Result<i64, DagError> {
        let (message, name) = (message.into(), &self.entry.name);
        let is_declared = self.entry.publications.iter().any(|known| known == channel);
        if !is_declared && self.reply_to.as_deref() != Some(channel) {
            return Err(DagError::ValidationError(format!(
                "agent `{name}` does not declare that it publishes to `{channel}`; add it to its publications"
            )));
        }
        if let Some(schema) = &self.entry.output
            && let Err(error) = schema.validate(&message.payload)
        {
            return Err(DagError::ValidationError(format!(
                "agent `{name}`: the payload does not match its output schema: {error}"
            )));
        }
        self.send(channel, message).await
    }

    /// Answers a message that asked for it; `None` when it did not.
    pub async fn reply(&self, message: impl Into<Message> + Send) -> Result<Option<i64>, DagError> {
        let Some(channel) = &self.reply_to else { return Ok(None) };
        let mut message = message.into();
        message.correlation_id = Some(self.correlation_id.clone());
        self.send(channel, message).await.map(Some)
    }

    async fn send(&self, channel: &str, mut message: Message) -> Result<i64, DagError> {
        message.source = self.entry.name.to_string();
        if message.message_id.is_empty() {
            message.message_id = self.id(channel, &message);
        }
        self.shared.publish(channel, message, Publisher::Handler(self.fence)).await
    }

    /// The same for the same message published by the same handling, again and again.
    fn id(&self, channel: &str, message: &Message) -> String {
        let mut hash = Sha256::new();
        hash.update(self.at.0.to_le_bytes());
        hash.update(self.at.1.to_le_bytes());
        let payload = message.payload.to_string();
        let key = message.key.as_deref().unwrap_or("");
        for part in [&*self.entry.name, channel, key, &payload] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let count = published.entry(digest).or_default();
        *count += 1;
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        format!("{:032x}-{count}", u128::from_be_bytes(half))
    }
}

/// What a function made an agent by `#[pubsub_agent]` may return, to be published.
pub trait IntoMessages {
    /// The messages, in order.
    fn into_messages(self) -> Vec<Message>;
}

impl IntoMessages for () {
    fn into_messages(self) -> Vec<Message> {
        Vec::new()
    }
}

impl IntoMessages for Value {
    fn into_messages(self) -> Vec<Message> {
        vec![self.into()]
    }
}

impl IntoMessages for Message {
    fn into_messages(self) -> Vec<Message> {
        vec![self]
    }
}

impl<T: IntoMessages> IntoMessages for Option<T> {
    fn into_messages(self) -> Vec<Message> {
        self.map_or_else(Vec::new, T::into_messages)
    }
}

impl<T: IntoMessages> IntoMessages for Vec<T> {
    fn into_messages(self) -> Vec<Message> {
        self.into_iter().flat_map(T::into_messages).collect()
    }
}

/// Publishes what a function returned to each of its agent's channels; what `#[pubsub_agent]` calls.
#[doc(hidden)]
pub async fn publish_returned(ctx: &PubSubCtx, returned: impl IntoMessages) -> anyhow::Result<()> {
    let messages = returned.into_messages();
    for message in messages {
        for channel in ctx.publications() {
            ctx.publish(channel, message.clone()).await?;
        }
    }
    Ok(())
}
