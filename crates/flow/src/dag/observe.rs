//! Observers: told every event of every run, each at its own pace. They read the log, so a slow one never holds a run up
//! and misses nothing; one that panics is told the next event.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::sync::mpsc;

use super::events::{EventKind, RuntimeEvent};
use super::executor::{DagExecutor, LiveRun};
use crate::model::graph::NodeSpec;

/// Hears what happens in runs.
pub trait ExecutionObserver: Send + Sync {
    /// An attempt began.
    fn on_node_started(&self, _run: &str, _node: &str) {}
    /// An attempt ended well.
    fn on_node_completed(&self, _run: &str, _node: &str) {}
    /// An attempt failed.
    fn on_node_failed(&self, _run: &str, _node: &str, _error: &str) {}
    /// The graph grew.
    fn on_nodes_added(&self, _run: &str, _nodes: &[String]) {}
}

/// Takes every event.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// One event; the next one comes when this returns.
    async fn send(&self, event: RuntimeEvent);
}

/// What a hook may ask for in answer to an event.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields are the arguments of the verbs they name")]
pub enum HookCommand {
    /// Add one node.
    AddNode(Box<NodeSpec>),
    /// Add nodes, all or none.
    AddNodes(Vec<NodeSpec>),
    /// Replace fixed inputs of a node that has not begun.
    SetNodeInputs { node: String, inputs: Value },
    /// Pause a branch.
    PauseBranch(String),
    /// Resume a branch.
    ResumeBranch(String),
    /// Cancel a branch.
    CancelBranch(String),
}

/// Answers events with commands on the same run. A supervisor is one.
#[async_trait]
pub trait EventHook: Send + Sync {
    /// For each event.
    async fn handle(&self, event: &RuntimeEvent) -> Vec<HookCommand>;
}

/// Everybody who hears events.
#[derive(Default)]
pub(crate) struct Observers(RwLock<Vec<Arc<dyn Listener>>>);

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observers").finish_non_exhaustive()
    }
}

#[async_trait]
trait Listener: Send + Sync {
    async fn hear(&self, executor: &DagExecutor, event: &RuntimeEvent);
}

impl Observers {
    fn add(&self, listener: Arc<dyn Listener>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Tells everybody about a run from its driver's beginning; one task per listener.
    pub(crate) fn follow(&self, executor: &DagExecutor, run: &str, live: &LiveRun) {
        let listeners = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        for listener in listeners {
            let (executor, run) = (executor.clone(), run.to_owned());
            let mut progress = live.progress.clone();
            tokio::spawn(async move {
                let mut after = 0;
                loop {
                    // The driver's end is heard after its last step was.
                    let is_over = progress.changed().await.is_err();
                    after = tell(&executor, &*listener, &run, after).await;
                    if is_over {
                        return;
                    }
                }
            });
        }
    }
}

/// Tells what came after a sequence number; answers the newest one told.
async fn tell(executor: &DagExecutor, listener: &dyn Listener, run: &str, after: i64) -> i64 {
    let mut after = after;
    loop {
        let events = match executor.events(run, after).await {
            Ok(events) if !events.is_empty() => events,
            Ok(_) => return after,
            Err(error) => {
                tracing::warn!(run, %error, "events could not be read; they are told later");
                return after;
            }
        };
        for event in events {
            after = event.sequence;
            if AssertUnwindSafe(listener.hear(executor, &event)).catch_unwind().await.is_err() {
                tracing::error!(run, sequence = after, "an observer panicked");
            }
        }
    }
}

struct Watching(Arc<dyn ExecutionObserver>);

#[async_trait]
impl Listener for Watching {
    async fn hear(&self, _executor: &DagExecutor, event: &RuntimeEvent) {
        let (observer, event) = (Arc::clone(&self.0), event.clone());
        // It may block its thread; that must not be one that runs attempts.
        let told = tokio::task::spawn_blocking(move || {
            let run = &event.run_id;
            let call = || match &event.event {
                EventKind::StepStarted { step } => observer.on_node_started(run, &step.node_id),
                EventKind::StepCompleted { step, .. } => {
                    observer.on_node_completed(run, &step.node_id);
                }
                EventKind::StepFailed { step, error, .. } => {
                    observer.on_node_failed(run, &step.node_id, error);
                }
                EventKind::NodesAdded { nodes } => {
                    let ids = nodes.as_array().into_iter().flatten();
                    let ids: Vec<String> =
                        ids.filter_map(|node| node["id"].as_str().map(str::to_owned)).collect();
                    observer.on_nodes_added(run, &ids);
                }
                _ => {}
            };
            catch_unwind(AssertUnwindSafe(call)).is_ok()
        });
        if !matches!(told.await, Ok(true)) {
            tracing::error!("an observer panicked");
        }
    }
}

struct Sink(Arc<dyn EventSink>);

#[async_trait]
impl Listener for Sink {
    async fn hear(&self, _executor: &DagExecutor, event: &RuntimeEvent) {
        self.0.send(event.clone()).await;
    }
}

struct Channel(mpsc::Sender<RuntimeEvent>);

#[async_trait]
impl Listener for Channel {
    async fn hear(&self, _executor: &DagExecutor, event: &RuntimeEvent) {
        // Nobody listens any more.
        drop(self.0.send(event.clone()).await);
    }
}

struct Hook(Arc<dyn EventHook>);

#[async_trait]
impl Listener for Hook {
    async fn hear(&self, executor: &DagExecutor, event: &RuntimeEvent) {
        let run = &event.run_id;
        for command in self.0.handle(event).await {
            let done = match command {
                HookCommand::AddNode(node) => {
                    executor.add_nodes_atomic(run, vec![*node]).await.map(drop)
                }
                HookCommand::AddNodes(nodes) => {
                    executor.add_nodes_atomic(run, nodes).await.map(drop)
                }
                HookCommand::SetNodeInputs { node, inputs } => {
                    executor.set_node_inputs_json(run, &node, inputs).await
                }
                HookCommand::PauseBranch(branch) => executor.pause_branch(run, &branch).await,
                HookCommand::ResumeBranch(branch) => executor.resume_branch(run, &branch).await,
                HookCommand::CancelBranch(branch) => executor.cancel_branch(run, &branch).await,
            };
            if let Err(error) = done {
                tracing::warn!(run, %error, "a command of a hook was refused");
            }
        }
    }
}

impl DagExecutor {
    /// Tells an observer about all runs that begin or are resumed from now on.
    pub fn add_observer(&self, observer: Arc<dyn ExecutionObserver>) {
        self.inner.observers.add(Arc::new(Watching(observer)));
    }

    /// Sends all events of later runs into a channel; a full one delays the events, never a run.
    pub fn set_event_channel(&self, channel: mpsc::Sender<RuntimeEvent>) {
        self.inner.observers.add(Arc::new(Channel(channel)));
    }

    /// Sends all events of later runs to a sink.
    pub fn set_event_sink(&self, sink: Arc<dyn EventSink>) {
        self.inner.observers.add(Arc::new(Sink(sink)));
    }

    /// Lets a supervisor answer events with commands.
    pub fn add_supervisor_hook(&self, hook: Arc<dyn EventHook>) {
        self.inner.observers.add(Arc::new(Hook(hook)));
    }
}
