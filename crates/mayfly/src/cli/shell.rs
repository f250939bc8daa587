//! `mayfly sandbox shell`: a terminal inside, or a script from standard input.

use std::io::{IsTerminal, Read as _};

use clap::Args;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::Method;
use mayfly_core::{Error, Kind, Result};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use super::exec::find;
use super::marked::Marked;
use super::{Ended, Session, terminal};
use crate::client::{Client, WebSocket, broken, encode};

/// Most bytes of a script on standard input.
const SCRIPT: u64 = 1 << 20;
/// Asks the server to tell the exit code.
const EXIT_CONTROL: &str = "X-Daytona-Pty-Exit-Control";

/// Open a shell in a sandbox: a terminal, or a script from standard input
#[derive(Debug, Args)]
pub(super) struct Shell {
    /// Name or id
    sandbox: String,
    /// Name of the terminal: attached when it exists (it stays when the connection is lost), else made
    #[arg(long, value_name = "NAME")]
    attach: Option<String>,
    /// Folder that a new shell starts in
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
}

impl Shell {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        let client = session.client().await?;
        let id = find(&client, &self.sandbox).await?;
        let watched = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        if watched && !session.output.json {
            return self.terminal(&client, &id).await;
        }
        if self.attach.is_some() {
            return Err(Error::invalid("--attach needs a terminal")
                .with_hint("run it in a terminal, or leave it out to run a script"));
        }
        self.script(session, &client, &id).await
    }

    async fn terminal(&self, client: &Client, id: &str) -> Ended {
        let name = self.attach.clone().unwrap_or_else(|| format!("shell-{}", Uuid::now_v7()));
        let path = format!("/toolbox/{id}/process/pty/{}", encode(&name));
        let (columns, rows) = terminal::size();
        let exists = self.attach.is_some()
            && match client.call(Method::GET, &path, None).await {
                Ok(found) => found["active"] == true,
                Err(error) if error.kind() == Kind::NotFound => false,
                Err(error) => return Err(error),
            };
        let socket = if exists {
            resize(client, &path).await;
            client.websocket(&format!("{path}/connect"), &[EXIT_CONTROL]).await?
        } else {
            let cwd = self.cwd.as_deref().map(encode);
            let cwd = cwd.map(|cwd| format!("&cwd={cwd}")).unwrap_or_default();
            let wish = format!("id={}&cols={columns}&rows={rows}{cwd}", encode(&name));
            let make = format!("/toolbox/{id}/process/pty/create-connect?{wish}");
            client.websocket(&make, &[EXIT_CONTROL]).await?
        };
        let ended = {
            let _raw = terminal::Raw::begin()?;
            relay(socket, client, &path).await
        };
        ended.map_err(|error| {
            let again = format!("mayfly sandbox shell {} --attach {name}", self.sandbox);
            error.with_hint(format!("the shell inside lives on; return to it by: {again}"))
        })
    }

    /// Runs standard input as one script in a shell of its own.
    async fn script(&self, session: &Session<'_>, client: &Client, id: &str) -> Ended {
        let mut script = String::new();
        std::io::stdin()
            .lock()
            .take(SCRIPT + 1)
            .read_to_string(&mut script)
            .map_err(|error| Error::invalid("standard input is not text").with_source(error))?;
        if script.len() as u64 > SCRIPT {
            return Err(Error::invalid("the script is longer than 1 MiB")
                .with_hint("copy it into the sandbox and run it there"));
        }
        let name = format!("shell-{}", Uuid::now_v7());
        let sessions = format!("/toolbox/{id}/process/session");
        client.call(Method::POST, &sessions, Some(&json!({ "sessionId": name }))).await?;
        let ran = self.run_script(session, client, &format!("{sessions}/{name}"), &script).await;
        let gone = client.call(Method::DELETE, &format!("{sessions}/{name}"), None).await;
        let code = ran?;
        gone?;
        Ok(code)
    }

    async fn run_script(
        &self,
        session: &Session<'_>,
        client: &Client,
        shell: &str,
        script: &str,
    ) -> Ended {
        if let Some(cwd) = &self.cwd {
            let enter = format!("cd -- {}", super::exec::quote(std::slice::from_ref(cwd)));
            let entered = execute(client, shell, &enter, false).await?;
            if entered["exitCode"] != 0 {
                return Err(Error::invalid(format!("there is no folder {cwd} in the sandbox")));
            }
        }
        let command = execute(client, shell, script, true).await?;
        let command = format!("{shell}/command/{}", super::output::cell(&command["cmdId"]));
        let kept = follow(client, &command, session.output.json).await?;
        let ended = client.call(Method::GET, &command, None).await?;
        let code = ended["exitCode"].as_i64().unwrap_or(-1);
        if session.output.json {
            let [stdout, stderr] = kept.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let value = json!({ "exitCode": code, "stdout": stdout, "stderr": stderr });
            session.output.show(&value, String::new)?;
        }
        Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
    }
}

