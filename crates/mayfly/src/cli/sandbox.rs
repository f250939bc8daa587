//! `mayfly sandbox`: make, list, show, start, stop, remove; the other verbs stand in files of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use mayfly_core::{Error, Kind, Result};
use serde_json::{Value, json};

use super::exec::{Exec, pair, sandbox_path};
use super::output::{cell, table};
use super::{Ended, Session, copy, logs, network, port, shell, ssh, volume};
use crate::client::{Client, encode};
use crate::exit_code;

/// Looks at a transition this many times, [`PAUSE`] apart: 2 minutes.
const TRIES: u32 = 2400;
const PAUSE: Duration = Duration::from_millis(50);
/// Sandboxes per page of a list.
const PAGE: u32 = 200;

/// Make and use sandboxes
#[derive(Debug, Subcommand)]
pub(super) enum Sandbox {
    /// Make a sandbox and wait until it runs
    Create(Create),
    /// List sandboxes, newest first
    List(List),
    /// Show all about a sandbox
    Show(Name),
    /// Run a command in a sandbox and print its output
    Exec(Exec),
    /// Open a shell in a sandbox: a terminal, or a script from standard input
    Shell(shell::Shell),
    /// Open a shell, or run a command, with the OpenSSH client
    Ssh(ssh::Ssh),
    /// Show the URL of a port, or forward it to this machine
    Port(port::Port),
    /// Copy files and folders into or out of a sandbox
    Cp(copy::Copy),
    /// List the commands that ran in a sandbox, or print the output of one
    Logs(logs::Logs),
    /// Show what a sandbox reached for, or change what it may reach
    Net(network::Net),
    /// End all processes of sandboxes; files stay
    Stop(Stop),
    /// Start stopped sandboxes again
    Start(Names),
    /// Delete sandboxes with everything in them
    Rm(Names),
}

/// One sandbox.
#[derive(Debug, Args)]
pub(super) struct Name {
    /// Name or id
    sandbox: String,
}

/// Some sandboxes.
#[derive(Debug, Args)]
pub(super) struct Names {
    /// Names or ids
    #[arg(required = true)]
    sandboxes: Vec<String>,
}

/// End all processes of sandboxes; files stay
#[derive(Debug, Args)]
pub(super) struct Stop {
    #[command(flatten)]
    names: Names,
    /// Kill at once, without a chance to end
    #[arg(long)]
    force: bool,
}

/// Make a sandbox and wait until it runs
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Default: its id
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    wish: Wish,
    /// Environment of all its commands; may be repeated
    #[arg(long = "env", short = 'e', value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Label; may be repeated
    #[arg(long = "label", short = 'l', value_name = "NAME=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    network: network::Change,
    /// Minutes without use until it is stopped; 0 = never
    #[arg(long, value_name = "MINUTES")]
    auto_stop: Option<u32>,
    /// Minutes stopped until it is deleted; 0 = at once, negative = never
    #[arg(long, value_name = "MINUTES", allow_negative_numbers = true)]
    auto_delete: Option<i32>,
    /// Minutes until it is deleted in any state; 0 = never
    #[arg(long, value_name = "MINUTES")]
    ttl: Option<u32>,
}

/// What a new sandbox shall be.
#[derive(Clone, Debug, Args)]
pub(super) struct Wish {
    /// Snapshot to start from; default: the server's
    #[arg(long)]
    snapshot: Option<String>,
    /// Cores
    #[arg(long)]
    cpu: Option<u32>,
    /// Memory in GiB
    #[arg(long, value_name = "GIB")]
    memory: Option<u32>,
    /// Disk in GiB
    #[arg(long, value_name = "GIB")]
    disk: Option<u32>,
    /// Mount a volume: `NAME:PATH`, `NAME/FOLDER:PATH`, with `:ro` for reading only; may be repeated
    #[arg(long = "volume", short = 'v', value_name = "NAME:PATH", value_parser = volume::mount)]
    volumes: Vec<Value>,
}

/// List sandboxes, newest first
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only in this state; may be repeated
    #[arg(long)]
    state: Vec<String>,
    /// Only with this label; may be repeated
    #[arg(long = "label", short = 'l', value_name = "NAME=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
}

impl Sandbox {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        match self {
            Self::Create(create) => create.run(session).await,
            Self::List(list) => list.run(session).await,
            Self::Show(name) => show(name, session).await,
            Self::Exec(exec) => exec.run(session).await,
            Self::Shell(shell) => shell.run(session).await,
            Self::Ssh(ssh) => ssh.run(session).await,
            Self::Port(port) => port.run(session).await,
            Self::Cp(copy) => copy.run(session).await,
            Self::Logs(logs) => logs.run(session).await,
            Self::Net(net) => net.run(session).await,
            Self::Stop(stop) => {
                let verb = format!("/stop?force={}", stop.force);
                each(session, stop.names, Method::POST, &verb, "stopped").await
            }
            Self::Start(names) => each(session, names, Method::POST, "/start", "started").await,
            Self::Rm(names) => each(session, names, Method::DELETE, "", "destroyed").await,
        }
    }
}

impl Wish {
    /// As the body of a create call.
    pub(super) fn body(&self) -> Value {
        json!({
            "snapshot": self.snapshot,
            "cpu": self.cpu,
            "memory": self.memory,
            "disk": self.disk,
            "volumes": self.volumes,
        })
    }
}

