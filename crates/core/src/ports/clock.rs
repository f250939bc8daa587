//! Time, as a port, so that tests can move it.

use crate::time::Moment;

/// Reads both clocks.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now, on both clocks at once.
    fn now(&self) -> Moment;

    /// Names the boot that [`crate::time::Monotonic`] counts from; equal ids mean comparable moments.
    fn boot_id(&self) -> &str;
}
