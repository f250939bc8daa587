//! The handle that programs hold: agents, publishing, executions.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::agent::PubSubAgent;
use super::channels::{Channel, Channels, base, check_name};
use super::config::{PubSubConfig, WhenFull};
use super::message::{DEAD, Message};
use super::scribe::Scribe;
use super::worker::{Entry, Worker};
use crate::clock::Millis;
use crate::error::DagError;
use crate::journal::{NewMessage, Posted, Retention, Room};
use crate::storage::SqliteStorage;

/// How long handlers may go on when an executor stops.
const GRACE: Duration = Duration::from_secs(5);
/// How often the file is looked at while other processes work on it too.
const LOOK: Duration = Duration::from_secs(1);
/// How often old messages are removed, in heartbeats.
const SWEEP: u64 = 120;

/// How agents are put to work.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and a box would stand in every caller"
)]
pub enum Execution {
    /// Publishes a message; ends when nothing is undelivered and no handler works.
    StartWith {
        /// Where it goes.
        channel: String,
        /// What it says.
        message: Message,
    },
    /// Works until [`PubSubExecutor::stop`].
    Reactive,
}

/// What agents of an executor have done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PubSubReport {
    /// Messages that were handled well.
    pub handled: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// Messages that went to channels of dead letters.
    pub dead_letters: u64,
}

/// A registered agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentInfo {
    /// Its name.
    pub name: String,
    /// What it says about itself.
    pub description: String,
    /// Channels that it takes messages from.
    pub subscriptions: Vec<String>,
    /// Channels that it may publish to.
    pub publications: Vec<String>,
}

/// A channel of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its name.
    pub name: String,
    /// Sequence number of its newest message; 0 before the first.
    pub head: i64,
    /// Messages that are kept.
    pub stored: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Messages that were removed although somebody had not acknowledged them.
    pub dropped: u64,
}

/// Runs agents and publishes messages. A cheap handle; clones share everything. With the last one its agents end; what
/// they had in hand is handled again by whoever registers them next.
#[derive(Clone)]
pub struct PubSubExecutor {
    pub(crate) shared: Arc<Shared>,
    tasks: Arc<Tasks>,
}

impl fmt::Debug for PubSubExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubSubExecutor")
            .field("agents", &self.list_agents())
            .finish_non_exhaustive()
    }
}

/// Tasks that end with the last handle.
#[derive(Debug)]
struct Tasks {
    own: Vec<AbortHandle>,
    workers: Mutex<JoinSet<()>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.own {
            task.abort();
        }
    }
}

/// Who publishes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Publisher {
    Outside,
    /// A handler, by its cursor and version.
    Handler((i64, i64)),
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) handled: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) dead: AtomicU64,
}

/// What the executor and its tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) storage: SqliteStorage,
    pub(crate) config: PubSubConfig,
    pub(crate) channels: Channels,
    pub(crate) scribe: Scribe,
    pub(crate) counts: Counts,
    /// Changes with every place that moved: agents may be at rest then, and full channels have room.
    pub(crate) progress: watch::Sender<u64>,
    /// Executions in progress; agents work while there is one.
    pub(crate) active: watch::Sender<usize>,
    pub(crate) stopped: watch::Sender<bool>,
    agents: Mutex<Vec<Arc<Entry>>>,
}

impl PubSubExecutor {
    /// Opens the settings' database and gives a handle on it. See [`PubSubConfig`] for the default.
    pub async fn new(config: Option<PubSubConfig>) -> Result<Self, DagError> {
        let config = config.unwrap_or_default();
        config.validate()?;
        let storage = SqliteStorage::new(&config.database).await?;
        Self::with_storage(config, storage).await
    }

    /// A handle on a file that is open already; `database` is not used. One executor per open storage: another one on it
    /// hears late of what this one publishes.
    pub async fn with_storage(
        config: PubSubConfig,
        storage: SqliteStorage,
    ) -> Result<Self, DagError> {
        config.validate()?;
        let shared = Arc::new(Shared {
            storage,
            config,
            channels: Channels::default(),
            scribe: Scribe::new(),
            counts: Counts::default(),
            progress: watch::Sender::new(0),
            active: watch::Sender::new(0),
            stopped: watch::Sender::new(false),
            agents: Mutex::default(),
        });
        let is_shared = shared.beat(0).await?;
        let scribe = tokio::spawn(Scribe::run(Arc::clone(&shared)));
        let watch = tokio::spawn(Arc::clone(&shared).keep(is_shared));
        let own = vec![scribe.abort_handle(), watch.abort_handle()];
        Ok(Self { shared, tasks: Arc::new(Tasks { own, workers: Mutex::default() }) })
    }

