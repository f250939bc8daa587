//! The nouns and the rules of mayfly: pure types and transitions, no I/O, no clock, no async runtime.

pub mod access;
pub mod audit;
pub mod error;
pub mod event;
pub mod file;
pub mod id;
pub mod limits;
pub mod measure;
pub mod network;
pub mod ports;
pub mod process;
pub mod sandbox;
pub mod snapshot;
pub mod time;
pub mod volume;

pub use error::{Code, Error, Kind, Result};
