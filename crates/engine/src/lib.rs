//! Use cases, one file per noun; reconcilers; the only writer of platform state and the only performer of
//! effects.
//!
//! A call goes one way: service -> rules of the core -> `commit` (one compare-and-swap) -> `driver` (the
//! effect in the runtime) -> fact -> rules -> `commit`. Reconcilers use the same two functions.

mod access;
mod admission;
mod audit;
mod backup;
mod commit;
mod contexts;
mod create;
mod driver;
mod engine;
mod feed;
mod fields;
pub mod git;
mod house;
mod key_cache;
mod living;
pub mod lsp;
mod metrics;
mod minding;
mod network;
mod note;
mod organizations;
mod patience;
mod reach;
mod ready;
mod reconcile;
mod refusals;
mod sandboxes;
mod settings;
mod shelf;
mod shells;
mod snapshot_cache;
mod snapshots;
mod space;
mod start;
mod steady;
mod tasks;
mod telemetry;
mod tenants;
mod terminals;
mod volumes;
mod warm;

pub use access::{Access, NewKey};
pub use audit::Audit;
pub use backup::Frame;
pub use contexts::{CodeEvent, CodeRequest, CodeRun, CodeTurn, Context, Contexts};
pub use engine::Engine;
pub use feed::{Listener, News};
pub use mayfly_core::sandbox::{CreateSandbox, Resize, Timer};
pub use metrics::Measures;
pub use network::NetworkSettings;
pub use organizations::Organizations;
pub use reach::{Busy, Reach};
pub use refusals::Refusal;
pub use sandboxes::Sandboxes;
pub use settings::Settings;
pub use shells::{SessionCommand, ShellSession, Shells};
pub use snapshots::Snapshots;
pub use space::Footprint;
pub use telemetry::Sample;
pub use tenants::Use;
pub use terminals::{NewTerminal, Terminal, Terminals};
pub use volumes::Volumes;
