//! Snapshots as callers see them, and the one that is always there.

use std::sync::Arc;

use mayfly_core::Result;
use mayfly_core::access::Caller;
use mayfly_core::id::{OrganizationId, SnapshotId};
use mayfly_core::limits::Resources;
use mayfly_core::ports::entropy::Entropy;
use mayfly_core::ports::runtime::Runtime;
use mayfly_core::ports::store::Store;
use mayfly_core::snapshot::Snapshot;
use mayfly_core::time::Moment;

use crate::commit;
use crate::house::{House, not_found};

/// Name of the snapshot made of the host's own programs.
const HOST: &str = "host";

/// Use cases of snapshots.
#[derive(Clone, Copy, Debug)]
pub struct Snapshots<'a>(pub(crate) &'a House);

impl Snapshots<'_> {
    /// Snapshots that the caller's organization sees.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Snapshot>> {
        let mut found = self.0.store.snapshots(caller.organization).await?;
        for snapshot in &mut found {
            self.0.snapshots.show_use(snapshot);
        }
        Ok(found)
    }

    /// One of them, by id, else by name.
    pub async fn get(&self, caller: &Caller, id_or_name: &str) -> Result<Snapshot> {
        let found = find(self.0, caller.organization, id_or_name).await?;
        let mut snapshot = Snapshot::clone(&found);
        self.0.snapshots.show_use(&mut snapshot);
        Ok(snapshot)
    }
}

/// The snapshot that the organization sees under this id, else under this name.
pub(crate) async fn find(
    house: &House,
    organization: OrganizationId,
    id_or_name: &str,
) -> Result<Arc<Snapshot>> {
    let id = id_or_name.parse::<SnapshotId>().ok();
    let sees = |snapshot: &Snapshot| {
        snapshot.organization.is_none_or(|owner| owner == organization)
            && (Some(snapshot.id) == id || snapshot.name == id_or_name)
    };
    if let Some(snapshot) = house.snapshots.look(sees) {
        return Ok(snapshot);
    }
    let all = house.store.snapshots(organization).await?;
    let found = all
        .iter()
        .find(|snapshot| Some(snapshot.id) == id)
        .or_else(|| all.iter().find(|snapshot| snapshot.name == id_or_name));
    let found = found.ok_or_else(|| not_found("snapshot", id_or_name))?;
    Ok(house.snapshots.keep(found.clone()))
}

/// The `host` snapshot as the host stands now, and whether it is another than last time.
pub(crate) async fn host(
    store: &dyn Store,
    runtime: &dyn Runtime,
    entropy: &dyn Entropy,
    organization: OrganizationId,
    now: Moment,
) -> Result<(Snapshot, bool)> {
    let source = runtime.host_source().await?;
    let known = store.snapshots(organization).await?;
    let known = known.into_iter().find(|known| known.name == HOST && known.organization.is_none());
    let snapshot = match known {
        Some(known) if known.source == source => return Ok((known, false)),
        Some(known) => Snapshot { source, ..known },
        None => Snapshot {
            id: SnapshotId::from_uuid(entropy.uuid()),
            organization: None,
            name: HOST.to_owned(),
            source,
            resources: Resources::DEFAULT,
            user: "root".to_owned(),
            workdir: None,
            env: std::collections::BTreeMap::new(),
            created_at: now.wall,
            last_used_at: None,
        },
    };
    commit::put_snapshot(store, &snapshot).await?;
    Ok((snapshot, true))
}
