//! The fuzzer on every body: first the seeds and mutations on stable, then guided by coverage.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::full;
use crate::step::{command, run, run_quiet};
use crate::{repo, setup};

/// Of each body, unless the caller says otherwise.
pub(super) const SECONDS: u64 = 60;
/// Longest input, bytes: a little over the largest bound that a body knows.
const MAX_INPUT: u32 = 20 << 10;
/// Seconds after which one input counts as a hang, and megabytes after which it counts as a leak.
const HANG: u32 = 10;
const MEMORY: u32 = 2048;
/// Packages that have bodies.
const PACKAGES: [&str; 3] = ["mayfly", "mayfly-runtime", "mayfly-store"];

/// One body under the fuzzer.
struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Fuzzes all bodies, as many at once as there are processors. What breaks one is left in
/// `target/fuzz/failures`, with how to replay it on stable.
pub(super) fn run_all(seed: u64, seconds: u64) -> Result<()> {
    let cargo_fuzz = setup::for_fuzzing()?;
    let folder = repo::target().join("fuzz");
    let seeds = folder.join("seeds");
    println!("    the bodies on stable, at full count");
    let mut stable = full(seed, &["-E", "test(fuzz::tests::every_body_holds)"]);
    for package in PACKAGES {
        stable.args(["-p", package]);
    }
    run(stable.env("MAYFLY_TEST_SEEDS_TO", &seeds))?;
    println!("    building the fuzzer");
    let program = build(&cargo_fuzz, &folder.join("build"))?;
    let listed = run_quiet(&mut fuzzer(&program))?;
    let bodies: Vec<&str> = listed.lines().filter(|line| !line.is_empty()).collect();
    complete(&bodies, &seeds)?;
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut waiting = bodies.iter();
    let (mut running, mut broken, mut done) = (Vec::new(), Vec::new(), 0);
    loop {
        while running.len() < workers
            && let Some(name) = waiting.next()
        {
            running.push(start(&program, name, &folder, (seed, seconds))?);
        }
        if running.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        let mut still = Vec::new();
        for mut one in running {
            match one.child.try_wait().context("wait for the fuzzer")? {
                None => still.push(one),
                Some(status) => {
                    done += 1;
                    println!(
                        "    {done:>2} of {}: {}: {}",
                        bodies.len(),
                        one.name,
                        tried(&one.log)
                    );
                    if !status.success() {
                        broken.push(one);
                    }
                }
            }
        }
        running = still;
    }
    if broken.is_empty() {
        return Ok(());
    }
    let failures = folder.join("failures");
    for one in &broken {
        println!("    {} broke; what it said is in {}", one.name, one.log.display());
    }
    bail!(
        "{} bodies broke; their inputs are in {folder}\n  replay one on stable: MAYFLY_TEST_INPUT={folder}/<file> cargo nextest run {packages} -E 'test(fuzz::tests)'",
        broken.len(),
        folder = failures.display(),
        packages = PACKAGES.map(|package| format!("-p {package}")).join(" ")
    )
}

fn fuzzer(program: &Path) -> Command {
    let mut fuzzer = Command::new(program);
    // The database that the program bundles has several private tables of one name, which is no fault.
    fuzzer.env("ASAN_OPTIONS", "detect_odr_violation=0");
    fuzzer
}

fn build(cargo_fuzz: &Path, target: &Path) -> Result<PathBuf> {
    // `cargo-fuzz` takes the compiler of its environment, which rustup sets here.
    let program = cargo_fuzz.to_str().context("the path of the target folder is not UTF-8")?;
    let mut build =
        command("rustup", &["run", "nightly", program, "fuzz", "build", "--target-dir"]);
    build.arg(target).arg("body");
    run_quiet(&mut build)?;
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    Ok(target.join(triple).join("release/body"))
}

/// Every body has seeds and every folder of seeds a body.
fn complete(bodies: &[&str], seeds: &Path) -> Result<()> {
    for name in bodies {
        if !seeds.join(name).is_dir() {
            bail!("body {name} is run by no test: it has no seeds in {}", seeds.display());
        }
    }
    let folder = repo::root().join("fuzz/seeds");
    for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !bodies.contains(&name.as_str()) {
            bail!("fuzz/seeds/{name} belongs to no body: delete it or name it after one");
        }
    }
    Ok(())
}

fn start(
    program: &Path,
    name: &str,
    folder: &Path,
    (seed, seconds): (u64, u64),
) -> Result<Running> {
    let place = |kind: &str| {
        let path = folder.join(kind);
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok::<_, anyhow::Error>(path)
    };
    let found = place(&format!("corpus/{name}"))?;
    let log = place("logs")?.join(name);
    let said = std::fs::File::create(&log).with_context(|| format!("make {}", log.display()))?;
    let mut fuzzer = fuzzer(program);
    fuzzer
        .env("MAYFLY_TEST_BODY", name)
        .current_dir(folder)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-seed={}", seed % u64::from(u32::MAX)))
        .arg(format!("-max_len={MAX_INPUT}"))
        .arg(format!("-timeout={HANG}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-artifact_prefix={}/{name}-", place("failures")?.display()))
        // What it finds goes into the first folder; the seeds stay as they are.
        .arg(found)
        .arg(folder.join("seeds").join(name))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said);
    let child = fuzzer.spawn().with_context(|| format!("start {}", program.display()))?;
    Ok(Running { name: name.to_owned(), child, log })
}

/// The last line of the fuzzer that says how far it came.
fn tried(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rev().find(|line| line.starts_with("Done ") || line.starts_with('#'));
    last.unwrap_or("it said nothing").trim().to_owned()
}
