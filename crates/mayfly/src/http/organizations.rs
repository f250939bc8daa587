//! `/api/organizations`: owners of keys and sandboxes, made and limited by the operator.

use axum::Json as Reply;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use mayfly_core::access::{Organization, Quota};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Who};
use super::audit_line::Made;
use super::fault::Answer;
use super::input::Json;
use super::time::rfc3339;

/// Limits of an organization; in each field `null` = the server's default, 0 = none.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = OrganizationLimits)]
pub(crate) struct LimitsBody {
    /// Sandboxes that are not destroyed.
    sandboxes: Option<u32>,
    /// Cores of sandboxes that run.
    cpu: Option<u32>,
    /// GiB of memory of sandboxes that run.
    memory: Option<u32>,
    /// GiB of disk of sandboxes that are not destroyed.
    disk: Option<u32>,
    volumes: Option<u32>,
}

impl From<Quota> for LimitsBody {
    fn from(quota: Quota) -> Self {
        let Quota { sandboxes, cpu, memory_gib, disk_gib, volumes } = quota;
        Self { sandboxes, cpu, memory: memory_gib, disk: disk_gib, volumes }
    }
}

impl From<LimitsBody> for Quota {
    fn from(limits: LimitsBody) -> Self {
        let LimitsBody { sandboxes, cpu, memory, disk, volumes } = limits;
        Self { sandboxes, cpu, memory_gib: memory, disk_gib: disk, volumes }
    }
}

/// What an organization uses now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageBody {
    sandboxes: u64,
    cpu: u64,
    memory: u64,
    disk: u64,
    volumes: u64,
}

/// An owner of keys and sandboxes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Organization)]
pub(crate) struct OrganizationBody {
    id: String,
    name: String,
    created_at: String,
    /// Its own limits.
    limits: LimitsBody,
    /// The limits in force: its own, else the server's defaults.
    effective: LimitsBody,
    usage: UsageBody,
}

impl OrganizationBody {
    fn new(app: &App, organization: Organization) -> Self {
        let (used, effective) = app.engine.organizations().usage(&organization);
        Self {
            id: organization.id.to_string(),
            name: organization.name,
            created_at: rfc3339(organization.created_at),
            limits: organization.quota.into(),
            effective: effective.into(),
            usage: UsageBody {
                sandboxes: used.sandboxes,
                cpu: used.cpu,
                memory: used.memory_gib,
                disk: used.disk_gib,
                volumes: used.volumes,
            },
        }
    }
}

/// A wish for an organization.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateOrganization)]
pub(crate) struct CreateOrganization {
    /// 1 to 64 letters, digits, `-`, `_` and `.`.
    name: String,
    #[serde(default)]
    limits: Option<LimitsBody>,
}

/// Those that the caller sees: a key its own one, the operator all.
#[utoipa::path(get, path = "/api/organizations", tag = "organizations",
    responses((status = 200, body = Vec<OrganizationBody>)))]
async fn list(State(app): State<App>, Who(caller): Who) -> Answer<Reply<Vec<OrganizationBody>>> {
    let found = app.engine.organizations().list(&caller).await?;
    Ok(Reply(found.into_iter().map(|one| OrganizationBody::new(&app, one)).collect()))
}

/// Makes one; for the operator, over the server's own socket.
#[utoipa::path(post, path = "/api/organizations", tag = "organizations", request_body = CreateOrganization,
    responses((status = 201, body = OrganizationBody)))]
async fn create(
    State(app): State<App>,
    Who(caller): Who,
    Json(body): Json<CreateOrganization>,
) -> Answer<(StatusCode, Extension<Made>, Reply<OrganizationBody>)> {
    let quota = body.limits.unwrap_or_default().into();
    let made = app.engine.organizations().create(&caller, &body.name, quota).await?;
    let name = Extension(Made(made.name.clone()));
    Ok((StatusCode::CREATED, name, Reply(OrganizationBody::new(&app, made))))
}

/// One of them, by id or name.
#[utoipa::path(get, path = "/api/organizations/{organization}", tag = "organizations",
    params(("organization" = String, Path)), responses((status = 200, body = OrganizationBody)))]
async fn get(
    State(app): State<App>,
    Who(caller): Who,
    Path(organization): Path<String>,
) -> Answer<Reply<OrganizationBody>> {
    let found = app.engine.organizations().get(&caller, &organization)?;
    Ok(Reply(OrganizationBody::new(&app, found)))
}

/// Deletes one with its keys and its audit log; for the operator. It must have no sandboxes.
#[utoipa::path(delete, path = "/api/organizations/{organization}", tag = "organizations",
    params(("organization" = String, Path)), responses((status = 204)))]
async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    Path(organization): Path<String>,
) -> Answer<StatusCode> {
    app.engine.organizations().delete(&caller, &organization).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replaces its own limits; for the operator. What is over them already stays.
#[utoipa::path(put, path = "/api/organizations/{organization}/limits", tag = "organizations",
    request_body = LimitsBody, params(("organization" = String, Path)),
    responses((status = 200, body = OrganizationBody)))]
async fn set_limits(
    State(app): State<App>,
    Who(caller): Who,
    Path(organization): Path<String>,
    Json(body): Json<LimitsBody>,
) -> Answer<Reply<OrganizationBody>> {
    let all = app.engine.organizations();
    let changed = all.set_quota(&caller, &organization, body.into()).await?;
    Ok(Reply(OrganizationBody::new(&app, changed)))
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, delete))
        .routes(routes!(set_limits))
}
