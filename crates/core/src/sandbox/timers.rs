//! Automatic ends of phases, decided by monotonic time only.

use std::time::Duration;

use crate::sandbox::command::{Command, Denied};
use crate::sandbox::input;
use crate::sandbox::record::{Sandbox, State, Timers};
use crate::time::Moment;

/// Most minutes of a timer: ten years.
pub const MAX_MINUTES: u32 = 10 * 366 * 24 * 60;
/// Most minutes stopped until it is archived: 30 days; `0` asks for this.
pub const MAX_AUTO_ARCHIVE: u32 = 30 * 24 * 60;

/// Which timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// Idle until stopped.
    AutoStop,
    /// Idle until paused.
    AutoPause,
    /// Stopped until archived.
    AutoArchive,
    /// Stopped until deleted; negative = never.
    AutoDelete,
    /// Until deleted, in any state; setting it counts anew.
    Ttl,
}

impl Timer {
    /// The contract's name of its field.
    pub const fn field(self) -> &'static str {
        match self {
            Self::AutoStop => "autoStopInterval",
            Self::AutoPause => "autoPauseInterval",
            Self::AutoArchive => "autoArchiveInterval",
            Self::AutoDelete => "autoDeleteInterval",
            Self::Ttl => "ttlMinutes",
        }
    }
}

/// The timers with one of them set.
pub(super) fn set(mut timers: Timers, timer: Timer, minutes: i64) -> Result<Timers, Denied> {
    let bad = || {
        Denied::Invalid(format!(
            "{} must be a whole number of minutes from 0 to {MAX_MINUTES}",
            timer.field()
        ))
    };
    if timer == Timer::AutoDelete {
        timers.auto_delete = i32::try_from(minutes.max(-1)).map_err(|_| bad())?;
    } else {
        let minutes = u32::try_from(minutes).map_err(|_| bad())?;
        match timer {
            Timer::AutoStop => timers.auto_stop = minutes,
            Timer::AutoPause => timers.auto_pause = minutes,
            Timer::AutoArchive => timers.auto_archive = minutes,
            Timer::Ttl | Timer::AutoDelete => timers.ttl = minutes,
        }
    }
    input::timers(&timers).map_err(|error| Denied::Invalid(error.message().to_owned()))?;
    Ok(timers)
}

/// The command that time asks for now, if any; `used` is its last use as far as it is known, which the
/// record may not hold yet. Unclaimed warm sandboxes have no timers.
pub fn due(sandbox: &Sandbox, used: Moment, now: Moment) -> Option<Command> {
    let timers = &sandbox.timers;
    if sandbox.warm || matches!(sandbox.state, State::Destroying | State::Destroyed) {
        return None;
    }
    if timers.ttl > 0 && over(sandbox.ttl_from, timers.ttl, now) {
        return Some(Command::Destroy);
    }
    match sandbox.state {
        State::Started => {
            if timers.auto_stop > 0 && over(used, timers.auto_stop, now) {
                return Some(Command::Stop { force: false });
            }
            if timers.auto_pause > 0 && over(used, timers.auto_pause, now) {
                return Some(Command::Pause);
            }
            None
        }
        State::Stopped | State::Archived => {
            let since = sandbox.stopped_since?;
            if u32::try_from(timers.auto_delete).is_ok_and(|minutes| over(since, minutes, now)) {
                return Some(Command::Destroy);
            }
            let archive =
                if timers.auto_archive == 0 { MAX_AUTO_ARCHIVE } else { timers.auto_archive };
            (sandbox.state == State::Stopped && over(since, archive, now))
                .then_some(Command::Archive)
        }
        _ => None,
    }
}

fn over(since: Moment, minutes: u32, now: Moment) -> bool {
    now.mono.since(since.mono) >= Duration::from_secs(u64::from(minutes) * 60)
}
