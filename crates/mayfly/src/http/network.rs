//! `/api/sandbox/{s}/network-settings` and `/api/sandbox/{s}/network/audit`: what a sandbox may reach, and
//! what it reached for.

use axum::Json as Reply;
use axum::extract::{Path, State};
use mayfly_core::network::{self, AuditEntry, AuditKind, NetworkChange, ProxyUrl};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Seen, Who};
use super::fault::Answer;
use super::input::{Json, Params};
use super::sandbox_wire::SandboxBody;
use super::time::rfc3339;

/// Entries of a page when the caller does not say.
const PAGE: u32 = 100;

/// A change of what a sandbox may reach; what is absent stays, an empty text clears a list. A list lifts an
/// earlier block; `networkBlockAll: false` clears lists that are not given with it.
///
/// `networkBlockAll` wins over both lists; lists allow what any of them names and nothing else; without both the
/// public internet is reachable. A refused change changes nothing.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = NetworkSettings)]
pub(crate) struct NetworkBody {
    network_block_all: Option<bool>,
    /// Ranges such as `140.82.112.0/20`, with commas between.
    network_allow_list: Option<String>,
    /// Names such as `example.com` or `*.example.com`, with commas between.
    domain_allow_list: Option<String>,
    /// `http://[user:password@]host[:port]`; empty = none.
    outbound_proxy_url: Option<String>,
}

/// The change that these fields ask for; 400 names the entry that cannot be read.
pub(crate) fn wish(
    block_all: Option<bool>,
    allow_list: Option<&str>,
    domains: Option<&str>,
    proxy: Option<&str>,
) -> Answer<NetworkChange> {
    let proxy = proxy.map(|url| match url.trim() {
        "" => Ok(None),
        url => url.parse::<ProxyUrl>().map(Some),
    });
    Ok(NetworkChange {
        block_all,
        cidrs: allow_list.map(network::cidrs).transpose()?,
        domains: domains.map(network::domains).transpose()?,
        proxy: proxy.transpose()?,
    })
}

/// One entry of the audit.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NetworkAuditEntry)]
pub(crate) struct EntryBody {
    /// `open` when a connection is being dialled, `end` when it ended, `denied`.
    event: &'static str,
    /// When the connection began.
    time: String,
    /// Milliseconds from then to this entry.
    duration_ms: u64,
    /// `tcp`, `udp` or `dns`.
    protocol: String,
    /// Name that the address stands for, where it is known.
    name: Option<String>,
    /// Address that the sandbox used.
    address: String,
    port: u16,
    /// Bytes from the sandbox.
    bytes_up: u64,
    /// Bytes to the sandbox.
    bytes_down: u64,
    /// `allowed` or `denied`.
    verdict: &'static str,
    /// Why it was denied, or why an allowed connection failed.
    reason: Option<String>,
    /// Events that this entry stands for; above 1 for denials that are counted together.
    count: u64,
}

impl From<AuditEntry> for EntryBody {
    fn from(entry: AuditEntry) -> Self {
        let is_denied = entry.kind == AuditKind::Denied;
        Self {
            event: match entry.kind {
                AuditKind::Open => "open",
                AuditKind::End => "end",
                AuditKind::Denied => "denied",
            },
            time: rfc3339(entry.at),
            duration_ms: entry.millis,
            protocol: entry.protocol,
            name: entry.name,
            address: entry.address.to_string(),
            port: entry.port,
            bytes_up: entry.up,
            bytes_down: entry.down,
            verdict: if is_denied { "denied" } else { "allowed" },
            reason: (entry.verdict != "allowed").then_some(entry.verdict),
            count: entry.count,
        }
    }
}

/// A page of the audit, oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NetworkAudit)]
pub(crate) struct AuditBody {
    items: Vec<EntryBody>,
    /// Cursor of what comes after; the same again while nothing is new.
    next: String,
}

/// Changes what it may reach, live: what is no longer allowed is cut before the answer.
#[utoipa::path(post, path = "/api/sandbox/{sandbox}/network-settings", tag = "sandbox",
    request_body = NetworkBody, params(("sandbox" = String, Path)),
    responses((status = 200, body = SandboxBody)))]
async fn set(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    Path(sandbox): Path<String>,
    Json(body): Json<NetworkBody>,
) -> Answer<Reply<SandboxBody>> {
    let wish = wish(
        body.network_block_all,
        body.network_allow_list.as_deref(),
        body.domain_allow_list.as_deref(),
        body.outbound_proxy_url.as_deref(),
    )?;
    let sandbox = app.engine.sandboxes().set_network(&caller, &sandbox, wish).await?;
    Ok(Reply(SandboxBody::new(sandbox, &seen)))
}

/// What it reached for, oldest first.
#[utoipa::path(get, path = "/api/sandbox/{sandbox}/network/audit", tag = "sandbox",
    params(("sandbox" = String, Path),
        ("after" = Option<String>, Query, description = "`next` of the page before; absent = the oldest entry kept"),
        ("limit" = Option<u32>, Query, description = "1 to 1000 entries, default 100")),
    responses((status = 200, body = AuditBody)))]
async fn audit(
    State(app): State<App>,
    Who(caller): Who,
    Path(sandbox): Path<String>,
    params: Params,
) -> Answer<Reply<AuditBody>> {
    let (after, limit) = (params.get("after"), params.number("limit")?.unwrap_or(PAGE));
    let page = app.engine.sandboxes().network_audit(&caller, &sandbox, after, limit).await?;
    let items = page.items.into_iter().map(EntryBody::from).collect();
    Ok(Reply(AuditBody { items, next: page.next }))
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(set)).routes(routes!(audit))
}
