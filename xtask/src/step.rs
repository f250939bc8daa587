//! Steps: a name, a command or a function, the time it took, and what it said when it failed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::repo;

/// Lines of a failed quiet command that are shown.
const SHOWN_LINES: usize = 40;

/// One finished step.
#[derive(Debug)]
pub(crate) struct Step {
    /// What it is called in the summary.
    pub(crate) name: String,
    /// How long it took.
    pub(crate) took: Duration,
    /// Why it failed; `None` = it passed.
    pub(crate) failure: Option<String>,
}

/// Runs `work` under a heading, and says how long it took.
pub(crate) fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Step {
    println!("==> {name}");
    let start = Instant::now();
    let failure = work().err().map(|error| format!("{error:#}"));
    let took = start.elapsed();
    match &failure {
        None => println!("    {name}: ok, {}", seconds(took)),
        Some(reason) => println!("    {name}: FAILED, {}\n{reason}", seconds(took)),
    }
    Step { name: name.to_owned(), took, failure }
}

/// A command that runs in the root of the repository.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(repo::root()).stdin(Stdio::null());
    command
}

/// Runs a command that speaks to the terminal itself.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a command whose words only matter when it fails, and returns its standard output.
pub(crate) fn run_quiet(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {}", shown(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
        bail!("{} ended with {}\n{tail}", shown(command), output.status);
    }
    Ok(stdout)
}

/// A time as people read it.
pub(crate) fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}
