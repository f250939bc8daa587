//! `mayfly key`: API keys of the organization.

use clap::{Args, Subcommand};
use hyper::Method;
use mayfly_core::Error;
use serde_json::{Value, json};

use super::output::{cell, table};
use super::{Ended, Session};
use crate::client::encode;
use crate::exit_code;

/// Make and delete API keys
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a key; its value is shown this once
    Create(Create),
    /// List keys
    List,
    /// Delete keys; they are refused from then on
    Rm(Remove),
}

/// Make a key; its value is shown this once
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Name of the key
    name: String,
    /// What it may do, such as write:sandboxes or admin; may be repeated
    #[arg(
        long = "permission",
        short = 'p',
        default_values = ["write:sandboxes", "delete:sandboxes", "write:snapshots", "delete:snapshots", "write:volumes",
            "delete:volumes"]
    )]
    permissions: Vec<String>,
    /// Days until it is refused; default: never
    #[arg(long, value_name = "DAYS")]
    expires: Option<u32>,
}

/// Delete keys; they are refused from then on
#[derive(Debug, Args)]
pub(super) struct Remove {
    /// Names of keys
    #[arg(required = true)]
    names: Vec<String>,
}

impl Key {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        match self {
            Self::Create(create) => create.run(session).await,
            Self::List => list(session).await,
            Self::Rm(remove) => remove.run(session).await,
        }
    }
}

impl Create {
    async fn run(self, session: &Session<'_>) -> Ended {
        let expires = self.expires.map(days_from_now).transpose()?;
        let client = session.client().await?;
        let body =
            json!({ "name": self.name, "permissions": self.permissions, "expiresAt": expires });
        let key = client.call(Method::POST, "/api/api-keys", Some(&body)).await?;
        session.output.note("this value is shown only once:");
        session.output.show(&key, || format!("{}\n", cell(&key["value"])))?;
        Ok(exit_code::SUCCESS)
    }
}

impl Remove {
    async fn run(self, session: &Session<'_>) -> Ended {
        let client = session.client().await?;
        for name in &self.names {
            let path = format!("/api/api-keys/{}", encode(name));
            client.call(Method::DELETE, &path, None).await?;
        }
        session.output.show(&json!({ "deleted": self.names }), || {
            self.names.iter().map(|name| format!("{name} deleted\n")).collect::<Vec<_>>().concat()
        })?;
        Ok(exit_code::SUCCESS)
    }
}

async fn list(session: &Session<'_>) -> Ended {
    let client = session.client().await?;
    let keys = client.call(Method::GET, "/api/api-keys", None).await?;
    let rows: Vec<Vec<String>> = keys.as_array().into_iter().flatten().map(row).collect();
    session
        .output
        .show(&keys, || table(&["NAME", "KEY", "PERMISSIONS", "CREATED", "EXPIRES"], &rows))?;
    Ok(exit_code::SUCCESS)
}

fn row(key: &Value) -> Vec<String> {
    let permissions: Vec<&str> =
        key["permissions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    vec![
        cell(&key["name"]),
        cell(&key["value"]),
        permissions.join(","),
        cell(&key["createdAt"]),
        cell(&key["expiresAt"]),
    ]
}

fn days_from_now(days: u32) -> Result<String, Error> {
    let later = jiff::Timestamp::now()
        .checked_add(jiff::SignedDuration::from_hours(i64::from(days) * 24))
        .map_err(|error| Error::invalid(format!("{days} days are too many")).with_source(error))?;
    Ok(format!("{later:.3}"))
}
