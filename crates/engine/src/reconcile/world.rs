//! Compares the records with what the runtime has: at start and every now and then.

use std::collections::HashMap;
use std::sync::Arc;

use mayfly_core::Result;
use mayfly_core::id::SandboxId;
use mayfly_core::ports::runtime::Observed;
use mayfly_core::sandbox::Step;
use mayfly_core::sandbox::{Command, Desired, Fact, Sandbox, State, on_fact};

use crate::commit::{self, Changed};
use crate::driver;
use crate::house::House;
use crate::living::Live;
use crate::reconcile::background;

/// Adopts what is as it should be, takes note of what is not, takes up transitions that nobody drives,
/// and reaps what no record knows.
pub(crate) async fn compare(house: &Arc<House>) -> Result<()> {
    // Records first: what is in the world without a record is then surely unknown, because a record is
    // written before its sandbox is made and leaves after it is gone.
    let before: Vec<(Arc<Live>, Arc<Sandbox>)> =
        house.living.all().into_iter().map(|live| (Arc::clone(&live), live.record())).collect();
    let observed: HashMap<_, _> =
        house.runtime.list().await?.into_iter().map(|seen| (seen.id, seen)).collect();
    for (live, record) in before {
        settle(house, &live, &record, observed.get(&record.id)).await?;
    }
    let unknown: Vec<_> =
        observed.into_keys().filter(|id| house.living.get(*id).is_none()).collect();
    if !unknown.is_empty() {
        reap(house, unknown);
    }
    Ok(())
}

/// What a record that lasts has to learn from the world.
fn deviation(record: &Sandbox, observed: Option<&Observed>) -> Option<Fact> {
    match (record.state, observed) {
        (State::Started | State::Paused | State::Stopped | State::Archived, None) => {
            Some(Fact::Lost)
        }
        (State::Started | State::Paused, Some(seen)) if !seen.running => Some(Fact::FoundStopped),
        (State::Started | State::Paused, Some(Observed { outdated: Some(version), .. })) => {
            let reason = format!(
                "an older server started it, and this one does not speak version {version} with its process 1; \
                 stop it and start it again, its files stay"
            );
            // Told once.
            (record.error_reason.as_ref() != Some(&reason)).then_some(Fact::Outdated { reason })
        }
        _ => None,
    }
}

async fn settle(
    house: &Arc<House>,
    live: &Arc<Live>,
    record: &Arc<Sandbox>,
    observed: Option<&Observed>,
) -> Result<()> {
    if record.state.is_transient() {
        if live.lane.try_lock().is_ok() {
            background(house, live, driver::resume(Arc::clone(house), Arc::clone(live)));
        }
        return Ok(());
    }
    if record.state == State::Error && record.desired == Desired::Destroyed {
        let (work, one) = (Arc::clone(house), Arc::clone(live));
        background(house, live, async move {
            let again = |current: &Sandbox| {
                (current.desired == Desired::Destroyed).then_some(Command::Destroy)
            };
            if let Err(error) = driver::command(&work, &one, again).await {
                tracing::warn!(sandbox = %one.id(), %error, "still not destroyed");
            }
        });
        return Ok(());
    }
    if record.state == State::Started && observed.is_some_and(|seen| seen.running && seen.frozen) {
        return driver::thaw(house, live).await;
    }
    let Some(fact) = deviation(record, observed) else { return Ok(()) };
    tracing::warn!(sandbox = %record.id, state = %record.state, ?fact, "record and world differ");
    let changed = commit::change(house, live, |current, now| {
        if current.version == record.version {
            return Ok(on_fact(current, fact.clone(), now));
        }
        Ok(Step { next: current.clone(), effect: None })
    });
    if let Changed::Done(Some(_)) = changed.await? {
        background(house, live, driver::resume(Arc::clone(house), Arc::clone(live)));
    }
    Ok(())
}

/// Ends what no record knows, one after the other; a round that is still at it is not joined by the next.
fn reap(house: &Arc<House>, unknown: Vec<SandboxId>) {
    let work = Arc::clone(house);
    house.tasks.spawn(async move {
        let Ok(_only) = work.reaping.try_lock() else { return };
        for id in unknown {
            if work.tasks.is_stopped() {
                return;
            }
            tracing::info!(sandbox = %id, "reaping a sandbox without a record");
            if let Err(error) = driver::reap(&work, id).await {
                tracing::warn!(sandbox = %id, %error, "not reaped; the next round tries again");
            }
        }
    });
}
