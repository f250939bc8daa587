//! `/api/volumes`: files that sandboxes share.

use axum::Json as Reply;
use axum::extract::{Extension, Path, State};
use mayfly_core::volume::{Mount, Volume, WantedMount};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Who};
use super::audit_line::Made;
use super::fault::{Answer, Fault};
use super::input::{Json, Params};
use super::time::rfc3339;

/// A volume; the fields that may be null are always sent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = VolumeDto)]
pub(crate) struct VolumeBody {
    id: String,
    name: String,
    organization_id: String,
    /// creating, ready, deleting, deleted or error; only a ready one is mounted.
    state: &'static str,
    /// Most that it holds, GiB.
    size: u32,
    error_reason: Option<String>,
    created_at: String,
    updated_at: String,
    /// When a sandbox was last made with it.
    last_used_at: Option<String>,
}

impl VolumeBody {
    fn new(volume: Volume) -> Self {
        Self {
            id: volume.id.to_string(),
            name: volume.name,
            organization_id: volume.organization.to_string(),
            state: volume.state.as_str(),
            size: volume.size_gib,
            error_reason: volume.error_reason,
            created_at: rfc3339(volume.created_at),
            updated_at: rfc3339(volume.updated_at),
            last_used_at: volume.last_used_at.map(rfc3339),
        }
    }
}

/// A wish for a volume.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CreateVolume)]
pub(crate) struct CreateVolume {
    /// Unique among the organization's volumes; not in the form of an id.
    name: String,
    /// Most that it holds, whole GiB. Default: the server's.
    #[serde(default)]
    size: Option<u32>,
}

/// A volume in a sandbox.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SandboxVolume)]
pub(crate) struct MountBody {
    /// Its id, or its name when a sandbox is made.
    volume_id: String,
    /// Where it is mounted inside: an absolute path outside the system's own folders.
    mount_path: String,
    /// Only this folder of the volume, made where it is missing. Default: the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subpath: Option<String>,
    /// Whether nothing inside, root included, can change it there. Default: false.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    read_only: Option<bool>,
}

impl MountBody {
    pub(super) fn new(mount: Mount) -> Self {
        Self {
            volume_id: mount.volume.to_string(),
            mount_path: mount.path,
            subpath: mount.subpath,
            read_only: Some(mount.read_only),
        }
    }

    /// The wish as the engine takes it.
    pub(super) fn into_wish(self) -> WantedMount {
        WantedMount {
            volume: self.volume_id,
            path: self.mount_path,
            subpath: self.subpath,
            read_only: self.read_only.unwrap_or_default(),
        }
    }
}

/// Makes a volume; it is ready when this is answered.
#[utoipa::path(post, path = "/api/volumes", tag = "volumes", request_body = CreateVolume,
    responses((status = 200, body = VolumeBody)))]
async fn create(
    State(app): State<App>,
    Who(caller): Who,
    Json(body): Json<CreateVolume>,
) -> Answer<(Extension<Made>, Reply<VolumeBody>)> {
    let volume = app.engine.volumes().create(&caller, &body.name, body.size).await?;
    Ok((Extension(Made(volume.id.to_string())), Reply(VolumeBody::new(volume))))
}

/// Volumes of the caller's organization, oldest first.
#[utoipa::path(get, path = "/api/volumes", tag = "volumes",
    params(("includeDeleted" = Option<bool>, Query, description = "Also those deleted lately. Default: false")),
    responses((status = 200, body = Vec<VolumeBody>)))]
async fn list(
    State(app): State<App>,
    Who(caller): Who,
    params: Params,
) -> Answer<Reply<Vec<VolumeBody>>> {
    let with_deleted = params.boolean("includeDeleted")?.unwrap_or_default();
    let found = app.engine.volumes().list(&caller, with_deleted);
    Ok(Reply(found.into_iter().map(VolumeBody::new).collect()))
}

/// One volume, by id, else by name.
#[utoipa::path(get, path = "/api/volumes/{volume}", tag = "volumes",
    params(("volume" = String, Path, description = "Id or name")), responses((status = 200, body = VolumeBody)))]
async fn get(
    State(app): State<App>,
    Who(caller): Who,
    Path(volume): Path<String>,
) -> Answer<Reply<VolumeBody>> {
    Ok(Reply(VolumeBody::new(app.engine.volumes().get(&caller, &volume)?)))
}

/// One volume, by name.
#[utoipa::path(get, path = "/api/volumes/by-name/{volume}", tag = "volumes",
    params(("volume" = String, Path, description = "Name")), responses((status = 200, body = VolumeBody)))]
async fn by_name(
    State(app): State<App>,
    Who(caller): Who,
    Path(volume): Path<String>,
) -> Answer<Reply<VolumeBody>> {
    Ok(Reply(VolumeBody::new(app.engine.volumes().by_name(&caller, &volume)?)))
}

/// Deletes a volume with its files, by id, else by name; 409 while a sandbox mounts it.
#[utoipa::path(delete, path = "/api/volumes/{volume}", tag = "volumes",
    params(("volume" = String, Path, description = "Id or name")), responses((status = 200, body = VolumeBody)))]
async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    Path(volume): Path<String>,
) -> Answer<Reply<VolumeBody>> {
    let deleted = app.engine.volumes().delete(&caller, &volume).await.map_err(Fault::from)?;
    Ok(Reply(VolumeBody::new(deleted)))
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get, delete))
        .routes(routes!(by_name))
}
