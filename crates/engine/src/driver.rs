//! The only performer of effects: takes a transition to its end, one driver per sandbox at a time.

use std::sync::Arc;
use std::time::Duration;

use mayfly_core::error::Kind;
use mayfly_core::id::SandboxId;
use mayfly_core::ports::runtime::SandboxSpec;
use mayfly_core::sandbox::{Command, pending};
use mayfly_core::sandbox::{Effect, Fact, Sandbox, Step, on_command, on_fact};
use mayfly_core::{Error, Result};

use crate::commit::{self, Changed};
use crate::house::House;
use crate::living::Live;
use crate::network;

/// Attempts to write down a fact, and to destroy; what then still fails is taken up by a reconciler.
const ATTEMPTS: u32 = 6;
/// Pause after the first failed attempt; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Performs the effect, writes down what came of it, and goes on until nothing is left to do.
///
/// An effect whose state was left meanwhile (a delete came in between) is dropped: the later transition
/// has its own driver, which waits for this one to let go of the sandbox.
pub(crate) async fn drive(house: &House, live: &Live, effect: Effect) -> Result<()> {
    let _lane = live.lane.lock().await;
    let mut next = Some(effect);
    let mut outcome = Ok(());
    while let Some(effect) = next {
        let record = live.record();
        if record.state != effect.state() {
            break;
        }
        let began = house.now().mono;
        let performed = perform(house, &record, effect).await;
        house.metrics.effect(effect, house.now().mono.since(began), performed.is_ok());
        let fact = match performed {
            Ok(fact) => fact,
            Err(error) => {
                let fact = failure(&error, effect);
                tracing::warn!(sandbox = %record.id, state = %record.state, %error,
                    source = ?std::error::Error::source(&error), "effect failed");
                outcome = Err(error);
                fact
            }
        };
        catch_up(house, live, &record).await;
        next = note(house, live, &fact).await?;
    }
    outcome
}

/// Takes up a transition that nobody drives; what comes of it is in the record.
pub(crate) async fn resume(house: Arc<House>, live: Arc<Live>) {
    if let Some(effect) = pending(&live.record())
        && let Err(error) = drive(&house, &live, effect).await
    {
        tracing::warn!(sandbox = %live.id(), %error, "transition failed");
    }
}

/// A wish of the platform itself, driven to its end.
pub(crate) async fn command(
    house: &House,
    live: &Live,
    decide: impl Fn(&Sandbox) -> Option<Command> + Send + Sync,
) -> Result<()> {
    let changed = commit::change(house, live, |current, now| {
        let unchanged = || Step { next: current.clone(), effect: None };
        decide(current).map_or_else(
            || Ok(unchanged()),
            |command| {
                on_command(current, command, now).map_err(|denied| denied.into_error(&current.name))
            },
        )
    });
    match changed.await? {
        Changed::Done(Some(effect)) => drive(house, live, effect).await,
        Changed::Done(None) | Changed::NameTaken | Changed::Repeated(_) => Ok(()),
    }
}

