//! The two list forms of sandboxes: by cursor, and by page for older clients.

use std::collections::BTreeMap;

use axum::Json as Reply;
use axum::extract::State;
use mayfly_core::ports::store::{SandboxPage, SandboxQuery, SortBy};
use mayfly_core::sandbox::State as Phase;
use mayfly_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Seen, Who};
use super::fault::{Answer, Fault};
use super::input::{Params, parse};
use super::sandbox_wire::SandboxBody;
use super::time;

/// A page by cursor; `nextCursor` is null at the end.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SandboxList {
    items: Vec<SandboxBody>,
    next_cursor: Option<String>,
}

/// A numbered page.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PagedSandboxes {
    items: Vec<SandboxBody>,
    total: u64,
    page: u64,
    total_pages: u64,
}

/// Sandboxes of the caller's organization, by cursor.
#[utoipa::path(get, path = "/api/sandbox", tag = "sandbox",
    params(
        ("cursor" = Option<String>, Query), ("limit" = Option<u32>, Query, description = "1 to 200, default 100"),
        ("id" = Option<String>, Query), ("name" = Option<String>, Query, description = "Prefix, case-insensitive"),
        ("labels" = Option<String>, Query, description = "JSON object; all must match"),
        ("states" = Option<Vec<String>>, Query), ("snapshots" = Option<Vec<String>>, Query),
        ("regionIds" = Option<Vec<String>>, Query), ("sandboxClasses" = Option<Vec<String>>, Query),
        ("minCpu" = Option<u32>, Query), ("maxCpu" = Option<u32>, Query),
        ("minMemoryGiB" = Option<u32>, Query), ("maxMemoryGiB" = Option<u32>, Query),
        ("minDiskGiB" = Option<u32>, Query), ("maxDiskGiB" = Option<u32>, Query),
        ("isPublic" = Option<bool>, Query), ("isRecoverable" = Option<bool>, Query),
        ("createdAtAfter" = Option<String>, Query), ("createdAtBefore" = Option<String>, Query),
        ("lastEventAfter" = Option<String>, Query), ("lastEventBefore" = Option<String>, Query),
        ("autoDestroyAtAfter" = Option<String>, Query), ("autoDestroyAtBefore" = Option<String>, Query),
        ("minGpu" = Option<u32>, Query), ("maxGpu" = Option<u32>, Query),
        ("includeErroredDeleted" = Option<bool>, Query, description = "Also those that broke while they were deleted"),
        ("includeWarm" = Option<bool>, Query, description = "Changes nothing: ready ones belong to nobody yet"),
        ("sort" = Option<String>, Query, description = "name, cpu, memoryGib, diskGib, lastActivityAt, createdAt"),
        ("order" = Option<String>, Query, description = "asc or desc")),
    responses((status = 200, body = SandboxList)))]
async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    params: Params,
) -> Answer<Reply<SandboxList>> {
    let page = match query(&params)? {
        Some(mut query) => {
            query.cursor = params.get("cursor").map(str::to_owned);
            query.uncounted = true;
            app.engine.sandboxes().list(&caller, &query).await?
        }
        None => SandboxPage::default(),
    };
    let items = page.items.into_iter().map(|item| SandboxBody::new(item, &seen)).collect();
    Ok(Reply(SandboxList { items, next_cursor: page.next }))
}

/// Sandboxes of the caller's organization, by page; the same filters.
#[utoipa::path(get, path = "/api/sandbox/paginated", tag = "sandbox",
    params(("page" = Option<u64>, Query, description = "From 1"), ("limit" = Option<u32>, Query, description = "1 to 200, default 100")),
    responses((status = 200, body = PagedSandboxes)))]
async fn paginated(
    State(app): State<App>,
    Who(caller): Who,
    Seen(seen): Seen,
    params: Params,
) -> Answer<Reply<PagedSandboxes>> {
    let page: u64 = params.number("page")?.unwrap_or(1);
    if page == 0 {
        return Err(Fault::bad_request("page: expected a whole number from 1"));
    }
    let limit = limit(&params)?;
    let found = match query(&params)? {
        Some(mut query) => {
            query.offset = (page - 1).saturating_mul(limit.into());
            app.engine.sandboxes().list(&caller, &query).await?
        }
        None => SandboxPage::default(),
    };
    let items = found.items.into_iter().map(|item| SandboxBody::new(item, &seen)).collect();
    let total_pages = found.total.div_ceil(limit.into());
    Ok(Reply(PagedSandboxes { items, total: found.total, page, total_pages }))
}

/// `limit`, 1 to 200, default 100.
pub(crate) fn limit(params: &Params) -> Answer<u32> {
    match params.number("limit")? {
        None => Ok(100),
        Some(limit @ 1..=200) => Ok(limit),
        Some(_) => Err(Fault::bad_request("limit: expected a whole number from 1 to 200")),
    }
}

