//! Durable workflows in one file: graphs of nodes, tasks that find their dependencies while they run, and agents that
//! publish and subscribe. What was acknowledged survives `kill -9`.
//!
//! The guide with runnable examples is `docs/flow.md`. Everything a program needs is re-exported here.

pub mod clock;
#[cfg(feature = "dag")]
pub mod dag;
mod durability;
pub mod error;
#[cfg(feature = "sqlite")]
mod journal;
#[cfg(feature = "dag")]
pub mod model;
#[cfg(feature = "pubsub")]
pub mod pubsub;
#[cfg(feature = "sqlite")]
pub mod storage;
#[cfg(feature = "tasks")]
pub mod tasks;

#[doc(hidden)]
pub use anyhow;
#[doc(hidden)]
pub use async_trait::async_trait;
#[doc(hidden)]
pub use bytes;
#[doc(hidden)]
pub use serde_json;

pub use clock::{Clock, Millis, SystemClock};
#[cfg(feature = "dag")]
pub use dag::{
    action::{CancelToken, NodeAction, NodeCtx, NodeOutput},
    cache::{
        Cache, append_global_value, get_global_input, get_input, insert_global_value, insert_value,
        load_cache_from_json, parse_input_from_name, serialize_cache_to_json,
        serialize_cache_to_pretty_json,
    },
    commands::{Resolution, RunInfo},
    definitions::DagMetadata,
    events::{EventKind, RuntimeEvent, StepRef},
    executor::{DagExecutor, StartOptions},
    observe::{EventHook, EventSink, ExecutionObserver, HookCommand},
    plan::{Plan, plan_from_llm_output},
    registry::{ActionRegistry, Registration},
    report::{DagExecutionReport, NodeExecutionOutcome},
};
pub use durability::Durability;
pub use error::{AgentError, DagError, Permanent};
#[cfg(feature = "sqlite")]
pub use journal::Synchronous;
#[cfg(feature = "tasks")]
pub use journal::{outbox::OutboxEvent, shared_state::SharedValue};
/// The guide, whose examples are compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/flow.md")]
pub mod guide {}

#[cfg(feature = "dag")]
pub use mayfly_flow_macros::action;
#[cfg(feature = "pubsub")]
pub use mayfly_flow_macros::pubsub_agent;
#[cfg(feature = "tasks")]
pub use mayfly_flow_macros::task_agent;
#[cfg(feature = "dag")]
pub use model::{
    config::{DagConfig, HumanTimeoutAction, OnFailure, RetryStrategy},
    graph::{Concurrency, GraphDefinition, IField, Node, NodeSpec, OField},
    status::{RunStatus, State},
};
#[cfg(feature = "pubsub")]
pub use pubsub::{
    agent::{IntoMessages, PubSubAgent, PubSubCtx},
    config::{PubSubConfig, WhenFull},
    executor::{AgentInfo, ChannelInfo, Execution, PubSubExecutor, PubSubReport},
    message::{Message, StartAt},
    pull::Read,
};
#[cfg(feature = "sqlite")]
pub use storage::{SqliteStorage, StorageOptions};
#[cfg(feature = "tasks")]
pub use tasks::{
    SharedState,
    agent::{AgentRegistry, TaskAgent},
    builder::TaskSystemBuilder,
    context::{TaskContext, TaskHandle},
    remote::ClaimRequest,
    stats::{QueueStats, RecoveryStats, SchedulerStats},
    status::TaskStatus,
    storage::Storage,
    system::{TaskResolution, TaskSystem},
    task::{NewTaskSpec, Task, TaskFilter, TaskId, TaskType},
};
