//! Writes down last uses, which are kept in memory in between.

use std::sync::Arc;

use crate::commit;
use crate::house::House;

/// Writes those that are newer than what was written.
pub(crate) async fn pass(house: Arc<House>) {
    for (id, at) in house.snapshots.take_uses() {
        if let Err(error) = commit::use_snapshot(&house, id, at).await {
            tracing::warn!(snapshot = %id, %error, "last use was not written down");
        }
    }
    keys(&house).await;
    let now = house.now();
    for live in house.living.all() {
        let Some(used) = live.take_unflushed(now) else { continue };
        if let Err(error) = commit::touch(&house, live.id(), used).await {
            tracing::warn!(sandbox = %live.id(), %error, "last use was not written down");
        }
    }
}

/// Writes uses of keys, all in one transaction.
async fn keys(house: &House) {
    let uses = house.keys.take_uses();
    if !uses.is_empty()
        && let Err(error) = commit::use_keys(house, uses).await
    {
        tracing::warn!(%error, "last uses of keys were not written down");
    }
}
