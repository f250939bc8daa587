//! Rules on where files stand and on their form: rooms, root, first line, length, unfinished work, unsafe.

use super::Finding;
use super::rust_text::{RustFile, has_word};

/// Longest product part of a file, in lines.
const MAX_LINES: usize = 600;

/// Names that say nothing about what is inside.
const NO_ROOMS: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "misc"];

/// What may stand in the root.
const ROOT: [&str; 25] = [
    ".cargo",
    ".ci",
    ".config",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "NOTICE",
    "README.md",
    "SECURITY.md",
    "clippy.toml",
    "deny.toml",
    "crates",
    "docs",
    "fuzz",
    "openapi",
    "packaging",
    "rustfmt.toml",
    "typos.toml",
    "web",
    "xtask",
];

/// The only places of `unsafe`.
const UNSAFE_PLACES: [&str; 4] = [
    "crates/runtime/src/sys/",
    "crates/init/src/sys.rs",
    "crates/init/src/sys/",
    "crates/net/src/sys/",
];

/// Every rule on the form of one Rust file.
pub(crate) fn all(file: &RustFile) -> Vec<Finding> {
    let mut findings = first_line(&file.path, &file.text);
    findings.extend(length(file));
    findings.extend(unfinished(&file.path, &file.text));
    findings.extend(unfinished_macros(file));
    findings.extend(bare_allow(file));
    findings.extend(unsafe_place(file));
    findings
}

/// No folder or file with a name that says nothing.
pub(crate) fn rooms(files: &[String]) -> Vec<Finding> {
    let bad = |path: &&String| {
        path.split('/').any(|part| NO_ROOMS.contains(&part.split('.').next().unwrap_or(part)))
    };
    let message = "a room needs a name that says what is inside";
    files.iter().filter(bad).map(|path| Finding::new(path, 0, message)).collect()
}

/// No scratch files in the root.
pub(crate) fn root_entries(files: &[String]) -> Vec<Finding> {
    let unknown = |path: &&String| !ROOT.contains(&path.split('/').next().unwrap_or_default());
    let message = "does not belong in the root; move it, or add it to the list in xtask";
    files.iter().filter(unknown).map(|path| Finding::new(path, 0, message)).collect()
}

fn first_line(path: &str, text: &str) -> Vec<Finding> {
    let first = text.lines().next().unwrap_or_default();
    let says_something = first.strip_prefix("//! ").is_some_and(|rest| !rest.trim().is_empty());
    if says_something {
        return Vec::new();
    }
    vec![Finding::new(path, 1, "the first line must be `//! ` and one sentence of purpose")]
}

fn length(file: &RustFile) -> Vec<Finding> {
    let product = file.is_test.iter().filter(|is_test| !**is_test).count();
    if product <= MAX_LINES {
        return Vec::new();
    }
    let message = format!("{product} lines outside tests, at most {MAX_LINES}: split it");
    vec![Finding::new(&file.path, MAX_LINES + 1, message)]
}

/// No work left for later, in any text.
pub(crate) fn unfinished(path: &str, text: &str) -> Vec<Finding> {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(word) = words.iter().find(|word| has_word(line, word)) {
            findings.push(Finding::new(path, index + 1, format!("{word}: finish it or delete it")));
        }
    }
    findings
}

fn unfinished_macros(file: &RustFile) -> Vec<Finding> {
    let macros = [concat!("to", "do!"), concat!("unimple", "mented!")];
    let hits =
        macros.iter().flat_map(|name| file.lines_with(name).into_iter().map(move |at| (name, at)));
    hits.map(|(name, line)| Finding::new(&file.path, line, format!("{name} is no code"))).collect()
}

fn bare_allow(file: &RustFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, _) in file.code.match_indices("allow(") {
        let line = super::rust_text::line_of(&file.code, at);
        let start = file.code[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let before = file.code[start..at].trim_start();
        let is_attribute = before.starts_with("#[") || before.starts_with("#![");
        let end = file.code[at..].find(']').map_or(file.code.len(), |end| at + end);
        if is_attribute && !has_word(&file.code[at..end], "reason") {
            let message = "a bare `allow`; write `#[expect(.., reason = \"..\")]`";
            findings.push(Finding::new(&file.path, line, message));
        }
    }
    findings
}

fn unsafe_place(file: &RustFile) -> Vec<Finding> {
    if UNSAFE_PLACES.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    let message = format!("`unsafe` stands only in {}", UNSAFE_PLACES.join(", "));
    file.lines_with("unsafe")
        .into_iter()
        .map(|line| Finding::new(&file.path, line, message.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(|finding| format!("{}:{}", finding.path, finding.line)).collect()
    }

    fn rust(text: &str) -> RustFile {
        RustFile::new("crates/core/src/a.rs", text)
    }

    #[test]
    fn a_file_needs_its_sentence() {
        assert_eq!(places(&first_line("a.rs", "use std::fmt;\n")), ["a.rs:1"]);
        assert_eq!(places(&first_line("a.rs", "//!\n")), ["a.rs:1"]);
        assert!(first_line("a.rs", "//! The thing.\n").is_empty());
    }

    #[test]
    fn six_hundred_lines_are_the_stop_and_tests_do_not_count() {
        assert!(length(&rust(&"x\n".repeat(600))).is_empty());
        assert_eq!(places(&length(&rust(&"x\n".repeat(601)))), ["crates/core/src/a.rs:601"]);
        let tests = format!("//! A.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(700));
        assert!(length(&rust(&tests)).is_empty());
    }

    #[test]
    fn rooms_have_names() {
        let files = ["crates/a/src/utils/x.rs".to_owned(), "crates/a/src/misc.rs".to_owned()];
        assert_eq!(rooms(&files).len(), 2);
        assert!(rooms(&["crates/a/src/miscount.rs".to_owned()]).is_empty());
    }

    #[test]
    fn the_root_is_kept_clean() {
        let files = ["notes.txt".to_owned(), "crates/a.rs".to_owned(), "README.md".to_owned()];
        assert_eq!(places(&root_entries(&files)), ["notes.txt:0"]);
    }

    #[test]
    fn unfinished_work_is_found_in_comments_and_code() {
        let comment = format!("//! A.\n// {} later\n", concat!("TO", "DO"));
        assert_eq!(places(&unfinished("a.rs", &comment)), ["a.rs:2"]);
        let code = format!("fn a() {{\n{}()\n}}", concat!("to", "do!"));
        assert_eq!(places(&unfinished_macros(&rust(&code))), ["crates/core/src/a.rs:2"]);
    }

    #[test]
    fn an_allow_needs_a_reason() {
        assert_eq!(bare_allow(&rust("#[allow(dead_code)]\nfn a() {}")).len(), 1);
        assert_eq!(bare_allow(&rust("#![allow(\n  dead_code\n)]")).len(), 1);
        assert!(bare_allow(&rust("#[allow(dead_code, reason = \"x\")]\nfn a() {}")).is_empty());
        assert!(bare_allow(&rust("policy.allow(x);")).is_empty());
    }

    #[test]
    fn unsafe_has_its_places() {
        assert_eq!(places(&unsafe_place(&rust("\nunsafe { x() }"))), ["crates/core/src/a.rs:2"]);
        let allowed = RustFile::new("crates/runtime/src/sys/clone.rs", "unsafe { x() }");
        assert!(unsafe_place(&allowed).is_empty());
        assert!(unsafe_place(&rust("// unsafe\nlet unsafe_code = 1;")).is_empty());
    }
}
