//! A sandbox: what is kept of it, its states, and the one table of rules between them.
//!
//! ```text
//!  (insert) -> creating -> started
//!  started  -> stopping -> stopped -> starting -> started
//!  stopped  -> archiving -> archived -> restoring -> starting -> started
//!  started  -> pausing -> paused -> resuming -> started        paused -> stopping -> stopped
//!  started | stopped -> resizing -> as before
//!  error (recoverable) -> starting -> started | stopping -> stopped
//!  any -> error (a reason, recoverable or not)
//!  any -> destroying -> destroyed (final)
//! ```
//!
//! Callers send a [`Command`], which may be refused; the world sends a [`Fact`], which never is. Both give
//! a [`Step`]: the record to write and the effect to perform after it is written. Every transient state has
//! exactly one effect ([`pending`]), so that a transition cut short by a crash is finished by performing it
//! again. Clocks end phases through [`due`], which answers with an ordinary command.

mod command;
mod create;
mod due;
mod fact;
pub(crate) mod input;
mod record;
mod timers;
mod transitions;

pub use command::{Claim, Command, Denied, Effect, EnvChange, Step};
pub use create::{CreateSandbox, Resize};
pub use due::due;
pub use fact::Fact;
pub use record::{Desired, Sandbox, State, Timers};
pub use timers::{MAX_AUTO_ARCHIVE, MAX_MINUTES, Timer};
pub use transitions::{on_command, on_fact, pending};
