//! Keeps overcommitted disks from filling the store that sandboxes share (platform contract, section 7).

use std::sync::Arc;

use mayfly_core::event::{Event, What};
use mayfly_core::ports::runtime::DiskGuard;

use crate::commit;
use crate::house::House;

/// One round: limits are lowered or restored as the runtime sees fit, and each change is an audit event.
pub(crate) async fn pass(house: Arc<House>) {
    let living = house.living.all();
    let sizes: Vec<_> =
        living.iter().map(|live| (live.id(), live.record().resources.disk_bytes())).collect();
    let changed = match house.runtime.guard_disk(&sizes).await {
        Ok(changed) => changed,
        Err(error) => {
            tracing::warn!(%error, "disk limits were not guarded");
            return;
        }
    };
    let at = house.now().wall;
    let mut events = Vec::new();
    for DiskGuard { id, limit, lowered } in changed {
        let Some(live) = house.living.get(id) else { continue };
        tracing::warn!(sandbox = %id, limit, lowered, "disk limit changed: the storage pool is nearly full, or has room again");
        let change = if lowered { "lowered" } else { "restored" };
        events.push(Event {
            at,
            organization: live.record().organization,
            sandbox: id,
            what: What::Audit {
                rule: "storage pool".to_owned(),
                target: format!("disk limit {change} to {limit} bytes"),
            },
        });
    }
    if !events.is_empty()
        && let Err(error) = commit::audit(&house, events).await
    {
        tracing::warn!(%error, "changes of disk limits were not written down");
    }
}