/// Writes down a fact; the store may be out of reach for a moment, the fact stays true.
pub(crate) async fn note(house: &House, live: &Live, fact: &Fact) -> Result<Option<Effect>> {
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        let decide = |current: &Sandbox, now| Ok(on_fact(current, fact.clone(), now));
        match commit::change(house, live, decide).await {
            Ok(Changed::Done(effect)) => return Ok(effect),
            Ok(Changed::NameTaken | Changed::Repeated(_)) => return Ok(None),
            Err(error) if attempt == ATTEMPTS || error.kind() == Kind::NotFound => {
                return Err(error);
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause *= 2;
    }
    Ok(None)
}

/// What it may reach can have changed while it was made or started with what it might before. The runtime
/// lets nothing through that it could not be told about.
async fn catch_up(house: &House, live: &Live, begun: &Sandbox) {
    if live.record().network != begun.network
        && let Err(error) = network::apply(house, live).await
    {
        tracing::warn!(sandbox = %begun.id, %error, "its network stays closed");
    }
}

async fn perform(house: &House, record: &Sandbox, effect: Effect) -> Result<Fact> {
    let mut limit = house.settings.effect_timeout;
    if let Effect::Stop { force: false } = effect {
        limit += house.settings.stop_grace;
    }
    let Ok(outcome) = tokio::time::timeout(limit, act(house, record, effect)).await else {
        let message = format!("sandbox {} was {} for over {limit:?}", record.name, record.state);
        return Err(Error::new(Kind::Timeout, message));
    };
    outcome
}

async fn act(house: &House, record: &Sandbox, effect: Effect) -> Result<Fact> {
    let runtime = &house.runtime;
    let id = record.id;
    match effect {
        Effect::Create => {
            runtime.create(&spec(house, record).await?).await?;
            Ok(Fact::Created)
        }
        Effect::Start => {
            runtime.start(&spec(house, record).await?).await?;
            Ok(Fact::Started)
        }
        Effect::Restart => {
            let spec = spec(house, record).await?;
            runtime.stop(id, Duration::ZERO).await?;
            runtime.start(&spec).await?;
            Ok(Fact::Started)
        }
        Effect::Stop { force } => {
            let grace = if force { Duration::ZERO } else { house.settings.stop_grace };
            runtime.stop(id, grace).await?;
            Ok(Fact::Stopped)
        }
        // Archived means stopped, unmounted and compressed; stopping again is harmless.
        Effect::Archive => {
            runtime.stop(id, Duration::ZERO).await?;
            // Files that take more room than they must are no reason to keep it out of the archive.
            if let Err(error) = runtime.archive(id).await {
                tracing::warn!(sandbox = %id, %error, "archived as large as it was");
            }
            Ok(Fact::Archived)
        }
        Effect::Restore => Ok(Fact::Restored),
        Effect::Freeze => {
            runtime.freeze(id).await?;
            Ok(Fact::Frozen)
        }
        Effect::Thaw => {
            runtime.thaw(id).await?;
            Ok(Fact::Thawed)
        }
        Effect::Resize { to, .. } => {
            runtime.resize(id, to).await?;
            Ok(Fact::Resized(to))
        }
        Effect::Destroy => {
            destroy(house, record).await?;
            Ok(Fact::Destroyed)
        }
    }
}

async fn destroy(house: &House, record: &Sandbox) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        match house.runtime.destroy(record.id).await {
            Err(error) if attempt < ATTEMPTS => {
                tracing::info!(sandbox = %record.id, %error, attempt, "destroy failed");
                tokio::time::sleep(pause).await;
            }
            done => return done,
        }
        attempt += 1;
        pause *= 2;
    }
}

fn failure(error: &Error, effect: Effect) -> Fact {
    let back_to = match effect {
        Effect::Resize { from, .. } => from,
        _ => None,
    };
    Fact::Failed {
        reason: error.message().to_owned(),
        retryable: matches!(error.kind(), Kind::Unavailable | Kind::Limit),
        back_to,
    }
}

/// Everything the runtime needs; the caller's environment comes after the snapshot's.
async fn spec(house: &House, record: &Sandbox) -> Result<SandboxSpec> {
    let snapshot = house.snapshots.by_id(&*house.store, record.snapshot).await?;
    let mut env = snapshot.env.clone();
    env.extend(record.env.iter().map(|(key, value)| (key.clone(), value.clone())));
    Ok(SandboxSpec {
        id: record.id,
        source: snapshot.source.clone(),
        resources: record.resources,
        user: record.user.clone(),
        workdir: snapshot.workdir.clone(),
        env,
        network: record.network.clone(),
        volumes: record.volumes.clone(),
    })
}

/// Brings what runs in line with a record that lasts; for deviations a crash can leave.
pub(crate) async fn thaw(house: &House, live: &Live) -> Result<()> {
    let _lane = live.lane.lock().await;
    house.runtime.thaw(live.id()).await
}

/// Ends something that the runtime has and the platform does not know.
pub(crate) async fn reap(house: &House, id: SandboxId) -> Result<()> {
    house.runtime.destroy(id).await
}
