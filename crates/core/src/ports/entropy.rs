//! Randomness, as a port, so that tests can replay it.

use uuid::Uuid;

/// Makes ids and secrets.
pub trait Entropy: Send + Sync + std::fmt::Debug {
    /// A new `UUIDv7`; never comes twice, sorts by time.
    fn uuid(&self) -> Uuid;

    /// Fills the buffer with bytes fit for secrets.
    fn fill(&self, bytes: &mut [u8]);
}
