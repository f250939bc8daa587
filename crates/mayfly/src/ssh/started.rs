//! What a visitor asks of a session's channel before something is started in it.

use std::collections::BTreeMap;

use mayfly_core::process::{StartRequest, Window, Wiring};
use russh::ChannelMsg;

/// Variables that one channel may set.
const VARIABLES: usize = 64;
/// Longest value of a variable.
const VALUE: usize = 4096;

/// Runs the first shell that the sandbox has: its login shell, or a command of the visitor in it.
const SHELL: &str = "command -v bash >/dev/null 2>&1 && exec bash -l; exec sh -l";
const COMMAND: &str = "command -v bash >/dev/null 2>&1 && exec bash -c \"$0\"; exec sh -c \"$0\"";

/// What was asked so far.
#[derive(Debug, Default)]
pub(super) struct Asked {
    window: Option<Window>,
    env: BTreeMap<String, String>,
}

/// What to start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A program.
    Program(StartRequest),
    /// The file service.
    Sftp,
}

/// What a message before the start leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It was taken.
    Taken,
    /// It is refused.
    Refused,
    /// It needs no answer.
    Ignored,
    /// Something is to be started.
    Start(Start),
}

impl Asked {
    /// Takes a message.
    pub(super) fn take(&mut self, message: ChannelMsg) -> Step {
        match message {
            ChannelMsg::RequestPty { term, col_width, row_height, .. } => {
                self.window = Some(window(col_width, row_height));
                if term.len() <= VALUE && !term.contains('\0') {
                    self.env.insert("TERM".to_owned(), term);
                }
                Step::Taken
            }
            ChannelMsg::WindowChange { col_width, row_height, .. } => {
                if let Some(before) = &mut self.window {
                    *before = window(col_width, row_height);
                }
                Step::Ignored
            }
            ChannelMsg::SetEnv { variable_name: name, variable_value: value, .. } => {
                let fits =
                    self.env.len() < VARIABLES && value.len() <= VALUE && !value.contains('\0');
                if fits && may_set(&name) {
                    self.env.insert(name, value);
                    return Step::Taken;
                }
                Step::Refused
            }
            ChannelMsg::RequestShell { .. } => {
                self.program(["sh", "-c", SHELL].map(str::to_owned).into())
            }
            ChannelMsg::Exec { command, .. } => match String::from_utf8(command) {
                Ok(command) if !command.contains('\0') => {
                    let [shell, option, script] = ["sh", "-c", COMMAND].map(str::to_owned);
                    self.program(vec![shell, option, script, command])
                }
                _ => Step::Refused,
            },
            ChannelMsg::RequestSubsystem { name, .. } if name == "sftp" => Step::Start(Start::Sftp),
            ChannelMsg::RequestSubsystem { .. }
            | ChannelMsg::AgentForward { .. }
            | ChannelMsg::RequestX11 { .. } => Step::Refused,
            _ => Step::Ignored,
        }
    }

    fn program(&mut self, argv: Vec<String>) -> Step {
        let wiring = self.window.map_or(Wiring::Pipes, Wiring::Terminal);
        let env = std::mem::take(&mut self.env);
        Step::Start(Start::Program(StartRequest {
            argv,
            note: "ssh".to_owned(),
            cwd: None,
            env,
            wiring,
        }))
    }
}

/// A size that terminals take; a visitor without a terminal of its own says 0.
pub(super) fn window(columns: u32, rows: u32) -> Window {
    let bounded = |value: u32, usual: u16| match value {
        0 => usual,
        value => u16::try_from(value.min(10_000)).unwrap_or(usual),
    };
    Window { columns: bounded(columns, 80), rows: bounded(rows, 24) }
}

/// Variables that a visitor may bring along: language, looks, time, editors, and who writes commits.
fn may_set(name: &str) -> bool {
    let word =
        name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    let known = ["LANG", "LANGUAGE", "COLORTERM", "NO_COLOR", "TZ", "EDITOR", "VISUAL", "PAGER"];
    let families = ["LC_", "GIT_AUTHOR_", "GIT_COMMITTER_"];
    word && (known.contains(&name) || families.iter().any(|family| name.starts_with(family)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> ChannelMsg {
        ChannelMsg::SetEnv {
            want_reply: true,
            variable_name: name.to_owned(),
            variable_value: value.to_owned(),
        }
    }

    #[test]
    fn only_harmless_variables_are_taken_and_they_reach_the_program() {
        let mut asked = Asked::default();
        assert_eq!(asked.take(set("LANG", "de_DE.UTF-8")), Step::Taken);
        assert_eq!(asked.take(set("LC_ALL", "C")), Step::Taken);
        for name in ["LD_PRELOAD", "PATH", "BASH_ENV", "LC_X=1", "lang", "ENV", "GIT_SSH_COMMAND"] {
            assert_eq!(asked.take(set(name, "x")), Step::Refused, "{name}");
        }
        let agent = ChannelMsg::AgentForward { want_reply: true };
        assert_eq!(asked.take(agent), Step::Refused);
        let exec = ChannelMsg::Exec { want_reply: true, command: b"echo 'a b'".to_vec() };
        let Step::Start(Start::Program(request)) = asked.take(exec) else { panic!("not started") };
        assert_eq!(request.argv[3], "echo 'a b'");
        assert_eq!((request.env.len(), request.wiring), (2, Wiring::Pipes));
    }

    #[test]
    fn sizes_are_brought_into_bounds() {
        assert_eq!(window(0, 70_000), Window { columns: 80, rows: 10_000 });
        assert_eq!(window(80, 24), Window { columns: 80, rows: 24 });
    }
}
