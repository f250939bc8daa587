//! What an operator may choose about the engine.

use std::time::Duration;

use mayfly_core::access::Quota;
use mayfly_core::limits::Resources;

use crate::network::NetworkSettings;

/// Choices of the operator; [`Settings::default`] suits one small machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Region label of sandboxes whose caller names none. Default `local`.
    pub target: String,
    /// Name of the snapshot for callers who name none. Default `host`.
    pub default_snapshot: String,
    /// Most sandboxes that are not destroyed, all organizations together. Default 10,000.
    pub max_sandboxes: usize,
    /// Most one sandbox may ask for. Default 16 cores, 64 GiB memory, 200 GiB disk.
    pub max_resources: Resources,
    /// Size of volumes whose maker asks for none, GiB. Default 10.
    pub volume_gib: u32,
    /// Most one volume may hold, GiB. Default 200.
    pub max_volume_gib: u32,
    /// Limits of organizations that have none of their own. Default none.
    pub quota: Quota,
    /// Lines of the audit log kept of each organization. Default 10,000.
    pub keep_audit: u32,
    /// What sandboxes may reach.
    pub network: NetworkSettings,
    /// Ready sandboxes kept per snapshot. Default 0.
    pub warm: usize,
    /// How long a verb waits for its transition before it answers with the transient state. Default 1 s.
    pub patience: Duration,
    /// From the terminate signal to the kill when a sandbox is stopped. Default 5 s.
    pub stop_grace: Duration,
    /// Most time one effect may take in the runtime. Default 60 s.
    pub effect_timeout: Duration,
    /// How often timers are looked at. Default 1 s.
    pub timer_tick: Duration,
    /// How often last uses are written down. Default 5 s.
    pub flush_tick: Duration,
    /// How often store and runtime are compared and old records forgotten. Default 30 s.
    pub garbage_tick: Duration,
    /// How often the use of every running sandbox is sampled. Default 1 min.
    pub sample_tick: Duration,
    /// How long the record of a destroyed sandbox is kept. Default 24 h.
    pub keep_destroyed: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            target: "local".to_owned(),
            default_snapshot: "host".to_owned(),
            max_sandboxes: 10_000,
            max_resources: Resources { cpu: 16, memory_gib: 64, disk_gib: 200 },
            volume_gib: 10,
            max_volume_gib: 200,
            quota: Quota::default(),
            keep_audit: 10_000,
            network: NetworkSettings::default(),
            warm: 0,
            patience: Duration::from_secs(1),
            stop_grace: Duration::from_secs(5),
            effect_timeout: Duration::from_mins(1),
            timer_tick: Duration::from_secs(1),
            flush_tick: Duration::from_secs(5),
            garbage_tick: Duration::from_secs(30),
            sample_tick: Duration::from_mins(1),
            keep_destroyed: Duration::from_hours(24),
        }
    }
}
