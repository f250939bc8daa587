//! The cases of the isolation test list: each id needs a test that carries it in its name.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::report::{Outcome, Verdict};

/// Ids that must have a test, as letter, first and last number. The gaps belong to features that are not built.
const CASES: &[(char, u8, u8)] = &[
    ('e', 1, 20),
    ('f', 1, 5),
    ('f', 8, 13),
    ('r', 1, 11),
    ('l', 1, 6),
    ('l', 9, 9),
    ('l', 12, 12),
    ('c', 1, 7),
    ('n', 1, 14),
];

/// Each expected id, in order, and how its tests ended: failed if one failed, else skipped if one was
/// skipped; `None` = no test carries it.
pub(crate) fn verdicts(outcome: &Outcome) -> Vec<(String, Option<Verdict>)> {
    let mut seen: BTreeMap<String, Verdict> = BTreeMap::new();
    for case in &outcome.cases {
        for id in ids(&case.name) {
            let entry = seen.entry(id).or_insert(Verdict::Passed);
            if rank(&case.verdict) > rank(entry) {
                *entry = case.verdict.clone();
            }
        }
    }
    expected().map(|id| (id.clone(), seen.get(&id).cloned())).collect()
}

fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Passed => 0,
        Verdict::Skipped(_) => 1,
        Verdict::Failed => 2,
    }
}

/// Fails when an id has no test.
pub(crate) fn complete(outcome: &Outcome) -> Result<()> {
    let absent: Vec<String> = verdicts(outcome)
        .into_iter()
        .filter(|(_, verdict)| verdict.is_none())
        .map(|(id, _)| id)
        .collect();
    if !absent.is_empty() {
        bail!("no test carries the id of: {}", absent.join(", "));
    }
    Ok(())
}

fn expected() -> impl Iterator<Item = String> {
    CASES.iter().flat_map(|(letter, first, last)| {
        (*first..=*last).map(move |number| format!("{letter}{number:02}"))
    })
}

/// Ids at the beginning of any part of a test's name: `isolation e05_remount::holds`, `f3_f4_links`.
fn ids(name: &str) -> Vec<String> {
    let parts = name.split([' ', ':']);
    let mut found: Vec<String> = parts.flat_map(|part| part.split('_').map_while(id)).collect();
    found.dedup();
    found
}

/// `e5` and `e05` as `e05`; `None` for a word that is no id.
fn id(word: &str) -> Option<String> {
    let (letter, digits) = word.split_at_checked(1)?;
    let is_id = "efnrslc".contains(letter)
        && (1..=2).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_id.then(|| format!("{letter}{digits:0>2}"))
}

#[cfg(test)]
mod tests {
    use super::super::report::Case;
    use super::*;

    fn outcome(cases: &[(&str, Verdict)]) -> Outcome {
        let cases = cases
            .iter()
            .map(|(name, verdict)| Case { name: (*name).to_owned(), verdict: verdict.clone() });
        Outcome { cases: cases.collect(), ..Outcome::default() }
    }

    fn of(id: &str, outcome: &Outcome) -> Option<Verdict> {
        verdicts(outcome).into_iter().find(|(name, _)| name == id).and_then(|(_, verdict)| verdict)
    }

    #[test]
    fn ids_are_read_from_names() {
        assert_eq!(ids("mayfly-runtime::isolation e05_remount::e05_holds"), ["e05"]);
        assert_eq!(ids("mayfly::it r05_r11_floods"), ["r05", "r11"]);
        assert_eq!(ids("mayfly-engine::it verbs::l7_tenants"), ["l07"]);
        assert!(ids("mayfly::it exec_e05").is_empty());
    }

    #[test]
    fn one_failure_fails_the_id_and_one_skip_is_no_pass() {
        let skip = Verdict::Skipped("no kvm".to_owned());
        let run = outcome(&[
            ("a e01_x", Verdict::Passed),
            ("a e01_y", skip.clone()),
            ("a e02_x", Verdict::Failed),
            ("a e02_y", skip.clone()),
            ("a e03_x", Verdict::Passed),
        ]);
        assert_eq!(of("e01", &run), Some(skip));
        assert_eq!(of("e02", &run), Some(Verdict::Failed));
        assert_eq!(of("e03", &run), Some(Verdict::Passed));
        assert_eq!(of("e04", &run), None);
    }

    #[test]
    fn an_id_without_a_test_is_named() {
        let failure =
            complete(&outcome(&[("a e01_x", Verdict::Passed)])).expect_err("most are absent");
        assert!(failure.to_string().contains("e02"));
        assert!(!failure.to_string().contains("e01"));
        assert!(!failure.to_string().contains("l07"));
    }
}
