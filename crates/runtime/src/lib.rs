//! Where sandboxes run.
//!
//! [`local`] is the runtime of this machine: namespaces, overlay file systems, control groups and filters,
//! made by a small forkserver and kept alive by an init of their own.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod local;
mod sys;
