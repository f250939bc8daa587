//! Publish and subscribe: agents that handle the messages of durable channels, at least once and in order.
//!
//! Publishing answers after commit. Each subscriber has a place in each channel, moved when a handler ends well; a message
//! that fails is tried again and at last goes to the channel `<channel>.dead`. The rows change through the journal alone;
//! `cursor` decides what is next, without knowing of files or tasks.

pub mod agent;
mod channels;
pub mod config;
mod cursor;
pub mod executor;
pub mod message;
pub mod pull;
mod scribe;
mod worker;
