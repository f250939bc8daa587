//! `/api/sandbox/{s}/ports/...`: where previews are, and what opens them.

use axum::Json as Reply;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use mayfly_core::access::{Caller, Permission};
use mayfly_core::id::SandboxId;
use mayfly_core::{Error, Kind};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::address;
use super::guard::{TOOLBOX, digest};
use super::link::Link;
use crate::http::app::{App, Who};
use crate::http::fault::{Answer, Fault};
use crate::http::input::Params;
use crate::http::preview_token;

/// Life of a signed link whose caller says nothing, seconds.
const LIFE: u32 = 60;
/// Longest life of a signed link, seconds: 30 days.
const LONGEST: u32 = 30 * 24 * 3600;

/// Where a port of a sandbox is seen from outside, and what opens it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PortPreviewUrl {
    sandbox_id: String,
    url: String,
    /// For the header `x-daytona-preview-token`; opens this port of this sandbox.
    token: String,
}

/// A link that opens one port without anything else, for a time.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignedPortPreviewUrl {
    sandbox_id: String,
    port: u16,
    token: String,
    url: String,
}

/// The URL of a port of the sandbox, with its token.
#[utoipa::path(get, path = "/api/sandbox/{sandbox}/ports/{port}/preview-url", tag = "sandbox",
    params(("sandbox" = String, Path), ("port" = u16, Path)), responses((status = 200, body = PortPreviewUrl)))]
async fn preview_url(
    State(app): State<App>,
    Who(caller): Who,
    Path((sandbox, port)): Path<(String, String)>,
) -> Answer<Reply<PortPreviewUrl>> {
    let (id, port) = named(&app, &caller, &sandbox, &port).await?;
    Ok(Reply(PortPreviewUrl {
        sandbox_id: id.to_string(),
        url: url(&app, port, &id.to_string())?,
        token: preview_token::token(&app.master, id, port),
    }))
}

/// A signed URL of a port of the sandbox.
#[utoipa::path(get, path = "/api/sandbox/{sandbox}/ports/{port}/signed-preview-url", tag = "sandbox",
    params(("sandbox" = String, Path), ("port" = u16, Path),
        ("expiresInSeconds" = Option<u32>, Query, description = "1 to 2592000, default 60")),
    responses((status = 200, body = SignedPortPreviewUrl)))]
async fn signed_preview_url(
    State(app): State<App>,
    Who(caller): Who,
    Path((sandbox, port)): Path<(String, String)>,
    params: Params,
) -> Answer<Reply<SignedPortPreviewUrl>> {
    let (id, port) = named(&app, &caller, &sandbox, &port).await?;
    if port == TOOLBOX {
        return Err(Fault::bad_request(format!(
            "port: {TOOLBOX} is the toolbox, which no link opens"
        )));
    }
    let life = params.number::<u32>("expiresInSeconds")?.unwrap_or(LIFE);
    if !(1..=LONGEST).contains(&life) {
        return Err(Fault::bad_request(format!("expiresInSeconds: expected 1 to {LONGEST}")));
    }
    let until = app.now().0.div_euclid(1000) + i64::from(life);
    let until = u32::try_from(until).unwrap_or(u32::MAX);
    let token = Link { sandbox: id, until }.token(&app.master, port);
    Ok(Reply(SignedPortPreviewUrl {
        sandbox_id: id.to_string(),
        port,
        url: url(&app, port, &token)?,
        token,
    }))
}

/// Ends a signed URL before its time.
#[utoipa::path(post, path = "/api/sandbox/{sandbox}/ports/{port}/signed-preview-url/{token}/expire", tag = "sandbox",
    params(("sandbox" = String, Path), ("port" = u16, Path), ("token" = String, Path)), responses((status = 200)))]
async fn expire(
    State(app): State<App>,
    Who(caller): Who,
    Path((sandbox, port, token)): Path<(String, String, String)>,
) -> Answer<StatusCode> {
    let (id, port) = named(&app, &caller, &sandbox, &port).await?;
    let link = Link::read(&app.master, port, &token).filter(|link| link.sandbox == id);
    let link = link.ok_or_else(|| {
        Fault::new(
            StatusCode::NOT_FOUND,
            "the token is none of a signed URL of this sandbox and port",
        )
    })?;
    if !link.is_over(app.now()) {
        app.store.end_link(&digest(&token), link.end(), app.now()).await?;
    }
    Ok(StatusCode::OK)
}

/// The caller's sandbox and the port. What opens a port stands for using the sandbox.
async fn named(app: &App, caller: &Caller, sandbox: &str, port: &str) -> Answer<(SandboxId, u16)> {
    let port = address::port(port)?;
    if !caller.may(Permission::WriteSandboxes) {
        let message = "this key may not open ports: it needs the permission write:sandboxes";
        return Err(Error::new(Kind::Denied, message).into());
    }
    Ok((app.engine.sandboxes().get(caller, sandbox).await?.id, port))
}

fn url(app: &App, port: u16, whom: &str) -> Answer<String> {
    let domain = app.options.proxy_domain.as_deref().ok_or_else(|| {
        Error::new(
            Kind::Unavailable,
            "this server has no address for previews: it listens on its socket only",
        )
        .with_hint(
            "start one with `mayfly serve`, or forward the port: `mayfly sandbox port --listen`",
        )
    })?;
    Ok(format!("{}://{port}-{whom}.{domain}", app.options.scheme()))
}

/// Routes of previews' addresses.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(preview_url))
        .routes(routes!(signed_preview_url))
        .routes(routes!(expire))
}
