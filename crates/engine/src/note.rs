//! What the notes of a sandbox's processes say: which of them is which session, terminal or interpreter.
//!
//! The runtime keeps the notes and gives them back to every later server, so nothing else needs to be remembered.

use std::collections::BTreeMap;

use mayfly_core::process::Process;
use mayfly_core::time::Timestamp;
use mayfly_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Most bytes of a note.
const MOST: usize = 16 << 10;
/// Most characters of the id of a session, terminal or interpreter.
const ID_MOST: usize = 128;

/// What a process is to its users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Note {
    /// The shell of a session.
    Session { id: String },
    /// A command of a session's shell.
    Command { id: String, text: String },
    /// A terminal.
    Terminal(TerminalNote),
    /// An interpreter's context.
    Context { id: String, cwd: String, language: String, created: i64 },
    /// The language server of a project.
    Language { language: String, project: String },
}

/// What a terminal was asked to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TerminalNote {
    pub(crate) id: String,
    pub(crate) cwd: String,
    pub(crate) envs: BTreeMap<String, String>,
    pub(crate) columns: u16,
    pub(crate) rows: u16,
    pub(crate) created: i64,
    /// Starts when somebody connects.
    pub(crate) lazy: bool,
    /// The process only holds its place: nobody has connected yet.
    pub(crate) waiting: bool,
}

impl TerminalNote {
    pub(crate) fn created_at(&self) -> Timestamp {
        Timestamp(self.created)
    }
}

impl Note {
    /// What a process's note says; `None` = it is none of these.
    pub(crate) fn of(process: &Process) -> Option<Self> {
        serde_json::from_str(&process.note).ok()
    }

    /// The text to keep. Only the end of a command's text may be left out of it.
    pub(crate) fn text(mut self) -> Result<String> {
        loop {
            let text = serde_json::to_string(&self)
                .map_err(|error| Error::internal("a note cannot be written", error))?;
            if text.len() <= MOST {
                return Ok(text);
            }
            match &mut self {
                Self::Command { text, .. } if !text.is_empty() => {
                    text.truncate(text.floor_char_boundary(text.len() / 2));
                }
                _ => {
                    return Err(Error::invalid(format!(
                        "envs: names, values and folder together are over {MOST} bytes"
                    )));
                }
            }
        }
    }
}

/// Refuses what cannot be an id: it stands in paths and notes.
pub(crate) fn check_id(field: &str, id: &str) -> Result<()> {
    let bad = |c: char| c.is_control() || c == '/';
    if id.is_empty() || id.chars().count() > ID_MOST || id.contains(bad) {
        return Err(Error::invalid(format!(
            "{field}: expected 1 to {ID_MOST} characters without `/` and control characters"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_and_a_long_command_loses_its_end_only() {
        let long = Note::Command { id: "c".to_owned(), text: "\u{1}ä".repeat(9000) };
        let text = long.text().unwrap();
        assert!(text.len() <= MOST, "{}", text.len());
        let Ok(Note::Command { id, text }) = serde_json::from_str(&text) else { panic!("{text}") };
        assert!(id == "c" && text.starts_with("\u{1}ä\u{1}ä"));
        let envs = BTreeMap::from([("A".to_owned(), "x".repeat(MOST))]);
        let cwd = "/".to_owned();
        let big = TerminalNote {
            id: "t".to_owned(),
            cwd,
            envs,
            columns: 1,
            rows: 1,
            created: 0,
            lazy: false,
            waiting: false,
        };
        assert!(Note::Terminal(big).text().is_err(), "values are never cut");
    }

    #[test]
    fn ids_are_one_part_of_a_path() {
        for (id, good) in [("a b-ü", true), ("", false), ("a/b", false), ("a\nb", false)] {
            assert_eq!(check_id("id", id).is_ok(), good, "{id:?}");
        }
        assert!(check_id("id", &"x".repeat(129)).is_err());
    }
}
