//! Process 1 of a sandbox and the forkserver that clones it, as one small static program.
//!
//! ```text
//! server --spawns--> forkserver --clones--> parked process --CREATE--> process 1 of a sandbox
//! ```
//! The forkserver is single-threaded and small, so that cloning it is cheap and sound, and holds nothing
//! of the server's memory. A parked process already lives in its namespaces; it becomes a sandbox when its
//! file systems are named. Process 1 outlives the server and the forkserver.

mod calls;
mod clients;
mod command;
mod failure;
mod forkserver;
mod log;
mod mounts;
mod numbers;
mod park;
#[expect(dead_code, reason = "each end of a channel builds some messages and reads the others")]
#[expect(
    unreachable_pub,
    reason = "the same file is the public half of the library beside this program"
)]
mod protocol;
mod rights;
mod running;
mod stage;
mod stay;
mod supervisor;
#[expect(unsafe_code, reason = "the one file of this program for system calls")]
mod sys;
mod trees;
mod volumes;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(mode) if mode == "forkserver" => forkserver::serve(false),
        Some(mode) if mode == "forkserver-of-user" => forkserver::serve(true),
        _ => ExitCode::from(2),
    }
}
