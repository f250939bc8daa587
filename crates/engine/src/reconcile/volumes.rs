//! Volumes: finishes what a crash cut short, notes what is lost, deletes what no record knows, forgets.

use std::collections::BTreeSet;

use mayfly_core::Result;
use mayfly_core::id::VolumeId;
use mayfly_core::time::Timestamp;
use mayfly_core::volume::{Volume, VolumeState};

use crate::house::House;
use crate::{commit, volumes};

/// One round.
pub(crate) async fn pass(house: &House, forget_before: Timestamp) {
    if let Err(error) = compare(house).await {
        tracing::warn!(%error, "volumes and their records were not compared");
    }
    flush(house).await;
    if let Err(error) = commit::forget_volumes(house, forget_before).await {
        tracing::warn!(%error, "deleted volumes were not forgotten");
    }
}

async fn compare(house: &House) -> Result<()> {
    // Where there are none, none were made.
    let Ok(port) = house.runtime.volumes() else { return Ok(()) };
    // Records first for what is lost, after for what is unknown: a record is written before its volume is made and
    // leaves after it is gone.
    let before = house.shelf.all();
    let there: BTreeSet<VolumeId> = port.list().await?.into_iter().collect();
    for record in before {
        if record.state.is_transient() {
            resume(house, &record).await;
        } else if record.state == VolumeState::Ready && !there.contains(&record.id) {
            lose(house, &record).await?;
        }
    }
    for id in there {
        let known = house.shelf.get(id).is_some_and(|known| known.state != VolumeState::Deleted);
        if !known {
            tracing::info!(volume = %id, "deleting a volume without a record");
            port.delete(id).await?;
        }
    }
    Ok(())
}

async fn resume(house: &House, record: &Volume) {
    let is_driven = house.shelf.lane(record.id).is_some_and(|lane| lane.try_lock().is_err());
    if !is_driven && let Err(error) = volumes::drive(house, record.id).await {
        tracing::warn!(volume = %record.id, %error, "transition failed");
    }
}

async fn lose(house: &House, seen: &Volume) -> Result<()> {
    let Some(lane) = house.shelf.lane(seen.id) else { return Ok(()) };
    let _lane = lane.lock().await;
    let Some(now) = house.shelf.get(seen.id) else { return Ok(()) };
    if now.state != VolumeState::Ready {
        return Ok(());
    }
    tracing::warn!(volume = %seen.id, "the files of a volume are gone");
    let mut lost = now.moved(VolumeState::Error, house.now().wall);
    lost.error_reason = Some("its files are gone from the storage pool".to_owned());
    commit::put_volume(house, lost).await
}

/// Writes down last uses.
pub(crate) async fn flush(house: &House) {
    for id in house.shelf.take_uses() {
        let Some(lane) = house.shelf.lane(id) else { continue };
        let _lane = lane.lock().await;
        let Some(record) = house.shelf.get(id) else { continue };
        let at = record.last_used_at;
        match commit::put_volume(house, record).await {
            Ok(()) => house.shelf.use_written(id, at),
            Err(error) => tracing::warn!(volume = %id, %error, "its use was not written down"),
        }
    }
}
