//! Sandboxes on this machine.
//!
//! ```text
//! LocalRuntime (async, the port) -> Host (blocking verbs) -> Forkserver -> process 1 of each sandbox
//!                                                         -> Pool, Cgroups, Sockets
//!               exec, logs ------------------------------------------------^
//! ```
//! Nothing is remembered that the host does not show: running sandboxes are found by the sockets of their
//! process 1, all others by their folders in the pool.

mod adopt;
pub mod captures;
pub mod cgroup;
mod doctor;
mod exec;
mod family;
pub mod files;
mod folders;
mod forkserver;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod ground;
mod host;
mod ids;
pub mod image;
mod init;
mod kits;
mod live;
mod logs;
mod memory;
mod network;
mod options;
mod outer;
pub mod pool;
mod ports;
pub mod register;
mod runtime;
pub mod seccomp;
mod slots;
mod space;
mod spec;
mod stay;
mod storage;
pub mod users;
mod volumes;

pub use mayfly_net::way::Way;
pub use network::NetworkOptions;
pub use options::{Options, WEAK_POLICY, Wanted};
pub use runtime::LocalRuntime;
