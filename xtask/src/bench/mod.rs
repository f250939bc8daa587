//! The verb `bench`: runs the crates' bench programs, adds what only the outside sees, prints it all.

pub(crate) mod line;
mod peers;
mod readme;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::server::{self, Server};
use crate::step::command;
use crate::{repo, setup};
use line::{Line, samples};

/// Starts that the ready time is taken from.
const STARTS: usize = 10;

/// Promises that only the outside of the server shows, from the work's own table.
const MAX_READY_MS: f64 = 150.0;
const MAX_IDLE_MB: f64 = 40.0;
const MAX_BINARY_MB: f64 = 40.0;

/// Runs every bench. `--json`: one JSON object per line and nothing else on standard output; `--check`: fail
/// when a promise does not hold; `--write-readme`: put the table into README.md.
pub(crate) fn run(flags: &[&str]) -> Result<()> {
    if let ["--peer-crun", bundle] = flags {
        return peers::crun_inside(Path::new(bundle));
    }
    if let Some(unknown) =
        flags.iter().find(|flag| !["--json", "--check", "--write-readme"].contains(flag))
    {
        bail!("bench does not know `{unknown}`; it takes --json, --check, --write-readme");
    }
    let as_json = flags.contains(&"--json");
    if !as_json {
        setup::for_running()?;
    }
    let program = server::build("release")?;
    let mut lines = Vec::new();
    for (package, bench) in bench_programs(&repo::metadata()?) {
        lines.extend(
            bench_program(&package, &bench).with_context(|| format!("bench {package}/{bench}"))?,
        );
    }
    lines.extend(outside(&program)?);
    lines.extend(peers::all()?);

    if as_json {
        for line in &lines {
            println!("{}", line.to_json());
        }
    } else {
        println!("{}", line::table(&lines));
    }
    if flags.contains(&"--write-readme") {
        readme::write(&lines)?;
    }
    let broken: Vec<&str> = lines
        .iter()
        .filter(|line| line.holds == Some(false))
        .map(|line| line.name.as_str())
        .collect();
    if flags.contains(&"--check") && !broken.is_empty() {
        bail!("these promises do not hold here: {}", broken.join(", "));
    }
    Ok(())
}

/// Package and name of every bench program of the workspace.
fn bench_programs(metadata: &Value) -> Vec<(String, String)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for package in list(&metadata["packages"]).iter().filter(|package| package["source"].is_null())
    {
        for target in list(&package["targets"]) {
            let is_bench = list(&target["kind"]).iter().any(|kind| kind == "bench");
            if let (true, Some(package), Some(name)) =
                (is_bench, package["name"].as_str(), target["name"].as_str())
            {
                found.push((package.to_owned(), name.to_owned()));
            }
        }
    }
    found
}

/// Runs one program; every line of its output that begins with `{` is a figure.
fn bench_program(package: &str, bench: &str) -> Result<Vec<Line>> {
    let mut cargo = command("cargo", &["bench", "--package", package, "--bench", bench]);
    cargo.stderr(std::process::Stdio::inherit());
    let output = cargo.output().context("start cargo bench")?;
    if !output.status.success() {
        bail!("it ended with {}\n{}", output.status, String::from_utf8_lossy(&output.stdout));
    }
    let said = String::from_utf8(output.stdout).context("its output is not text")?;
    said.lines().filter(|line| line.starts_with('{')).map(Line::from_json).collect()
}

/// What only the outside sees: ready time, memory at rest, size of the program.
fn outside(program: &Path) -> Result<Vec<Line>> {
    let mut ready = Vec::with_capacity(STARTS);
    let mut idle = Vec::with_capacity(STARTS);
    let mut server = Server::start(program)?;
    let first = server.ready_after.as_secs_f64() * 1000.0;
    for _ in 0..STARTS {
        server = server.start_again(program)?;
        ready.push(server.ready_after.as_secs_f64() * 1000.0);
        idle.push(resident_mb(server.pid())?);
    }
    server.stop()?;
    #[expect(clippy::cast_precision_loss, reason = "a program has far fewer than 2^52 bytes")]
    let size = std::fs::metadata(program)?.len() as f64 / f64::from(1 << 20);
    Ok(vec![
        samples("server ready at its first start", "ms", vec![first]),
        samples("server ready after start", "ms", ready).at_most(MAX_READY_MS),
        samples("server resident at rest", "MiB", idle).at_most(MAX_IDLE_MB),
        samples("size of the binary", "MiB", vec![size]).at_most(MAX_BINARY_MB),
    ])
}

fn resident_mb(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.context("no VmRSS in the server's status")? / 1024.0)
}

/// `echo x` as everyone runs it here: the job of the floor and of every peer.
fn echo() -> Command {
    let mut echo = Command::new("/bin/echo");
    echo.arg("x");
    echo
}
