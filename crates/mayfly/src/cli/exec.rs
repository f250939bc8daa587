//! Commands in a sandbox: `sandbox exec`, and what `run` and `shell` share with it.

use clap::Args;
use hyper::Method;
use mayfly_core::{Error, Result};
use serde_json::{Map, Value, json};

use super::output::Output;
use super::{Ended, Session};
use crate::client::{Client, encode};

/// Run a command in a sandbox and print its output
#[derive(Debug, Args)]
pub(super) struct Exec {
    /// Name or id
    sandbox: String,
    #[command(flatten)]
    how: How,
    /// Program and arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// How a command is run.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct How {
    /// Folder to run in
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Environment of the command; may be repeated
    #[arg(long = "env", short = 'e', value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Kill it after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

/// What a command gave.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Its exit code, 128 + n after signal n.
    pub(super) exit_code: i64,
    /// Standard output and error, merged.
    pub(super) output: String,
}

impl Exec {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        let client = session.client().await?;
        let id = find(&client, &self.sandbox).await?;
        let outcome = execute(&client, &id, &quote(&self.command), &self.how).await?;
        outcome.show(session.output)
    }
}

impl Outcome {
    /// Prints the output as it came and gives the command's exit code.
    pub(super) fn show(&self, output: &Output) -> Ended {
        let value = json!({ "exitCode": self.exit_code, "output": self.output });
        output.show(&value, || self.output.clone())?;
        Ok(u8::try_from(self.exit_code & 0xff).unwrap_or(u8::MAX))
    }
}

/// The id of the sandbox with this name or id.
pub(super) async fn find(client: &Client, sandbox: &str) -> Result<String> {
    let found = client.call(Method::GET, &sandbox_path(sandbox), None).await?;
    found["id"].as_str().map(str::to_owned).ok_or_else(|| {
        Error::new(mayfly_core::Kind::Internal, "the server described a sandbox without its id")
    })
}

/// Path of a sandbox by name or id.
pub(super) fn sandbox_path(sandbox: &str) -> String {
    format!("/api/sandbox/{}", encode(sandbox))
}

/// Runs shell text to its end.
pub(super) async fn execute(
    client: &Client,
    id: &str,
    command: &str,
    how: &How,
) -> Result<Outcome> {
    let mut body = Map::from_iter([("command".to_owned(), Value::from(command))]);
    if let Some(cwd) = &how.cwd {
        body.insert("cwd".to_owned(), Value::from(cwd.as_str()));
    }
    if !how.env.is_empty() {
        let env: Map<String, Value> =
            how.env.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        body.insert("envs".to_owned(), env.into());
    }
    if let Some(seconds) = how.timeout {
        body.insert("timeout".to_owned(), seconds.into());
    }
    let path = format!("/toolbox/{id}/process/execute");
    let answer = client.call(Method::POST, &path, Some(&body.into())).await?;
    Ok(Outcome {
        exit_code: answer["exitCode"].as_i64().unwrap_or(-1),
        output: answer["result"].as_str().unwrap_or_default().to_owned(),
    })
}

/// The argument list as shell text that gives exactly these arguments again.
pub(super) fn quote(arguments: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:+@%".contains(c);
    let quoted: Vec<String> = arguments
        .iter()
        .map(|argument| {
            if !argument.is_empty() && argument.chars().all(plain) {
                argument.clone()
            } else {
                format!("'{}'", argument.replace('\'', "'\\''"))
            }
        })
        .collect();
    quoted.join(" ")
}

/// `NAME=VALUE` as a pair.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_arguments_arrive_as_they_were() {
        let awkward = ["a b", "", "it's", "$HOME", "*", "\\", "\n", "ü", "-n", "x=y", "a\"b", "~"];
        let arguments: Vec<String> = awkward.map(str::to_owned).into();
        let script = format!("printf '%s\\0' {}", quote(&arguments));
        let shell = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let back: Vec<&str> =
            std::str::from_utf8(&shell.stdout).unwrap().split_terminator('\0').collect();
        assert_eq!(back, awkward);
    }

    #[test]
    fn pairs_need_a_name() {
        assert_eq!(pair("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("A="), Ok(("A".to_owned(), String::new())));
        assert!(pair("A").is_err());
        assert!(pair("=b").is_err());
    }
}
