//! Limits of processor, memory and processes per sandbox, on cgroup v2 and v1, controller by controller.
//!
//! Hosts may be hybrid: some controllers in v1 hierarchies, the rest, or none, in v2. A sandbox is one
//! group of the same number in every hierarchy that is used; freeze, kill and processor time come from v2
//! wherever it is mounted, even without controllers. No descriptor is held per group.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use mayfly_core::ports::runtime::Layer;
use mayfly_core::{Error, Kind, Result};
use rustix::fs::{AtFlags, Mode};

mod control;
mod detect;
mod hierarchy;
mod measure;
mod report;

use hierarchy::{Hierarchy, Version};

/// Removing waits for the last exits; a step and the most of them (2 s).
const REMOVE_STEP: Duration = Duration::from_micros(500);
const REMOVE_STEPS: u32 = 4000;
/// Length of one period of processor time, microseconds; the kernel's default in both versions.
const PERIOD: u64 = 100_000;

/// A kind of limit or control that a hierarchy offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Controller {
    /// Share of processor time.
    Cpu,
    /// Memory with page cache and tmpfs.
    Memory,
    /// Processes and threads.
    Pids,
    /// Freezing in v1; v2 does it without a controller.
    Freezer,
    /// Processor time used in v1; v2 counts it without a controller.
    Cpuacct,
}

impl Controller {
    /// The kernel's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
            Self::Cpuacct => "cpuacct",
        }
    }
}

/// What a sandbox may use. All three are enforced or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Whole cores, at least 1.
    pub cpu_cores: u32,
    /// Memory in bytes, without swap.
    pub memory_bytes: u64,
    /// Processes and threads at once.
    pub pids: u32,
}

/// Use at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupUsage {
    /// Processor time so far, nanoseconds.
    pub cpu_nanos: u64,
    /// Memory without page cache that can be dropped, bytes.
    pub memory_bytes: u64,
    /// Page cache that can be dropped, bytes.
    pub cache_bytes: u64,
    /// Processes and threads alive.
    pub pids: u64,
}

/// Where a new process joins a group.
#[derive(Debug)]
pub struct Join {
    /// The v2 folder, for `CLONE_INTO_CGROUP`.
    pub v2: Option<OwnedFd>,
    /// `cgroup.procs` of each v1 hierarchy, open for writing; the process writes `0` to join.
    pub v1: Vec<OwnedFd>,
}

/// The hierarchies of this host, each with our parent group.
#[derive(Clone, Debug)]
pub struct Cgroups {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hierarchies: Vec<Hierarchy>,
    /// Whether there are control groups at all; without them no limit is set, for whoever decided so.
    used: bool,
    /// What detection saw per controller that could not be had.
    absent: Vec<(Controller, String)>,
}

/// The groups of one sandbox; a name only, so it costs nothing to keep.
#[derive(Clone, Debug)]
pub struct Group {
    inner: Arc<Inner>,
    slot: u32,
}

impl Inner {
    fn of(&self, controller: Controller) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.controllers.contains(&controller))
    }

    fn v2(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.version == Version::V2)
    }

    /// The hierarchy of a controller, or the refusal of what needs it.
    fn require(&self, controller: Controller) -> Result<&Hierarchy> {
        self.of(controller).ok_or_else(|| {
            let seen = self.absent.iter().find(|(absent, _)| *absent == controller);
            let reason = seen.map_or("not detected", |(_, reason)| reason.as_str());
            Error::new(
                Kind::Unavailable,
                format!("the cgroup controller `{}` is missing: {reason}", controller.name()),
            )
            .with_hint(detect::remedy(controller))
        })
    }
}

