//! `/toolbox/{id}`: folders, version and use of a sandbox.

use axum::Json as Reply;
use axum::extract::State;
use mayfly_core::ports::runtime::{Profile, Usage};
use mayfly_core::time::Monotonic;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::fault::Answer;
use super::time::rfc3339;
use super::toolbox::Toolbox;

/// Between the two looks that the share of processor time is taken from.
const LOOK: Duration = Duration::from_millis(50);

/// A folder, absolute.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Folder {
    dir: String,
}

/// Version of the toolbox.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Version {
    version: &'static str,
}

/// Use of resources; sizes in bytes. Without a limit, as an ordinary user's server has none, a limit and what
/// is a share of it is `null`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SystemMetrics)]
pub(crate) struct SystemMetrics {
    cpu_count: Option<u32>,
    /// Percent of the sandbox's own limit.
    cpu_used_pct: Option<f64>,
    mem_total: Option<u64>,
    mem_used: u64,
    mem_cache: u64,
    disk_total: Option<u64>,
    disk_used: Option<u64>,
    disk_free: Option<u64>,
    timestamp: String,
    timestamp_unix: i64,
}

/// Home of the sandbox's user.
#[utoipa::path(get, path = "/toolbox/{sandbox}/user-home-dir", tag = "info",
    params(("sandbox" = String, Path)), responses((status = 200, body = Folder)))]
async fn home(Toolbox(reach): Toolbox) -> Answer<Reply<Folder>> {
    Ok(Reply(Folder { dir: reach.places().await?.home }))
}

/// Where commands start and relative paths begin.
#[utoipa::path(get, path = "/toolbox/{sandbox}/work-dir", tag = "info",
    params(("sandbox" = String, Path)), responses((status = 200, body = Folder)))]
async fn work_dir(Toolbox(reach): Toolbox) -> Answer<Reply<Folder>> {
    Ok(Reply(Folder { dir: reach.places().await?.workdir }))
}

/// Version of the toolbox.
#[utoipa::path(get, path = "/toolbox/{sandbox}/version", tag = "info",
    params(("sandbox" = String, Path)), responses((status = 200, body = Version)))]
async fn version(Toolbox(_): Toolbox) -> Reply<Version> {
    Reply(Version { version: env!("CARGO_PKG_VERSION") })
}

/// Use of the sandbox's resources now.
#[utoipa::path(get, path = "/toolbox/{sandbox}/system/metrics", tag = "info",
    params(("sandbox" = String, Path)), responses((status = 200, body = SystemMetrics)))]
async fn system_metrics(
    State(app): State<App>,
    Toolbox(reach): Toolbox,
) -> Answer<Reply<SystemMetrics>> {
    let before = (reach.usage().await?, app.clock.now().mono);
    tokio::time::sleep(LOOK).await;
    let after = (reach.usage().await?, app.clock.now().mono);
    let sandbox = reach.sandbox();
    let limits = (sandbox.profile == Profile::Full).then_some(sandbox.resources);
    let now = app.now();
    let disk_total = limits.map(|limits| limits.disk_bytes());
    let disk_used = after.0.disk_bytes;
    Ok(Reply(SystemMetrics {
        cpu_count: limits.map(|limits| limits.cpu),
        cpu_used_pct: limits.map(|limits| share(before, after, limits.cpu)),
        mem_total: limits.map(|limits| limits.memory_bytes()),
        mem_used: after.0.memory_bytes,
        mem_cache: after.0.memory_cache_bytes,
        disk_total,
        disk_used,
        disk_free: disk_total.zip(disk_used).map(|(total, used)| total.saturating_sub(used)),
        timestamp: rfc3339(now),
        timestamp_unix: now.0.div_euclid(1000),
    }))
}

/// Percent of the cores' time used between two looks, to two decimals.
pub(super) fn share(before: (Usage, Monotonic), after: (Usage, Monotonic), cores: u32) -> f64 {
    let used = Duration::from_nanos(after.0.cpu_nanos.saturating_sub(before.0.cpu_nanos));
    let time = after.1.since(before.1) * cores.max(1);
    if time.is_zero() {
        return 0.0;
    }
    (used.as_secs_f64() / time.as_secs_f64() * 10_000.0).round() / 100.0
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(home))
        .routes(routes!(work_dir))
        .routes(routes!(version))
        .routes(routes!(system_metrics))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_the_limit() {
        let look =
            |nanos, millis| (Usage { cpu_nanos: nanos, ..Usage::default() }, Monotonic(millis));
        let percent = |a, b, cores| format!("{:.2}", share(a, b, cores));
        assert_eq!(percent(look(0, 0), look(50_000_000, 100), 1), "50.00");
        assert_eq!(percent(look(0, 0), look(50_000_000, 100), 2), "25.00");
        assert_eq!(percent(look(0, 0), look(0, 0), 1), "0.00");
    }
}
