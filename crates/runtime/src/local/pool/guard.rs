//! Keeps the pool and its host from filling up: new sandboxes are refused before either is full.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

use mayfly_core::id::SandboxId;
use mayfly_core::ports::runtime::DiskGuard;
use mayfly_core::{Error, Kind, Result};

use super::{Pool, failed, subvolume, unavailable};

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

    /// Measures the disk of a data directory that has no pool: only its reserve counts.
    pub fn of_disk(data_dir: impl AsFd) -> Result<Self> {
        let (_, host_free) = space(data_dir)?;
        Ok(Self { pool_size: u64::MAX, pool_free: u64::MAX, host_free })
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

    /// Whether the limits of living sandboxes must be lowered (see [`Pool::guard`]), so that
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
    /// Lowers limits while the pool is critically full, restores them when new sandboxes would be admitted
    /// again; in between they stay. Takes the full size of each sandbox; those without a folder are passed
    /// over. Gives the limits that changed.
    pub fn guard(&self, headroom: Headroom, sizes: &[(SandboxId, u64)]) -> Result<Vec<DiskGuard>> {
        let critical = headroom.is_critical();
        let roomy = !headroom.reaches(REFUSE_PERCENT, 0);
        let restores = roomy && self.tightened.load(Ordering::Relaxed);
        if !(critical || restores) {
            return Ok(Vec::new());
        }
        self.tightened.store(critical, Ordering::Relaxed);
        let mut changed = Vec::new();
        for (id, full) in sizes {
            let limit =
                if critical { self.tighten_sandbox(*id) } else { self.restore_sandbox(*id, *full) };
            match limit {
                Ok(Some(limit)) => {
                    changed.push(DiskGuard { id: *id, limit, lowered: limit < *full });
                }
                Ok(None) => {}
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.guard_volumes(critical)?;
        Ok(changed)
    }

    /// The same for volumes, whose full size stands in themselves.
    fn guard_volumes(&self, critical: bool) -> Result<()> {
        for id in self.volumes()? {
            let guarded = self.open_volume(id).and_then(|volume| {
                let full = self.volume_size(id)?.unwrap_or_default();
                if critical {
                    self.tighten(volume.as_fd())
                } else {
                    self.restore(volume.as_fd(), full)
                }
            });
            match guarded {
                Ok(Some(limit)) => {
                    tracing::warn!(volume = %id, limit, lowered = critical, "limit of a volume changed: the storage pool is nearly full, or has room again");
                }
                Ok(None) => {}
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lowers a sandbox's limit to its use and 64 MiB; `None` when it has little more already. Never raises
    /// it, or a full pool would be filled one step at a time.
    fn tighten_sandbox(&self, id: SandboxId) -> Result<Option<u64>> {
        self.tighten(self.open_sandbox(id)?.fd())
    }

    fn tighten(&self, folder: BorrowedFd<'_>) -> Result<Option<u64>> {
        let lowered = subvolume::usage(self, folder)?.saturating_add(TIGHTENED_ROOM);
        let holds = subvolume::limit(self, folder)?.unwrap_or(u64::MAX);
        if holds <= lowered.saturating_add(TIGHTENED_ROOM) {
            return Ok(None);
        }
        subvolume::set_limit(folder, lowered)?;
        Ok(Some(lowered))
    }

    /// Gives a sandbox its full size back; `None` when it has that or more, as after a resize.
    fn restore_sandbox(&self, id: SandboxId, full: u64) -> Result<Option<u64>> {
        self.restore(self.open_sandbox(id)?.fd(), full)
    }

    fn restore(&self, folder: BorrowedFd<'_>, full: u64) -> Result<Option<u64>> {
        if subvolume::limit(self, folder)?.is_none_or(|limit| limit >= full) {
            return Ok(None);
        }
        subvolume::set_limit(folder, full)?;
        Ok(Some(full))
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
