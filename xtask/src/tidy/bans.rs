//! Names that some rooms must not call, each with its reason, in one table.

use super::Finding;
use super::rust_text::{RustFile, line_of};

/// Names banned from the product code of some folders.
struct Ban {
    /// Folders it holds in; an empty text is everywhere.
    within: &'static [&'static str],
    /// Files it does not hold in.
    except: &'static [&'static str],
    /// What must not be named. White space does not count.
    names: &'static [&'static str],
    /// Why.
    reason: &'static str,
}

/// Folders whose code decides and never acts.
const PURE: &[&str] = &["crates/core/src/", "crates/engine/src/"];

const BANS: &[Ban] = &[
    Ban {
        within: PURE,
        except: &[],
        names: &[
            "std::fs",
            "std::process",
            "std::net",
            "tokio::fs",
            "tokio::process",
            "tokio::net",
        ],
        reason: "the outside world is reached through a port",
    },
    Ban {
        within: PURE,
        except: &[],
        names: &["std::env", "env::var"],
        reason: "configuration comes in as a value",
    },
    Ban {
        within: PURE,
        except: &[],
        names: &[
            "SystemTime::now",
            "Instant::now",
            "Timestamp::now",
            "Uuid::now_v7",
            "Uuid::new_v4",
        ],
        reason: "time and chance come through the clock and entropy ports",
    },
    Ban {
        within: PURE,
        except: &[],
        names: &["axum", "hyper", "http::", "rusqlite", "rustix", "libc::", "nix::", "clap"],
        reason: "HTTP, SQL and system calls belong to the edge and the adapters",
    },
    Ban {
        within: PURE,
        // Language servers speak JSON; that of the API is not theirs.
        except: &["crates/engine/src/lsp/"],
        names: &["serde_json"],
        reason: "JSON belongs to the edge and the adapters",
    },
    Ban {
        within: &["crates/core/src/"],
        except: &[],
        names: &["tokio"],
        reason: "the core knows no async runtime",
    },
    Ban {
        within: &[
            "crates/core/src/",
            "crates/engine/src/",
            "crates/mayfly/src/",
            "crates/store/src/",
        ],
        except: &[],
        names: &["thread::sleep"],
        reason: "a sleeping thread cannot be stopped; wait on the thing itself or on the clock",
    },
    Ban {
        within: &[""],
        except: &[],
        names: &["set_var", "remove_var"],
        reason: "the environment is shared by all threads; pass a value",
    },
    Ban {
        within: &["crates/"],
        except: &[],
        names: &["unbounded_channel", "mpsc::channel()", "unbounded()"],
        reason: "every queue has a bound and a name for what happens at it",
    },
    Ban {
        within: &["crates/"],
        except: &["crates/store/", "crates/mayfly/src/wiring.rs", "crates/mayfly/src/wiring/"],
        names: &["SqliteStore"],
        reason: "a concrete store is named only in crates/mayfly/src/wiring",
    },
    Ban {
        within: &["crates/"],
        except: &["crates/runtime/", "crates/mayfly/src/wiring.rs", "crates/mayfly/src/wiring/"],
        names: &["LocalRuntime"],
        reason: "a concrete runtime is named only in crates/mayfly/src/wiring",
    },
    Ban {
        within: &["crates/engine/", "crates/mayfly/"],
        except: &["crates/engine/src/commit.rs"],
        names: &["store.replace(", "store().replace("],
        reason: "platform state is written only in crates/engine/src/commit.rs",
    },
];

/// Every banned name in product code, with the reason.
pub(crate) fn all(file: &RustFile) -> Vec<Finding> {
    let squeezed = Squeezed::new(&file.code);
    let mut findings = Vec::new();
    for ban in BANS.iter().filter(|ban| ban.holds_in(&file.path)) {
        for name in ban.names {
            for line in squeezed.lines_with(name) {
                if !file.is_test[line - 1] {
                    findings.push(Finding::new(
                        &file.path,
                        line,
                        format!("`{name}`: {}", ban.reason),
                    ));
                }
            }
        }
    }
    findings
}

impl Ban {
    fn holds_in(&self, path: &str) -> bool {
        self.within.iter().any(|folder| path.starts_with(folder))
            && !self.except.iter().any(|place| path.starts_with(place))
            && (path.starts_with("crates/") || path.starts_with("xtask/"))
    }
}

/// Code without white space, and with `use std::{fs, env}` written out, so that no layout hides a name.
struct Squeezed {
    text: String,
    line_of_byte: Vec<usize>,
    grouped: Vec<(String, usize)>,
}

