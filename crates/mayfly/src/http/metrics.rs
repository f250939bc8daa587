//! `/metrics` as Prometheus text; every metric's name stands here.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::extract::{Extension, State};
use axum::http::header::{CONTENT_TYPE, FORWARDED};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use mayfly_core::access::Permission;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Who};
use super::counters::Counters;
use super::fault::{Answer, Fault};
use super::gate::Peer;

/// Prometheus text. Open to loopback callers when no public URL is set, else it needs `read:metrics`.
#[utoipa::path(get, path = "/metrics", tag = "metrics", security((), ("key" = [])), responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    who: Option<Extension<Who>>,
    headers: HeaderMap,
) -> Answer<impl IntoResponse> {
    let forwarded = headers.contains_key(FORWARDED)
        || headers.keys().any(|name| name.as_str().starts_with("x-forwarded-"));
    let local = peer.is_some_and(|Extension(peer)| peer.is_local());
    let open = local && !forwarded && app.options.public_url.is_none();
    match who {
        Some(Extension(Who(caller))) if !open && !caller.may(Permission::ReadMetrics) => {
            return Err(Fault::new(
                StatusCode::FORBIDDEN,
                "this key may not read metrics: it needs the permission read:metrics",
            ));
        }
        None if !open => {
            return Err(Fault::unauthenticated(
                "metrics need an API key with the permission read:metrics",
            ));
        }
        _ => {}
    }
    let mut states: BTreeMap<(&str, bool), u64> = BTreeMap::new();
    for sandbox in app.store.living().await? {
        *states.entry((sandbox.state.as_str(), sandbox.warm)).or_default() += 1;
    }
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text(&app.counters, &states)))
}

fn text(counters: &Counters, states: &BTreeMap<(&str, bool), u64>) -> String {
    let mut out = String::from(
        "# HELP mayfly_http_answers_total Answered requests by class of their status.\n# TYPE mayfly_http_answers_total counter\n",
    );
    for (class, count) in counters.answers().enumerate() {
        let _ = writeln!(out, "mayfly_http_answers_total{{class=\"{}xx\"}} {count}", class + 1);
    }
    out.push_str("# HELP mayfly_sandboxes Sandboxes that are not destroyed.\n# TYPE mayfly_sandboxes gauge\n");
    for ((state, warm), count) in states {
        let _ = writeln!(out, "mayfly_sandboxes{{state=\"{state}\",warm=\"{warm}\"}} {count}");
    }
    out
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(metrics))
}
