//! Everything the repository does to itself: `cargo xtask <verb>`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task runner talks to its terminal"
)]

mod bench;
mod demo;
mod http;
mod openapi;
mod repo;
mod server;
mod setup;
mod soak;
mod step;
mod test;
mod tidy;
mod user;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <verb>

  demo                start a server and walk through its main job over HTTP
  test                everything that must hold before a change is taken
  tidy                the house rules that no compiler knows
  setup               install what the verbs need; quick when nothing is missing
  bench [--json] [--check] [--write-readme]
                      the promised figures beside their floor and their peers
  soak [tests|fuzz|density]... [--seed N] [--seconds N]
                      what takes long: the tests at full count, the fuzzer on every body (60 seconds each
                      unless told otherwise), 5,000 sandboxes alive at once
  openapi             write openapi/mayfly.json again from the built server
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["setup"] => setup::run().map(|()| true),
        ["tidy"] => tidy::run().map(|()| true),
        ["test"] => test::run(),
        ["demo"] => demo::run().map(|()| true),
        ["bench", flags @ ..] => bench::run(flags).map(|()| true),
        ["soak", flags @ ..] => soak::run(flags),
        ["openapi"] => openapi::run().map(|()| true),
        // What the test runner starts test programs with, for the half that runs without root.
        ["as-user", program @ ..] => user::run(program),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(true)
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        // The verb has said what did not hold.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
