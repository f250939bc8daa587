//! What tests of tasks share: a system on a file or in memory, and agents that note what they did.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mayfly_flow::{
    AgentError, Clock as _, Millis, NewTaskSpec, SqliteStorage, StorageOptions, Synchronous,
    TaskAgent, TaskContext, TaskId, TaskSystem, TaskSystemBuilder, async_trait,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::sim::SimClock;
use crate::site::Notes;

/// A system with the usual agents.
pub(crate) struct Desk {
    pub(crate) system: TaskSystem,
    pub(crate) notes: Notes,
    pub(crate) gate: Gate,
    clock: Arc<SimClock>,
}

/// What `gate` tasks wait for.
#[derive(Clone)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn close(&self) {
        self.0.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }
}

/// Settings that suit tests.
pub(crate) fn fast() -> TaskSystemBuilder {
    TaskSystemBuilder::new().workers(4).synchronous(Synchronous::Normal)
}

impl Desk {
    /// On a file, on a simulated clock.
    pub(crate) async fn on(path: &Path, builder: TaskSystemBuilder) -> Self {
        Self::open(&format!("sqlite:{}", path.display()), SimClock::new(), builder).await
    }

    /// In memory, on a simulated clock.
    pub(crate) async fn in_memory(builder: TaskSystemBuilder) -> Self {
        Self::open("sqlite::memory:", SimClock::new(), builder).await
    }

    /// With a clock that others may have too.
    pub(crate) async fn open(url: &str, clock: Arc<SimClock>, builder: TaskSystemBuilder) -> Self {
        let options = StorageOptions { clock: clock.clone(), ..StorageOptions::default() };
        let storage = SqliteStorage::open(url, options).await.unwrap();
        let (notes, gate) = (Notes::default(), Gate(Arc::new(watch::Sender::new(true))));
        let mut builder = builder;
        for kind in ["echo", "fail", "gate", "never", "panic", "listen", "strict"] {
            let agent = Usual { kind, notes: notes.clone(), gate: gate.clone() };
            builder = builder.agent(Arc::new(agent)).unwrap();
        }
        Self { system: builder.build(storage).unwrap(), notes, gate, clock }
    }

    /// Makes a task without anything special.
    pub(crate) async fn make(&self, agent: &str, input: &str) -> TaskId {
        self.system.create_task(NewTaskSpec::new(agent, input.to_owned())).await.unwrap()
    }

    /// What the file's clock shows, moved by so many milliseconds.
    pub(crate) fn in_millis(&self, more: Millis) -> Millis {
        self.clock.now() + more
    }

    /// Lets others work until the condition holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("never: {what}; ran {:?}", self.notes.all());
    }

    /// Lets others work until a task of this input has begun so many times.
    pub(crate) async fn until_began(&self, input: &str, times: usize) {
        self.until(input, |desk| desk.notes.counts().get(input).copied() == Some(times)).await;
    }
}

/// `echo` gives its input; `fail` fails in the sort that its input names; `gate` waits until the gate is open; `never`
/// goes on for ever; `panic` panics; `listen` ends when it is cancelled; `strict` gives its input's field `give`.
struct Usual {
    kind: &'static str,
    notes: Notes,
    gate: Gate,
}

#[async_trait]
impl TaskAgent for Usual {
    fn name(&self) -> String {
        self.kind.to_owned()
    }

    fn input_schema(&self) -> Option<Value> {
        (self.kind == "strict").then(|| json!({ "type": "object", "required": ["give"] }))
    }

    fn output_schema(&self) -> Option<Value> {
        (self.kind == "strict").then(|| json!({ "type": "integer" }))
    }

    async fn execute(&self, input: Bytes, ctx: Arc<TaskContext>) -> Result<Bytes, AgentError> {
        let text = String::from_utf8_lossy(&input).into_owned();
        self.notes.note(&text);
        match self.kind {
            "fail" if text == "user" => Err(AgentError::User(format!("{text} went wrong"))),
            "fail" => Err(AgentError::System(format!("{text} went wrong"))),
            "gate" => {
                let mut open = self.gate.0.subscribe();
                open.wait_for(|open| *open).await.map_err(|_| AgentError::System("gone".into()))?;
                Ok(input)
            }
            "never" => std::future::pending().await,
            "panic" => panic!("on purpose"),
            "listen" => {
                ctx.cancelled().await;
                self.notes.note("heard");
                Ok(input)
            }
            "strict" => {
                let value = ctx.task().input_json()?;
                Ok(value["give"].to_string().into())
            }
            _ => Ok(input),
        }
    }
}
