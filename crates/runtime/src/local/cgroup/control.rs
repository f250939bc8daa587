//! Limits, freezing and killing of a group.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use mayfly_core::{Error, Kind, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::hierarchy::{Hierarchy, Version};
use super::{Controller, Group, Limits, PERIOD};

/// A step and the most of them while the kernel stops every thread (1 s).
const FREEZE_STEP: Duration = Duration::from_micros(200);
const FREEZE_STEPS: u32 = 5000;
/// Rounds of killing in v1, where new processes may appear between two readings.
const KILL_ROUNDS: u32 = 64;

impl Group {
    /// Sets all limits, also on a running group; nothing is set when a controller is missing.
    ///
    /// [`Kind::Unavailable`] names a missing controller or a refusing kernel. [`Kind::Conflict`] when
    /// the group already uses more memory than asked for: v2 would kill to get there, so it is checked.
    pub fn set_limits(&self, limits: &Limits) -> Result<()> {
        if !self.inner.used {
            return Ok(());
        }
        let cpu = self.inner.require(Controller::Cpu)?;
        let memory = self.inner.require(Controller::Memory)?;
        let pids = self.inner.require(Controller::Pids)?;
        let quota = u64::from(limits.cpu_cores.max(1)) * PERIOD;
        self.set_memory(memory, limits.memory_bytes)?;
        self.write(pids, Controller::Pids, "pids.max", &limits.pids.to_string())?;
        match cpu.version {
            Version::V2 => {
                self.write(cpu, Controller::Cpu, "cpu.max", &format!("{quota} {PERIOD}"))
            }
            // The period of a new group is the default already.
            Version::V1 => self.write(cpu, Controller::Cpu, "cpu.cfs_quota_us", &quota.to_string()),
        }
    }

    fn write(
        &self,
        hierarchy: &Hierarchy,
        controller: Controller,
        file: &str,
        value: &str,
    ) -> Result<()> {
        hierarchy
            .write(self.slot, file, value)
            .map_err(|error| self.refused(hierarchy, controller, file, value, error))
    }

    fn refused(
        &self,
        hierarchy: &Hierarchy,
        controller: Controller,
        file: &str,
        value: &str,
        error: io::Error,
    ) -> Error {
        if controller == Controller::Memory && error.kind() == io::ErrorKind::ResourceBusy {
            return Error::conflict(format!("more than {value} bytes of memory are in use"))
                .with_hint("ask for more memory or end processes of the sandbox")
                .with_source(error);
        }
        let name = controller.name();
        hierarchy
            .refusal(&format!("set {file} to {value} (controller `{name}`, group {})", self.slot))
            .with_source(error)
    }

    fn set_memory(&self, hierarchy: &Hierarchy, bytes: u64) -> Result<()> {
        let value = bytes.to_string();
        match hierarchy.version {
            Version::V2 => {
                let used = hierarchy.number(self.slot, "memory.current").unwrap_or(0);
                if used > bytes {
                    let busy = io::Error::from(io::ErrorKind::ResourceBusy);
                    let file = "memory.max";
                    return Err(self.refused(hierarchy, Controller::Memory, file, &value, busy));
                }
                self.write(hierarchy, Controller::Memory, "memory.max", &value)?;
                self.optional(hierarchy, "memory.swap.max", "0")
            }
            Version::V1 => {
                // Memory with swap must never be less than memory alone, so a raise begins there.
                let file = "memory.limit_in_bytes";
                match hierarchy.write(self.slot, file, &value) {
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                        self.optional(hierarchy, "memory.memsw.limit_in_bytes", &value)?;
                        self.write(hierarchy, Controller::Memory, file, &value)
                    }
                    Ok(()) => self.optional(hierarchy, "memory.memsw.limit_in_bytes", &value),
                    Err(error) => {
                        Err(self.refused(hierarchy, Controller::Memory, file, &value, error))
                    }
                }
            }
        }
    }

    /// Writes a file of swap accounting; a kernel built without it has none, and so no swap to limit.
    fn optional(&self, hierarchy: &Hierarchy, file: &str, value: &str) -> Result<()> {
        match hierarchy.write(self.slot, file, value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result
                .map_err(|error| self.refused(hierarchy, Controller::Memory, file, value, error)),
        }
    }

    /// Stops or continues all processes, and waits until they stand still.
    ///
    /// Idempotent. [`Kind::Timeout`] after 1 s; the group is then thawed again.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let (hierarchy, file, value) = match self.inner.v2() {
            Some(v2) => (v2, "cgroup.freeze", if frozen { "1" } else { "0" }),
            None => (
                self.inner.require(Controller::Freezer)?,
                "freezer.state",
                if frozen { "FROZEN" } else { "THAWED" },
            ),
        };
        self.write(hierarchy, Controller::Freezer, file, value)?;
        for _ in 0..FREEZE_STEPS {
            if self.is_frozen()? == frozen {
                return Ok(());
            }
            sleep(FREEZE_STEP);
        }
        if frozen {
            self.freeze(false)?;
        }
        Err(Error::new(Kind::Timeout, format!("group {} did not come to rest in 1 s", self.slot)))
    }

    /// Whether all its processes stand still.
    pub fn is_frozen(&self) -> Result<bool> {
        let (hierarchy, file, sign) = match self.inner.v2() {
            Some(v2) => (v2, "cgroup.events", "frozen 1"),
            None => (self.inner.require(Controller::Freezer)?, "freezer.state", "FROZEN"),
        };
        let text = hierarchy.read(self.slot, file).map_err(|error| {
            hierarchy.refusal(&format!("read {file} of group {}", self.slot)).with_source(error)
        })?;
        Ok(text.lines().any(|line| line == sign))
    }

    /// Kills every process, frozen ones too; a group that is gone is a success. Exits follow soon:
    /// [`Group::remove`] waits for them.
    pub fn kill(&self) -> Result<()> {
        if let Some(v2) = self.inner.v2() {
            match v2.write(self.slot, "cgroup.kill", "1") {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // The group is gone, or the kernel is older than 5.14 and has no such file.
                }
                Err(error) => {
                    return Err(v2
                        .refusal(&format!("kill group {}", self.slot))
                        .with_source(error));
                }
            }
        }
        self.kill_each()
    }

    /// Kills one by one. Frozen meanwhile where possible, so that no number is used anew in between.
    fn kill_each(&self) -> Result<()> {
        for _ in 0..KILL_ROUNDS {
            let procs = self.procs()?;
            if procs.is_empty() {
                return Ok(());
            }
            let frozen = self.freeze(true).is_ok();
            for pid in self.procs()?.into_iter().filter_map(Pid::from_raw) {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
            if frozen {
                let _ = self.freeze(false);
            }
            sleep(Duration::from_millis(1));
        }
        Err(Error::new(Kind::Timeout, format!("group {} keeps making processes", self.slot)))
    }
}
