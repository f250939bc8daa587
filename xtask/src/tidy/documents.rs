//! Documents name only paths that exist.

use super::Finding;
use crate::repo;

/// Top folders whose paths in documents are checked.
const TOP: [&str; 9] =
    ["crates", "xtask", "docs", "openapi", ".ci", ".config", ".cargo", "packaging", "web"];

/// Endings of files in the root that documents may name.
const ROOT_ENDINGS: [&str; 2] = ["md", "lock"];

/// Every path in code spans and relative links of one document that is not there.
pub(crate) fn paths(document: &str, text: &str, files: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let spans = line.split('`').skip(1).step_by(2);
        let words: Vec<&str> = if fenced {
            line.split_whitespace().collect()
        } else {
            spans.flat_map(str::split_whitespace).collect()
        };
        for word in words {
            for path in expanded(trimmed(word)) {
                if looks_like_ours(&path) && !exists(&path, files) {
                    let message = format!("`{path}` does not exist");
                    findings.push(Finding::new(document, index + 1, message));
                }
            }
        }
        if !fenced {
            findings.extend(links(document, index + 1, line, files));
        }
    }
    findings
}

fn links(document: &str, line_number: usize, line: &str, files: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, _) in line.match_indices("](") {
        let target = line[at + 2..].split([')', ' ', '#']).next().unwrap_or_default();
        if target.is_empty() || target.contains(':') {
            continue;
        }
        let resolved = resolve(document, target);
        if !exists(&resolved, files) {
            let message = format!("link to `{target}`, which does not exist");
            findings.push(Finding::new(document, line_number, message));
        }
    }
    findings
}

/// A link's target from the root of the repository.
fn resolve(document: &str, target: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// A word without punctuation around it and without a line number behind it.
fn trimmed(word: &str) -> &str {
    let word =
        word.trim_matches(|letter: char| matches!(letter, '(' | ')' | ',' | ';' | '"' | '\''));
    let word = word.trim_end_matches(['.', ':']);
    let is_line = |tail: &str| !tail.is_empty() && tail.bytes().all(|byte| byte.is_ascii_digit());
    match word.rsplit_once(':') {
        Some((head, tail)) if is_line(tail) => head,
        _ => word,
    }
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn expanded(path: &str) -> Vec<String> {
    let Some((head, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let Some((choices, tail)) = rest.split_once('}') else { return vec![path.to_owned()] };
    choices
        .split(',')
        .flat_map(|choice| expanded(&format!("{head}{}{tail}", choice.trim())))
        .collect()
}

fn looks_like_ours(path: &str) -> bool {
    if path.contains(['<', '>', '$', '*', '=']) || path.contains("://") {
        return false;
    }
    match path.split_once('/') {
        Some((top, _)) if TOP.contains(&top) => true,
        Some((top, _)) => is_rust(path) && !top.is_empty() && !top.starts_with(['~', '.', '/']),
        None => {
            let is_capital = path.starts_with(|letter: char| letter.is_ascii_uppercase());
            (is_rust(path) && path.len() > 3)
                || (is_capital && ROOT_ENDINGS.iter().any(|ending| repo::has_ending(path, ending)))
        }
    }
}

fn is_rust(path: &str) -> bool {
    repo::has_ending(path, "rs")
}

fn exists(path: &str, files: &[String]) -> bool {
    let path = path.trim_end_matches('/');
    let (folder, tail) = (format!("{path}/"), format!("/{path}"));
    files.iter().any(|file| {
        file == path || file.starts_with(&folder) || (is_rust(path) && file.ends_with(&tail))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str) -> Vec<String> {
        let files = [
            "crates/core/src/id.rs",
            "crates/core/src/error.rs",
            "docs/adr/0001-a.md",
            "README.md",
        ]
        .map(str::to_owned);
        let findings = paths("docs/a.md", text, &files);
        findings
            .into_iter()
            .map(|finding| format!("{}:{}", finding.line, finding.message))
            .collect()
    }

    #[test]
    fn a_renamed_file_is_noticed() {
        assert!(missing("see `crates/core/src/id.rs` and `crates/core/src/id.rs:12`").is_empty());
        assert_eq!(
            missing("\nsee `crates/core/src/ids.rs`"),
            ["2:`crates/core/src/ids.rs` does not exist"]
        );
        assert_eq!(missing("`ids.rs`").len(), 1);
        assert_eq!(missing("`CONTRIBUTING.md`").len(), 1);
        assert_eq!(missing("`crates/core/src/{id,ids}.rs`").len(), 1);
        assert!(missing("`crates/core/` and `core/src/id.rs` and `id.rs`").is_empty());
    }

    #[test]
    fn links_are_followed_from_their_document() {
        assert!(missing("[a](adr/0001-a.md), [b](../README.md#top), [c](https://x.y)").is_empty());
        assert_eq!(missing("[a](adr/0002-b.md)").len(), 1);
    }

    #[test]
    fn other_words_are_left_alone() {
        assert!(
            missing("`/etc/mayfly`, `target/debug/mayfly`, `mayfly.toml`, `a/b.txt`").is_empty()
        );
        assert!(missing("crates/nowhere in plain text").is_empty());
    }

    #[test]
    fn fenced_maps_are_checked() {
        assert_eq!(missing("```\ncrates/core/src/ids.rs  ids\n```").len(), 1);
    }
}
