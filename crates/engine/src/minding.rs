//! What a sandbox's processes that stay mean for the engine: use, turns, names.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::contexts::Turn;

const NONE: u8 = 0;
const MAY_RUN: u8 = 1;
/// They may run, and somebody looks whether they do.
const LOOKED_AT: u8 = 2;
const UNKNOWN: u8 = 3;

/// Whether commands of sessions run, which counts as use of the sandbox.
///
/// ```text
/// unknown --look: none--> none --asked for--> may run --look--> looked at --none runs--> none
///    \----look: some----------------------------^  ^--some run, or asked for-----/
/// ```
#[derive(Debug, Default)]
pub(crate) struct Commands(AtomicU8);

impl Commands {
    /// One was asked for; whoever looks finds out when it ended.
    pub(crate) fn may_run(&self) {
        self.0.store(MAY_RUN, Ordering::Release);
    }

    /// An earlier server may have left some.
    pub(crate) fn unknown(&self) {
        self.0.store(UNKNOWN, Ordering::Release);
    }

    /// Whether nobody has looked since the start of the server.
    pub(crate) fn is_unknown(&self) -> bool {
        self.0.load(Ordering::Acquire) == UNKNOWN
    }

    /// Whether they count as use now.
    pub(crate) fn are_use(&self) -> bool {
        matches!(self.0.load(Ordering::Acquire), MAY_RUN | LOOKED_AT)
    }

    /// Whether a look is needed.
    pub(crate) fn begin_look(&self) -> bool {
        // One that is unknown stays so until the look is over: its timers wait for that.
        self.step(MAY_RUN, LOOKED_AT) || self.0.load(Ordering::Acquire) != NONE
    }

    /// What the look saw; whether the use ended with it. What was asked for during the look stays.
    pub(crate) fn seen(&self, running: bool) -> bool {
        if running {
            self.may_run();
            return false;
        }
        let ended = self.step(LOOKED_AT, NONE);
        self.step(UNKNOWN, NONE);
        ended
    }

    fn step(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Turns at the interpreter's contexts.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Turn>>);

impl Turns {
    /// The turn of a context that is there.
    pub(crate) fn of(&self, id: &str) -> Turn {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Turn::clone(turns.entry(id.to_owned()).or_default())
    }

    /// A context is gone.
    pub(crate) fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// All contexts are gone.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_comes_during_a_look_is_not_lost() {
        let commands = Commands::default();
        assert!(!commands.begin_look());
        commands.may_run();
        assert!(commands.begin_look() && commands.are_use());
        commands.may_run();
        assert!(!commands.seen(false) && commands.are_use());
        assert!(commands.begin_look());
        assert!(commands.seen(false) && !commands.are_use());
        assert!(!commands.begin_look());
        commands.unknown();
        assert!(commands.begin_look() && commands.is_unknown() && !commands.are_use());
        commands.may_run();
        assert!(!commands.seen(false) && commands.begin_look() && !commands.is_unknown());
        assert!(!commands.seen(true) && commands.are_use());
    }
}
