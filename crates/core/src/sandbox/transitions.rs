//! The table of rules: what each command and each fact does in each state.

use crate::limits::Resources;
use crate::sandbox::command::{Claim, Command, Denied, Effect, Step};
use crate::sandbox::fact::Fact;
use crate::sandbox::input;
use crate::sandbox::record::{Desired, Sandbox, State};
use crate::sandbox::timers::Timer;
use crate::time::Moment;

/// Decides a command. `Ok` with an unchanged record means that it is already as wished.
pub fn on_command(sandbox: &Sandbox, command: Command, now: Moment) -> Result<Step, Denied> {
    let verb = command.verb();
    match command {
        Command::Destroy => Ok(destroy(sandbox, now)),
        Command::Retire if sandbox.warm => Ok(destroy(sandbox, now)),
        Command::Retire => Err(wrong(sandbox, verb, "it was claimed")),
        _ if sandbox.state == State::Destroyed => Err(wrong(sandbox, verb, "make a new one")),
        Command::SetLabels(_)
        | Command::SetTimer(..)
        | Command::SetPublic(_)
        | Command::SetNetwork(_)
        | Command::SetEnv(_)
            if sandbox.state != State::Destroying =>
        {
            settings(sandbox, command, now)
        }
        _ if sandbox.state.is_transient() => {
            Err(Denied::InTransition { verb, state: sandbox.state })
        }
        Command::Start => start(sandbox, now),
        Command::Stop { force } => match sandbox.state {
            State::Started | State::Paused => {
                Ok(act(sandbox, State::Stopping, Desired::Stopped, Effect::Stop { force }, now))
            }
            State::Stopped => Ok(unchanged(sandbox)),
            _ => Err(wrong(sandbox, verb, "only a started or paused sandbox can be stopped")),
        },
        Command::Archive => match sandbox.state {
            State::Stopped => {
                Ok(act(sandbox, State::Archiving, Desired::Archived, Effect::Archive, now))
            }
            _ => Err(wrong(sandbox, verb, "stop it first")),
        },
        Command::Pause => match sandbox.state {
            State::Started => {
                Ok(act(sandbox, State::Pausing, Desired::Paused, Effect::Freeze, now))
            }
            _ => Err(wrong(sandbox, verb, "start it first")),
        },
        Command::Recover { skip_start } => recover(sandbox, skip_start, now),
        Command::Resize(to) => resize(sandbox, to, now),
        Command::Claim(claim) => take(sandbox, *claim, now),
        Command::SetLabels(_)
        | Command::SetTimer(..)
        | Command::SetPublic(_)
        | Command::SetNetwork(_)
        | Command::SetEnv(_) => settings(sandbox, command, now),
    }
}

/// Takes note of a fact. One that does not fit the state (it was overtaken by a later wish) changes nothing.
pub fn on_fact(sandbox: &Sandbox, fact: Fact, now: Moment) -> Step {
    use State::{
        Archived, Archiving, Creating, Destroyed, Destroying, Error, Paused, Pausing, Resizing,
        Restoring, Resuming, Started, Starting, Stopped, Stopping,
    };
    match (sandbox.state, fact) {
        (Destroyed, _) => unchanged(sandbox),
        (Creating, Fact::Created) | (Starting, Fact::Started) | (Resuming, Fact::Thawed) => {
            settle(sandbox, Started, now)
        }
        (Stopping, Fact::Stopped | Fact::Exited { .. } | Fact::FoundStopped) => {
            stopped(sandbox, None, now)
        }
        (Started | Paused, Fact::FoundStopped) => {
            let reason = "its processes ended while the server was away".to_owned();
            stopped(sandbox, Some(reason), now)
        }
        (Started | Paused, Fact::Outdated { .. }) if sandbox.warm => destroy(sandbox, now),
        (Started | Paused, Fact::Outdated { reason }) => {
            let mut step = unchanged(sandbox);
            step.next.error_reason = Some(reason);
            step
        }
        (Archiving, Fact::Archived) => settle(sandbox, Archived, now),
        (Restoring, Fact::Restored) => act(sandbox, Starting, Desired::Started, Effect::Start, now),
        (Pausing, Fact::Frozen) => settle(sandbox, Paused, now),
        (Resizing, Fact::Resized(size)) => {
            let mut step = settle(sandbox, sandbox.resume_to.unwrap_or(Stopped), now);
            step.next.resources = size;
            step
        }
        (_, Fact::Destroyed) | (Destroying, Fact::Lost) => settle(sandbox, Destroyed, now),
        (state, Fact::Failed { reason, retryable, back_to }) if state.is_transient() => {
            failed(sandbox, reason, retryable, back_to, now)
        }
        (
            Creating | Starting | Started | Pausing | Paused | Resuming | Resizing,
            Fact::Exited { reason },
        ) => broken(sandbox, reason, true, now),
        (
            Creating | Started | Stopping | Stopped | Starting | Archiving | Archived | Restoring
            | Pausing | Paused | Resuming | Resizing | Error,
            Fact::Lost,
        ) => broken(sandbox, "its files are gone".to_owned(), false, now),
        // Whatever else is reported was overtaken by another transition, or is already known.
        (
            _,
            Fact::Created
            | Fact::Started
            | Fact::Stopped
            | Fact::Archived
            | Fact::Restored
            | Fact::Frozen
            | Fact::Thawed
            | Fact::Resized(_)
            | Fact::Exited { .. }
            | Fact::FoundStopped
            | Fact::Outdated { .. }
            | Fact::Failed { .. },
        ) => unchanged(sandbox),
    }
}

