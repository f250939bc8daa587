//! The verb `test`: everything that must hold before a change is taken, as named and timed steps.

mod isolation;
pub(crate) mod report;

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::step::{self, Step, command, run_quiet, seconds, step};
use crate::{setup, tidy};
use report::Outcome;

/// Runs every step, whatever fails before it; the last line is `N passed, N failed, N skipped`. Whether all
/// held.
pub(crate) fn run() -> Result<bool> {
    let mut steps = vec![step("set up", setup::for_testing)];
    steps.push(cargo("format", &["fmt", "--all", "--check"]));
    steps.push(step("tidy", tidy::run));
    steps.push(step("spelling", spelling));
    steps.push(step("dependencies", || {
        let check =
            ["deny", "--offline", "--log-level", "error", "check", "licenses", "bans", "sources"];
        run_quiet(&mut command("cargo", &check)).map(drop)
    }));
    let all =
        ["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"];
    steps.push(cargo("lints", &all));

    let report_file = report::file("check");
    report::forget(&report_file)?;
    let nextest = ["nextest", "run", "--workspace", "--locked", "--profile", "check"];
    steps.push(cargo("tests", &nextest));
    let mut outcome = report::read(&report_file)?;
    let mut rootless = Outcome::default();
    steps.push(step("tests without root", || without_root(&mut rootless, &[])));
    steps.push(step("documentation tests", || documentation_tests(&mut outcome)));
    steps.push(step("documentation", || {
        let mut doc = command("cargo", &["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
        step::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    }));
    steps.push(step("isolation cases", || {
        report::print_isolation(&outcome, true);
        if !rootless.cases.is_empty() {
            println!("    of an ordinary user, in the unprivileged profile:");
            report::print_isolation(&rootless, false);
        }
        isolation::complete(&outcome)
    }));
    outcome.add(rootless);
    Ok(finish(&steps, &outcome))
}

/// The tests of the local runtime once more, run by an ordinary user; nothing where that is the caller.
pub(crate) fn without_root(outcome: &mut Outcome, env: &[(&str, &str)]) -> Result<()> {
    if !setup::is_root() {
        return Ok(());
    }
    let report_file = report::file("rootless");
    report::forget(&report_file)?;
    let program = std::env::current_exe().context("where this program is")?;
    let triple = format!("{}_UNKNOWN_LINUX_GNU", std::env::consts::ARCH.to_uppercase());
    let mut nextest = command("cargo", &["nextest", "run", "--locked", "--profile", "rootless"]);
    nextest.args(["--package", "mayfly-runtime"]);
    nextest.args(["--test", "isolation", "--test", "crash", "--test", "contract"]);
    let runner = format!("{} as-user", program.display());
    let ran = step::run(
        nextest.env(format!("CARGO_TARGET_{triple}_RUNNER"), runner).envs(env.iter().copied()),
    );
    *outcome = report::read(&report_file)?;
    ran
}

fn cargo(name: &str, arguments: &[&str]) -> Step {
    step(name, || step::run(&mut command("cargo", arguments)))
}

fn spelling() -> Result<()> {
    let program = setup::typos();
    let program = program.to_str().context("the path of the target folder is not UTF-8")?;
    step::run(&mut command(program, &["--config", "typos.toml", "."]))
}

fn documentation_tests(outcome: &mut Outcome) -> Result<()> {
    let said = run_quiet(&mut command("cargo", &["test", "--workspace", "--doc", "--locked"]))?;
    outcome.passed += report::doctests_passed(&said);
    Ok(())
}

pub(crate) fn finish(steps: &[Step], outcome: &Outcome) -> bool {
    report::print_skips(outcome);
    println!("\n==> summary");
    for step in steps {
        let verdict = step.failure.as_ref().map_or("ok", |_| "FAILED");
        println!("    {:<22}{:>9}  {verdict}", step.name, seconds(step.took));
    }
    let total: Duration = steps.iter().map(|step| step.took).sum();
    println!("    {:<22}{:>9}", "together", seconds(total));
    for failure in &outcome.failures {
        println!("    failed test: {failure}");
    }
    let failed: Vec<&str> =
        steps.iter().filter(|step| step.failure.is_some()).map(|step| step.name.as_str()).collect();
    // A failing test is counted itself; every other failing step counts as one.
    let others = failed
        .iter()
        .filter(|name| !name.starts_with("tests") || outcome.failures.is_empty())
        .count();
    let counted = Outcome { failed: outcome.failed + others, ..outcome.clone() };
    println!("{}", counted.last_line());
    failed.is_empty()
}
