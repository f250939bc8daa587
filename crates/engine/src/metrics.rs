//! What the engine counts for operators; names and form are the edge's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mayfly_core::Result;
use mayfly_core::measure::{Histogram, Reading};
use mayfly_core::ports::runtime::{Space, Traffic};
use mayfly_core::ports::store::Load;
use mayfly_core::sandbox::Effect;

use crate::Engine;

/// Names of effects, by number.
const EFFECTS: [&str; 10] = [
    "create", "start", "restart", "stop", "archive", "restore", "freeze", "thaw", "resize",
    "destroy",
];

/// Counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    effects: [Histogram; EFFECTS.len()],
    failures: [AtomicU64; EFFECTS.len()],
    /// Commands run to their end.
    pub(crate) commands: Histogram,
    /// Creates that found a ready sandbox, and those that found none where some are kept.
    pub(crate) warm: (AtomicU64, AtomicU64),
    /// Lines written to the audit log.
    pub(crate) audit: AtomicU64,
}

impl Metrics {
    /// Counts an effect that was performed, or failed.
    pub(crate) fn effect(&self, effect: Effect, took: Duration, passed: bool) {
        let number = number(effect);
        self.effects[number].note(took);
        if !passed {
            self.failures[number].fetch_add(1, Ordering::Relaxed);
        }
    }
}

const fn number(effect: Effect) -> usize {
    match effect {
        Effect::Create => 0,
        Effect::Start => 1,
        Effect::Restart => 2,
        Effect::Stop { .. } => 3,
        Effect::Archive => 4,
        Effect::Restore => 5,
        Effect::Freeze => 6,
        Effect::Thaw => 7,
        Effect::Resize { .. } => 8,
        Effect::Destroy => 9,
    }
}

/// What was counted and measured, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    /// Each effect by name: how long it took, and how many failed.
    pub effects: Vec<(&'static str, Reading, u64)>,
    /// Commands run to their end.
    pub commands: Reading,
    /// Creates that found a ready sandbox, and those that found none where some are kept.
    pub warm: (u64, u64),
    /// Lines written to the audit log.
    pub audit: u64,
    /// Listeners to events.
    pub listeners: u64,
    /// The store.
    pub store: Load,
    /// What sandboxes reached for.
    pub traffic: Traffic,
    /// Room.
    pub space: Space,
}

impl Engine {
    /// What was counted since the start, and measured now.
    pub async fn measures(&self) -> Result<Measures> {
        let house = &self.house;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let metrics = &house.metrics;
        let histograms = EFFECTS.iter().zip(&metrics.effects).zip(&metrics.failures);
        let effects = histograms.map(|((name, took), failed)| (*name, took.read(), count(failed)));
        Ok(Measures {
            effects: effects.collect(),
            commands: metrics.commands.read(),
            warm: (count(&metrics.warm.0), count(&metrics.warm.1)),
            audit: count(&metrics.audit),
            listeners: house.living.feed.listeners(),
            store: house.store.load(),
            traffic: house.runtime.traffic().await?,
            space: house.runtime.space().await?,
        })
    }
}