/// The filters; `None` = nothing here can match them.
pub(crate) fn query(params: &Params) -> Answer<Option<SandboxQuery>> {
    let mut query = SandboxQuery { limit: limit(params)?, ..SandboxQuery::default() };
    // Those kept ready belong to nobody yet, so that there is nothing to include.
    params.boolean("includeWarm")?;
    query.without_doomed = !params.boolean("includeErroredDeleted")?.unwrap_or_default();
    if let Some(id) = params.get("id") {
        let Ok(id) = id.parse() else { return Ok(None) };
        query.id = Some(id);
    }
    query.name_prefix = params.get("name").map(str::to_owned);
    query.labels = labels(params.get("labels"))?;
    let Some(states) = states(&params.all("states"))? else { return Ok(None) };
    query.states = states;
    query.snapshots = params.all("snapshots").into_iter().map(str::to_owned).collect();
    query.targets = params.all("regionIds").into_iter().map(str::to_owned).collect();
    let classes = params.all("sandboxClasses");
    let no_gpu = params.number::<u32>("minGpu")?.unwrap_or_default() == 0;
    params.number::<u32>("maxGpu")?;
    let classes_known = ["container", "linux-vm", "android", "windows"];
    if let Some(other) = classes.iter().find(|class| !classes_known.contains(class)) {
        return Err(Fault::bad_request(format!(
            "sandboxClasses: `{other}` is not one of {}",
            classes_known.join(", ")
        )));
    }
    if !no_gpu || (!classes.is_empty() && !classes.contains(&"container")) {
        return Ok(None);
    }
    query.cpu = (params.number("minCpu")?, params.number("maxCpu")?);
    query.memory_gib = (params.number("minMemoryGiB")?, params.number("maxMemoryGiB")?);
    query.disk_gib = (params.number("minDiskGiB")?, params.number("maxDiskGiB")?);
    query.public = params.boolean("isPublic")?;
    query.recoverable = params.boolean("isRecoverable")?;
    query.created = (moment(params, "createdAtAfter")?, moment(params, "createdAtBefore")?);
    query.last_activity = (moment(params, "lastEventAfter")?, moment(params, "lastEventBefore")?);
    query.destroy_at =
        (moment(params, "autoDestroyAtAfter")?, moment(params, "autoDestroyAtBefore")?);
    query.sort = match params.get("sort") {
        None | Some("createdAt") => SortBy::Created,
        Some("name") => SortBy::Name,
        Some("cpu") => SortBy::Cpu,
        Some("memoryGib") => SortBy::Memory,
        Some("diskGib") => SortBy::Disk,
        Some("lastActivityAt") => SortBy::LastActivity,
        Some(_) => {
            return Err(Fault::bad_request(
                "sort: expected name, cpu, memoryGib, diskGib, lastActivityAt or createdAt",
            ));
        }
    };
    query.ascending = ascending(params)?;
    Ok(Some(query))
}

/// `order`, `desc` unless said otherwise.
pub(crate) fn ascending(params: &Params) -> Answer<bool> {
    match params.get("order").map(str::to_ascii_lowercase).as_deref() {
        None | Some("desc") => Ok(false),
        Some("asc") => Ok(true),
        Some(_) => Err(Fault::bad_request("order: expected asc or desc")),
    }
}

fn labels(text: Option<&str>) -> Answer<Vec<(String, String)>> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let map: BTreeMap<String, String> = parse(text.as_bytes()).map_err(|_| {
        Fault::bad_request("labels: expected a JSON object of texts such as {\"key\":\"value\"}")
    })?;
    Ok(map.into_iter().collect())
}

/// States to filter by; `None` when only states were asked for that no sandbox has here.
fn states(asked: &[&str]) -> Answer<Option<Vec<Phase>>> {
    const ELSEWHERE: [&str; 8] = [
        "build_failed",
        "pending_build",
        "building_snapshot",
        "unknown",
        "pulling_snapshot",
        "snapshotting",
        "forking",
        "destroyed",
    ];
    let mut states = Vec::new();
    for text in asked {
        match Phase::parse(text) {
            Some(state) if *text != "destroyed" => states.push(state),
            _ if ELSEWHERE.contains(text) => {}
            _ => {
                return Err(Fault::bad_request(format!("states: `{text}` is not a sandbox state")));
            }
        }
    }
    Ok((asked.is_empty() || !states.is_empty()).then_some(states))
}

fn moment(params: &Params, field: &str) -> Answer<Option<Timestamp>> {
    params.get(field).map(|text| time::parse(field, text)).transpose()
}

/// Routes of the lists.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(paginated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_and_bad_ones_name_their_field() {
        let read = |text: &str| query(&Params::parse(text).expect("a query"));
        let good = read(
            "limit=7&states=started,paused&labels=%7B%22a%22%3A%22b%22%7D&order=asc&sort=name",
        )
        .expect("good filters")
        .expect("can match");
        assert_eq!(good.limit, 7);
        assert_eq!(good.states, [Phase::Started, Phase::Paused]);
        assert_eq!(good.labels, [("a".to_owned(), "b".to_owned())]);
        assert!(good.ascending && good.sort == SortBy::Name);
        for (text, field) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("states=sleeping", "states"),
            ("labels=%5B", "labels"),
            ("sort=age", "sort"),
            ("order=up", "order"),
            ("createdAtAfter=x", "createdAtAfter"),
            ("autoDestroyAtBefore=x", "autoDestroyAtBefore"),
            ("includeErroredDeleted=x", "includeErroredDeleted"),
            ("sandboxClasses=boat", "sandboxClasses"),
            ("minCpu=x", "minCpu"),
            ("isPublic=7", "isPublic"),
        ] {
            let fault = read(text).expect_err(text);
            assert_eq!(fault.status.as_u16(), 400, "{text}");
            assert!(fault.message.starts_with(field), "{text}: {}", fault.message);
        }
        for text in ["states=forking", "id=abc", "minGpu=1", "sandboxClasses=android"] {
            assert!(read(text).expect("a good filter").is_none(), "{text} matches nothing");
        }
    }
}
