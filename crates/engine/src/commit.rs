//! The only writer of platform state: one compare-and-swap per change, then the memory that readers see.

use std::sync::Arc;

use mayfly_core::access::{ApiKey, Organization};
use mayfly_core::audit::Entry;
use mayfly_core::event::{Event, What};
use mayfly_core::id::{OrganizationId, SandboxId, SnapshotId};
use mayfly_core::ports::store::{Change, Store, Swap};
use mayfly_core::sandbox::{Effect, Sandbox, State, Step};
use mayfly_core::snapshot::Snapshot;
use mayfly_core::time::{Moment, Timestamp};
use mayfly_core::volume::Volume;
use mayfly_core::{Error, Kind, Result};

use crate::house::House;
use crate::living::Live;

/// Most decisions on one change; each repetition means that someone else's change came first.
const MAX_DECISIONS: usize = 32;

/// What came of adding a sandbox.
#[derive(Debug)]
pub(crate) enum Added {
    /// It exists now.
    New(Arc<Live>),
    /// Another living one has its name.
    NameTaken,
    /// The idempotency key was used before.
    Repeated(Box<Sandbox>),
}

/// What came of changing one.
#[derive(Debug)]
pub(crate) enum Changed {
    /// Written, or already so; with what is to be done now.
    Done(Option<Effect>),
    /// Another living one has the new name.
    NameTaken,
    /// The new idempotency key was used before.
    Repeated(Box<Sandbox>),
}

/// Adds a sandbox, decided by its maker to be new.
pub(crate) async fn insert(house: &House, mut sandbox: Sandbox) -> Result<Added> {
    sandbox.version = 1;
    let record = Arc::new(sandbox);
    let events = if record.warm { Vec::new() } else { vec![event(&record, What::Created)] };
    let change = Change { next: Sandbox::clone(&record), expected: None, events };
    match house.store.replace(change).await? {
        Swap::Done => Ok(Added::New(house.living.insert(&record))),
        Swap::NameTaken => Ok(Added::NameTaken),
        Swap::Repeated(made) => Ok(Added::Repeated(made)),
        Swap::Stale => Err(Error::new(Kind::Internal, format!("sandbox {} exists", record.id))),
    }
}

/// Changes a sandbox by a decision, which is taken again when another change came first.
pub(crate) async fn change(
    house: &House,
    live: &Live,
    decide: impl Fn(&Sandbox, Moment) -> Result<Step> + Send + Sync,
) -> Result<Changed> {
    for _ in 0..MAX_DECISIONS {
        let current = live.record();
        let now = house.now();
        let Step { mut next, effect } = decide(&current, now)?;
        if next == *current {
            return Ok(Changed::Done(None));
        }
        let used = live.used(now);
        if used.mono > next.last_activity.mono {
            next.last_activity = used;
        }
        next.version = current.version + 1;
        let record = Arc::new(next);
        let change = Change {
            next: Sandbox::clone(&record),
            expected: Some(current.version),
            events: events(&current, &record),
        };
        match house.store.replace(change).await? {
            Swap::Done => {
                house.living.publish(live, &record);
                return Ok(Changed::Done(effect));
            }
            Swap::NameTaken => return Ok(Changed::NameTaken),
            Swap::Repeated(made) => return Ok(Changed::Repeated(made)),
            Swap::Stale => refresh(house, live).await?,
        }
    }
    let message = format!("sandbox {} changes too often to be changed", live.record().name);
    Err(Error::new(Kind::Unavailable, message).with_hint("try again"))
}

/// Reads a record again after someone else changed it.
async fn refresh(house: &House, live: &Live) -> Result<()> {
    let Some(record) = house.store.sandbox(live.id()).await? else {
        return Err(Error::not_found(format!("sandbox {} not found", live.record().name)));
    };
    house.living.publish(live, &Arc::new(record));
    Ok(())
}

fn events(before: &Sandbox, after: &Sandbox) -> Vec<Event> {
    let mut events = Vec::new();
    if after.warm {
        return events;
    }
    if before.warm {
        events.push(event(after, What::Created));
    }
    if before.state != after.state {
        let what = What::StateChanged { from: before.state, to: after.state };
        events.push(event(after, what));
    }
    if after.state == State::Error
        && before.state != State::Error
        && let Some(reason) = &after.error_reason
    {
        let what = What::Audit { rule: "error".to_owned(), target: reason.clone() };
        events.push(event(after, what));
    }
    events
}

fn event(sandbox: &Sandbox, what: What) -> Event {
    Event { at: sandbox.updated_at, organization: sandbox.organization, sandbox: sandbox.id, what }
}

/// Writes down a last use.
pub(crate) async fn touch(house: &House, id: SandboxId, at: Moment) -> Result<()> {
    house.store.touch(id, at).await
}

/// Forgets sandboxes that were destroyed before this time.
pub(crate) async fn forget(house: &House, before: Timestamp) -> Result<u64> {
    house.store.forget_destroyed(before).await
}

/// Writes down that a sandbox was made from a snapshot.
pub(crate) async fn use_snapshot(house: &House, id: SnapshotId, at: Timestamp) -> Result<()> {
    house.store.use_snapshot(id, at).await
}

/// Writes events that belong to no change of a record.
pub(crate) async fn audit(house: &House, events: Vec<Event>) -> Result<()> {
    house.store.add_events(events).await
}

/// Writes lines of the audit log.
pub(crate) async fn add_audit(house: &House, entries: Vec<Entry>) -> Result<()> {
    let lines = entries.len() as u64;
    house.store.add_audit(entries, house.settings.keep_audit).await?;
    house.metrics.audit.fetch_add(lines, std::sync::atomic::Ordering::Relaxed);
    Ok(())
}

/// Adds or replaces an organization.
pub(crate) async fn put_organization(store: &dyn Store, organization: &Organization) -> Result<()> {
    store.put_organization(organization).await
}

/// Deletes an organization; `false` when there was none.
pub(crate) async fn delete_organization(store: &dyn Store, id: OrganizationId) -> Result<bool> {
    store.delete_organization(id).await
}

/// Adds or replaces a snapshot.
pub(crate) async fn put_snapshot(store: &dyn Store, snapshot: &Snapshot) -> Result<()> {
    store.put_snapshot(snapshot).await
}

/// Adds or replaces a volume, then shows it. Whoever changes one holds its lane.
pub(crate) async fn put_volume(house: &House, volume: Volume) -> Result<()> {
    house.store.put_volume(&volume).await?;
    house.shelf.publish(volume);
    Ok(())
}

/// Forgets volumes that were deleted before this time.
pub(crate) async fn forget_volumes(house: &House, before: Timestamp) -> Result<()> {
    house.store.forget_deleted_volumes(before).await?;
    house.shelf.forget(before);
    Ok(())
}

/// Adds a key.
pub(crate) async fn add_key(store: &dyn Store, key: &ApiKey) -> Result<()> {
    store.add_key(key).await
}

/// Writes down uses of keys, together.
pub(crate) async fn use_keys(house: &House, uses: Vec<([u8; 32], Timestamp)>) -> Result<()> {
    house.store.use_keys(uses).await
}

/// Deletes a key; `false` when there was none.
pub(crate) async fn delete_key(
    store: &dyn Store,
    organization: OrganizationId,
    name: &str,
) -> Result<bool> {
    store.delete_key(organization, name).await
}

/// Sets a value of the server itself.
pub(crate) async fn set_setting(store: &dyn Store, name: &str, value: &str) -> Result<()> {
    store.set_setting(name, value).await
}
