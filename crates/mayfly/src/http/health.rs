//! Health, for probes and people.

use axum::Json as Reply;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, VARY};
use axum::response::{Html, IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::fault::Answer;

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    status: &'static str,
    service: &'static str,
    version: &'static str,
}

const PAGE: &str = include_str!("page.html");

const HEALTHY: Health =
    Health { status: "ok", service: "mayfly", version: env!("CARGO_PKG_VERSION") };

/// The server answers; needs no key.
#[utoipa::path(get, path = "/health", tag = "health", security(()), responses((status = 200, body = Health)))]
async fn health() -> Reply<Health> {
    Reply(HEALTHY)
}

/// The same under the API's prefix.
#[utoipa::path(get, path = "/api/health", tag = "health", security(()), responses((status = 200, body = Health)))]
async fn api_health() -> Reply<Health> {
    Reply(HEALTHY)
}

/// The server answers and its store can be read; 503 or 500 otherwise.
#[utoipa::path(get, path = "/health/ready", tag = "health", security(()), responses((status = 200, body = Health)))]
async fn ready(State(app): State<App>) -> Answer<Reply<Health>> {
    app.store.setting("ready").await?;
    Ok(Reply(HEALTHY))
}

/// The same under the API's prefix.
#[utoipa::path(get, path = "/api/health/ready", tag = "health", security(()), responses((status = 200, body = Health)))]
async fn api_ready(app: State<App>) -> Answer<Reply<Health>> {
    ready(app).await
}

/// What this service is; browsers get a page with links.
#[utoipa::path(get, path = "/", tag = "health", security(()), responses((status = 200, body = Health)))]
async fn root(headers: HeaderMap) -> Response {
    let accepted = headers.get(ACCEPT).and_then(|accepted| accepted.to_str().ok());
    let wants_page = accepted.is_some_and(|accepted| accepted.contains("text/html"));
    let mut response = if wants_page {
        let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
        ([(CONTENT_SECURITY_POLICY, policy)], Html(PAGE)).into_response()
    } else {
        Reply(HEALTHY).into_response()
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(api_health))
        .routes(routes!(ready))
        .routes(routes!(api_ready))
        .routes(routes!(root))
}
