//! What is decided, apart from what is done: pure code without I/O, clock or async runtime.

pub mod config;
pub mod entry;
pub mod graph;
pub mod retry;
pub mod run;
pub mod status;
pub mod when;

mod apply;
pub(crate) mod check;
pub(crate) mod control;
mod ending;

pub use check::Problem;
pub use control::{HUMAN_INTERRUPT, SUPERVISOR_STEP};
