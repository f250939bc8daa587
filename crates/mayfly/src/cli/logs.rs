//! `mayfly sandbox logs`: the kept output of commands.

use std::time::Duration;

use clap::Args;
use hyper::Method;
use mayfly_core::{Error, Kind, Result};
use serde_json::{Value, json};

use super::exec::find;
use super::output::{cell, table};
use super::{Ended, Session};
use crate::client::Client;
use crate::exit_code;

/// Between two looks at a command that still runs.
const PAUSE: Duration = Duration::from_millis(200);

/// List the commands that ran in a sandbox, or print the output of one
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// Name or id
    sandbox: String,
    /// Number of the command, from the list
    process: Option<u64>,
    /// Go on until the command ends
    #[arg(long, short, requires = "process")]
    follow: bool,
}

impl Logs {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        let client = session.client().await?;
        let id = find(&client, &self.sandbox).await?;
        match self.process {
            Some(process) => self.print(session, &client, &id, process).await,
            None => list(session, &client, &id).await,
        }
    }

    async fn print(&self, session: &Session<'_>, client: &Client, id: &str, process: u64) -> Ended {
        let mut kept = Vec::new();
        let mut offset = 0_usize;
        loop {
            let ended = !self.follow || has_ended(client, id, process).await?;
            loop {
                let path = format!("/toolbox/{id}/process/logs/{process}?offset={offset}");
                let before = offset;
                client
                    .download(&path, |bytes| {
                        offset += bytes.len();
                        if session.output.json {
                            kept.extend_from_slice(bytes);
                            Ok(())
                        } else {
                            session.output.print(bytes)
                        }
                    })
                    .await?;
                if offset == before {
                    break;
                }
            }
            if ended {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if session.output.json {
            let value = json!({ "process": process, "output": String::from_utf8_lossy(&kept) });
            session.output.print(format!("{value}\n"))?;
        }
        Ok(exit_code::SUCCESS)
    }
}

async fn list(session: &Session<'_>, client: &Client, id: &str) -> Ended {
    let logs = all(client, id).await?;
    let rows: Vec<Vec<String>> = logs
        .as_array()
        .into_iter()
        .flatten()
        .map(|log| {
            let mut row: Vec<String> =
                ["process", "startedAt", "exitCode", "size"].map(|field| cell(&log[field])).into();
            row.push(cell(&log["command"]));
            row
        })
        .collect();
    session
        .output
        .show(&logs, || table(&["PROCESS", "STARTED", "EXIT", "BYTES", "COMMAND"], &rows))?;
    Ok(exit_code::SUCCESS)
}

async fn all(client: &Client, id: &str) -> Result<Value> {
    let path = format!("/toolbox/{id}/process/logs");
    Ok(client.call(Method::GET, &path, None).await?["logs"].take())
}

async fn has_ended(client: &Client, id: &str, process: u64) -> Result<bool> {
    let logs = all(client, id).await?;
    let log = logs.as_array().into_iter().flatten().find(|log| log["process"] == process);
    log.map(|log| !log["exitCode"].is_null()).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("no command {process} ran in sandbox {id}"))
            .with_hint("`mayfly sandbox logs NAME` lists the commands")
    })
}