impl Squeezed {
    fn new(code: &str) -> Self {
        let mut squeezed =
            Self { text: String::new(), line_of_byte: Vec::new(), grouped: grouped_imports(code) };
        let mut line = 1;
        let mut gap = false;
        for letter in code.chars() {
            if letter == '\n' {
                line += 1;
            }
            if letter.is_whitespace() {
                gap = true;
                continue;
            }
            let is_word = letter.is_alphanumeric() || letter == '_';
            let was_word =
                squeezed.text.ends_with(|last: char| last.is_alphanumeric() || last == '_');
            if gap && is_word && was_word {
                squeezed.push(' ', line);
            }
            squeezed.push(letter, line);
            gap = false;
        }
        squeezed
    }

    fn push(&mut self, letter: char, line: usize) {
        self.text.push(letter);
        self.line_of_byte.resize(self.text.len(), line);
    }

    fn lines_with(&self, name: &str) -> Vec<usize> {
        let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        let whole = |at: &usize| {
            let before = self.text[..*at].chars().next_back();
            let after = self.text[at + name.len()..].chars().next();
            let cut_before = name.starts_with(is_name) && before.is_some_and(is_name);
            let cut_after = name.ends_with(is_name) && after.is_some_and(is_name);
            !cut_before && !cut_after
        };
        let hits = self.text.match_indices(name).map(|(at, _)| at).filter(whole);
        let mut lines: Vec<usize> = hits.map(|at| self.line_of_byte[at]).collect();
        lines.extend(self.grouped.iter().filter(|(path, _)| path == name).map(|(_, line)| *line));
        lines
    }
}

/// `use std::{fs, io::Read}` as `std::fs`, `std::io`, with the line of the `use`.
fn grouped_imports(code: &str) -> Vec<(String, usize)> {
    let mut paths = Vec::new();
    for (at, opening) in code.match_indices("::{") {
        let head: String =
            code[..at].chars().rev().take_while(|letter| letter.is_alphanumeric()).collect();
        let head: String = head.chars().rev().collect();
        let mut depth = 0_usize;
        let mut member = String::new();
        for letter in code[at + opening.len()..].chars() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    paths.push((format!("{head}::{}", first_name(&member)), line_of(code, at)));
                    member.clear();
                }
                _ if depth == 0 => member.push(letter),
                _ => {}
            }
        }
        paths.push((format!("{head}::{}", first_name(&member)), line_of(code, at)));
    }
    paths
}

fn first_name(member: &str) -> &str {
    let member = member.trim();
    member.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        all(&RustFile::new(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn pure_rooms_open_no_file_and_read_no_clock() {
        let core = "crates/core/src/a.rs";
        assert_eq!(lines(core, "//! A.\nlet x = std::fs::read(y);"), [2]);
        assert_eq!(lines(core, "//! A.\nlet x = Instant::now();"), [2]);
        assert_eq!(lines(core, "//! A.\nlet x = Instant\n  ::now();"), [2]);
        assert_eq!(lines(core, "//! A.\nuse std::{fmt, fs};"), [2]);
        assert_eq!(lines("crates/engine/src/a.rs", "std::thread::sleep(x)"), [1]);
        assert!(lines(core, "// std::fs is for adapters\nuse std::fmt;").is_empty());
        assert!(lines("crates/store/src/a.rs", "std::fs::read(y)").is_empty());
    }

    #[test]
    fn tests_may() {
        assert!(
            lines("crates/engine/src/a.rs", "#[cfg(test)]\nmod tests { use std::fs; }").is_empty()
        );
        assert!(lines("crates/engine/tests/a.rs", "std::fs::read(x)").is_empty());
    }

    #[test]
    fn adapters_are_named_in_one_place() {
        let text = "//! A.\nlet s = SqliteStore::open(p);\nlet r = LocalRuntime::new();";
        assert_eq!(lines("crates/mayfly/src/main.rs", text), [2, 3]);
        assert!(lines("crates/mayfly/src/wiring.rs", text).is_empty());
        assert_eq!(lines("crates/runtime/src/local/a.rs", text), [2]);
    }

    #[test]
    fn one_place_writes_platform_state() {
        let text = "self.store\n    .replace(change)";
        assert_eq!(lines("crates/engine/src/sandboxes.rs", text), [1]);
        assert!(lines("crates/engine/src/commit.rs", text).is_empty());
        assert!(lines("crates/engine/src/a.rs", "name.replace('a', b)").is_empty());
    }

    #[test]
    fn queues_have_bounds() {
        assert_eq!(lines("crates/mayfly/src/a.rs", "let (a, b) = mpsc::unbounded_channel();"), [1]);
        assert_eq!(lines("crates/mayfly/src/a.rs", "let (a, b) = mpsc::channel();"), [1]);
        assert!(lines("crates/mayfly/src/a.rs", "let (a, b) = mpsc::channel(16);").is_empty());
    }
}
