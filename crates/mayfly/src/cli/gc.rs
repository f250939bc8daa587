//! `mayfly gc`: takes away what nothing names.

use clap::Args;
use hyper::Method;
use mayfly_core::Kind;
use serde_json::{Value, json};

use super::output::{cell, table};
use super::{Ended, Session};
use crate::{exit_code, wiring};

/// Take away what nothing names: of this server, and of killed servers whose data directory is gone
#[derive(Debug, Args)]
pub(super) struct Gc {
    /// Only tell; take nothing away
    #[arg(long)]
    dry_run: bool,
}

impl Gc {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        let mut found = Vec::new();
        let named = session.named()?;
        let is_here = named.is_none();
        let client = match named {
            Some(client) => Some(client),
            // Where no server ever ran there is nothing of its own, and none is made for it.
            None if session.config(None)?.database().exists() => Some(session.client().await?),
            None => None,
        };
        if let Some(client) = client {
            let path = format!("/api/system/gc?dryRun={}", self.dry_run);
            let answer = client.call(Method::POST, &path, None).await?;
            found.extend(answer.as_array().into_iter().flatten().cloned());
        }
        if is_here {
            found.extend(of_gone_servers(self.dry_run).await?);
        }
        let stays = found.iter().any(|one| one["kept"].is_string());
        let value = json!({ "dryRun": self.dry_run, "found": found });
        session.output.show(&value, || text(&value))?;
        Ok(if stays && !self.dry_run { exit_code::of(Kind::Conflict) } else { exit_code::SUCCESS })
    }
}

async fn of_gone_servers(dry: bool) -> mayfly_core::Result<Vec<Value>> {
    let mut found = Vec::new();
    for gone in wiring::clear_gone(dry).await? {
        let data_dir = gone.data_dir.display().to_string();
        let entry = |kind: &str, name: &str, kept: Option<&str>| {
            let mut one = json!({ "kind": kind, "name": name, "dataDir": data_dir });
            if let Some(kept) = kept {
                one["kept"] = kept.into();
            }
            one
        };
        found.push(entry("server", &data_dir, None));
        found.extend(gone.left.iter().map(|one| entry(one.kind, &one.name, one.kept.as_deref())));
    }
    Ok(found)
}

fn text(value: &Value) -> String {
    let found = value["found"].as_array().map(Vec::as_slice).unwrap_or_default();
    if found.is_empty() {
        return "nothing is left over\n".to_owned();
    }
    let done = if value["dryRun"] == true { "would be taken away" } else { "taken away" };
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|one| {
            let outcome = match one["kept"].as_str() {
                Some(why) => format!("stays: {why}"),
                None => done.to_owned(),
            };
            vec![cell(&one["kind"]), cell(&one["name"]), cell(&one["dataDir"]), outcome]
        })
        .collect();
    table(&["KIND", "NAME", "GONE DATA DIRECTORY", ""], &rows)
}
