//! Volumes in memory, and who is about to mount them.
//!
//! A sandbox that is being made claims its volumes until its record is known; from then on the record itself keeps
//! them. One that is about to be deleted is claimed no more. Both are decided under one lock, so no volume is
//! deleted under a sandbox.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mayfly_core::id::{OrganizationId, VolumeId};
use mayfly_core::time::Timestamp;
use mayfly_core::volume::{Mount, Volume, VolumeState, WantedMount};
use mayfly_core::{Error, Result};

use crate::house::not_found;
use crate::tenants::Tenants;

#[derive(Debug)]
struct Entry {
    record: Volume,
    claims: u32,
    doomed: bool,
    /// A use that is not written down.
    used: Option<Timestamp>,
    /// Held by whoever performs an effect on it.
    lane: Arc<tokio::sync::Mutex<()>>,
}

/// All volumes, deleted ones that are not forgotten included.
#[derive(Debug)]
pub(crate) struct Shelf {
    entries: Mutex<BTreeMap<VolumeId, Entry>>,
    tenants: Arc<Tenants>,
}

impl Shelf {
    /// None yet; how many there are is counted there.
    pub(crate) fn new(tenants: Arc<Tenants>) -> Self {
        Self { entries: Mutex::default(), tenants }
    }

    /// Takes over a record as it was written.
    pub(crate) fn publish(&self, record: Volume) {
        let mut entries = self.lock();
        let lasts = |record: &Volume| record.state != VolumeState::Deleted;
        let before = entries.get(&record.id).is_some_and(|entry| lasts(&entry.record));
        self.tenants.count_volume(record.organization, before, lasts(&record));
        if let Some(entry) = entries.get_mut(&record.id) {
            entry.record = record;
        } else {
            let (claims, doomed, used, lane) = (0, false, None, Arc::default());
            entries.insert(record.id, Entry { record, claims, doomed, used, lane });
        }
    }

    /// The record of this id.
    pub(crate) fn get(&self, id: VolumeId) -> Option<Volume> {
        self.lock().get(&id).map(shown)
    }

    /// Every record.
    pub(crate) fn all(&self) -> Vec<Volume> {
        self.lock().values().map(shown).collect()
    }

    /// One of an organization that is not deleted, by id, else by name.
    pub(crate) fn find(&self, organization: OrganizationId, text: &str) -> Result<Volume> {
        find(&self.lock(), organization, text).map(shown)
    }

    /// What whoever performs an effect on it holds.
    pub(crate) fn lane(&self, id: VolumeId) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.lock().get(&id).map(|entry| Arc::clone(&entry.lane))
    }

    /// The mounts that are asked for, held until the guard is dropped. A refusal names the volume.
    pub(crate) fn claim(
        self: &Arc<Self>,
        organization: OrganizationId,
        wanted: &[WantedMount],
        now: Timestamp,
    ) -> Result<(Vec<Mount>, Claims)> {
        let mut entries = self.lock();
        let mounts = wanted
            .iter()
            .map(|wanted| {
                let entry = find(&entries, organization, &wanted.volume)?;
                entry.record.mountable()?;
                if entry.doomed {
                    let name = &entry.record.name;
                    return Err(Error::conflict(format!("volume {name} is being deleted")));
                }
                wanted.of(entry.record.id)
            })
            .collect::<Result<Vec<Mount>>>()?;
        for mount in &mounts {
            if let Some(entry) = entries.get_mut(&mount.volume) {
                entry.claims += 1;
                entry.used = entry.used.max(Some(now));
            }
        }
        let claims = mounts.iter().map(|mount| mount.volume).collect();
        Ok((mounts, Claims { shelf: Arc::clone(self), claims }))
    }

    /// Lets nobody claim a volume any more, unless somebody has; `mounted` names a sandbox that mounts it.
    pub(crate) fn doom(
        &self,
        id: VolumeId,
        mounted: impl FnOnce() -> Option<String>,
    ) -> Result<()> {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&id) else { return Ok(()) };
        let by = if entry.claims > 0 { Some("that is being made".to_owned()) } else { mounted() };
        if let Some(by) = by {
            let name = &entry.record.name;
            return Err(Error::conflict(format!("volume {name} is in use by sandbox {by}"))
                .with_hint("delete the sandboxes that mount it first"));
        }
        entry.doomed = true;
        Ok(())
    }

    /// Takes that back.
    pub(crate) fn spare(&self, id: VolumeId) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.doomed = false;
        }
    }

    /// Records with a use that is to be written down.
    pub(crate) fn take_uses(&self) -> Vec<VolumeId> {
        let entries = self.lock();
        entries.values().filter(|entry| entry.used.is_some()).map(|entry| entry.record.id).collect()
    }

    /// That use is written down.
    pub(crate) fn use_written(&self, id: VolumeId, at: Option<Timestamp>) {
        if let Some(entry) = self.lock().get_mut(&id)
            && entry.used <= at
        {
            entry.used = None;
        }
    }

    /// Forgets those deleted before this time.
    pub(crate) fn forget(&self, before: Timestamp) {
        self.lock().retain(|_, Entry { record, .. }| {
            record.state != VolumeState::Deleted || record.updated_at >= before
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VolumeId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The record with the last use that is only known here.
fn shown(entry: &Entry) -> Volume {
    let mut record = entry.record.clone();
    record.last_used_at = record.last_used_at.max(entry.used);
    record
}

fn find<'a>(
    entries: &'a BTreeMap<VolumeId, Entry>,
    organization: OrganizationId,
    text: &str,
) -> Result<&'a Entry> {
    let own = |entry: &&Entry| {
        entry.record.organization == organization && entry.record.state != VolumeState::Deleted
    };
    let by_id = text.parse().ok().and_then(|id: VolumeId| entries.get(&id)).filter(own);
    by_id
        .or_else(|| entries.values().filter(own).find(|entry| entry.record.name == text))
        .ok_or_else(|| not_found("volume", text))
}

/// Volumes of a sandbox that is being made.
#[derive(Debug)]
pub(crate) struct Claims {
    shelf: Arc<Shelf>,
    claims: Vec<VolumeId>,
}

impl Drop for Claims {
    fn drop(&mut self) {
        let mut entries = self.shelf.lock();
        for id in &self.claims {
            if let Some(entry) = entries.get_mut(id) {
                entry.claims = entry.claims.saturating_sub(1);
            }
        }
    }
}
