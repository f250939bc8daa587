//! Tasks: pieces of work that agents take one by one, that find their dependencies while they run, and that survive a
//! kill of whoever works on them.
//!
//! ```text
//! create -> row -> claim (lease, version) -> agent -> completion (same version) -> dependents ready
//! ```
//! The rows are the state and the queue; any number of processes and remote workers share them. What happens to a task is
//! decided by pure functions ([`status`] shows which status follows which) inside of the transaction that writes it. In a
//! process, one dispatcher owns the workers: it writes what ended and claims what is next in one job of the writer, and
//! sleeps until somebody wakes it or the next time comes.

pub mod agent;
pub mod builder;
pub mod context;
pub mod remote;
pub mod stats;
pub mod status;
pub mod storage;
pub mod system;
pub mod task;

mod attempt;
mod center;
pub(crate) mod decide;
mod dispatcher;
mod shared;
mod turns;

pub use shared::SharedState;
