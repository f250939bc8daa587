//! What a sandbox's processes that stay mean for the engine: use, turns, names.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::contexts::Turn;

const NONE: u8 = 0;
const MAY_RUN: u8 = 1;
const UNKNOWN: u8 = 2;

/// Whether commands of sessions run, which counts as use of the sandbox.
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

    /// Whether a look is needed. What is asked for during the look is seen by the next one.
    pub(crate) fn begin_look(&self) -> bool {
        match self.0.load(Ordering::Acquire) {
            NONE => false,
            // An unknown one stays so until the look is over: its timers wait for that.
            UNKNOWN => true,
            _ => {
                self.0.store(NONE, Ordering::Release);
                true
            }
        }
    }

    /// What the look saw.
    pub(crate) fn seen(&self, running: bool) {
        if running {
            self.may_run();
        } else {
            // Only from unknown: a command that came meanwhile must not be lost.
            let _ = self.0.compare_exchange(UNKNOWN, NONE, Ordering::AcqRel, Ordering::Acquire);
        }
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
        assert!(commands.begin_look());
        commands.may_run();
        commands.seen(false);
        assert!(commands.begin_look());
        commands.seen(false);
        assert!(!commands.begin_look());
        commands.unknown();
        assert!(commands.begin_look() && commands.is_unknown());
        commands.may_run();
        commands.seen(false);
        assert!(commands.begin_look() && !commands.is_unknown());
    }
}
