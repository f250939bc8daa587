//! `/api/sandbox`: one sandbox and its verbs.

use std::collections::BTreeMap;

use axum::Json as Reply;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use mayfly_engine::Timer;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Seen, Who};
use super::audit_line::Made;
use super::fault::{Answer, Fault};
use super::input::{Json, Params};
use super::sandbox_wire::{CreateBody, ResizeBody, SandboxBody};

/// All labels of a sandbox.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Labels {
    pub(crate) labels: BTreeMap<String, String>,
}

/// An address.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Url {
    url: String,
}

type One = Answer<Reply<SandboxBody>>;

/// Makes a sandbox and returns at once.
#[utoipa::path(post, path = "/api/sandbox", tag = "sandbox", request_body = CreateBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key again returns the sandbox that the first call made")),
    responses((status = 200, body = SandboxBody)))]
async fn create(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    headers: HeaderMap,
    Json(body): Json<CreateBody>,
) -> Answer<(Extension<Made>, Reply<SandboxBody>)> {
    let key = match headers.get("idempotency-key") {
        None => None,
        Some(key) => Some(key.to_str().map(str::to_owned).map_err(|_| {
            Fault::bad_request("Idempotency-Key: the header must be visible ASCII text")
        })?),
    };
    let sandbox = app.engine.sandboxes().create(&caller, body.into_wish(key)?).await?;
    let made = Extension(Made(sandbox.id.to_string()));
    Ok((made, Reply(SandboxBody::new(sandbox, &seen))))
}

/// One sandbox, by id, else by name.
#[utoipa::path(get, path = "/api/sandbox/{sandbox}", tag = "sandbox",
    params(("sandbox" = String, Path, description = "Id or name")), responses((status = 200, body = SandboxBody)))]
async fn get(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    Path(sandbox): Path<String>,
) -> One {
    let sandbox = app.engine.sandboxes().get(&caller, &sandbox).await?;
    Ok(Reply(SandboxBody::new(sandbox, &seen)))
}

/// Deletes it, in every state, repeatedly.
#[utoipa::path(delete, path = "/api/sandbox/{sandbox}", tag = "sandbox",
    params(("sandbox" = String, Path)), responses((status = 200, body = SandboxBody)))]
async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    Path(sandbox): Path<String>,
) -> One {
    let sandbox = app.engine.sandboxes().delete(&caller, &sandbox).await?;
    Ok(Reply(SandboxBody::new(sandbox, &seen)))
}

/// Starts it, from stopped, archived or paused.
#[utoipa::path(post, path = "/api/sandbox/{sandbox}/start", tag = "sandbox",
    params(("sandbox" = String, Path)), responses((status = 200, body = SandboxBody)))]
async fn start(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    Path(sandbox): Path<String>,
) -> One {
    let sandbox = app.engine.sandboxes().start(&caller, &sandbox).await?;
    Ok(Reply(SandboxBody::new(sandbox, &seen)))
}

/// Ends its processes; its files stay.
#[utoipa::path(post, path = "/api/sandbox/{sandbox}/stop", tag = "sandbox",
    params(("sandbox" = String, Path), ("force" = Option<bool>, Query, description = "Kill at once, without the grace")),
    responses((status = 200, body = SandboxBody)))]
async fn stop(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    Path(sandbox): Path<String>,
    params: Params,
) -> One {
    let force = params.boolean("force")?.unwrap_or_default();
    let sandbox = app.engine.sandboxes().stop(&caller, &sandbox, force).await?;
    Ok(Reply(SandboxBody::new(sandbox, &seen)))
}

/// Puts a stopped one away.
#[utoipa::path(post, path = "/api/sandbox/{sandbox}/archive", tag = "sandbox",
    params(("sandbox" = String, Path)), responses((status = 200, body = SandboxBody)))]
async fn archive(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    Path(sandbox): Path<String>,
) -> One {
    let sandbox = app.engine.sandboxes().archive(&caller, &sandbox).await?;
    Ok(Reply(SandboxBody::new(sandbox, &seen)))
}

/// Freezes a started one.
#[utoipa::path(post, path = "/api/sandbox/{sandbox}/pause", tag = "sandbox",
    params(("sandbox" = String, Path)), responses((status = 200, body = SandboxBody)))]
async fn pause(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    Path(sandbox): Path<String>,
) -> One {
    let sandbox = app.engine.sandboxes().pause(&caller, &sandbox).await?;
    Ok(Reply(SandboxBody::new(sandbox, &seen)))
}

