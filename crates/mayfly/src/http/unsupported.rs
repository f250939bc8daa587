//! What the contract knows and this server does not: 501, named; and what will never be there: 404.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::any;

use super::app::App;
use super::fault::Fault;

/// Path patterns of the contract that are not built, with the name of their feature.
const ABSENT: &[(&str, &str)] = &[
    ("/api/sandbox/{s}/fork", "fork"),
    ("/api/sandbox/{s}/forks", "fork"),
    ("/api/sandbox/{s}/parent", "fork"),
    ("/api/sandbox/{s}/ancestors", "fork"),
    ("/api/sandbox/{s}/snapshot", "snapshot of a sandbox"),
    ("/api/sandbox/{s}/backup", "backup"),
    ("/api/sandbox/{s}/secrets", "secrets"),
    ("/api/sandbox/{s}/telemetry/logs", "telemetry logs"),
    ("/api/sandbox/{s}/telemetry/traces", "telemetry traces"),
    ("/api/sandbox/{s}/telemetry/traces/{trace}", "telemetry traces"),
    ("/api/sandbox/{s}/build-logs", "builds"),
    ("/api/sandbox/{s}/build-logs-url", "builds"),
    ("/api/sandbox/{s}/organization", "organization"),
    ("/api/sandbox/{s}/region-quota", "region"),
    ("/api/snapshots/{s}/activate", "snapshot activation"),
    ("/api/snapshots/{s}/deactivate", "snapshot activation"),
    ("/api/snapshots/{s}/build-logs", "builds"),
    ("/api/snapshots/{s}/build-logs-url", "builds"),
    ("/api/object-storage/{*rest}", "object storage"),
    ("/api/secret", "secrets"),
    ("/api/secret/{*rest}", "secrets"),
    ("/api/warm-pools", "warm-pools"),
    ("/api/warm-pools/{*rest}", "warm-pools"),
    ("/api/organizations/{organization}/{*rest}", "organization"),
    ("/api/regions", "region"),
    ("/api/regions/{*rest}", "region"),
    ("/api/users", "user"),
    ("/api/users/{*rest}", "user"),
    ("/api/docker-registry", "registry"),
    ("/api/docker-registry/{*rest}", "registry"),
    ("/api/audit/scenarios", "audit scenarios"),
    ("/api/webhooks", "webhook"),
    ("/api/webhooks/{*rest}", "webhook"),
    ("/toolbox/{s}/computeruse/{*rest}", "computeruse"),
];

/// Routes of everything that answers 501.
pub(crate) fn router() -> Router<App> {
    let absent = |feature: &'static str| any(async move || Fault::unsupported(feature));
    let mut router = Router::new()
        .route("/api/snapshots", axum::routing::post(async || Fault::unsupported("builds")))
        .route(
            "/api/snapshots/{snapshot}",
            axum::routing::delete(async || Fault::unsupported("snapshot deletion")),
        )
        // `for-runner` would otherwise be taken for a sandbox's name.
        .route(
            "/api/sandbox/for-runner",
            any(async || Fault::new(StatusCode::NOT_FOUND, "no such endpoint")),
        );
    for (path, feature) in ABSENT {
        router = router.route(path, absent(feature));
    }
    router
}