/// The effect that the present state waits for; `None` in states that last.
pub fn pending(sandbox: &Sandbox) -> Option<Effect> {
    match sandbox.state {
        State::Creating => Some(Effect::Create),
        State::Stopping => Some(Effect::Stop { force: false }),
        State::Starting => Some(Effect::Restart),
        State::Archiving => Some(Effect::Archive),
        State::Restoring => Some(Effect::Restore),
        State::Pausing => Some(Effect::Freeze),
        State::Resuming => Some(Effect::Thaw),
        State::Resizing => Some(Effect::Resize { to: sandbox.resources, from: None }),
        State::Destroying => Some(Effect::Destroy),
        State::Started
        | State::Stopped
        | State::Archived
        | State::Paused
        | State::Error
        | State::Destroyed => None,
    }
}

fn start(sandbox: &Sandbox, now: Moment) -> Result<Step, Denied> {
    let act = |state, effect| Ok(act(sandbox, state, Desired::Started, effect, now));
    match sandbox.state {
        State::Started => Ok(unchanged(sandbox)),
        State::Stopped => act(State::Starting, Effect::Start),
        State::Archived => act(State::Restoring, Effect::Restore),
        State::Paused => act(State::Resuming, Effect::Thaw),
        _ if sandbox.recoverable => Err(wrong(sandbox, "start", "recover it first")),
        _ => Err(wrong(sandbox, "start", "delete it and make a new one")),
    }
}

fn recover(sandbox: &Sandbox, skip_start: bool, now: Moment) -> Result<Step, Denied> {
    match sandbox.state {
        State::Error if sandbox.recoverable && skip_start => {
            let effect = Effect::Stop { force: true };
            Ok(act(sandbox, State::Stopping, Desired::Stopped, effect, now))
        }
        State::Error if sandbox.recoverable => {
            Ok(act(sandbox, State::Starting, Desired::Started, Effect::Restart, now))
        }
        State::Error => Err(wrong(sandbox, "recover", "delete it and make a new one")),
        _ => Err(wrong(sandbox, "recover", "only a recoverable error can be left this way")),
    }
}

fn resize(sandbox: &Sandbox, to: Resources, now: Moment) -> Result<Step, Denied> {
    if !matches!(sandbox.state, State::Started | State::Stopped) {
        return Err(wrong(sandbox, "resize", "start or stop it first"));
    }
    let from = sandbox.resources;
    for (field, size) in [("cpu", to.cpu), ("memory", to.memory_gib), ("disk", to.disk_gib)] {
        if size == 0 {
            return Err(Denied::Invalid(format!("{field} must be at least 1")));
        }
    }
    if to.disk_gib < from.disk_gib {
        return Err(Denied::Invalid(format!(
            "disk can only grow: it is {} GiB, {} GiB was asked for",
            from.disk_gib, to.disk_gib
        )));
    }
    if to == from {
        return Ok(unchanged(sandbox));
    }
    Ok(resizing(sandbox, to, now))
}

fn resizing(sandbox: &Sandbox, to: Resources, now: Moment) -> Step {
    let effect = Effect::Resize { to, from: Some(sandbox.resources) };
    let mut step = act(sandbox, State::Resizing, Desired::Resized, effect, now);
    step.next.resources = to;
    step.next.resume_to = Some(sandbox.state);
    step
}

fn take(sandbox: &Sandbox, claim: Claim, now: Moment) -> Result<Step, Denied> {
    if !sandbox.warm || sandbox.state != State::Started {
        return Err(wrong(sandbox, "claim", "make a new one"));
    }
    let mut next = sandbox.clone();
    next.warm = false;
    next.organization = claim.organization;
    next.name = claim.name;
    next.snapshot_name = claim.snapshot_name;
    next.env = claim.env;
    next.labels = claim.labels;
    next.public = claim.public;
    next.network = claim.network;
    next.target = claim.target;
    next.timers = claim.timers;
    next.idempotency_key = claim.idempotency_key;
    next.created = now;
    next.ttl_from = now;
    next.last_activity = now;
    next.updated_at = now.wall;
    if claim.resources == next.resources {
        return Ok(Step { next, effect: None });
    }
    Ok(resizing(&next, claim.resources, now))
}

