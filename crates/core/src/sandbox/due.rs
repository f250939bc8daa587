//! Automatic ends of phases, decided by monotonic time only.

use std::time::Duration;

use crate::sandbox::command::Command;
use crate::sandbox::record::{Sandbox, State};
use crate::sandbox::timers::MAX_AUTO_ARCHIVE;
use crate::time::Moment;

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