async fn execute(client: &Client, shell: &str, command: &str, asynchronous: bool) -> Result<Value> {
    let body = json!({ "command": command, "runAsync": asynchronous });
    client.call(Method::POST, &format!("{shell}/exec"), Some(&body)).await
}

/// Shows a command's output until it ends, or keeps it: standard output, standard error.
async fn follow(client: &Client, command: &str, keep: bool) -> Result<[Vec<u8>; 2]> {
    let mut socket = client.websocket(&format!("{command}/logs?follow=true"), &[]).await?;
    let mut marked = Marked::default();
    let mut kept = [Vec::new(), Vec::new()];
    let mut sink = |stream: usize, bytes: &[u8]| {
        match (keep, stream) {
            (true, _) => kept[stream].extend_from_slice(bytes),
            (false, 0) => terminal::show(bytes, &mut std::io::stdout().lock())?,
            (false, _) => terminal::show(bytes, &mut std::io::stderr().lock())?,
        }
        Ok(())
    };
    while let Some(message) = socket.next().await {
        let message = message.map_err(|error| broken("the output", error))?;
        if matches!(message, Message::Binary(_) | Message::Text(_)) {
            marked.take(&message.into_data(), &mut sink)?;
        }
    }
    marked.finish(&mut sink)?;
    Ok(kept)
}

/// Keys go in, output comes out, sizes follow, until the shell or the connection ends.
async fn relay(mut socket: WebSocket, client: &Client, path: &str) -> Ended {
    let mut typed = terminal::typed()?;
    let mut resized = window_changes()?;
    let mut listening = true;
    let mut code = None;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    terminal::show(&bytes, &mut std::io::stdout().lock())?;
                }
                Some(Ok(Message::Text(text))) => code = exit_of(&text)?.or(code),
                Some(Ok(Message::Close(frame))) => {
                    let reason = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
                    code = code.or_else(|| exit_code_in(&reason));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) if code.is_none() => return Err(broken("the terminal", error)),
                Some(Err(_)) | None => break,
            },
            keys = typed.recv(), if listening => match keys {
                Some(keys) => {
                    let sent = socket.send(Message::Binary(keys)).await;
                    sent.map_err(|error| broken("the terminal", error))?;
                }
                None => listening = false,
            },
            _ = resized.recv() => resize(client, path).await,
        }
    }
    match code {
        Some(code) => Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        None => Err(Error::new(Kind::Unavailable, "the connection ended before the shell did")),
    }
}

fn window_changes() -> Result<Signal> {
    signal(SignalKind::window_change())
        .map_err(|error| Error::internal("changes of the window cannot be seen", error))
}

async fn resize(client: &Client, path: &str) {
    let (columns, rows) = terminal::size();
    let body = json!({ "cols": columns, "rows": rows });
    // A size that could not be told is no reason to leave.
    if let Err(error) = client.call(Method::POST, &format!("{path}/resize"), Some(&body)).await {
        tracing::debug!(%error, "the new size was not taken");
    }
}

/// The exit code in a control message, if it is the one that tells it.
fn exit_of(text: &str) -> Result<Option<i64>> {
    let message: Value = serde_json::from_str(text).unwrap_or_default();
    match message["status"].as_str() {
        Some("exited") => Ok(message["exitCode"].as_i64()),
        Some("error") => {
            let why = message["error"].as_str().unwrap_or("for an unknown reason");
            Err(Error::new(Kind::Unavailable, format!("the terminal could not be opened: {why}")))
        }
        _ => Ok(None),
    }
}

fn exit_code_in(reason: &str) -> Option<i64> {
    serde_json::from_str::<Value>(reason).ok()?["exitCode"].as_i64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_message_of_the_end_carries_the_code() {
        assert_eq!(exit_of(r#"{"type":"control","status":"connected"}"#).unwrap(), None);
        let exited = r#"{"type":"control","status":"exited","exitCode":3}"#;
        assert_eq!(exit_of(exited).unwrap(), Some(3));
        let failed = exit_of(r#"{"type":"control","status":"error","error":"no shell"}"#);
        assert!(failed.unwrap_err().to_string().contains("no shell"));
        assert_eq!(exit_of("not JSON").unwrap(), None);
        assert_eq!(exit_code_in(r#"{"exitCode":130}"#), Some(130));
        assert_eq!(exit_code_in(""), None);
    }
}
