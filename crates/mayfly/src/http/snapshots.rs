//! `/api/snapshots`: what sandboxes can be made from.

use std::cmp::Ordering;

use axum::Json as Reply;
use axum::extract::{Path, State};
use mayfly_core::snapshot::Snapshot;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Who};
use super::fault::{Answer, Fault};
use super::input::Params;
use super::sandbox_list::{ascending, limit};
use super::time::rfc3339;

/// A snapshot; the fields after `general` that may be null are always sent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SnapshotDto)]
pub(crate) struct SnapshotBody {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<String>,
    /// Whether every organization sees it.
    general: bool,
    name: String,
    state: &'static str,
    size: Option<f64>,
    entrypoint: Option<Vec<String>>,
    cpu: u32,
    gpu: u32,
    mem: u32,
    disk: u32,
    error_reason: Option<String>,
    created_at: String,
    updated_at: String,
    last_used_at: Option<String>,
    source_sandbox_id: Option<String>,
    sandbox_class: &'static str,
}

impl SnapshotBody {
    fn new(snapshot: Snapshot) -> Self {
        Self {
            id: snapshot.id.to_string(),
            organization_id: snapshot.organization.map(|organization| organization.to_string()),
            general: snapshot.organization.is_none(),
            name: snapshot.name,
            state: "active",
            size: None,
            entrypoint: None,
            cpu: snapshot.resources.cpu,
            gpu: 0,
            mem: snapshot.resources.memory_gib,
            disk: snapshot.resources.disk_gib,
            error_reason: None,
            created_at: rfc3339(snapshot.created_at),
            updated_at: rfc3339(snapshot.created_at),
            last_used_at: snapshot.last_used_at.map(rfc3339),
            source_sandbox_id: None,
            sandbox_class: "container",
        }
    }
}

/// A numbered page.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PagedSnapshots {
    items: Vec<SnapshotBody>,
    total: usize,
    page: usize,
    total_pages: usize,
}

/// Snapshots that the caller's organization sees.
#[utoipa::path(get, path = "/api/snapshots", tag = "snapshots",
    params(("page" = Option<u64>, Query, description = "From 1"), ("limit" = Option<u32>, Query, description = "1 to 200, default 100"),
        ("name" = Option<String>, Query, description = "Part of the name"), ("sourceSandboxId" = Option<String>, Query),
        ("sort" = Option<String>, Query, description = "name, state, lastUsedAt, createdAt"), ("order" = Option<String>, Query, description = "asc or desc")),
    responses((status = 200, body = PagedSnapshots)))]
async fn list(
    State(app): State<App>,
    Who(caller): Who,
    params: Params,
) -> Answer<Reply<PagedSnapshots>> {
    let page: usize = params.number("page")?.unwrap_or(1);
    if page == 0 {
        return Err(Fault::bad_request("page: expected a whole number from 1"));
    }
    let limit = usize::try_from(limit(&params)?).unwrap_or(usize::MAX);
    let by: fn(&Snapshot, &Snapshot) -> Ordering = match params.get("sort") {
        None | Some("lastUsedAt") => |a, b| a.last_used_at.cmp(&b.last_used_at),
        Some("name") => |a, b| a.name.cmp(&b.name),
        Some("createdAt") => |a, b| a.created_at.cmp(&b.created_at),
        Some("state") => |_, _| Ordering::Equal,
        Some(_) => {
            return Err(Fault::bad_request("sort: expected name, state, lastUsedAt or createdAt"));
        }
    };
    let ascending = ascending(&params)?;
    let mut found = app.engine.snapshots().list(&caller).await?;
    if let Some(part) = params.get("name").map(str::to_lowercase) {
        found.retain(|snapshot| snapshot.name.to_lowercase().contains(&part));
    }
    if params.get("sourceSandboxId").is_some() {
        found.clear();
    }
    found.sort_by(|a, b| {
        let order = by(a, b).then(a.id.cmp(&b.id));
        if ascending { order } else { order.reverse() }
    });
    let total = found.len();
    let items = found
        .into_iter()
        .skip((page - 1).saturating_mul(limit))
        .take(limit)
        .map(SnapshotBody::new)
        .collect();
    Ok(Reply(PagedSnapshots { items, total, page, total_pages: total.div_ceil(limit) }))
}

/// One snapshot, by id, else by name.
#[utoipa::path(get, path = "/api/snapshots/{snapshot}", tag = "snapshots",
    params(("snapshot" = String, Path, description = "Id or name")), responses((status = 200, body = SnapshotBody)))]
async fn get(
    State(app): State<App>,
    Who(caller): Who,
    Path(snapshot): Path<String>,
) -> Answer<Reply<SnapshotBody>> {
    Ok(Reply(SnapshotBody::new(app.engine.snapshots().get(&caller, &snapshot).await?)))
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}
