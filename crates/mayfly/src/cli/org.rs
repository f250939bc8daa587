//! `mayfly org`: organizations, their limits and what they use of them.

use clap::{Args, Subcommand};
use hyper::Method;
use mayfly_core::Error;
use serde_json::{Map, Value, json};

use super::output::{cell, table};
use super::{Ended, Session};
use crate::client::encode;
use crate::exit_code;

/// Limits as the API names them, with what they count.
const LIMITS: [&str; 5] = ["sandboxes", "cpu", "memory", "disk", "volumes"];

/// Make, limit and delete organizations
#[derive(Debug, Subcommand)]
pub(super) enum Org {
    /// Make an organization; `mayfly key create --org NAME` makes a key of it
    Create(Create),
    /// List organizations with what they use of their limits
    List,
    /// Show or set limits of an organization
    Limits(Limits),
    /// Delete organizations that have no sandboxes, with their keys
    Rm(Remove),
}

/// Limits of an organization.
#[derive(Debug, Args)]
struct Wanted {
    /// Sandboxes, stopped and archived ones included: a number, `none` or `default`
    #[arg(long, value_name = "N")]
    sandboxes: Option<String>,
    /// Cores of sandboxes that run
    #[arg(long, value_name = "N")]
    cpu: Option<String>,
    /// GiB of memory of sandboxes that run
    #[arg(long, value_name = "GIB")]
    memory: Option<String>,
    /// GiB of disk of all sandboxes
    #[arg(long, value_name = "GIB")]
    disk: Option<String>,
    /// Volumes
    #[arg(long, value_name = "N")]
    volumes: Option<String>,
}

/// Make an organization
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Name: 1 to 64 letters, digits, `-`, `_` and `.`
    name: String,
    #[command(flatten)]
    limits: Wanted,
}

/// Show or set limits of an organization
#[derive(Debug, Args)]
pub(super) struct Limits {
    /// Name or id
    organization: String,
    #[command(flatten)]
    limits: Wanted,
}

/// Delete organizations
#[derive(Debug, Args)]
pub(super) struct Remove {
    /// Names or ids
    #[arg(required = true)]
    organizations: Vec<String>,
}

impl Org {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        match self {
            Self::Create(create) => create.run(session).await,
            Self::List => list(session).await,
            Self::Limits(limits) => limits.run(session).await,
            Self::Rm(remove) => remove.run(session).await,
        }
    }
}

impl Create {
    async fn run(self, session: &Session<'_>) -> Ended {
        let limits = self.limits.given()?;
        let client = session.client().await?;
        let body = json!({ "name": self.name, "limits": limits });
        let made = client.call(Method::POST, "/api/organizations", Some(&body)).await?;
        session.output.show(&made, || format!("{}\n", cell(&made["id"])))?;
        Ok(exit_code::SUCCESS)
    }
}

impl Limits {
    async fn run(self, session: &Session<'_>) -> Ended {
        let given = self.limits.given()?;
        let client = session.client().await?;
        let path = format!("/api/organizations/{}", encode(&self.organization));
        let mut found = client.call(Method::GET, &path, None).await?;
        if !given.is_empty() {
            let mut limits = found["limits"].as_object().cloned().unwrap_or_default();
            limits.extend(given);
            let path = format!("{path}/limits");
            found = client.call(Method::PUT, &path, Some(&Value::Object(limits))).await?;
        }
        session.output.show(&found, || {
            let row = |name: &&str| {
                let own = if found["limits"][name].is_null() { "default" } else { "own" };
                let used = cell(&found["usage"][name]);
                vec![(*name).to_owned(), used, most(&found["effective"][name]), own.to_owned()]
            };
            let rows: Vec<_> = LIMITS.iter().map(row).collect();
            table(&["WHAT", "USED", "LIMIT", "FROM"], &rows)
        })?;
        Ok(exit_code::SUCCESS)
    }
}

impl Wanted {
    /// Those that were named, as the API takes them.
    fn given(&self) -> Result<Map<String, Value>, Error> {
        let texts = [&self.sandboxes, &self.cpu, &self.memory, &self.disk, &self.volumes];
        let mut given = Map::new();
        for (name, text) in LIMITS.into_iter().zip(texts) {
            let value = match text.as_deref() {
                None => continue,
                Some("default") => Value::Null,
                Some("none") => json!(0),
                Some(text) => match text.parse::<u32>() {
                    Ok(number @ 1..) => json!(number),
                    _ => {
                        return Err(Error::invalid(format!(
                            "--{name} is `{text}`: expected a whole number from 1, `none` or `default`"
                        )));
                    }
                },
            };
            given.insert(name.to_owned(), value);
        }
        Ok(given)
    }
}

impl Remove {
    async fn run(self, session: &Session<'_>) -> Ended {
        let client = session.client().await?;
        for name in &self.organizations {
            let path = format!("/api/organizations/{}", encode(name));
            client.call(Method::DELETE, &path, None).await?;
        }
        let all = &self.organizations;
        session.output.show(&json!({ "deleted": all }), || {
            all.iter().map(|name| format!("{name} deleted\n")).collect::<Vec<_>>().concat()
        })?;
        Ok(exit_code::SUCCESS)
    }
}

async fn list(session: &Session<'_>) -> Ended {
    let client = session.client().await?;
    let all = client.call(Method::GET, "/api/organizations", None).await?;
    let rows: Vec<Vec<String>> = all.as_array().into_iter().flatten().map(row).collect();
    session
        .output
        .show(&all, || table(&["NAME", "ID", "SANDBOXES", "CPU", "MEMORY", "DISK"], &rows))?;
    Ok(exit_code::SUCCESS)
}

fn row(one: &Value) -> Vec<String> {
    let used =
        |name: &str| format!("{}/{}", cell(&one["usage"][name]), most(&one["effective"][name]));
    let mut row = vec![cell(&one["name"]), cell(&one["id"])];
    row.extend(LIMITS[..4].iter().map(|name| used(name)));
    row
}

/// A limit for people.
fn most(value: &Value) -> String {
    match value.as_u64() {
        None | Some(0) => "none".to_owned(),
        Some(number) => number.to_string(),
    }
}
