//! `/toolbox/{id}/port`: what listens inside, and bytes to and from it.

use axum::Json as Reply;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, HeaderValue, UPGRADE};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::fault::{Answer, Fault};
use super::preview;
use super::toolbox::Toolbox;
use crate::splice::splice;

/// Name of the protocol that a connection changes to: bytes as they are.
const PROTOCOL: &str = "tcp";

/// TCP ports that something inside listens on, ascending.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PortList {
    ports: Vec<u16>,
}

/// Whether something inside listens on a port.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IsPortInUse {
    is_in_use: bool,
}

/// TCP ports that something inside listens on.
#[utoipa::path(get, path = "/toolbox/{sandbox}/port", tag = "port",
    params(("sandbox" = String, Path)), responses((status = 200, body = PortList)))]
async fn list(Toolbox(reach): Toolbox) -> Answer<Reply<PortList>> {
    Ok(Reply(PortList { ports: reach.ports().await? }))
}

/// Whether something inside listens on a TCP port.
#[utoipa::path(get, path = "/toolbox/{sandbox}/port/{port}/in-use", tag = "port",
    params(("sandbox" = String, Path), ("port" = u16, Path)), responses((status = 200, body = IsPortInUse)))]
async fn in_use(
    Path((_, port)): Path<(String, String)>,
    Toolbox(reach): Toolbox,
) -> Answer<Reply<IsPortInUse>> {
    let port = preview::port(&port)?;
    Ok(Reply(IsPortInUse { is_in_use: reach.ports().await?.contains(&port) }))
}

/// Turns the connection into one to a TCP port inside: after the 101 all bytes are the service's.
#[utoipa::path(get, path = "/toolbox/{sandbox}/port/{port}/connect", tag = "port",
    params(("sandbox" = String, Path), ("port" = u16, Path), ("Upgrade" = String, Header, description = "tcp")),
    responses((status = 101, description = "Bytes follow")))]
async fn connect(
    State(app): State<App>,
    Path((_, port)): Path<(String, String)>,
    Toolbox(reach): Toolbox,
    mut request: Request,
) -> Answer<Response> {
    let port = preview::port(&port)?;
    if preview::upgrade(request.headers()).is_none_or(|protocol| protocol != PROTOCOL) {
        return Err(Fault::bad_request("Upgrade: expected `tcp`, named by Connection: upgrade"));
    }
    let guest = app.previews.guest(reach.id())?;
    let inside = preview::stream(reach.connect(port).await.map_err(preview::unreached)?)?;
    let caller = hyper::upgrade::on(&mut request);
    // Ends with either end: the service's with its sandbox, the caller's with the server.
    tokio::spawn(async move {
        let _guest = guest;
        if let Ok(caller) = caller.await {
            let _ = splice(&reach, TokioIo::new(caller), inside).await;
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(in_use)).routes(routes!(connect))
}
