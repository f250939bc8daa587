//! What the rules need from the world; adapters live in other crates.

pub mod captures;
pub mod clock;
pub mod entropy;
pub mod files;
pub mod processes;
pub mod runtime;
pub mod store;
pub mod volumes;
