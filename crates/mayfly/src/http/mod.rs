//! The HTTP edge: the Daytona v0 wire over the engine's use cases. Only this folder knows JSON bodies.
//!
//! A request passes the gate (`gate.rs`: host, key, rate, panic, error shape), then one handler per verb
//! in the file of its noun; each noun has its router at its foot. Errors travel as `Fault` and are written
//! by `shape.rs` in the shape of the path.

mod again;
mod app;
mod audit;
mod audit_line;
pub(crate) mod backup;
mod charts;
mod code_run;
mod config;
mod cors;
mod counters;
mod events;
mod events_packet;
mod fault;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod gate;
mod git_wire;
mod health;
mod input;
mod internal;
mod keys;
mod leftover;
mod metrics;
mod multipart;
mod network;
mod older;
mod openapi;
mod openapi_refusals;
mod organizations;
mod pass;
mod preview;
mod preview_token;
mod rate;
mod sandbox_list;
mod sandbox_telemetry;
mod sandbox_wire;
mod sandboxes;
mod serve;
mod session_logs;
mod shape;
mod signed;
mod snapshots;
mod sockets;
mod ssh_access;
mod system;
#[cfg(test)]
mod tests;
mod time;
mod toolbox;
mod toolbox_download;
mod toolbox_env;
mod toolbox_files;
mod toolbox_git;
mod toolbox_info;
mod toolbox_interpreter;
mod toolbox_lsp;
mod toolbox_port;
mod toolbox_process;
mod toolbox_pty;
mod toolbox_sessions;
mod toolbox_upload;
mod unsupported;
mod volumes;

use axum::Router;
use axum::middleware::from_fn_with_state;
use utoipa_axum::router::OpenApiRouter;

pub(crate) use app::{App, Options, Parts};
pub(crate) use internal::serve as serve_internal;
pub(crate) use openapi::document;
pub(crate) use preview::paths as preview_paths;
pub(crate) use rate::Rate;
pub(crate) use serve::{Limits, serve_tcp, serve_unix};

use fault::Fault;

/// Every documented route, with its description.
fn routes() -> OpenApiRouter<App> {
    openapi::base()
        .merge(sandboxes::router())
        .merge(sandbox_list::router())
        .merge(network::router())
        .merge(snapshots::router())
        .merge(volumes::router())
        .merge(sandbox_telemetry::router())
        .merge(keys::router())
        .merge(organizations::router())
        .merge(audit::router())
        .merge(events::router())
        .merge(backup::router())
        .merge(system::router())
        .merge(signed::router())
        .merge(preview::links())
        .merge(ssh_access::router())
        .merge(toolbox_files::router())
        .merge(toolbox_upload::router())
        .merge(toolbox_download::router())
        .merge(toolbox_git::router())
        .merge(toolbox_lsp::router())
        .merge(toolbox_process::router())
        .merge(code_run::router())
        .merge(toolbox_sessions::router())
        .merge(toolbox_pty::router())
        .merge(toolbox_interpreter::router())
        .merge(toolbox_info::router())
        .merge(toolbox_env::router())
        .merge(toolbox_port::router())
        .merge(config::router())
        .merge(health::router())
        .merge(metrics::router())
}

/// The whole service.
pub(crate) fn router(app: App) -> Router {
    let (router, _) = routes().split_for_parts();
    let router = router
        .merge(openapi::router())
        .merge(unsupported::router())
        .merge(events::others())
        .fallback(async || Fault::new(axum::http::StatusCode::NOT_FOUND, "no such endpoint"))
        .method_not_allowed_fallback(async || {
            Fault::new(
                axum::http::StatusCode::METHOD_NOT_ALLOWED,
                "this endpoint does not take this method",
            )
        })
        .layer(from_fn_with_state(app.clone(), gate::pass))
        .with_state(app.clone());
    preview::in_front_of(router, app)
}