/// Leaves a recoverable error.
#[utoipa::path(post, path = "/api/sandbox/{sandbox}/recover", tag = "sandbox",
    params(("sandbox" = String, Path), ("skipStart" = Option<bool>, Query, description = "End up stopped instead of started")),
    responses((status = 200, body = SandboxBody)))]
async fn recover(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    Path(sandbox): Path<String>,
    params: Params,
) -> One {
    let skip_start = params.boolean("skipStart")?.unwrap_or_default();
    let sandbox = app.engine.sandboxes().recover(&caller, &sandbox, skip_start).await?;
    Ok(Reply(SandboxBody::new(sandbox, &seen)))
}

/// Changes its size; the disk only grows.
#[utoipa::path(post, path = "/api/sandbox/{sandbox}/resize", tag = "sandbox", request_body = ResizeBody,
    params(("sandbox" = String, Path)), responses((status = 200, body = SandboxBody)))]
async fn resize(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    Path(sandbox): Path<String>,
    Json(body): Json<ResizeBody>,
) -> One {
    let sandbox = app.engine.sandboxes().resize(&caller, &sandbox, body.into_wish()?).await?;
    Ok(Reply(SandboxBody::new(sandbox, &seen)))
}

/// Replaces all its labels.
#[utoipa::path(put, path = "/api/sandbox/{sandbox}/labels", tag = "sandbox", request_body = Labels,
    params(("sandbox" = String, Path)), responses((status = 200, body = Labels)))]
async fn set_labels(
    State(app): State<App>,
    Who(caller): Who,
    Path(sandbox): Path<String>,
    Json(body): Json<Labels>,
) -> Answer<Reply<Labels>> {
    let sandbox = app.engine.sandboxes().set_labels(&caller, &sandbox, body.labels).await?;
    Ok(Reply(Labels { labels: sandbox.labels }))
}

/// Sets one of its timers: `autostop`, `autopause`, `autoarchive`, `autodelete` or `ttl`, in minutes.
#[utoipa::path(post, path = "/api/sandbox/{sandbox}/{timer}/{minutes}", tag = "sandbox",
    params(("sandbox" = String, Path), ("timer" = String, Path), ("minutes" = i64, Path)),
    responses((status = 200, body = SandboxBody)))]
async fn set_timer(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    Path((sandbox, timer, value)): Path<(String, String, String)>,
) -> One {
    let sandboxes = app.engine.sandboxes();
    let timer = match timer.as_str() {
        "autostop" => Timer::AutoStop,
        "autopause" => Timer::AutoPause,
        "autoarchive" => Timer::AutoArchive,
        "autodelete" => Timer::AutoDelete,
        "ttl" => Timer::Ttl,
        "public" => {
            let public = value.parse().map_err(|_| {
                Fault::bad_request("public: expected true or false as the last part of the path")
            })?;
            let sandbox = sandboxes.set_public(&caller, &sandbox, public).await?;
            return Ok(Reply(SandboxBody::new(sandbox, &seen)));
        }
        _ => return Err(Fault::new(StatusCode::NOT_FOUND, "no such endpoint")),
    };
    let minutes = value.parse().map_err(|_| {
        Fault::bad_request(format!("{}: expected a whole number of minutes", timer.field()))
    })?;
    let sandbox = sandboxes.set_timer(&caller, &sandbox, timer, minutes).await?;
    Ok(Reply(SandboxBody::new(sandbox, &seen)))
}

/// Marks a use of it now, which resets the idle timers.
#[utoipa::path(post, path = "/api/sandbox/{sandbox}/last-activity", tag = "sandbox",
    params(("sandbox" = String, Path)), responses((status = 201)))]
async fn touch(
    State(app): State<App>,
    Who(caller): Who,
    Path(sandbox): Path<String>,
) -> Answer<StatusCode> {
    app.engine.sandboxes().touch(&caller, &sandbox).await?;
    Ok(StatusCode::CREATED)
}

/// Base of its toolbox, without its id.
#[utoipa::path(get, path = "/api/sandbox/{sandbox}/toolbox-proxy-url", tag = "sandbox",
    params(("sandbox" = String, Path)), responses((status = 200, body = Url)))]
async fn toolbox_url(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    Path(sandbox): Path<String>,
) -> Answer<Reply<Url>> {
    app.engine.sandboxes().get(&caller, &sandbox).await?;
    Ok(Reply(Url { url: format!("{seen}/toolbox") }))
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(get, delete))
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(archive))
        .routes(routes!(pause))
        .routes(routes!(recover))
        .routes(routes!(resize))
        .routes(routes!(set_labels))
        .routes(routes!(set_timer))
        .routes(routes!(touch))
        .routes(routes!(toolbox_url))
}
