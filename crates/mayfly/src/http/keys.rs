//! `/api/api-keys`: keys of the caller's organization.

use std::collections::BTreeSet;

use axum::Json as Reply;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use mayfly_core::access::{ApiKey, Permission};
use mayfly_engine::NewKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Who};
use super::audit_line::Made;
use super::fault::{Answer, Fault};
use super::input::Json;
use super::time::{self, rfc3339};

/// A key. `value` is masked, except in the answer that made it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey)]
pub(crate) struct KeyBody {
    name: String,
    value: String,
    created_at: String,
    permissions: Vec<&'static str>,
    last_used_at: Option<String>,
    expires_at: Option<String>,
    user_id: String,
    organization_id: String,
}

impl KeyBody {
    fn new(key: ApiKey, value: Option<String>) -> Self {
        let organization = key.organization.to_string();
        Self {
            value: value.unwrap_or(key.masked),
            name: key.name,
            created_at: rfc3339(key.created_at),
            permissions: key.permissions.into_iter().map(Permission::as_str).collect(),
            last_used_at: key.last_used_at.map(rfc3339),
            expires_at: key.expires_at.map(rfc3339),
            user_id: organization.clone(),
            organization_id: organization,
        }
    }
}

/// A wish for a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CreateApiKey)]
pub(crate) struct CreateKey {
    name: String,
    /// Such as `write:sandboxes`; an empty list gives a key that can only read.
    #[serde(default)]
    permissions: Option<Vec<String>>,
    #[serde(default)]
    expires_at: Option<String>,
}

impl CreateKey {
    /// The wish as the engine takes it.
    pub(crate) fn into_wanted(self) -> Answer<NewKey> {
        let permissions = self
            .permissions
            .unwrap_or_default()
            .iter()
            .map(|text| {
                Permission::parse(text).ok_or_else(|| {
                    let known: Vec<_> =
                        Permission::ALL.iter().map(|known| known.as_str()).collect();
                    let text: String = text.chars().take(64).collect();
                    Fault::bad_request(format!(
                        "permissions: `{text}` is not one of {}",
                        known.join(", ")
                    ))
                })
            })
            .collect::<Answer<BTreeSet<_>>>()?;
        let expires_at = self.expires_at.map(|text| time::parse("expiresAt", &text)).transpose()?;
        Ok(NewKey { name: self.name, permissions, expires_at })
    }
}

/// Makes a key; its value is shown this once.
#[utoipa::path(post, path = "/api/api-keys", tag = "api-keys", request_body = CreateKey,
    responses((status = 201, body = KeyBody)))]
async fn create(
    State(app): State<App>,
    Who(caller): Who,
    Json(body): Json<CreateKey>,
) -> Answer<(StatusCode, Extension<Made>, Reply<KeyBody>)> {
    let (key, value) = app.engine.access().create_key(&caller, body.into_wanted()?).await?;
    let made = Extension(Made(key.name.clone()));
    Ok((StatusCode::CREATED, made, Reply(KeyBody::new(key, Some(value)))))
}

/// Keys by name, their values masked.
#[utoipa::path(get, path = "/api/api-keys", tag = "api-keys", responses((status = 200, body = Vec<KeyBody>)))]
async fn list(State(app): State<App>, Who(caller): Who) -> Answer<Reply<Vec<KeyBody>>> {
    let keys = app.engine.access().keys(&caller).await?;
    Ok(Reply(keys.into_iter().map(|key| KeyBody::new(key, None)).collect()))
}

/// The key of this call.
#[utoipa::path(get, path = "/api/api-keys/current", tag = "api-keys", responses((status = 200, body = KeyBody)))]
async fn current(State(app): State<App>, Who(caller): Who) -> Answer<Reply<KeyBody>> {
    let key = app.engine.access().own_key(&caller).await?;
    Ok(Reply(KeyBody::new(key, None)))
}

/// One key, its value masked.
#[utoipa::path(get, path = "/api/api-keys/{name}", tag = "api-keys",
    params(("name" = String, Path)), responses((status = 200, body = KeyBody)))]
async fn get(
    State(app): State<App>,
    Who(caller): Who,
    Path(name): Path<String>,
) -> Answer<Reply<KeyBody>> {
    let keys = app.engine.access().keys(&caller).await?;
    let found = keys.into_iter().find(|key| key.name == name);
    let found = found.ok_or_else(|| {
        let name: String = name.chars().take(255).collect();
        Fault::new(StatusCode::NOT_FOUND, format!("API key {name} not found"))
    })?;
    Ok(Reply(KeyBody::new(found, None)))
}

/// Deletes a key; it is refused from then on.
#[utoipa::path(delete, path = "/api/api-keys/{name}", tag = "api-keys",
    params(("name" = String, Path)), responses((status = 204)))]
async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    app.engine.access().delete_key(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(current))
        .routes(routes!(get, delete))
}
