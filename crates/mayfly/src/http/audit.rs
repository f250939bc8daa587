//! `/api/audit`: who did what in the caller's organization, and what was refused.

use axum::Json as Reply;
use axum::extract::{Path, State};
use mayfly_core::audit::{Entry, Look};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Who};
use super::fault::{Answer, Fault};
use super::input::Params;
use super::sandbox_list::limit;
use super::time::rfc3339;

/// How often, where equal lines were counted up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Metadata {
    count: u64,
}

/// A line of the audit log. Calls into sandboxes and refusals are counted up for half a minute.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditLog)]
pub(crate) struct AuditBody {
    id: String,
    /// The organization.
    actor_id: String,
    /// Name of the API key; empty for another way in, or none.
    actor_email: String,
    organization_id: String,
    /// Method and endpoint.
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_type: Option<String>,
    /// As the caller named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_id: Option<String>,
    /// 0 = the caller left before the answer.
    status_code: u16,
    /// Which rule refused it; absent where it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
    ip_address: String,
    source: &'static str,
    metadata: Metadata,
    created_at: String,
}

impl AuditBody {
    fn new(entry: Entry) -> Self {
        let path = entry.action.split_once(' ').map_or("", |(_, path)| path);
        let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != "api");
        let organization = entry.organization.to_string();
        Self {
            id: entry.id.to_string(),
            actor_id: organization.clone(),
            actor_email: entry.key.unwrap_or_default(),
            organization_id: organization,
            target_type: parts.next().filter(|_| path.starts_with('/')).map(str::to_owned),
            target_id: entry.object,
            status_code: entry.status,
            error_message: entry.rule.map(|rule| format!("refused by the rule `{rule}`")),
            ip_address: entry.origin,
            source: "api",
            metadata: Metadata { count: entry.count },
            created_at: rfc3339(entry.at),
            action: entry.action,
        }
    }
}

/// Lines, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PaginatedAuditLogs)]
pub(crate) struct PagedAudit {
    items: Vec<AuditBody>,
    total: u64,
    page: u64,
    total_pages: u64,
    /// Where the next page begins, also while lines come; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

/// The audit log of the caller's organization; needs `admin`.
#[utoipa::path(get, path = "/api/audit", tag = "audit",
    params(("page" = Option<u64>, Query, description = "From 1"), ("limit" = Option<u32>, Query, description = "1 to 200, default 100"),
        ("nextToken" = Option<String>, Query, description = "Instead of `page`")),
    responses((status = 200, body = PagedAudit)))]
async fn read(
    State(app): State<App>,
    Who(caller): Who,
    params: Params,
) -> Answer<Reply<PagedAudit>> {
    let page: u64 = params.number("page")?.unwrap_or(1);
    if page == 0 {
        return Err(Fault::bad_request("page: expected a whole number from 1"));
    }
    let limit = limit(&params)?;
    let before: Option<u64> = params.number("nextToken")?;
    let offset = if before.is_some() { 0 } else { (page - 1).saturating_mul(limit.into()) };
    let look = Look { before, offset, limit };
    let found = app.engine.audit_log().read(&caller, look).await?;
    let full = found.items.len() as u64 == u64::from(limit);
    let next_token = found.items.last().filter(|_| full).map(|last| last.id.to_string());
    Ok(Reply(PagedAudit {
        items: found.items.into_iter().map(AuditBody::new).collect(),
        total: found.total,
        page,
        total_pages: found.total.div_ceil(limit.into()),
        next_token,
    }))
}

/// The same, as clients ask for it: the organization must be the caller's own.
#[utoipa::path(get, path = "/api/audit/organizations/{organization}", tag = "audit",
    params(("organization" = String, Path)), responses((status = 200, body = PagedAudit)))]
async fn read_of(
    app: State<App>,
    Who(caller): Who,
    Path(organization): Path<String>,
    params: Params,
) -> Answer<Reply<PagedAudit>> {
    let found = app.engine.organizations().get(&caller, &organization)?;
    if found.id != caller.organization {
        return Err(Fault::bad_request("organization: expected the one that the call acts in"));
    }
    read(app, Who(caller), params).await
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read)).routes(routes!(read_of))
}