    /// The file.
    pub fn storage(&self) -> &SqliteStorage {
        &self.shared.storage
    }

    /// Settings.
    pub fn config(&self) -> &PubSubConfig {
        &self.shared.config
    }

    /// Registers an agent: its channels are declared, and from its first time on it gets what is published there.
    ///
    /// It works while an execution is in progress. An agent of a name works in one process at a time; here it stands by
    /// while another living process holds its places. [`DagError::ValidationError`] for a name that is taken in this
    /// executor, and for a schema that is none.
    pub async fn register_agent(&self, agent: impl PubSubAgent + 'static) -> Result<(), DagError> {
        self.register(Box::new(agent)).await
    }

    async fn register(&self, agent: Box<dyn PubSubAgent>) -> Result<(), DagError> {
        let entry = Arc::new(entry(&*agent)?);
        let mut names: Vec<String> = Vec::new();
        for name in &entry.subscriptions {
            names.push(name.clone());
            if !name.ends_with(DEAD) {
                names.push(format!("{name}{DEAD}"));
            }
        }
        names.extend(entry.publications.iter().cloned());
        self.declare(names).await?;
        {
            let mut agents = self.shared.agents();
            if agents.iter().any(|known| known.name == entry.name) {
                let name = &entry.name;
                return Err(DagError::ValidationError(format!(
                    "agent `{name}` is registered already; give this one another name"
                )));
            }
            agents.push(Arc::clone(&entry));
        }
        let mut worker = Worker::new(Arc::clone(&self.shared), Arc::clone(&entry), agent);
        if !entry.subscriptions.is_empty() {
            worker.claim(true).await?;
        }
        for name in &entry.subscriptions {
            let channel = self.shared.channel(name).await?;
            channel.listen(Arc::clone(&entry.wake));
            if let Some(schema) = &entry.input {
                channel.require(Arc::clone(&entry.name), Arc::clone(schema));
            }
        }
        let mut workers = self.tasks.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.spawn(worker.run());
        Ok(())
    }

    /// Declares a channel, so that messages can be published before anybody subscribes.
    pub async fn declare_channel(&self, name: &str) -> Result<(), DagError> {
        self.declare(vec![name.to_owned()]).await
    }

    async fn declare(&self, names: Vec<String>) -> Result<(), DagError> {
        for name in &names {
            check_name("channel", name)?;
        }
        if !names.is_empty() {
            for row in self.storage().journal().declare(names).await? {
                self.shared.channels.learn(&row);
            }
        }
        Ok(())
    }

    /// Publishes to a channel; answers the message's number there, after commit. The same message id again answers the
    /// first one's number.
    ///
    /// [`DagError::ValidationError`] for a channel that nobody declared and for a payload that a subscriber does not take;
    /// [`DagError::ChannelFull`] by the policy of [`WhenFull`].
    pub async fn publish(
        &self,
        channel: &str,
        message: impl Into<Message> + Send,
    ) -> Result<i64, DagError> {
        self.shared.publish(channel, message.into(), Publisher::Outside).await
    }

    /// Puts agents to work. Executions may overlap; agents work while there is one.
    ///
    /// [`DagError::ExecutionTimeout`] when an execution that began with a message is not at rest in time, and
    /// [`DagError::InvalidState`] after [`PubSubExecutor::stop`].
    pub async fn execute(&self, how: Execution) -> Result<PubSubReport, DagError> {
        let mut stop = self.shared.stopped.subscribe();
        if *stop.borrow_and_update() {
            return Err(DagError::InvalidState("the executor was stopped".to_owned()));
        }
        let _active = Active::new(&self.shared);
        match how {
            Execution::Reactive => drop(stop.wait_for(|stopped| *stopped).await),
            Execution::StartWith { channel, message } => {
                let seconds = self.shared.config.timeout_seconds;
                let work = async {
                    self.publish(&channel, message).await?;
                    self.shared.rest().await;
                    Ok(())
                };
                tokio::select! {
                    outcome = tokio::time::timeout(Duration::from_secs(seconds), work) => {
                        outcome.unwrap_or_else(|_| Err(DagError::ExecutionTimeout(format!(
                            "agents were not at rest after {seconds} s; what is left stays in the channels"
                        ))))?;
                    }
                    _ = stop.wait_for(|stopped| *stopped) => {}
                }
            }
        }
        Ok(self.report())
    }

    /// What agents have done.
    pub fn report(&self) -> PubSubReport {
        let Counts { handled, failed, dead } = &self.shared.counts;
        PubSubReport {
            handled: handled.load(Ordering::Relaxed),
            failed_attempts: failed.load(Ordering::Relaxed),
            dead_letters: dead.load(Ordering::Relaxed),
        }
    }