fn settings(sandbox: &Sandbox, command: Command, now: Moment) -> Result<Step, Denied> {
    let mut next = sandbox.clone();
    match command {
        Command::SetLabels(labels) => {
            input::labels(&labels).map_err(|error| Denied::Invalid(error.message().to_owned()))?;
            next.labels = labels;
        }
        Command::SetTimer(timer, minutes) => {
            next.timers = input::timer(next.timers, timer, minutes)
                .map_err(|error| Denied::Invalid(error.message().to_owned()))?;
            if timer == Timer::Ttl {
                next.ttl_from = now;
            }
        }
        Command::SetPublic(public) => next.public = public,
        Command::SetNetwork(change) => next.network = change.apply(&next.network),
        Command::SetEnv(change) => {
            next.later_env = change.apply(&next.later_env);
            input::env(&next.later_env)
                .map_err(|error| Denied::Invalid(error.message().to_owned()))?;
        }
        _ => return Err(Denied::InTransition { verb: command.verb(), state: sandbox.state }),
    }
    if next != *sandbox {
        next.updated_at = now.wall;
    }
    Ok(Step { next, effect: None })
}

fn destroy(sandbox: &Sandbox, now: Moment) -> Step {
    match sandbox.state {
        State::Destroying | State::Destroyed => unchanged(sandbox),
        _ => act(sandbox, State::Destroying, Desired::Destroyed, Effect::Destroy, now),
    }
}

/// A failed effect leaves nothing half done, so what is known to be untouched goes back to where it was.
fn failed(
    sandbox: &Sandbox,
    reason: String,
    retryable: bool,
    back_to: Option<Resources>,
    now: Moment,
) -> Step {
    let back = match sandbox.state {
        State::Starting | State::Restoring if retryable => Some(State::Stopped),
        State::Archiving => Some(State::Stopped),
        State::Pausing => Some(State::Started),
        State::Resuming if retryable => Some(State::Paused),
        State::Resizing if back_to.is_some() => sandbox.resume_to,
        _ => None,
    };
    let Some(back) = back else {
        let recoverable = !matches!(sandbox.state, State::Creating | State::Destroying);
        return broken(sandbox, reason, recoverable, now);
    };
    let mut step = settle(sandbox, back, now);
    step.next.error_reason = Some(reason);
    step.next.resources = back_to.unwrap_or(sandbox.resources);
    step.next.desired = match back {
        State::Started => Desired::Started,
        State::Paused => Desired::Paused,
        _ => Desired::Stopped,
    };
    step
}

fn broken(sandbox: &Sandbox, reason: String, recoverable: bool, now: Moment) -> Step {
    let mut next = sandbox.clone();
    if next.state == State::Creating {
        // Nothing was made, so the same key may try again.
        next.idempotency_key = None;
    }
    next.state = State::Error;
    next.error_reason = Some(reason);
    next.recoverable = recoverable;
    next.resume_to = None;
    next.stopped_since = None;
    next.updated_at = now.wall;
    Step { next, effect: None }
}

/// Stopped; one that is ephemeral is deleted on stop.
fn stopped(sandbox: &Sandbox, reason: Option<String>, now: Moment) -> Step {
    let mut step = settle(sandbox, State::Stopped, now);
    step.next.error_reason = reason;
    if sandbox.timers.auto_delete == 0 || sandbox.warm { destroy(&step.next, now) } else { step }
}

/// Arrives in a state that lasts.
fn settle(sandbox: &Sandbox, state: State, now: Moment) -> Step {
    let mut next = sandbox.clone();
    let was_stopped = sandbox.stopped_since;
    next.state = state;
    next.resume_to = None;
    next.error_reason = None;
    next.recoverable = false;
    next.updated_at = now.wall;
    match state {
        State::Started => {
            next.stopped_since = None;
            next.last_activity = now;
            next.desired = Desired::Started;
        }
        State::Stopped => {
            next.stopped_since = was_stopped.or(Some(now));
            next.desired = Desired::Stopped;
        }
        _ => {}
    }
    Step { next, effect: None }
}

/// Begins a transition.
fn act(sandbox: &Sandbox, state: State, desired: Desired, effect: Effect, now: Moment) -> Step {
    let mut next = sandbox.clone();
    next.state = state;
    next.desired = desired;
    next.resume_to = None;
    next.recoverable = false;
    next.updated_at = now.wall;
    if state != State::Destroying {
        next.error_reason = None;
    }
    Step { next, effect: Some(effect) }
}

fn unchanged(sandbox: &Sandbox) -> Step {
    Step { next: sandbox.clone(), effect: None }
}

fn wrong(sandbox: &Sandbox, verb: &'static str, hint: &'static str) -> Denied {
    Denied::WrongState { verb, state: sandbox.state, hint }
}
