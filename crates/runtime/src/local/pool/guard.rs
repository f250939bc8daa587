//! Keeps the pool and its host from filling up: new sandboxes are refused before either is full.

use std::os::fd::AsFd;

use mayfly_core::id::SandboxId;
use mayfly_core::{Error, Result};

use super::{Pool, failed, unavailable};

/// New sandboxes are refused from this share of the pool on, percent.
const REFUSE_PERCENT: u64 = 80;
/// From this share on the limits of living sandboxes are lowered, percent.
const TIGHTEN_PERCENT: u64 = 90;
/// What a sandbox may still write after its limit was lowered, bytes.
const TIGHTENED_ROOM: u64 = 64 << 20;

/// What must stay free, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// On the file system of the data directory.
    pub host: u64,
    /// In the pool for the sandbox to be made: the fixed headroom of one.
    pub sandbox: u64,
}

impl Default for Reserve {
    fn default() -> Self {
        Self { host: 1 << 30, sandbox: 64 << 20 }
    }
}

/// Space at one moment, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headroom {
    /// Size of the pool.
    pub pool_size: u64,
    /// Free in the pool.
    pub pool_free: u64,
    /// Free on the file system of the data directory.
    pub host_free: u64,
}

impl Headroom {
    /// Measures both file systems; two system calls.
    pub fn measure(pool: impl AsFd, data_dir: impl AsFd) -> Result<Self> {
        let (pool_size, pool_free) = space(pool)?;
        let (_, host_free) = space(data_dir)?;
        Ok(Self { pool_size, pool_free, host_free })
    }

    /// Whether one more sandbox may be made; [`mayfly_core::Kind::Unavailable`] says what is short.
    pub fn admit(&self, reserve: Reserve) -> Result<()> {
        if self.reaches(REFUSE_PERCENT, reserve.sandbox) {
            return Err(short("the storage pool", self.pool_free));
        }
        if self.host_free < reserve.host {
            return Err(short("the disk of the data directory", self.host_free));
        }
        Ok(())
    }

    /// Whether the limits of living sandboxes must be lowered with [`Pool::tighten_sandbox`], so that
    /// overcommitted ones cannot fill the pool for the others.
    pub fn is_critical(&self) -> bool {
        self.reaches(TIGHTEN_PERCENT, 0)
    }

    fn reaches(&self, percent: u64, more: u64) -> bool {
        let used = self.pool_size.saturating_sub(self.pool_free).saturating_add(more);
        u128::from(used) * 100 >= u128::from(self.pool_size) * u128::from(percent)
    }
}

impl Pool {
    /// Lowers a sandbox's limit to its use and 64 MiB, never above `disk_bytes`, its full size; gives the
    /// limit that holds now. [`Pool::resize_sandbox`] restores it.
    pub fn tighten_sandbox(&self, id: SandboxId, disk_bytes: u64) -> Result<u64> {
        let limit = self.sandbox_usage(id)?.saturating_add(TIGHTENED_ROOM).min(disk_bytes);
        self.resize_sandbox(id, limit)?;
        Ok(limit)
    }
}

fn short(what: &str, free: u64) -> Error {
    unavailable(format!("{what} is nearly full: {} MiB are free", free >> 20))
        .with_hint("delete sandboxes or free disk space, then try again")
}

fn space(fd: impl AsFd) -> Result<(u64, u64)> {
    let stat =
        rustix::fs::fstatvfs(fd).map_err(|error| failed("measure free space")(error.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok((bytes(stat.f_blocks), bytes(stat.f_bavail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admission_stops_at_four_fifths_of_the_pool_and_at_the_reserve() {
        let reserve = Reserve { host: 100, sandbox: 10 };
        let check = |pool_free, host_free| {
            Headroom { pool_size: 1000, pool_free, host_free }.admit(reserve).is_ok()
        };
        assert!(check(1000, 100));
        assert!(check(211, 100));
        assert!(!check(210, 100), "80 % with the headroom of the new one");
        assert!(!check(0, 100));
        assert!(!check(1000, 99), "below the host's reserve");
    }

    #[test]
    fn limits_are_lowered_from_nine_tenths_on() {
        let critical =
            |pool_free| Headroom { pool_size: 1000, pool_free, host_free: 0 }.is_critical();
        assert!(!critical(101));
        assert!(critical(100));
    }

    #[test]
    fn a_refusal_is_retryable_and_names_what_is_short() {
        let full = Headroom { pool_size: 1 << 30, pool_free: 0, host_free: 1 << 40 };
        let error = full.admit(Reserve::default()).unwrap_err();
        assert!(error.is_retryable());
        assert!(error.message().contains("storage pool"), "{error}");
    }
}
