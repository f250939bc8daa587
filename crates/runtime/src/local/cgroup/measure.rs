//! What a group uses, read from the kernel's counters.

use std::io;

use mayfly_core::{Error, Result};

use super::hierarchy::{Hierarchy, Version};
use super::{Controller, Group, GroupUsage};

impl Hierarchy {
    /// A control file that holds one number.
    pub(super) fn number(&self, slot: u32, file: &str) -> io::Result<u64> {
        let text = self.read(slot, file)?;
        text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Values of a control file with lines of a key and a number; a missing key is 0.
    fn fields<const N: usize>(
        &self,
        slot: u32,
        file: &str,
        keys: [&str; N],
    ) -> io::Result<[u64; N]> {
        Ok(fields(&self.read(slot, file)?, keys))
    }
}

fn fields<const N: usize>(text: &str, keys: [&str; N]) -> [u64; N] {
    let mut values = [0; N];
    for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        if let Some(index) = keys.iter().position(|wanted| *wanted == key) {
            values[index] = value.trim().parse().unwrap_or(0);
        }
    }
    values
}

impl Group {
    /// Process numbers in it, as the host counts them; none when the group is gone.
    pub fn procs(&self) -> Result<Vec<i32>> {
        let Some(hierarchy) = self.inner.v2().or_else(|| self.inner.hierarchies.first()) else {
            return Ok(Vec::new());
        };
        match hierarchy.read(self.slot, "cgroup.procs") {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.unread("processes", error)),
        }
    }

    /// Its use now.
    pub fn usage(&self) -> Result<GroupUsage> {
        let cpu_nanos = self.cpu_nanos().map_err(|error| self.unread("processor time", error))?;
        let memory = self.inner.require(Controller::Memory)?;
        let (used, cache) =
            self.memory(memory).map_err(|error| self.unread("memory use", error))?;
        let pids = self
            .inner
            .require(Controller::Pids)?
            .number(self.slot, "pids.current")
            .map_err(|error| self.unread("process count", error))?;
        Ok(GroupUsage {
            cpu_nanos,
            memory_bytes: used.saturating_sub(cache),
            cache_bytes: cache,
            pids,
        })
    }

    fn cpu_nanos(&self) -> io::Result<u64> {
        if let Some(v2) = self.inner.v2() {
            let [micros] = v2.fields(self.slot, "cpu.stat", ["usage_usec"])?;
            return Ok(micros.saturating_mul(1000));
        }
        self.inner.of(Controller::Cpuacct).map_or(Ok(0), |v1| v1.number(self.slot, "cpuacct.usage"))
    }

    /// Memory in all, and the page cache in it. Files of tmpfs are not on these lists: they cannot be
    /// dropped and count as used.
    fn memory(&self, hierarchy: &Hierarchy) -> io::Result<(u64, u64)> {
        let (file, keys) = match hierarchy.version {
            Version::V2 => ("memory.current", ["active_file", "inactive_file"]),
            Version::V1 => ("memory.usage_in_bytes", ["total_active_file", "total_inactive_file"]),
        };
        let used = hierarchy.number(self.slot, file)?;
        let [active, inactive] = hierarchy.fields(self.slot, "memory.stat", keys)?;
        Ok((used, active.saturating_add(inactive)))
    }

    /// Processes that the kernel killed here because the memory limit was reached.
    pub fn oom_kills(&self) -> Result<u64> {
        let memory = self.inner.require(Controller::Memory)?;
        let file = match memory.version {
            Version::V2 => "memory.events",
            Version::V1 => "memory.oom_control",
        };
        let [kills] = memory
            .fields(self.slot, file, ["oom_kill"])
            .map_err(|error| self.unread("out-of-memory kills", error))?;
        Ok(kills)
    }

    fn unread(&self, what: &str, error: io::Error) -> Error {
        let message = format!("failed to read the {what} of cgroup slot {}", self.slot);
        if error.kind() == io::ErrorKind::NotFound {
            return Error::not_found(message).with_source(error);
        }
        Error::internal(message, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_whole_key() {
        let text = "oom_kill_disable 1\nunder_oom 0\noom_kill 7\n";
        assert_eq!(fields(text, ["oom_kill", "under_oom"]), [7, 0]);
        assert_eq!(fields("usage_usec x\n\nodd\n", ["usage_usec", "none"]), [0, 0]);
    }
}
