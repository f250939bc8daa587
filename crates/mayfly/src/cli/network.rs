//! `mayfly sandbox net`: what a sandbox may reach, and what it reached for.

use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::exec::{find, sandbox_path};
use super::output::{cell, table};
use super::{Ended, Session};
use crate::client::{Client, encode};
use crate::exit_code;

/// Between two looks at an audit that is followed.
const PAUSE: Duration = Duration::from_millis(200);
/// Entries of a page.
const PAGE: u32 = 1000;
const COLUMNS: [&str; 8] =
    ["time", "event", "protocol", "name", "address", "port", "bytesUp", "bytesDown"];

/// Show what a sandbox reached for, or change what it may reach
#[derive(Debug, Args)]
pub(super) struct Net {
    /// Name or id
    sandbox: String,
    /// Go on printing what it reaches for
    #[arg(long, short, conflicts_with = "change")]
    follow: bool,
    #[command(flatten)]
    change: Change,
}

/// What a sandbox may reach.
#[derive(Debug, Args)]
#[group(id = "change", multiple = true, required = false)]
pub(super) struct Change {
    /// Let it reach nothing
    #[arg(long, conflicts_with_all = ["allow", "allow_domain", "public"])]
    block_all: bool,
    /// Let it reach this range, and nothing that is not listed; may be repeated
    #[arg(long, value_name = "CIDR", conflicts_with = "public")]
    allow: Vec<String>,
    /// Let it reach this name (`name` or `*.name`), and nothing that is not listed; may be repeated
    #[arg(long, value_name = "DOMAIN", conflicts_with = "public")]
    allow_domain: Vec<String>,
    /// Let it reach the public internet
    #[arg(long)]
    public: bool,
}

impl Change {
    /// The body of the call that makes it; nothing when no change was asked for. Both lists are replaced.
    pub(super) fn body(&self) -> Option<Value> {
        let lists = !self.allow.is_empty() || !self.allow_domain.is_empty();
        if self.block_all {
            return Some(json!({ "networkBlockAll": true }));
        }
        (lists || self.public).then(|| {
            json!({
                "networkBlockAll": false,
                "networkAllowList": self.allow.join(","),
                "domainAllowList": self.allow_domain.join(","),
            })
        })
    }
}

impl Net {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        let client = session.client().await?;
        let id = find(&client, &self.sandbox).await?;
        let path = sandbox_path(&id);
        if let Some(body) = self.change.body() {
            let path = format!("{path}/network-settings");
            let sandbox = client.call(Method::POST, &path, Some(&body)).await?;
            session.output.show(&sandbox, || summary(&sandbox))?;
            return Ok(exit_code::SUCCESS);
        }
        if !self.follow && !session.output.json {
            let sandbox = client.call(Method::GET, &path, None).await?;
            session.output.note(summary(&sandbox).trim_end());
        }
        let mut after = String::new();
        let mut all = Vec::new();
        loop {
            let items = page(&client, &path, &mut after).await?;
            let is_last = items.is_empty();
            if self.follow {
                // A line each, in both forms: there is no end that a list could wait for.
                for item in &items {
                    session.output.show(item, || table(&[], &[row(item)]))?;
                }
            } else {
                all.extend(items);
            }
            match (is_last, self.follow) {
                (true, false) => break,
                (true, true) => tokio::time::sleep(PAUSE).await,
                (false, _) => {}
            }
        }
        let rows: Vec<Vec<String>> = all.iter().map(row).collect();
        session.output.show(&all.into(), || {
            table(
                &["TIME", "EVENT", "PROTOCOL", "NAME", "ADDRESS", "PORT", "UP", "DOWN", "REASON"],
                &rows,
            )
        })?;
        Ok(exit_code::SUCCESS)
    }
}

async fn page(client: &Client, path: &str, after: &mut String) -> mayfly_core::Result<Vec<Value>> {
    let path = format!("{path}/network/audit?limit={PAGE}&after={}", encode(after));
    let page = client.call(Method::GET, &path, None).await?;
    *after = cell(&page["next"]);
    Ok(page["items"].as_array().cloned().unwrap_or_default())
}

fn row(item: &Value) -> Vec<String> {
    let mut row: Vec<String> = COLUMNS.map(|field| cell(&item[field])).into();
    row.push(cell(&item["reason"]));
    row
}

/// What a sandbox may reach, as a sentence.
fn summary(sandbox: &Value) -> String {
    let lists = [cell(&sandbox["networkAllowList"]), cell(&sandbox["domainAllowList"])];
    let listed: Vec<&str> =
        lists.iter().map(String::as_str).filter(|list| !list.is_empty()).collect();
    if sandbox["networkBlockAll"] == true {
        return "reaches nothing\n".to_owned();
    }
    if listed.is_empty() {
        return "reaches the public internet\n".to_owned();
    }
    format!("reaches {}\n", listed.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_replace_both_lists() {
        let change = |block_all, allow: &[&str], domains: &[&str], public| {
            let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
            Change { block_all, allow: texts(allow), allow_domain: texts(domains), public }.body()
        };
        assert_eq!(change(false, &[], &[], false), None);
        assert_eq!(change(true, &[], &[], false), Some(json!({ "networkBlockAll": true })));
        let lists = change(false, &["1.1.1.1", "2.2.2.0/24"], &[], false).unwrap();
        assert_eq!(lists["networkAllowList"], "1.1.1.1,2.2.2.0/24");
        assert_eq!(
            (&lists["domainAllowList"], &lists["networkBlockAll"]),
            (&json!(""), &json!(false))
        );
        assert_eq!(change(false, &[], &[], true).unwrap()["networkAllowList"], "");
    }

    #[test]
    fn the_summary_tells_what_wins() {
        let told = |sandbox: Value| summary(&sandbox);
        assert_eq!(
            told(json!({ "networkBlockAll": true, "networkAllowList": "1.1.1.1" })),
            "reaches nothing\n"
        );
        assert_eq!(told(json!({ "networkBlockAll": false })), "reaches the public internet\n");
        let listed =
            json!({ "networkBlockAll": false, "networkAllowList": "a", "domainAllowList": "b" });
        assert_eq!(told(listed), "reaches a,b\n");
    }
}