    /// Agents, in the order of their registration.
    pub fn list_agents(&self) -> Vec<AgentInfo> {
        let info = |entry: &Arc<Entry>| AgentInfo {
            name: entry.name.to_string(),
            description: entry.description.clone(),
            subscriptions: entry.subscriptions.clone(),
            publications: entry.publications.clone(),
        };
        self.shared.agents().iter().map(info).collect()
    }

    /// Channels of the file, by name.
    pub async fn list_channels(&self) -> Result<Vec<ChannelInfo>, DagError> {
        let rows = self.storage().journal().channels().await?;
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let info = |row: crate::journal::ChannelRow| ChannelInfo {
            name: row.channel,
            head: row.head,
            stored: number(row.stored),
            bytes: number(row.bytes),
            dropped: number(row.dropped),
        };
        Ok(rows.into_iter().map(info).collect())
    }

    /// Ends executions and agents: handlers may go on for 5 s, then what they have in hand is left for the next time. The
    /// places are given up, so that another process need not wait. Publishing and reading still work.
    pub async fn stop(&self) {
        self.shared.stopped.send_replace(true);
        let mut workers = {
            let mut workers = self.tasks.workers.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *workers)
        };
        let ended = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            tracing::warn!("handlers were cut short; their messages come again");
            workers.shutdown().await;
        }
        self.shared.agents().clear();
    }

    /// The entry of a registered agent.
    pub(crate) fn agent(&self, name: &str) -> Option<Arc<Entry>> {
        self.shared.agents().iter().find(|entry| &*entry.name == name).cloned()
    }
}

fn entry(agent: &dyn PubSubAgent) -> Result<Entry, DagError> {
    let name = agent.name();
    check_name("agent", &name)?;
    let compile = |which: &str, schema: Option<serde_json::Value>| match schema {
        None => Ok(None),
        Some(schema) => jsonschema::validator_for(&schema).map(Some).map_err(|error| {
            DagError::ValidationError(format!("agent {name}: {which} schema: {error}"))
        }),
    };
    let input = compile("input", agent.input_schema())?.map(Arc::new);
    let output = compile("output", agent.output_schema())?;
    let mut subscriptions = agent.subscriptions();
    subscriptions.sort();
    subscriptions.dedup();
    Ok(Entry {
        name: name.into(),
        description: agent.description(),
        subscriptions,
        publications: agent.publications(),
        start: agent.start_at(),
        input,
        output,
        wake: Arc::default(),
        held: Mutex::default(),
        stands_by: AtomicBool::new(false),
    })
}

/// An execution in progress.
struct Active<'a>(&'a Shared);

impl<'a> Active<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.active.send_modify(|count| *count += 1);
        Self(shared)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.send_modify(|count| *count -= 1);
    }
}

impl Shared {
    pub(crate) fn now(&self) -> Millis {
        self.storage.clock().now()
    }

    pub(crate) fn retention(&self) -> Retention {
        // Validated to be far below the limit.
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Retention {
            messages: number(self.config.retain_messages),
            bytes: number(self.config.retain_bytes),
            millis: number(self.config.retain_seconds).saturating_mul(1_000),
            drops: self.config.when_full == WhenFull::DropOldest,
        }
    }