impl Create {
    async fn run(self, session: &Session<'_>) -> Ended {
        let client = session.client().await?;
        let waiting = session.output.waiting("making a sandbox");
        let mut body = self.wish.body();
        body["name"] = self.name.into();
        body["env"] = json!(BTreeMap::from_iter(self.env));
        body["labels"] = json!(BTreeMap::from_iter(self.labels));
        body["autoStopInterval"] = self.auto_stop.into();
        body["autoDeleteInterval"] = self.auto_delete.into();
        body["ttlMinutes"] = self.ttl.into();
        if let Some(Value::Object(fields)) = self.network.body() {
            for (field, value) in fields {
                body[field] = value;
            }
        }
        let id = make(&client, &body).await?;
        let sandbox = settle(&client, &id, "started").await?;
        drop(waiting);
        session.output.show(&sandbox, || format!("{}\n", cell(&sandbox["name"])))?;
        Ok(exit_code::SUCCESS)
    }
}

impl List {
    async fn run(self, session: &Session<'_>) -> Ended {
        let client = session.client().await?;
        let labels = json!(BTreeMap::from_iter(self.labels)).to_string();
        let mut filter = format!("/api/sandbox?limit={PAGE}&labels={}", encode(&labels));
        for state in &self.state {
            filter.push_str("&states=");
            filter.push_str(&encode(state));
        }
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = client.call(Method::GET, &format!("{filter}{cursor}"), None).await?;
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={}", encode(next)),
                None => break,
            }
        }
        let rows: Vec<Vec<String>> = items
            .iter()
            .map(|item| {
                ["name", "state", "snapshot", "cpu", "memory", "disk", "createdAt"]
                    .map(|field| cell(&item[field]))
                    .into()
            })
            .collect();
        session.output.show(&items.into(), || {
            table(&["NAME", "STATE", "SNAPSHOT", "CPU", "MEMORY", "DISK", "CREATED"], &rows)
        })?;
        Ok(exit_code::SUCCESS)
    }
}

async fn show(name: Name, session: &Session<'_>) -> Ended {
    let client = session.client().await?;
    let sandbox = client.call(Method::GET, &sandbox_path(&name.sandbox), None).await?;
    let rows: Vec<Vec<String>> = sandbox
        .as_object()
        .into_iter()
        .flatten()
        .map(|(field, value)| vec![field.clone(), cell(value)])
        .collect();
    session.output.show(&sandbox, || table(&["FIELD", "VALUE"], &rows))?;
    Ok(exit_code::SUCCESS)
}

/// The same verb for each; all are tried, the first failure is reported at the end.
async fn each(
    session: &Session<'_>,
    names: Names,
    method: Method,
    verb: &str,
    wanted: &str,
) -> Ended {
    let client = session.client().await?;
    let mut done = Vec::new();
    let mut failed = None;
    for name in names.sandboxes {
        let _waiting = session.output.waiting(name.as_str());
        match change(&client, &name, method.clone(), verb, wanted).await {
            Ok(()) => done.push(name),
            Err(error) if failed.is_none() => failed = Some(error),
            Err(error) => session.output.error(&error),
        }
    }
    session.output.show(&json!({ wanted: done }), || {
        done.iter().map(|name| format!("{name} {wanted}\n")).collect::<Vec<_>>().concat()
    })?;
    failed.map_or(Ok(exit_code::SUCCESS), Err)
}

async fn change(
    client: &Client,
    name: &str,
    method: Method,
    verb: &str,
    wanted: &str,
) -> Result<()> {
    // By id from here on: a destroyed sandbox's name is free for another one.
    let id = super::exec::find(client, name).await?;
    client.call(method, &format!("{}{verb}", sandbox_path(&id)), None).await?;
    match settle(client, &id, wanted).await {
        // Destroyed and forgotten; so is an ephemeral one that was stopped.
        Err(error) if error.kind() == Kind::NotFound && wanted != "started" => Ok(()),
        settled => settled.map(drop),
    }
}

/// Makes a sandbox; its id.
pub(super) async fn make(client: &Client, body: &Value) -> Result<String> {
    let made = client.call(Method::POST, "/api/sandbox", Some(body)).await?;
    made["id"].as_str().map(str::to_owned).ok_or_else(|| {
        Error::new(Kind::Internal, "the server made a sandbox without telling its id")
    })
}

/// Waits until the sandbox is in this state.
pub(super) async fn settle(client: &Client, id: &str, wanted: &str) -> Result<Value> {
    let mut state = String::new();
    for _ in 0..TRIES {
        let sandbox = client.call(Method::GET, &sandbox_path(id), None).await?;
        state = cell(&sandbox["state"]);
        if state == wanted || (wanted == "stopped" && state == "destroyed") {
            return Ok(sandbox);
        }
        if state == "error" && wanted != "destroyed" {
            let reason = cell(&sandbox["errorReason"]);
            return Err(Error::new(Kind::Unavailable, format!("sandbox {id} is broken: {reason}"))
                .with_hint(format!("delete it: mayfly sandbox rm {id}")));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Error::new(
        Kind::Timeout,
        format!("sandbox {id} is {state}, not {wanted}, after 2 minutes"),
    )
    .with_hint(format!("look again: mayfly sandbox show {id}")))
}
