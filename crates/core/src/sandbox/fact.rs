//! What the world reports about a sandbox.

use crate::limits::Resources;

/// Something that happened; never refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// It was made and runs.
    Created,
    /// It runs.
    Started,
    /// Its processes are gone, its files kept.
    Stopped,
    /// Its files are put away.
    Archived,
    /// Its files are back from the archive.
    Restored,
    /// It is frozen.
    Frozen,
    /// It runs on.
    Thawed,
    /// It has this size.
    Resized(Resources),
    /// Nothing of it is left.
    Destroyed,
    /// Its processes ended without being asked to.
    Exited {
        /// Why, as far as it is known.
        reason: String,
    },
    /// It was found without processes, its files kept, when the server came back.
    FoundStopped,
    /// It runs, and nothing inside can be reached: an older server started it.
    Outdated {
        /// Why, and what to do.
        reason: String,
    },
    /// Nothing of it was found.
    Lost,
    /// The effect of the present transition failed and left nothing half done.
    Failed {
        /// Why.
        reason: String,
        /// The same effect may pass later (something was used up or out of reach).
        retryable: bool,
        /// Size to return to, when it was a resize.
        back_to: Option<Resources>,
    },
}
