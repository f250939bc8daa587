//! What a caller may ask for when making or resizing a sandbox.

use std::collections::BTreeMap;

use crate::Result;
use crate::limits::Resources;
use crate::network::NetworkChange;
use crate::sandbox::input;
use crate::sandbox::record::Timers;
use crate::volume::{self, WantedMount};

/// A wish for a new sandbox; `None` and empty mean the default (Daytona contract, section 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateSandbox {
    /// Unique among the organization's sandboxes. Default: its id.
    pub name: Option<String>,
    /// Id or name of a snapshot. Default: the server's.
    pub snapshot: Option<String>,
    /// Inside user of its commands. Default: the snapshot's.
    pub user: Option<String>,
    /// Environment of its commands, byte-exact.
    pub env: BTreeMap<String, String>,
    /// Labels; those beginning `mayfly.` are refused.
    pub labels: BTreeMap<String, String>,
    /// Whether previews need no token.
    pub public: bool,
    /// Region label. Default: the server's.
    pub target: Option<String>,
    /// Cores, at least 1. Default: the snapshot's.
    pub cpu: Option<u32>,
    /// Memory in GiB, at least 1. Default: the snapshot's.
    pub memory_gib: Option<u32>,
    /// Disk in GiB, at least 1. Default: the snapshot's.
    pub disk_gib: Option<u32>,
    /// What it may reach. Default: as the operator says.
    pub network: NetworkChange,
    /// Volumes mounted in it.
    pub volumes: Vec<WantedMount>,
    /// Its timers.
    pub timers: Timers,
    /// The same key again gives the sandbox that the first call made.
    pub idempotency_key: Option<String>,
}

impl CreateSandbox {
    /// Refuses what can be refused without looking anything up; the message names the field.
    pub fn check(&self) -> Result<()> {
        if let Some(name) = &self.name {
            input::name("name", name)?;
        }
        if let Some(user) = &self.user {
            input::name("user", user)?;
        }
        if let Some(target) = &self.target {
            input::name("target", target)?;
        }
        if let Some(key) = &self.idempotency_key {
            input::name("idempotency key", key)?;
        }
        input::env(&self.env)?;
        input::labels(&self.labels)?;
        input::timers(&self.timers)?;
        volume::check_mounts(&self.volumes)?;
        self.size().check()
    }

    /// The size that was asked for.
    pub fn size(&self) -> Resize {
        Resize { cpu: self.cpu, memory_gib: self.memory_gib, disk_gib: self.disk_gib }
    }

    /// The size asked for, completed from the snapshot's.
    pub fn resources(&self, base: Resources) -> Resources {
        self.size().apply(base)
    }
}

/// A wish for another size; `None` leaves that one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resize {
    /// Cores, at least 1.
    pub cpu: Option<u32>,
    /// Memory in GiB, at least 1.
    pub memory_gib: Option<u32>,
    /// Disk in GiB, at least 1; only grows.
    pub disk_gib: Option<u32>,
}

impl Resize {
    /// Refuses zero; the message names the field.
    pub fn check(&self) -> Result<()> {
        input::at_least_one("cpu", self.cpu)?;
        input::at_least_one("memory", self.memory_gib)?;
        input::at_least_one("disk", self.disk_gib)
    }

    /// The size that results.
    pub fn apply(&self, base: Resources) -> Resources {
        Resources {
            cpu: self.cpu.unwrap_or(base.cpu),
            memory_gib: self.memory_gib.unwrap_or(base.memory_gib),
            disk_gib: self.disk_gib.unwrap_or(base.disk_gib),
        }
    }
}
