//! Time, as a port: what is stored is wall time, what is waited for is a timer of the async runtime.
//!
//! Timers are those of tokio, so a test pauses them. While another thread works for the library (the writer, a
//! reader), [`Clock::hold`] tells a simulated clock that time must not pass.

use std::any::Any;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// Reads the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Now, in milliseconds since the Unix epoch.
    fn now(&self) -> Millis;

    /// Until the answer is dropped, something outside of the async runtime is at work.
    fn hold(&self) -> Hold {
        Hold(None)
    }
}

/// Keeps simulated time from passing while it lives; nothing on a real clock.
pub struct Hold(pub Option<Box<dyn Any + Send>>);

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hold").field(&self.0.is_some()).finish()
    }
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
    }
}
