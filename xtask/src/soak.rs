//! The verb `soak`: every test at full count, those that take long included, from one printed seed.

use anyhow::{Result, bail};

use crate::setup;
use crate::step::{self, command};
use crate::test::report;

/// Runs all tests with `MAYFLY_TEST_SCALE=full`, and says whether all held; `--seed N` replays the random choices of an earlier run.
pub(crate) fn run(flags: &[&str]) -> Result<bool> {
    let seed = match flags {
        [] => fresh_seed(),
        ["--seed", seed] => (*seed).to_owned(),
        _ => bail!("soak takes only --seed N"),
    };
    setup::for_testing()?;
    println!("seed {seed}: run it again with `cargo xtask soak --seed {seed}`");
    let report_file = report::file("soak");
    report::forget(&report_file)?;
    let mut nextest = command(
        "cargo",
        &["nextest", "run", "--workspace", "--locked", "--profile", "soak", "--run-ignored", "all"],
    );
    nextest.env("MAYFLY_TEST_SCALE", "full").env("MAYFLY_TEST_SEED", &seed);
    let ended = step::run(&mut nextest);
    let outcome = report::read(&report_file)?;
    report::print_isolation(&outcome);
    report::print_skips(&outcome);
    if let Err(error) = &ended {
        println!("{error:#}");
    }
    println!("{}", outcome.last_line());
    Ok(ended.is_ok())
}

/// A number that differs from run to run.
fn fresh_seed() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or_else(|_| "1".to_owned(), |since| (since.as_nanos() % 1_000_000_007).to_string())
}
