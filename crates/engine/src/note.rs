//! What the notes of a sandbox's processes say: which of them is which session, terminal or interpreter.
//!
//! The runtime keeps the notes and gives them back to every later server, so nothing else needs to be remembered.

use std::collections::BTreeMap;

use mayfly_core::process::Process;
use mayfly_core::time::Timestamp;
use mayfly_core::{Error, Result};

use crate::fields::{join, split};

/// Most bytes of a note.
const MOST: usize = 16 << 10;
/// Most characters of the id of a session, terminal or interpreter.
const ID_MOST: usize = 128;

/// What a process is to its users.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
        let fields = split(process.note.as_bytes())?;
        let (kind, fields) = fields.split_first()?;
        match (kind.as_str(), fields) {
            ("session", [id]) => Some(Self::Session { id: id.clone() }),
            ("language", [language, project]) => {
                Some(Self::Language { language: language.clone(), project: project.clone() })
            }
            ("command", [id, text]) => Some(Self::Command { id: id.clone(), text: text.clone() }),
            ("context", [id, cwd, language, created]) => Some(Self::Context {
                id: id.clone(),
                cwd: cwd.clone(),
                language: language.clone(),
                created: created.parse().ok()?,
            }),
            ("terminal", [id, cwd, columns, rows, created, lazy, waiting, envs @ ..]) => {
                let pairs = envs.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
                Some(Self::Terminal(TerminalNote {
                    id: id.clone(),
                    cwd: cwd.clone(),
                    envs: pairs.collect(),
                    columns: columns.parse().ok()?,
                    rows: rows.parse().ok()?,
                    created: created.parse().ok()?,
                    lazy: lazy.parse().ok()?,
                    waiting: waiting.parse().ok()?,
                }))
            }
            _ => None,
        }
    }

    fn written(&self) -> String {
        match self {
            Self::Session { id } => join(["session", id]),
            Self::Command { id, text } => join(["command", id, text]),
            Self::Language { language, project } => join(["language", language, project]),
            Self::Context { id, cwd, language, created } => {
                join(["context", id, cwd, language, &created.to_string()])
            }
            Self::Terminal(note) => {
                let size = [note.columns.to_string(), note.rows.to_string()];
                let created = note.created.to_string();
                let flags = [note.lazy.to_string(), note.waiting.to_string()];
                let mut fields = vec!["terminal", &note.id, &note.cwd, &size[0], &size[1]];
                fields.extend([created.as_str(), &flags[0], &flags[1]]);
                fields.extend(note.envs.iter().flat_map(|(name, value)| [name.as_str(), value]));
                join(fields)
            }
        }
    }

    /// The text to keep. Only the end of a command's text may be left out of it.
    pub(crate) fn text(mut self) -> Result<String> {
        loop {
            let text = self.written();
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

    fn process(note: &str) -> Process {
        let (note, started_at) = (note.to_owned(), Timestamp(0));
        Process { number: 1, note, started_at, exit_code: None, wiring: None, shell: None }
    }

    fn terminal(value: &str) -> Note {
        Note::Terminal(TerminalNote {
            id: "t".to_owned(),
            cwd: "/".to_owned(),
            envs: BTreeMap::from([("A".to_owned(), value.to_owned())]),
            columns: 80,
            rows: 24,
            created: -5,
            lazy: true,
            waiting: false,
        })
    }

    #[test]
    fn a_note_comes_back_and_a_long_command_loses_its_end_only() {
        let of = |text: &str| text.to_owned();
        for note in [
            Note::Session { id: of("s ü") },
            Note::Command { id: of("c"), text: of("echo 1:x,\n") },
            Note::Language { language: of("python"), project: of("/a b") },
            Note::Context { id: of("i"), cwd: of("/"), language: of("python"), created: 7 },
            terminal("b=c"),
        ] {
            assert_eq!(Note::of(&process(&note.clone().text().unwrap())), Some(note));
        }
        for other in ["", "x", "4:none,", "7:session,", "{}"] {
            assert_eq!(Note::of(&process(other)), None, "{other}");
        }
        let long = Note::Command { id: of("c"), text: "\u{1}ä".repeat(9000) }.text().unwrap();
        assert!(long.len() <= MOST, "{}", long.len());
        let Some(Note::Command { text, .. }) = Note::of(&process(&long)) else { panic!("{long}") };
        assert!(text.len() > MOST / 4 && text.starts_with("\u{1}ä\u{1}ä"));
        assert!(terminal(&"x".repeat(MOST)).text().is_err(), "values are never cut");
    }

    #[test]
    fn ids_are_one_part_of_a_path() {
        for (id, good) in [("a b-ü", true), ("", false), ("a/b", false), ("a\nb", false)] {
            assert_eq!(check_id("id", id).is_ok(), good, "{id:?}");
        }
        assert!(check_id("id", &"x".repeat(129)).is_err());
    }
}
