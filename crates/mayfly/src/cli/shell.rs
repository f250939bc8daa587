//! `mayfly sandbox shell`: lines of input as commands, without a terminal inside.
//!
//! Each line is a process of its own, so variables and functions do not last; the folder does.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;
use hyper::Method;
use mayfly_core::{Error, Kind};
use uuid::Uuid;

use super::exec::{How, Outcome, execute, find};
use super::output::cell;
use super::{Ended, Session};
use crate::exit_code;

/// Run lines of input as commands, one after the other, in a folder that is remembered
#[derive(Debug, Args)]
pub(super) struct Shell {
    /// Name or id
    sandbox: String,
}

impl Shell {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        let client = session.client().await?;
        let id = find(&client, &self.sandbox).await?;
        let places = client.call(Method::GET, &format!("/toolbox/{id}/work-dir"), None).await?;
        let mut cwd = cell(&places["dir"]);
        let mut code = exit_code::SUCCESS;
        let watched = std::io::stdin().is_terminal() && !session.output.json;
        let mut lines = std::io::stdin().lock().lines();
        loop {
            if watched {
                let _ = write!(std::io::stderr(), "{}:{cwd}$ ", self.sandbox);
            }
            let Some(line) = lines.next() else { return Ok(code) };
            let line = line.map_err(|error| {
                Error::new(Kind::Invalid, "standard input is not text").with_source(error)
            })?;
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => continue,
                ["exit"] => return Ok(code),
                ["exit", number] if number.parse::<u8>().is_ok() => {
                    return Ok(number.parse().unwrap_or(code));
                }
                _ => {}
            }
            let mark = format!("mayfly-{}:", Uuid::now_v7().simple());
            let outcome = execute(&client, &id, &script(&line, &mark), &How::inside(&cwd)).await;
            match outcome.map(|outcome| take_folder(outcome, &mark)) {
                Ok((outcome, folder)) => {
                    cwd = folder.unwrap_or(cwd);
                    code = outcome.show(session.output)?;
                }
                // A line that failed is not the end of the session; an unreachable sandbox is.
                Err(error) if matches!(error.kind(), Kind::Timeout | Kind::Invalid) => {
                    session.output.error(&error);
                    code = exit_code::NOT_THE_COMMAND;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The line, and at its end however it ends, the mark and the folder it is in then.
fn script(line: &str, mark: &str) -> String {
    format!("trap 'printf %s \"{mark}$PWD\"' EXIT\n{line}\n")
}

/// The line as it was typed, of a command as [`script`] made it; any other command as it is.
pub(super) fn line_of(command: &str) -> &str {
    match command.strip_prefix("trap 'printf %s \"mayfly-").and_then(|rest| rest.split_once('\n')) {
        Some((_, line)) => line.trim_end(),
        None => command,
    }
}

/// Splits the folder off the output; none when the output was cut or the shell was replaced.
fn take_folder(outcome: Outcome, mark: &str) -> (Outcome, Option<String>) {
    match outcome.output.rsplit_once(mark) {
        Some((output, folder)) if folder.starts_with('/') => {
            let exit_code = outcome.exit_code;
            (Outcome { exit_code, output: output.to_owned() }, Some(folder.to_owned()))
        }
        _ => (outcome, None),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn run(line: &str) -> (Outcome, Option<String>) {
        let shell = Command::new("sh").args(["-c", &script(line, "m:")]).current_dir("/").output();
        let shell = shell.unwrap();
        let outcome = Outcome {
            exit_code: i64::from(shell.status.code().unwrap()),
            output: String::from_utf8(shell.stdout).unwrap(),
        };
        take_folder(outcome, "m:")
    }

    #[test]
    fn logs_show_what_was_typed() {
        assert_eq!(line_of(&script("ls -l", "mayfly-1:")), "ls -l");
        assert_eq!(line_of("trap x EXIT\nls"), "trap x EXIT\nls");
    }

    #[test]
    fn a_line_gives_its_output_its_code_and_the_folder_it_ended_in() {
        for (line, output, code, folder) in [
            ("cd /usr && echo x", "x\n", 0, "/usr"),
            ("printf x; false", "x", 1, "/"),
            ("cd /tmp; exit 7", "", 7, "/tmp"),
            ("# nothing", "", 0, "/"),
        ] {
            let (outcome, cwd) = run(line);
            assert_eq!(outcome.output, output, "{line}");
            assert_eq!(outcome.exit_code, code, "{line}");
            assert_eq!(cwd.as_deref(), Some(folder), "{line}");
        }
        assert_eq!(run("exec echo gone").1, None);
    }
}
