//! `/api/system/df` and `/api/system/gc`: what takes room, and what nothing names; for the operator.

use axum::Json as Reply;
use axum::extract::{RawQuery, State};
use mayfly_core::ports::runtime::{Extent, Leftover, Share};
use mayfly_core::{Error, Result};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Who};
use super::fault::Answer;
use super::input::Params;
use crate::folder;

/// A size and what is free of it, bytes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Room {
    bytes: u64,
    free: u64,
}

impl From<Extent> for Room {
    fn from(extent: Extent) -> Self {
        Self { bytes: extent.size, free: extent.free }
    }
}

/// Things of one kind and what they take.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Part {
    name: String,
    /// Whether it lies in the pool, and not beside it on the disk.
    in_pool: bool,
    /// Absent where they are not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// `null` where nothing counts them.
    bytes: Option<u64>,
}

impl Part {
    fn new(share: Share, in_pool: bool) -> Self {
        let Share { name, count, bytes } = share;
        Self { name, in_pool, count, bytes }
    }
}

/// What takes room on the server's host.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiskUse {
    data_dir: String,
    /// The disk of the data directory.
    disk: Room,
    /// Bytes of that disk that are always left free.
    reserve: u64,
    /// Where sandboxes lie; `null` where they lie plainly on the disk.
    pool: Option<Room>,
    memory: Room,
    /// Memory of sandboxes that run.
    sandbox_memory: u64,
    parts: Vec<Part>,
}

/// Something that nothing names any more.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeftoverBody {
    kind: &'static str,
    name: String,
    /// Why it stays; absent = it is taken away, or would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<String>,
}

impl From<Leftover> for LeftoverBody {
    fn from(Leftover { kind, name, kept }: Leftover) -> Self {
        Self { kind, name, kept }
    }
}

/// What takes room. The operator's alone, over the server's private socket.
#[utoipa::path(get, path = "/api/system/df", tag = "system", responses((status = 200, body = DiskUse)))]
async fn df(State(app): State<App>, Who(caller): Who) -> Answer<Reply<DiskUse>> {
    let found = app.engine.footprint(&caller).await?;
    let data_dir = app.options.data_dir.clone();
    let measured = tokio::task::spawn_blocking(move || -> Result<_> {
        let beside = folder::parts(&data_dir)?;
        Ok((data_dir.display().to_string(), beside))
    });
    let (data_dir, beside) = measured
        .await
        .map_err(|error| Error::internal("the look at the disk broke off", error))??;
    let in_pool = found.space.pool.is_some();
    let mut parts: Vec<Part> = [found.sandboxes, found.archives]
        .into_iter()
        .chain(found.space.shares)
        .map(|share| Part::new(share, in_pool))
        .collect();
    parts.extend(beside.into_iter().map(|share| Part::new(share, false)));
    Ok(Reply(DiskUse {
        data_dir,
        disk: found.space.disk.into(),
        reserve: found.space.reserve,
        pool: found.space.pool.map(Room::from),
        memory: found.space.memory.into(),
        sandbox_memory: found.memory_bytes,
        parts,
    }))
}

/// Takes away what nothing names: captures that nobody remembers, sandboxes without a record, generated layers of
/// earlier sets of packages. With `dryRun=true` only tells. The operator's alone.
#[utoipa::path(post, path = "/api/system/gc", tag = "system", responses((status = 200, body = [LeftoverBody])),
    params(("dryRun" = Option<bool>, Query, description = "tell, and take nothing away")))]
async fn gc(
    State(app): State<App>,
    Who(caller): Who,
    RawQuery(query): RawQuery,
) -> Answer<Reply<Vec<LeftoverBody>>> {
    let dry = Params::parse(query.as_deref().unwrap_or_default())?.boolean("dryRun")?;
    let found = app.engine.collect(&caller, dry.unwrap_or(false)).await?;
    Ok(Reply(found.into_iter().map(LeftoverBody::from).collect()))
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(df)).routes(routes!(gc))
}
