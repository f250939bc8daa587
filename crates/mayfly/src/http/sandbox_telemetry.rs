//! `/api/sandbox/{id}/telemetry/metrics`: what a sandbox used of late, as series.

use axum::Json as Reply;
use axum::extract::{Path, State};
use mayfly_core::ports::runtime::Profile;
use mayfly_core::sandbox::Sandbox;
use mayfly_core::time::Timestamp;
use mayfly_engine::Sample;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Who};
use super::fault::Answer;
use super::input::Params;
use super::time::{self, rfc3339};
use super::toolbox_info::share;

/// What all names begin with.
const PREFIX: &str = "daytona.sandbox.";

/// A value at a time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DataPoint {
    timestamp: String,
    value: f64,
}

/// One metric over time.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Series {
    metric_name: String,
    data_points: Vec<DataPoint>,
}

/// All that were asked for. Without a limit, as an ordinary user's server has none, there is no series of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MetricsResponse)]
pub(crate) struct SeriesList {
    series: Vec<Series>,
}

/// What a sandbox used: a sample a minute of the last hour, and one of now where it runs. Sizes in bytes, cores,
/// processor time in percent of the limit.
#[utoipa::path(get, path = "/api/sandbox/{sandbox}/telemetry/metrics", tag = "sandbox",
    params(("sandbox" = String, Path), ("from" = Option<String>, Query), ("to" = Option<String>, Query),
        ("metricNames" = Option<Vec<String>>, Query)),
    responses((status = 200, body = SeriesList)))]
async fn metrics(
    State(app): State<App>,
    Who(caller): Who,
    Path(sandbox): Path<String>,
    params: Params,
) -> Answer<Reply<SeriesList>> {
    let from = params.get("from").map(|text| time::parse("from", text)).transpose()?;
    let to = params.get("to").map(|text| time::parse("to", text)).transpose()?;
    let wanted = params.all("metricNames");
    let sandboxes = app.engine.sandboxes();
    let samples = sandboxes.samples(&caller, &sandbox).await?;
    let sandbox = sandboxes.get(&caller, &sandbox).await?;
    let within = |at: Timestamp| from.is_none_or(|from| at >= from) && to.is_none_or(|to| at <= to);
    let series = all(&sandbox, &samples)
        .into_iter()
        .filter(|(name, points)| {
            !points.is_empty() && (wanted.is_empty() || wanted.contains(&name.as_str()))
        })
        .map(|(metric_name, points)| Series {
            metric_name,
            data_points: points
                .into_iter()
                .filter(|(at, _)| within(*at))
                .map(|(at, value)| DataPoint { timestamp: rfc3339(at), value })
                .collect(),
        });
    Ok(Reply(SeriesList { series: series.collect() }))
}

type Points = Vec<(Timestamp, f64)>;

#[expect(clippy::cast_precision_loss, reason = "sizes of sandboxes are far below 2^53")]
fn all(sandbox: &Sandbox, samples: &[Sample]) -> Vec<(String, Points)> {
    let limits = (sandbox.profile == Profile::Full).then_some(sandbox.resources);
    let each = |value: &dyn Fn(&Sample) -> Option<f64>| -> Points {
        let points = samples.iter().filter_map(|one| Some((one.at.wall, value(one)?)));
        points.collect()
    };
    let utilization: Points = samples
        .windows(2)
        .filter_map(|pair| {
            let look = |sample: &Sample| (sample.usage, sample.at.mono);
            Some((pair[1].at.wall, share(look(&pair[0]), look(&pair[1]), limits?.cpu)))
        })
        .collect();
    [
        ("cpu.utilization", utilization),
        ("cpu.limit", each(&|_| limits.map(|limits| f64::from(limits.cpu)))),
        ("memory.usage", each(&|one| Some(one.usage.memory_bytes as f64))),
        ("memory.limit", each(&|_| limits.map(|limits| limits.memory_bytes() as f64))),
        ("memory.cache", each(&|one| Some(one.usage.memory_cache_bytes as f64))),
        ("filesystem.usage", each(&|one| one.usage.disk_bytes.map(|bytes| bytes as f64))),
        ("filesystem.total", each(&|_| limits.map(|limits| limits.disk_bytes() as f64))),
    ]
    .map(|(name, points)| (format!("{PREFIX}{name}"), points))
    .into()
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(metrics))
}
