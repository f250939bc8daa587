//! Durable workflows in one file: graphs of nodes, tasks that find their dependencies while they run, and agents that
//! publish and subscribe. What was acknowledged survives `kill -9`.
//!
//! The guide with runnable examples is `docs/flow.md`. Everything a program needs is re-exported here.

pub mod clock;
#[cfg(feature = "dag")]
pub mod dag;
pub mod error;
#[cfg(feature = "sqlite")]
mod journal;
#[cfg(feature = "dag")]
pub mod model;
#[cfg(feature = "pubsub")]
pub mod pubsub;
#[cfg(feature = "sqlite")]
pub mod storage;

#[doc(hidden)]
pub use anyhow;
#[doc(hidden)]
pub use async_trait::async_trait;
#[doc(hidden)]
pub use serde_json;

pub use clock::{Clock, Millis, SystemClock};
#[cfg(feature = "dag")]
pub use dag::{
    action::{ActionRegistry, CancelToken, NodeAction, NodeCtx, NodeOutput, Registration},
    cache::{
        Cache, append_global_value, get_global_input, get_input, insert_global_value, insert_value,
        load_cache_from_json, parse_input_from_name, serialize_cache_to_json,
        serialize_cache_to_pretty_json,
    },
    commands::{Resolution, RunInfo},
    events::{EventKind, RuntimeEvent, StepRef},
    executor::{DagExecutor, DagMetadata, StartOptions},
    observe::{EventHook, EventSink, ExecutionObserver, HookCommand},
    plan::{Plan, plan_from_llm_output},
    report::{DagExecutionReport, NodeExecutionOutcome},
};
pub use error::{AgentError, DagError, Permanent};
#[cfg(feature = "sqlite")]
pub use journal::Synchronous;
/// The guide, whose examples are compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/flow.md")]
pub mod guide {}

#[cfg(feature = "dag")]
pub use mayfly_flow_macros::action;
#[cfg(feature = "pubsub")]
pub use mayfly_flow_macros::pubsub_agent;
#[cfg(feature = "dag")]
pub use model::{
    config::{DagConfig, HumanTimeoutAction, OnFailure, RetryStrategy},
    graph::{Concurrency, Durability, GraphDefinition, IField, Node, NodeSpec, OField},
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
