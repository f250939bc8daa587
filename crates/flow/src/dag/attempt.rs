//! One attempt: a task that runs an action within its limits and tells the run's driver how it went.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::action::{NodeCtx, NodeOutput, named};
use super::driver::Message;
use super::registry::Registered;
use crate::error::{DagError, Permanent, is_permanent};
use crate::journal::Artifact;
use crate::model::entry::{Slot, Write};
use crate::storage::SqliteStorage;

/// An attempt's way to its driver.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) slot: Slot,
    pub(crate) attempt: u32,
    pub(crate) driver: mpsc::Sender<Message>,
}

impl Link {
    fn gone() -> DagError {
        DagError::StaleLease("the run is over or belongs to another process".to_owned())
    }

    /// Whether the driver still works on this attempt.
    pub(crate) fn alive(&self) -> Result<(), DagError> {
        if self.driver.is_closed() { Err(Self::gone()) } else { Ok(()) }
    }

    pub(crate) async fn wait_signal(
        &self,
        name: &str,
        timeout: Option<Duration>,
    ) -> Result<Option<Value>, DagError> {
        let (reply, answer) = oneshot::channel();
        let (slot, name) = (self.slot, name.to_owned());
        let message = Message::WaitSignal { slot, name, timeout, reply };
        self.driver.send(message).await.map_err(|_| Self::gone())?;
        answer.await.map_err(|_| Self::gone())
    }

    pub(crate) async fn emit(&self, event: Value) -> Result<(), DagError> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Emit { slot: self.slot, event, reply };
        self.driver.send(message).await.map_err(|_| Self::gone())?;
        answer.await.map_err(|_| Self::gone())
    }
}

/// How an attempt went.
#[derive(Debug)]
pub(crate) enum Outcome {
    Completed { outputs: Map<String, Value>, artifact: Option<Artifact>, writes: Vec<Write> },
    Failed { error: String, permanent: bool },
}

/// What an attempt needs.
pub(crate) struct Job {
    pub(crate) action: Arc<Registered>,
    pub(crate) failure: Option<Arc<Registered>>,
    pub(crate) ctx: NodeCtx,
    pub(crate) storage: SqliteStorage,
    pub(crate) timeout: Option<Duration>,
    /// Whether a failure would be the last.
    pub(crate) last: bool,
    /// Places that are shared with other runs.
    pub(crate) places: Vec<Arc<Semaphore>>,
}

/// Runs the attempt and tells its driver.
pub(crate) async fn run(job: Job) {
    let link = job.ctx.link.clone();
    let outcome = match attempt(&job).await {
        Ok(outcome) => outcome,
        Err(error) => failed(&job, &error).await,
    };
    let message = Message::Attempt { slot: link.slot, attempt: link.attempt, outcome };
    // A driver that is gone needs no answer.
    drop(link.driver.send(message).await);
}

async fn attempt(job: &Job) -> anyhow::Result<Outcome> {
    let mut held: Vec<OwnedSemaphorePermit> = Vec::with_capacity(job.places.len());
    for place in &job.places {
        held.push(Arc::clone(place).acquire_owned().await?);
    }
    check_inputs(job)?;
    let output = limited(job, &job.action, &job.ctx).await?;
    if !output.success {
        anyhow::bail!("the action reported failure");
    }
    let mut outputs = named(output.outputs);
    let mut writes = Vec::new();
    for write in job.ctx.cache.take_writes() {
        if write.scope == job.ctx.node_id && !write.append {
            outputs.insert(write.key, write.value);
        } else {
            writes.push(write);
        }
    }
    let outputs = Value::Object(outputs);
    if let Some(schema) = &job.action.output
        && let Err(error) = schema.validate(&outputs)
    {
        let error = anyhow::anyhow!("output does not match its schema: {error}");
        return Err(Permanent(error).into());
    }
    let Value::Object(outputs) = outputs else { anyhow::bail!("outputs are no object") };
    let mut artifact = None;
    if !outputs.is_empty() {
        let bytes = serde_json::to_vec(&outputs)?;
        artifact = Some(job.storage.prepare_artifact(bytes.into(), "json").await?);
    }
    Ok(Outcome::Completed { outputs, artifact, writes })
}

fn check_inputs(job: &Job) -> anyhow::Result<()> {
    if let Some(schema) = &job.action.input
        && let Err(error) = schema.validate(&job.ctx.inputs)
    {
        let error = anyhow::anyhow!("input does not match its schema: {error}");
        return Err(Permanent(error).into());
    }
    job.action.action.validate_inputs(&job.ctx.inputs).map_err(|error| Permanent(error).into())
}

/// One call of an action, within the time and without letting a panic out.
async fn limited(job: &Job, action: &Registered, ctx: &NodeCtx) -> anyhow::Result<NodeOutput> {
    let calm = AssertUnwindSafe(action.action.execute(ctx)).catch_unwind();
    let answer = match job.timeout {
        Some(limit) => tokio::time::timeout(limit, calm).await.map_err(|_| {
            DagError::ExecutionTimeout(format!("the attempt took longer than {limit:?}"))
        })?,
        None => calm.await,
    };
    answer.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a message".to_owned());
        Err(anyhow::anyhow!("the action panicked: {text}"))
    })
}

/// Describes the failure; after the last attempt the node's failure action runs once.
async fn failed(job: &Job, error: &anyhow::Error) -> Outcome {
    let permanent = is_permanent(error);
    let error = format!("{error:#}");
    if let Some(action) = job.failure.as_ref().filter(|_| permanent || job.last) {
        let mut ctx = job.ctx.clone();
        if let Value::Object(fields) = &mut ctx.inputs {
            fields.insert("error".to_owned(), Value::String(error.clone()));
        }
        ctx.cache.put(Write {
            scope: ctx.node_id.clone(),
            key: "error".to_owned(),
            value: Value::String(error.clone()),
            append: false,
        });
        if let Err(error) = limited(job, action, &ctx).await {
            let (run, node) = (&ctx.run_id, &ctx.node_id);
            tracing::warn!(run, node, error = %format!("{error:#}"), "a failure action failed");
        }
    }
    Outcome::Failed { error, permanent }
}
