//! What every adapter of a port must do; called from the adapters' `tests/` folders. A broken promise panics
//! with the sentence that was broken.

pub mod processes;
pub mod runtime;
pub mod store;
mod tenants;
pub mod volumes;
