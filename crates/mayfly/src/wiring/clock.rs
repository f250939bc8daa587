//! Time and randomness of the host.

use mayfly_core::ports::clock::Clock;
use mayfly_core::ports::entropy::Entropy;
use mayfly_core::time::{Moment, Monotonic, Timestamp};
use mayfly_core::{Error, Result};
use rustix::time::{ClockId, Timespec, clock_gettime};
use uuid::Uuid;

/// The kernel's clocks.
#[derive(Debug)]
pub(crate) struct HostClock {
    boot_id: String,
}

impl HostClock {
    /// Reads which boot this is.
    pub(crate) fn new() -> Result<Self> {
        let path = "/proc/sys/kernel/random/boot_id";
        let boot_id = std::fs::read_to_string(path)
            .map_err(|error| Error::internal(format!("cannot read {path}"), error))?;
        Ok(Self { boot_id: boot_id.trim().to_owned() })
    }
}

fn millis(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

impl Clock for HostClock {
    fn now(&self) -> Moment {
        let since_boot = millis(clock_gettime(ClockId::Boottime)).unsigned_abs();
        Moment {
            wall: Timestamp(millis(clock_gettime(ClockId::Realtime))),
            mono: Monotonic(Monotonic::BOOT.0.saturating_add(since_boot)),
        }
    }

    fn boot_id(&self) -> &str {
        &self.boot_id
    }
}

/// The kernel's random numbers.
#[derive(Debug)]
pub(crate) struct HostEntropy;

impl Entropy for HostEntropy {
    fn uuid(&self) -> Uuid {
        Uuid::now_v7()
    }

    fn fill(&self, bytes: &mut [u8]) {
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::rand::getrandom(
                &mut bytes[filled..],
                rustix::rand::GetRandomFlags::empty(),
            ) {
                Ok(more) => filled += more,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    panic!("the kernel gives no random numbers ({error}), so no secret is safe")
                }
            }
        }
    }
}
