//! `/api/sandbox/{s}/ssh-access`: tokens that let in by SSH.

use axum::Json as Reply;
use axum::extract::{Path, State};
use mayfly_core::access::{Caller, Permission, SshAccess};
use mayfly_core::id::SshAccessId;
use mayfly_core::time::Timestamp;
use mayfly_core::{Error, Kind};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Seen, Who};
use super::fault::{Answer, Fault};
use super::input::Params;
use super::preview;
use super::sandbox_wire::SandboxBody;
use super::time::rfc3339;
use crate::ssh;

/// Life of a token whose caller says nothing, minutes.
const LIFE: i64 = 60;
/// Longest life of a token, minutes: 30 days.
const LONGEST: i64 = 30 * 24 * 60;

/// Leave to enter a sandbox by SSH.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SshAccess)]
pub(crate) struct SshAccessBody {
    id: String,
    sandbox_id: String,
    /// The user name; there is no password. Shown this once.
    token: String,
    expires_at: String,
    created_at: String,
    updated_at: String,
    ssh_command: String,
    /// The gateway's name, port and key, for clients that check whom they speak with.
    host: String,
    port: u16,
    host_key: String,
}

/// Whether a token lets in now, and where.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SshAccessValidation {
    valid: bool,
    sandbox_id: String,
}

/// Makes a token that lets in by SSH.
#[utoipa::path(post, path = "/api/sandbox/{sandbox}/ssh-access", tag = "sandbox",
    params(("sandbox" = String, Path),
        ("expiresInMinutes" = Option<i64>, Query, description = "1 to 43200, default 60")),
    responses((status = 200, body = SshAccessBody)))]
async fn create(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    Path(sandbox): Path<String>,
    params: Params,
) -> Answer<Reply<SshAccessBody>> {
    may(&caller)?;
    let sandbox = app.engine.sandboxes().get(&caller, &sandbox).await?.id;
    let port = app.options.ssh_port.ok_or_else(|| {
        Error::new(Kind::Unavailable, "this server has no SSH gateway")
            .with_hint("start one with `mayfly serve`, and see ssh.listen in its settings")
    })?;
    let life = params.number::<i64>("expiresInMinutes")?.unwrap_or(LIFE);
    if !(1..=LONGEST).contains(&life) {
        return Err(Fault::bad_request(format!("expiresInMinutes: expected 1 to {LONGEST}")));
    }
    let (mut random, mut id) = ([0; 20], [0; 10]);
    app.entropy.fill(&mut random);
    app.entropy.fill(&mut id);
    let now = app.now();
    let token = ssh::token(random);
    let millis = u64::try_from(now.0).unwrap_or_default();
    let access = SshAccess {
        id: SshAccessId::from_uuid(
            uuid::Builder::from_unix_timestamp_millis(millis, &id).into_uuid(),
        ),
        sandbox,
        hash: ssh::digest(&token),
        created_at: now,
        expires_at: Timestamp(now.0 + life * 60_000),
    };
    app.store.add_ssh_access(&access).await?;
    let host = seen.split_once("://").map_or(seen.as_str(), |(_, rest)| rest);
    let host = preview::without_port(host).trim_matches(['[', ']']).to_owned();
    Ok(Reply(SshAccessBody {
        id: access.id.to_string(),
        sandbox_id: sandbox.to_string(),
        expires_at: rfc3339(access.expires_at),
        created_at: rfc3339(now),
        updated_at: rfc3339(now),
        ssh_command: format!("ssh -p {port} {token}@{host}"),
        token,
        host,
        port,
        host_key: ssh::host_key(&app.master),
    }))
}

/// Takes back one token, or all of the sandbox; connections that they opened end within seconds.
#[utoipa::path(delete, path = "/api/sandbox/{sandbox}/ssh-access", tag = "sandbox",
    params(("sandbox" = String, Path), ("token" = Option<String>, Query)), responses((status = 200, body = SandboxBody)))]
async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    Path(sandbox): Path<String>,
    params: Params,
) -> Answer<Reply<SandboxBody>> {
    may(&caller)?;
    let sandbox = app.engine.sandboxes().get(&caller, &sandbox).await?;
    app.store.delete_ssh_access(sandbox.id, params.get("token").map(ssh::digest)).await?;
    Ok(Reply(SandboxBody::new(sandbox, &seen)))
}

/// Whether a token lets in now, and into which sandbox.
#[utoipa::path(get, path = "/api/sandbox/ssh-access/validate", tag = "sandbox",
    params(("token" = String, Query)), responses((status = 200, body = SshAccessValidation)))]
async fn validate(
    State(app): State<App>,
    Who(caller): Who,
    params: Params,
) -> Answer<Reply<SshAccessValidation>> {
    may(&caller)?;
    let access = app.store.ssh_access(&ssh::digest(params.require("token")?)).await?;
    let now = app.now();
    let seen = |access: &SshAccess| {
        let owner = app.engine.owner(access.sandbox);
        access.expires_at > now && owner.is_ok_and(|owner| owner == caller.organization)
    };
    let sandbox = access.filter(seen).map(|access| access.sandbox.to_string());
    Ok(Reply(SshAccessValidation {
        valid: sandbox.is_some(),
        sandbox_id: sandbox.unwrap_or_default(),
    }))
}

/// A token stands for using the sandbox, so a key that may only read cannot have one.
fn may(caller: &Caller) -> Answer<()> {
    if caller.may(Permission::WriteSandboxes) {
        return Ok(());
    }
    let message = "this key may not give access by SSH: it needs the permission write:sandboxes";
    Err(Error::new(Kind::Denied, message).into())
}

/// Routes of SSH tokens.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create, delete)).routes(routes!(validate))
}
