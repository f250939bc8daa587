//! The network process of the sandboxes: it judges, relays and audits all that leaves them.
//!
//! ```text
//! sandbox's namespace: only lo, every address local
//!   connect 1.2.3.4:443 --steered--> listener (made inside, owned by this process)
//!                                             | judged by policy, audited
//!                                             +--> dialled from the host's namespace, spliced both ways
//! ```
//! One single-threaded process serves thousands of sandboxes and outlives the server, which speaks with it over
//! a unix socket ([`control`], [`client`]). Policies and their judgement ([`policy`], [`judge`]) are pure and used
//! by the server too. The program is `main.rs` beside this file.

pub mod audit;
pub mod cidr;
pub mod client;
pub mod control;
mod datagrams;
mod dns;
mod door;
mod entries;
mod first_bytes;
pub mod judge;
pub mod names;
pub mod namespace;
mod netlink;
mod pipes;
pub mod policy;
mod pump;
mod relay;
mod rules;
#[cfg(test)]
mod seeded;
mod serve;
mod slab;
mod state;
mod steering;
#[expect(unsafe_code, reason = "the one place of this program for system calls")]
mod sys;
pub mod way;

pub use serve::serve;