impl Cgroups {
    /// Finds the hierarchies and makes the parent group `name` in each.
    ///
    /// A controller that cannot be used is no error here: what needs it is refused, and
    /// [`Cgroups::report`] says why. [`Kind::Invalid`] for a name that is no plain folder name.
    pub fn detect(name: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(Error::invalid(format!(
                "`{name}` cannot name a cgroup: expected 1 to 64 letters, digits, `-` or `_`"
            )));
        }
        let (hierarchies, absent) = detect::detect(name)?;
        Ok(Self { inner: Arc::new(Inner { hierarchies, used: true, absent }) })
    }

    /// Those of another server by their name, wherever they are; nothing is made.
    pub(super) fn of_other(name: &str) -> Result<Self> {
        let hierarchies = detect::named(name)?;
        Ok(Self { inner: Arc::new(Inner { hierarchies, used: true, absent: Vec::new() }) })
    }

    /// Whether any is there.
    pub(super) fn are_there(&self) -> bool {
        !self.inner.hierarchies.is_empty()
    }

    /// None, for a server that may make no control groups: groups are names only, limits are not set, and
    /// what needs a controller is refused with `reason`.
    pub fn none(reason: &str) -> Self {
        let absent = [Controller::Cpu, Controller::Memory, Controller::Pids, Controller::Freezer]
            .map(|controller| (controller, reason.to_owned()))
            .to_vec();
        Self { inner: Arc::new(Inner { hierarchies: Vec::new(), used: false, absent }) }
    }

    /// Whether there are control groups.
    pub fn used(&self) -> bool {
        self.inner.used
    }

    /// One line per controller for `mayfly doctor`, found by setting a limit on a group and reading it back.
    pub fn report(&self) -> Vec<Layer> {
        report::report(self)
    }

    /// The groups of a slot, whether they exist or not.
    pub fn group(&self, slot: u32) -> Group {
        Group { inner: Arc::clone(&self.inner), slot }
    }

    /// Makes empty groups for a slot; leftovers of an earlier use are replaced.
    ///
    /// [`Kind::Conflict`] when processes still live in them. When it fails, no group stays.
    pub fn prepare(&self, slot: u32) -> Result<Group> {
        let group = self.group(slot);
        let name = slot.to_string();
        for (index, hierarchy) in self.inner.hierarchies.iter().enumerate() {
            if let Err(error) = make(hierarchy, &name) {
                for made in &self.inner.hierarchies[..index] {
                    let _ = rustix::fs::unlinkat(&made.parent, &name, AtFlags::REMOVEDIR);
                }
                return Err(match error.kind() {
                    io::ErrorKind::ResourceBusy => {
                        Error::conflict(format!("cgroup slot {slot} still has processes"))
                    }
                    _ => hierarchy.refusal(&format!("make group {slot}")).with_source(error),
                });
            }
        }
        Ok(group)
    }

    /// Slots that have a group in any hierarchy.
    pub fn slots(&self) -> Result<Vec<u32>> {
        let mut slots = Vec::new();
        for hierarchy in &self.inner.hierarchies {
            slots.extend(hierarchy.slots()?);
        }
        slots.sort_unstable();
        slots.dedup();
        Ok(slots)
    }

    /// Kills and removes every group whose slot is not in `keep`. Gives the slots whose groups stay: their
    /// processes had not ended within 2 s in all, or the kernel refused; nobody may use these slots.
    pub fn sweep(&self, keep: &[u32]) -> Result<Vec<u32>> {
        let mut groups: Vec<Group> =
            self.slots()?.into_iter().map(|slot| self.group(slot)).collect();
        groups.retain(|group| !keep.contains(&group.slot));
        // All at once, so that they end beside each other.
        let killed: Vec<Result<()>> = groups.iter().map(Group::kill).collect();
        let mut steps = REMOVE_STEPS;
        let mut stuck = Vec::new();
        for (group, killed) in groups.iter().zip(killed) {
            if let Err(error) = killed.and_then(|()| group.remove_within(&mut steps)) {
                tracing::warn!(%error, slot = group.slot, "the groups of a dead sandbox stay");
                stuck.push(group.slot);
            }
        }
        Ok(stuck)
    }

    /// Removes the parents when no group is left in them; a parent in use stays.
    pub fn remove_if_empty(&self) {
        for hierarchy in &self.inner.hierarchies {
            let _ = hierarchy.remove_parent();
        }
    }

    /// Removes every group and the parents: nothing of ours stays in any hierarchy.
    pub fn remove_all(&self) -> Result<()> {
        let stuck = self.sweep(&[])?;
        if stuck.is_empty() {
            return self.inner.hierarchies.iter().try_for_each(Hierarchy::remove_parent);
        }
        Err(Error::new(Kind::Timeout, format!("groups {stuck:?} have processes"))
            .with_hint("a process in them is stuck in the kernel; try again later"))
    }
}

fn make(hierarchy: &Hierarchy, name: &str) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    match rustix::fs::mkdirat(&hierarchy.parent, name, mode) {
        Err(rustix::io::Errno::EXIST) => {
            // Limits and counters of the earlier use must not be inherited.
            rustix::fs::unlinkat(&hierarchy.parent, name, AtFlags::REMOVEDIR)?;
            Ok(rustix::fs::mkdirat(&hierarchy.parent, name, mode)?)
        }
        result => Ok(result?),
    }
}

impl Group {
    /// Its number.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// `cgroup.procs` of each v1 hierarchy that a process must join.
    pub fn v1_procs_paths(&self) -> Vec<PathBuf> {
        let v1 = self.inner.hierarchies.iter().filter(|h| h.version == Version::V1);
        v1.map(|h| h.path.join(self.slot.to_string()).join("cgroup.procs")).collect()
    }

    /// Folder of the v2 group, where v2 is mounted.
    pub fn v2_path(&self) -> Option<PathBuf> {
        self.inner.v2().map(|hierarchy| hierarchy.path.join(self.slot.to_string()))
    }

    /// Opens what a new process needs to join; close them right after.
    pub fn open_join(&self) -> Result<Join> {
        let mut join = Join { v2: None, v1: Vec::new() };
        for hierarchy in &self.inner.hierarchies {
            let opened = match hierarchy.version {
                Version::V2 => hierarchy.open_group(self.slot).map(|fd| join.v2 = Some(fd)),
                Version::V1 => hierarchy.open_procs(self.slot).map(|fd| join.v1.push(fd)),
            };
            opened.map_err(|error| {
                hierarchy.refusal(&format!("open group {}", self.slot)).with_source(error)
            })?;
        }
        Ok(join)
    }

    /// Removes the groups in all hierarchies, waiting at most 2 s for processes that are exiting.
    /// Groups that are gone are a success; [`Kind::Timeout`] when processes live on.
    pub fn remove(&self) -> Result<()> {
        self.remove_within(&mut { REMOVE_STEPS })
    }

    fn remove_within(&self, steps: &mut u32) -> Result<()> {
        let name = self.slot.to_string();
        for hierarchy in &self.inner.hierarchies {
            loop {
                match rustix::fs::unlinkat(hierarchy.parent.as_fd(), &name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(rustix::io::Errno::NOENT) => break,
                    Err(rustix::io::Errno::BUSY) if *steps > 0 => {
                        *steps -= 1;
                        sleep(REMOVE_STEP);
                    }
                    Err(rustix::io::Errno::BUSY) => {
                        return Err(Error::new(
                            Kind::Timeout,
                            format!(
                                "group {name} below {} has processes",
                                hierarchy.path.display()
                            ),
                        )
                        .with_hint("kill the group first"));
                    }
                    Err(error) => {
                        return Err(hierarchy
                            .refusal(&format!("remove group {name}"))
                            .with_source(io::Error::from(error)));
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
