//! Durable workflows in one file: graphs of nodes, tasks that find their dependencies while they run, and agents that
//! publish and subscribe. What was acknowledged survives `kill -9`.
//!
//! The guide with runnable examples is `docs/flow.md`. Everything a program needs is re-exported here.

pub mod clock;
pub mod error;
#[cfg(feature = "sqlite")]
mod journal;
#[cfg(feature = "sqlite")]
pub mod storage;

pub use clock::{Clock, Millis, SystemClock};
pub use error::{AgentError, DagError, Permanent};
pub use journal::Synchronous;
#[cfg(feature = "sqlite")]
pub use storage::SqliteStorage;
