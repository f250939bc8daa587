//! What takes room, and what nothing names any more; for the operator.

use mayfly_core::access::Caller;
use mayfly_core::id::SandboxId;
use mayfly_core::ports::runtime::{Leftover, Share, Space};
use mayfly_core::sandbox::State;
use mayfly_core::{Error, Kind, Result};

use crate::Engine;
use crate::driver;
use crate::house::{House, need_operator};

/// What sandboxes take of their host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Room, and what lies beside the sandboxes.
    pub space: Space,
    /// Sandboxes that are not archived.
    pub sandboxes: Share,
    /// Archived ones.
    pub archives: Share,
    /// Memory of those that run, bytes.
    pub memory_bytes: u64,
}

impl Engine {
    /// What takes room now. The operator's alone: it is about all organizations.
    pub async fn footprint(&self, caller: &Caller) -> Result<Footprint> {
        need_operator(caller, "see what takes room")?;
        let house = &self.house;
        let share = |name: &str| Share { name: name.to_owned(), count: Some(0), bytes: Some(0) };
        let mut found = Footprint {
            space: house.runtime.space().await?,
            sandboxes: share("sandboxes"),
            archives: share("archives"),
            memory_bytes: 0,
        };
        for live in house.living.all() {
            let is_archived = live.record().state == State::Archived;
            let usage = match house.runtime.usage(live.id()).await {
                Ok(usage) => usage,
                // On its way in or out.
                Err(error) if error.kind() == Kind::NotFound => continue,
                Err(error) => return Err(error),
            };
            found.memory_bytes += usage.memory_bytes + usage.memory_cache_bytes;
            let share = if is_archived { &mut found.archives } else { &mut found.sandboxes };
            share.count = share.count.map(|count| count + 1);
            share.bytes = share.bytes.zip(usage.disk_bytes).map(|(sum, more)| sum + more);
        }
        Ok(found)
    }

    /// Finds what nothing names: captures that nobody remembers, sandboxes without a record, layers of earlier sets
    /// of packages; and takes it away unless `dry`. The operator's alone.
    ///
    /// [`Kind::Conflict`] while a backup is under way, since its captures are remembered by it alone.
    pub async fn collect(&self, caller: &Caller, dry: bool) -> Result<Vec<Leftover>> {
        need_operator(caller, "clear leftovers away")?;
        let house = &self.house;
        let _only = house.backing_up.clone().try_lock_owned().map_err(|_| {
            Error::conflict("a backup is under way, or leftovers are being cleared away already")
                .with_hint("wait for it, then repeat")
        })?;
        let mut found = captures(house, dry).await?;
        found.extend(unknown(house, dry).await?);
        found.extend(house.runtime.leftovers(dry).await?);
        Ok(found)
    }
}

async fn captures(house: &House, dry: bool) -> Result<Vec<Leftover>> {
    // Where none can be taken, none can be left.
    let Ok(captures) = house.runtime.captures() else { return Ok(Vec::new()) };
    let left = match captures.list().await {
        Err(error) if error.kind() == Kind::Unsupported => Vec::new(),
        other => other?,
    };
    let mut found = Vec::new();
    for id in left {
        let kept = if dry { None } else { captures.discard(id).await.err() };
        found.push(leftover("capture", id.to_string(), kept));
    }
    Ok(found)
}

/// A record comes before its sandbox is made and leaves after it is gone, so what has none after the look is nobody's.
async fn unknown(house: &House, dry: bool) -> Result<Vec<Leftover>> {
    let _only = house.reaping.lock().await;
    let seen = house.runtime.list().await?;
    let unknown: Vec<SandboxId> =
        seen.into_iter().map(|seen| seen.id).filter(|id| house.living.get(*id).is_none()).collect();
    let mut found = Vec::new();
    for id in unknown {
        let kept = if dry { None } else { driver::reap(house, id).await.err() };
        found.push(leftover("sandbox", id.to_string(), kept));
    }
    Ok(found)
}

fn leftover(kind: &'static str, name: String, kept: Option<Error>) -> Leftover {
    Leftover { kind, name, kept: kept.map(|error| error.message().to_owned()) }
}
