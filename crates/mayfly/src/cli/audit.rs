//! `mayfly audit`: who did what, and what was refused.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::output::{cell, table};
use super::{Ended, Session};
use crate::exit_code;

/// Show who did what, and what was refused, newest first
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// Most lines, 1 to 200
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
}

impl Audit {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        let client = session.client().await?;
        let path = format!("/api/audit?limit={}", self.limit);
        let page = client.call(Method::GET, &path, None).await?;
        let rows: Vec<Vec<String>> =
            page["items"].as_array().into_iter().flatten().map(row).collect();
        let head = ["TIME", "KEY", "FROM", "WHAT", "OBJECT", "STATUS", "TIMES"];
        session.output.show(&page["items"], || table(&head, &rows))?;
        Ok(exit_code::SUCCESS)
    }
}

fn row(line: &Value) -> Vec<String> {
    ["createdAt", "actorEmail", "ipAddress", "action", "targetId", "statusCode"]
        .iter()
        .map(|field| cell(&line[field]))
        .chain([cell(&line["metadata"]["count"])])
        .collect()
}
