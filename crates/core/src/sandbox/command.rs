//! What can be asked of a sandbox, what that asks of the world, and why it may be refused.

use std::collections::BTreeMap;

use crate::error::{Error, Kind};
use crate::id::OrganizationId;
use crate::limits::Resources;
use crate::network::{NetworkChange, NetworkPolicy};
use crate::sandbox::record::{Sandbox, State, Timers};
use crate::sandbox::timers::Timer;

/// A wish of a caller or of a timer; may be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run: from stopped, archived or paused.
    Start,
    /// End the processes, keep the files: from started or paused.
    Stop {
        /// Kill at once, without the grace.
        force: bool,
    },
    /// Put away: from stopped.
    Archive,
    /// Freeze: from started.
    Pause,
    /// Leave a recoverable error.
    Recover {
        /// End up stopped instead of started.
        skip_start: bool,
    },
    /// Change the size: from started or stopped; the disk only grows.
    Resize(Resources),
    /// Delete: from every state, repeatedly.
    Destroy,
    /// Delete if it is still unclaimed; the warm pool's own end, which can never hit a claimed one.
    Retire,
    /// Hand an unclaimed warm sandbox to a caller.
    Claim(Box<Claim>),
    /// Replace all labels.
    SetLabels(BTreeMap<String, String>),
    /// Set one timer, in minutes.
    SetTimer(Timer, i64),
    /// Set whether previews need no token.
    SetPublic(bool),
    /// Change what it may reach.
    SetNetwork(NetworkChange),
    /// Change the environment of what starts from now on.
    SetEnv(EnvChange),
}

impl Command {
    /// The verb, as messages name it.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop { .. } => "stop",
            Self::Archive => "archive",
            Self::Pause => "pause",
            Self::Recover { .. } => "recover",
            Self::Resize(_) => "resize",
            Self::Destroy => "delete",
            Self::Retire => "retire",
            Self::Claim(_) => "claim",
            Self::SetLabels(_) => "set the labels of",
            Self::SetTimer(..) => "set a timer of",
            Self::SetPublic(_) => "change the visibility of",
            Self::SetNetwork(_) => "change the network of",
            Self::SetEnv(_) => "change the environment of",
        }
    }
}

/// A change of the environment that was set later than a sandbox was made; what is taken out goes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvChange {
    /// Variables to set.
    pub set: BTreeMap<String, String>,
    /// Variables to take out; unknown ones are none.
    pub unset: Vec<String>,
    /// Variables whose value begins like this are taken out, but those that are set in the same change.
    pub unset_value_prefix: Option<String>,
}

impl EnvChange {
    /// The variables after the change.
    pub fn apply(&self, before: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut after = before.clone();
        after.retain(|name, value| {
            let has_prefix =
                self.unset_value_prefix.as_ref().is_some_and(|prefix| value.starts_with(prefix));
            !has_prefix && !self.unset.contains(name)
        });
        after.extend(self.set.clone());
        after
    }
}

/// What the claimer of a warm sandbox brings; everything else stays as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose it becomes.
    pub organization: OrganizationId,
    /// Its name from now on.
    pub name: String,
    /// The snapshot's name as the caller asked for it.
    pub snapshot_name: String,
    /// Environment of its commands.
    pub env: BTreeMap<String, String>,
    /// Labels of the caller.
    pub labels: BTreeMap<String, String>,
    /// Whether previews need no token.
    pub public: bool,
    /// Region label.
    pub target: String,
    /// The size asked for; a different one is applied by resizing.
    pub resources: Resources,
    /// What it may reach.
    pub network: NetworkPolicy,
    /// Its timers, counting from the claim.
    pub timers: Timers,
    /// The caller's idempotency key.
    pub idempotency_key: Option<String>,
}

/// One thing to do in the world, after the record is written. Idempotent: may be performed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make and start it.
    Create,
    /// Start it with the files it had.
    Start,
    /// End what may be left of it, then start it.
    Restart,
    /// End its processes.
    Stop {
        /// Kill at once, without the grace.
        force: bool,
    },
    /// Put its files away.
    Archive,
    /// Bring its files back from the archive.
    Restore,
    /// Freeze it.
    Freeze,
    /// Thaw it.
    Thaw,
    /// Apply a size.
    Resize {
        /// The size it shall have.
        to: Resources,
        /// The size to return to when that fails; `None` after a crash, when it is no longer known.
        from: Option<Resources>,
    },
    /// Delete everything of it.
    Destroy,
}

impl Effect {
    /// The transient state that this effect ends; in any other state it was overtaken.
    pub const fn state(&self) -> State {
        match self {
            Self::Create => State::Creating,
            Self::Start | Self::Restart => State::Starting,
            Self::Stop { .. } => State::Stopping,
            Self::Archive => State::Archiving,
            Self::Restore => State::Restoring,
            Self::Freeze => State::Pausing,
            Self::Thaw => State::Resuming,
            Self::Resize { .. } => State::Resizing,
            Self::Destroy => State::Destroying,
        }
    }
}

/// What a decision leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The record to write; equal to the one decided on when nothing changes.
    pub next: Sandbox,
    /// What to do once it is written.
    pub effect: Option<Effect>,
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Something else is being done to it right now.
    InTransition {
        /// What was asked.
        verb: &'static str,
        /// What is going on.
        state: State,
    },
    /// The state does not allow it.
    WrongState {
        /// What was asked.
        verb: &'static str,
        /// Where it is.
        state: State,
        /// What the caller can do.
        hint: &'static str,
    },
    /// The values asked for make no sense; names the field.
    Invalid(String),
}

impl Denied {
    /// The platform's error about the sandbox of this name.
    pub fn into_error(self, name: &str) -> Error {
        match self {
            Self::InTransition { verb, state } => Error::new(
                Kind::Conflict,
                format!("cannot {verb} sandbox {name} while it is {state}"),
            )
            .with_hint("wait until its state settles, then try again"),
            Self::WrongState { verb, state, hint } => {
                Error::new(Kind::Conflict, format!("cannot {verb} sandbox {name}: it is {state}"))
                    .with_hint(hint)
            }
            Self::Invalid(message) => Error::invalid(message),
        }
    }
}
