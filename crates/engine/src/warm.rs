//! Image-warm sandboxes: made ahead of time, claimed by a compare-and-swap of their row.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mayfly_core::Result;
use mayfly_core::id::{SandboxId, SnapshotId};
use mayfly_core::limits::Resources;
use mayfly_core::sandbox::{Claim, Command, Effect, Sandbox, State, Timers, on_command};
use mayfly_core::snapshot::Snapshot;

use crate::admission::admit;
use crate::commit::{self, Added, Changed};
use crate::driver;
use crate::house::House;
use crate::living::Live;

/// Most entries of the pool tried for one claim; the others were retired or broke meanwhile.
const MAX_TRIES: usize = 16;

/// What came of a claim.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// It is the caller's now, with what is left to do.
    Yes(Arc<Live>, Option<Effect>),
    /// Another living one has the name asked for.
    NameTaken,
    /// The idempotency key was used before.
    Repeated(Box<Sandbox>),
    /// None is ready.
    NoneReady,
}

/// Claims a ready sandbox of the snapshot that is no larger on disk than asked for.
pub(crate) async fn claim(
    house: &House,
    snapshot: SnapshotId,
    size: Resources,
    claim: impl Fn(SandboxId) -> Claim + Send + Sync,
) -> Result<Claimed> {
    for _ in 0..MAX_TRIES {
        let Some(live) = house.ready.take(snapshot) else { break };
        if size.disk_gib < live.record().resources.disk_gib {
            house.ready.put(live);
            break;
        }
        let wish = claim(live.id());
        let changed = commit::change(house, &live, |current, now| {
            on_command(current, Command::Claim(Box::new(wish.clone())), now)
                .map_err(|denied| denied.into_error(&current.name))
        });
        let claimed = match changed.await {
            Ok(Changed::Done(effect)) => Claimed::Yes(live, effect),
            Ok(Changed::NameTaken) => {
                house.ready.put(live);
                Claimed::NameTaken
            }
            Ok(Changed::Repeated(made)) => {
                house.ready.put(live);
                Claimed::Repeated(made)
            }
            // Retired or broken since it was put here; the reconciler sees to it.
            Err(error) if !ready(&live.record()) => {
                tracing::debug!(sandbox = %live.id(), %error, "warm sandbox was not ready");
                continue;
            }
            Err(error) => {
                house.ready.put(live);
                return Err(error);
            }
        };
        if matches!(claimed, Claimed::Yes(..)) {
            house.metrics.warm.0.fetch_add(1, Ordering::Relaxed);
        }
        house.warm_nudge.notify_one();
        return Ok(claimed);
    }
    if house.settings.warm > 0 {
        house.metrics.warm.1.fetch_add(1, Ordering::Relaxed);
    }
    Ok(Claimed::NoneReady)
}

fn ready(record: &Sandbox) -> bool {
    record.warm && record.state == State::Started
}

/// Fills the pool to its size and takes away what broke in it.
pub(crate) async fn refill(house: Arc<House>) {
    let mut counts: HashMap<SnapshotId, usize> = HashMap::new();
    for live in house.living.all() {
        let record = live.record();
        if !record.warm {
            continue;
        }
        match record.state {
            State::Creating | State::Started => {
                let count = counts.entry(record.snapshot).or_default();
                *count += 1;
                if *count > house.settings.warm {
                    retire(&house, &live).await;
                }
            }
            State::Destroying => {}
            _ => retire(&house, &live).await,
        }
    }
    for snapshot in house.snapshots.all() {
        let have = counts.get(&snapshot.id).copied().unwrap_or_default();
        for _ in have..house.settings.warm {
            if house.tasks.is_stopped() {
                return;
            }
            if let Err(error) = make(&house, &snapshot).await {
                tracing::warn!(snapshot = %snapshot.name, %error, "warm pool was not filled");
                return;
            }
        }
    }
}

/// Ends a warm sandbox unless it was claimed.
pub(crate) async fn retire(house: &House, live: &Live) {
    let wish = |current: &Sandbox| current.warm.then_some(Command::Retire);
    if let Err(error) = driver::command(house, live, wish).await {
        tracing::warn!(sandbox = %live.id(), %error, "warm sandbox was not retired");
    }
}

async fn make(house: &House, snapshot: &Snapshot) -> Result<()> {
    let room = admit(house, snapshot.resources)?;
    let id = SandboxId::from_uuid(house.entropy.uuid());
    let never = Timers { auto_stop: 0, auto_pause: 0, auto_archive: 0, auto_delete: -1, ttl: 0 };
    let record = Sandbox { warm: true, timers: never, ..house.blank(id, snapshot) };
    let added = commit::insert(house, record).await?;
    drop(room);
    let Added::New(live) = added else { return Ok(()) };
    if let Err(error) = driver::drive(house, &live, Effect::Create).await {
        retire(house, &live).await;
        return Err(error);
    }
    if ready(&live.record()) {
        house.ready.put(live);
    }
    Ok(())
}