    fn agents(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A declared channel; one for dead letters or answers is made when it is first needed.
    pub(crate) async fn channel(&self, name: &str) -> Result<Arc<Channel>, DagError> {
        if let Some(channel) = self.channels.find(name) {
            return Ok(channel);
        }
        let journal = self.storage.journal();
        if let Some(row) = journal.channel(name).await? {
            return Ok(self.channels.learn(&row));
        }
        if let Some(base) = base(name)
            && (self.channels.find(base).is_some() || journal.channel(base).await?.is_some())
        {
            let rows = journal.declare(vec![name.to_owned()]).await?;
            if let Some(row) = rows.first() {
                return Ok(self.channels.learn(row));
            }
        }
        Err(DagError::ValidationError(format!(
            "channel `{}` is not declared; an agent must subscribe or publish to it, or declare_channel be called",
            name.escape_debug()
        )))
    }

    pub(crate) async fn publish(
        &self,
        name: &str,
        mut message: Message,
        by: Publisher,
    ) -> Result<i64, DagError> {
        let channel = self.channel(name).await?;
        if message.message_id.is_empty() {
            message.message_id = uuid::Uuid::now_v7().simple().to_string();
        }
        message.channel = Some(channel.name.to_string());
        message.seq = 0;
        channel.check(&message.payload, message.target.as_deref())?;
        let payload: Arc<str> = serde_json::to_string(&message.payload)?.into();
        let most = self.config.max_payload_bytes;
        if payload.len() as u64 > most {
            return Err(DagError::ValidationError(format!(
                "channel `{name}`: the payload has {} bytes; at most {most} are taken",
                payload.len()
            )));
        }
        message.timestamp = self.now();
        let (room, fence) = match (self.config.when_full, by) {
            (WhenFull::DropOldest, Publisher::Outside) => (Room::Dropping, None),
            (WhenFull::DropOldest, Publisher::Handler(fence)) => (Room::Dropping, Some(fence)),
            (WhenFull::Block, Publisher::Handler(fence)) => (Room::Overdrawn, Some(fence)),
            (WhenFull::Reject, Publisher::Handler(fence)) => (Room::Needed, Some(fence)),
            (_, Publisher::Outside) => (Room::Needed, None),
        };
        let new =
            NewMessage { channel: channel.id, message: Arc::new(message), payload, room, fence };
        self.post(&channel, new).await
    }

    /// Writes a message, waiting for room where it may.
    async fn post(&self, channel: &Channel, new: NewMessage) -> Result<i64, DagError> {
        let may_wait = self.config.when_full == WhenFull::Block && new.fence.is_none();
        if let Some(seq) = self.try_post(channel, &new).await? {
            return Ok(seq);
        }
        let patient = async {
            let _turn = channel.door.acquire().await.map_err(|_| full(&channel.name))?;
            let mut progress = self.progress.subscribe();
            loop {
                progress.mark_unchanged();
                if let Some(seq) = self.try_post(channel, &new).await? {
                    return Ok(seq);
                }
                progress.changed().await.map_err(|_| full(&channel.name))?;
            }
        };
        let limit = Duration::from_secs(self.config.timeout_seconds);
        if !may_wait {
            return Err(full(&channel.name));
        }
        tokio::time::timeout(limit, patient).await.map_err(|_| full(&channel.name))?
    }

    /// Writes a message; `None` when there is no room.
    async fn try_post(&self, channel: &Channel, new: &NewMessage) -> Result<Option<i64>, DagError> {
        match self.scribe.publish(new.clone()).await? {
            Posted::Stored(seq) | Posted::Duplicate(seq) => Ok(Some(seq)),
            Posted::Full => Ok(None),
            Posted::Stale => Err(DagError::StaleLease(format!(
                "channel `{}`: the agent works in another process now",
                channel.name
            ))),
        }
    }

    /// Returns when agents of this process have acknowledged everything that is in their channels.
    async fn rest(&self) {
        let mut progress = self.progress.subscribe();
        loop {
            progress.mark_unchanged();
            if self.agents().iter().all(|entry| entry.is_quiet()) {
                return;
            }
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Extends the lease; answers whether other processes work on the file too.
    async fn beat(&self, number: u64) -> Result<bool, DagError> {
        let seconds = i64::try_from(self.config.lease_seconds).unwrap_or(i64::MAX / 4_000);
        let (journal, owner, now) = (self.storage.journal(), self.storage.owner(), self.now());
        journal.heartbeat(owner.name(), now + seconds * 1_000).await?;
        if number.is_multiple_of(SWEEP) {
            journal.sweep_messages(self.retention(), now).await?;
        }
        journal.has_others(owner.name(), now).await
    }

    /// Extends the lease, and looks for what other processes do while there are any.
    async fn keep(self: Arc<Self>, is_shared: bool) {
        let every = Duration::from_secs(self.config.heartbeat_seconds);
        let (mut is_shared, mut number) = (is_shared, 0);
        loop {
            let mut left = every;
            while is_shared && left > LOOK {
                tokio::time::sleep(LOOK).await;
                left -= LOOK;
                self.look().await;
            }
            tokio::time::sleep(left).await;
            number += 1;
            match self.beat(number).await {
                Ok(others) => is_shared = others,
                Err(error) => tracing::warn!(%error, "the lease could not be extended"),
            }
            self.look().await;
        }
    }

    /// Learns how far channels are, and lets agents that stand by look whether they may work.
    async fn look(&self) {
        match self.storage.journal().channels().await {
            Ok(rows) => {
                for row in rows {
                    if let Some(channel) = self.channels.by_id(row.id) {
                        channel.advance(row.head);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "channels could not be looked at"),
        }
        match self.storage.journal().owned_cursors(self.storage.owner().name()).await {
            Ok(owned) => self.agents().iter().for_each(|entry| entry.look(&owned)),
            Err(error) => tracing::warn!(%error, "subscribers could not be looked at"),
        }
        // Room may have come where somebody waits for it.
        self.progress.send_modify(|steps| *steps += 1);
    }
}

fn full(name: &str) -> DagError {
    DagError::ChannelFull(format!(
        "channel `{name}` holds all it may and its subscribers are behind; raise retain_messages or let them catch up"
    ))
}
