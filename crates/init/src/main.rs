//! Process 1 of a sandbox and the forkserver that clones it, as one small static program.
//!
//! ```text
//! server --spawns--> forkserver --clones--> parked process --CREATE--> process 1 of a sandbox
//! ```
//! The forkserver is single-threaded and small, so that cloning it is cheap and sound, and holds nothing
//! of the server's memory. A parked process already lives in its namespaces; it becomes a sandbox when its
//! file systems are named. Process 1 outlives the server and the forkserver.

mod calls;
mod command;
mod forkserver;
mod log;
mod numbers;
#[expect(dead_code, reason = "each end of a channel builds some messages and reads the others")]
#[expect(
    unreachable_pub,
    reason = "the same file is the public half of the library beside this program"
)]
mod protocol;
mod setup;
mod supervisor;
#[expect(unsafe_code, reason = "the one file of this program for system calls")]
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|mode| mode == "forkserver") {
        return forkserver::serve();
    }
    ExitCode::from(2)
}
