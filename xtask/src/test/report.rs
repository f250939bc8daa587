//! What the test runner reports: which test passed, failed, or said `SKIP <id>: <missing host feature>`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use roxmltree::{Document, Node};

use super::isolation;
use crate::repo;

/// How one test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It ran and held.
    Passed,
    /// It did not hold, or hung.
    Failed,
    /// The host lacks what it needs; here is what.
    Skipped(String),
}

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// Binary and full name.
    pub(crate) name: String,
    /// How it ended.
    pub(crate) verdict: Verdict,
}

/// All tests of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Each test.
    pub(crate) cases: Vec<Case>,
    /// Number that passed; documentation tests count here too.
    pub(crate) passed: usize,
    /// Number that failed.
    pub(crate) failed: usize,
    /// Number that could not run here.
    pub(crate) skipped: usize,
    /// Names of those that failed.
    pub(crate) failures: Vec<String>,
}

impl Outcome {
    /// Adds what another run reported.
    pub(crate) fn add(&mut self, other: Self) {
        self.cases.extend(other.cases);
        self.failures.extend(other.failures);
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// The line that everything ends with.
    pub(crate) fn last_line(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Where the runner leaves the report of a profile.
pub(crate) fn file(profile: &str) -> PathBuf {
    repo::target().join("nextest").join(profile).join("junit.xml")
}

/// Deletes the report of an earlier run.
pub(crate) fn forget(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("delete {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Reads a report; empty when the tests did not get as far as running.
pub(crate) fn read(file: &Path) -> Result<Outcome> {
    match std::fs::read_to_string(file) {
        Ok(text) => parse(&text).with_context(|| format!("read {}", file.display())),
        Err(_) => Ok(Outcome::default()),
    }
}

fn parse(text: &str) -> Result<Outcome> {
    let document = Document::parse(text)?;
    let mut outcome = Outcome::default();
    for node in document.descendants().filter(|node| node.has_tag_name("testcase")) {
        let name = [node.attribute("classname"), node.attribute("name")];
        let case =
            Case { name: name.map(Option::unwrap_or_default).join(" "), verdict: verdict(node) };
        match case.verdict {
            Verdict::Passed => outcome.passed += 1,
            Verdict::Skipped(_) => outcome.skipped += 1,
            Verdict::Failed => {
                outcome.failed += 1;
                outcome.failures.push(case.name.clone());
            }
        }
        outcome.cases.push(case);
    }
    Ok(outcome)
}

fn verdict(node: Node<'_, '_>) -> Verdict {
    if node.children().any(|child| child.has_tag_name("failure") || child.has_tag_name("error")) {
        return Verdict::Failed;
    }
    let output = node
        .children()
        .filter(|child| child.has_tag_name("system-out") || child.has_tag_name("system-err"));
    let lines = output.filter_map(|child| child.text()).flat_map(str::lines);
    let mut skips = lines.filter_map(skip_reason);
    skips.next().map_or(Verdict::Passed, |reason| Verdict::Skipped(reason.to_owned()))
}

/// What follows `SKIP` at the beginning of a line, or behind `test name ... ` where the harness wrote that.
fn skip_reason(line: &str) -> Option<&str> {
    let line = line.trim();
    line.strip_prefix("SKIP ").or_else(|| line.split_once(" ... SKIP ").map(|(_, reason)| reason))
}

/// Number of passed tests in the words of `cargo test`.
pub(crate) fn doctests_passed(said: &str) -> usize {
    let results = said.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    results.filter_map(|rest| rest.split(' ').next()?.parse::<usize>().ok()).sum()
}

/// Prints every test that could not run here, with the reason.
pub(crate) fn print_skips(outcome: &Outcome) {
    for case in &outcome.cases {
        if let Verdict::Skipped(reason) = &case.verdict {
            println!("    skipped: {}: {reason}", case.name);
        }
    }
}

/// Prints the isolation cases by their ids; those without a test only where `all` are expected.
pub(crate) fn print_isolation(outcome: &Outcome, all: bool) {
    let mut counts = [0_usize; 4];
    for (id, verdict) in isolation::verdicts(outcome) {
        if verdict.is_none() && !all {
            continue;
        }
        let (slot, word) = match verdict {
            Some(Verdict::Passed) => (0, "pass".to_owned()),
            Some(Verdict::Failed) => (1, "FAIL".to_owned()),
            Some(Verdict::Skipped(reason)) => (2, format!("skip: {reason}")),
            None => (3, "NO TEST".to_owned()),
        };
        counts[slot] += 1;
        println!("    {id:<4} {word}");
    }
    let [passed, failed, skipped, absent] = counts;
    println!(
        "    isolation: {passed} pass, {failed} fail, {skipped} skip, {absent} without a test"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="4" failures="1">
  <testsuite name="mayfly-runtime::isolation" tests="4" failures="1">
    <testcase name="e01_capabilities::holds" classname="mayfly-runtime::isolation" time="0.1"/>
    <testcase name="e02_proc::holds" classname="mayfly-runtime::isolation" time="0.1">
      <failure type="test failure">it opened &lt;it&gt;</failure>
    </testcase>
    <testcase name="e04_devices" classname="mayfly-runtime::isolation" time="0.1">
      <system-out>running 1 test
SKIP e04: no /dev/kvm on this host
</system-out>
    </testcase>
    <testcase name="plain" classname="mayfly-runtime::isolation" time="0.1">
      <system-out>no SKIP here</system-out>
    </testcase>
  </testsuite>
</testsuites>"#;

    #[test]
    fn a_skip_is_never_a_pass() {
        let outcome = parse(REPORT).expect("the report is well formed");
        assert_eq!(outcome.last_line(), "2 passed, 1 failed, 1 skipped");
        assert_eq!(outcome.failures, ["mayfly-runtime::isolation e02_proc::holds"]);
        let skipped = Verdict::Skipped("e04: no /dev/kvm on this host".to_owned());
        assert_eq!(outcome.cases[2].verdict, skipped);
    }

    #[test]
    fn a_skip_is_found_behind_the_harness_words() {
        assert_eq!(skip_reason("test a::b ... SKIP e04: no kvm"), Some("e04: no kvm"));
        assert_eq!(skip_reason("we SKIP nothing"), None);
    }

    #[test]
    fn documentation_tests_are_added_up() {
        let said = "test result: ok. 3 passed; 0 failed\nx\ntest result: ok. 2 passed; 0 failed\n";
        assert_eq!(doctests_passed(said), 5);
    }
}
