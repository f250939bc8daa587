//! What a sandbox may use.

/// Size of a sandbox in the contract's units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Whole processor cores, at least 1.
    pub cpu: u32,
    /// Memory in GiB, at least 1.
    pub memory_gib: u32,
    /// Writable disk in GiB, at least 1.
    pub disk_gib: u32,
}

impl Resources {
    /// What a sandbox gets when neither caller nor snapshot says otherwise: 1 core, 1 GiB, 3 GiB.
    pub const DEFAULT: Self = Self { cpu: 1, memory_gib: 1, disk_gib: 3 };

    /// Memory in bytes.
    pub const fn memory_bytes(&self) -> u64 {
        (self.memory_gib as u64) << 30
    }

    /// Disk in bytes.
    pub const fn disk_bytes(&self) -> u64 {
        (self.disk_gib as u64) << 30
    }
}

/// Limits that callers cannot choose; operators set them in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceilings {
    /// Processes and threads at once. Default 4096.
    pub pids: u32,
    /// Open files per process. Default 4096.
    pub open_files: u32,
    /// Bytes kept per process log before the marked cut. Default 10 MiB.
    pub log_bytes: u64,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self { pids: 4096, open_files: 4096, log_bytes: 10 << 20 }
    }
}
