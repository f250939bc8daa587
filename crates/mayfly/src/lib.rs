//! The program: the command line, the HTTP server and what joins them to the adapters.
//!
//! A library with one door, so that the fuzzer can link what the program is made of.

mod cli;
mod client;
mod config;
mod exit_code;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod http;
mod lock;
mod splice;
mod ssh;
mod telemetry;
mod wiring;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

/// Runs the command line of this process; the exit code says how it went (see `exit_code.rs`).
pub fn main() -> ExitCode {
    // For `openapi/mayfly.json` and its check; not a command of the user's.
    if std::env::args().skip(1).eq(["openapi"]) {
        let written = std::io::stdout().write_all(http::document().as_bytes());
        return if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    cli::run(cli::Cli::parse())
}
