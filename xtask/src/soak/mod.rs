//! The verb `soak`: what takes long, as named and timed steps from one printed seed.

mod fuzz;

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::bench::line::{self, Line};
use crate::setup;
use crate::step::{self, command, step};
use crate::test::report::{self, Outcome};

/// Picks the test that makes very many sandboxes; it wants the machine for itself.
const DENSITY: &str = "test(many_alive_at_once)";

/// What to run, and from which random choices.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    tests: bool,
    fuzz: bool,
    density: bool,
    seed: u64,
    /// Of each body.
    fuzz_seconds: u64,
}

/// Runs the chosen steps, or all, whatever fails before them, and says whether all held.
pub(crate) fn run(flags: &[&str]) -> Result<bool> {
    let wish = Wish::parse(flags)?;
    println!("seed {seed}: run it again with `cargo xtask soak --seed {seed}`", seed = wish.seed);
    let mut steps = vec![step("set up", setup::for_testing)];
    let mut outcome = Outcome::default();
    if wish.tests {
        steps.push(step("tests", || tests(wish.seed, &mut outcome)));
    }
    if wish.fuzz {
        steps.push(step("fuzz", || fuzz::run_all(wish.seed, wish.fuzz_seconds)));
    }
    if wish.density {
        steps.push(step("density", || density(wish.seed)));
    }
    Ok(crate::test::finish(&steps, &outcome))
}

impl Wish {
    fn parse(flags: &[&str]) -> Result<Self> {
        let mut wish = Self {
            tests: false,
            fuzz: false,
            density: false,
            seed: fresh_seed(),
            fuzz_seconds: fuzz::SECONDS,
        };
        let mut words = flags.iter();
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64> {
                let text = words.next().with_context(|| format!("{word} needs a number"))?;
                text.parse().with_context(|| format!("{word} {text}: expected a whole number"))
            };
            match *word {
                "tests" => wish.tests = true,
                "fuzz" => wish.fuzz = true,
                "density" => wish.density = true,
                "--seed" => wish.seed = number()?,
                "--seconds" => wish.fuzz_seconds = number()?,
                other => bail!(
                    "soak does not know `{other}`; it takes tests, fuzz, density, --seed N, --seconds N"
                ),
            }
        }
        if !(wish.tests || wish.fuzz || wish.density) {
            (wish.tests, wish.fuzz, wish.density) = (true, true, true);
        }
        Ok(wish)
    }
}

/// A run of the tests at full counts. The program refuses names in its environment that it does not know, so
/// tests that start it clear these.
fn full(seed: u64, arguments: &[&str]) -> Command {
    let mut nextest = command("cargo", &["nextest", "run", "--locked", "--profile", "soak"]);
    nextest.args(arguments);
    nextest.env("MAYFLY_TEST_SCALE", "full").env("MAYFLY_TEST_SEED", seed.to_string());
    nextest
}

/// Every test at full count, those that take long included.
fn tests(seed: u64, outcome: &mut Outcome) -> Result<()> {
    let report_file = report::file("soak");
    report::forget(&report_file)?;
    let others = format!("not {DENSITY}");
    let ended = step::run(&mut full(seed, &["--workspace", "--run-ignored", "all", "-E", &others]));
    *outcome = report::read(&report_file)?;
    report::print_isolation(outcome, true);
    let mut rootless = Outcome::default();
    let seed = seed.to_string();
    let full = [("MAYFLY_TEST_SCALE", "full"), ("MAYFLY_TEST_SEED", seed.as_str())];
    let without_root = crate::test::without_root(&mut rootless, &full);
    report::print_isolation(&rootless, false);
    outcome.add(rootless);
    ended.and(without_root)
}

/// 5,000 sandboxes alive at once, shown as the bench shows its figures.
fn density(seed: u64) -> Result<()> {
    let mut nextest =
        full(seed, &["-p", "mayfly-runtime", "--test", "isolation", "--no-capture", "-E", DENSITY]);
    let output = nextest.stderr(Stdio::inherit()).output().context("start cargo nextest")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Line> = said
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(Line::from_json)
        .collect::<Result<_>>()?;
    println!("{}", line::table(&lines));
    if !output.status.success() {
        bail!("density: the test ended with {}\n{said}", output.status);
    }
    if lines.is_empty() {
        bail!("density: no figure was taken here\n{said}");
    }
    Ok(())
}

/// A number that differs from run to run.
fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |since| u64::from(since.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_chosen_by_name_and_all_run_when_none_is() {
        let all = Wish::parse(&["--seed", "47"]).expect("good words");
        assert_eq!((all.tests, all.fuzz, all.density, all.seed), (true, true, true, 47));
        let one = Wish::parse(&["fuzz", "--seconds", "5"]).expect("good words");
        assert_eq!((one.tests, one.fuzz, one.density, one.fuzz_seconds), (false, true, false, 5));
        for wrong in [&["--seed"][..], &["--seed", "x"], &["all"]] {
            assert!(Wish::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
