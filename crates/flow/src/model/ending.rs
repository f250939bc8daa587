//! Time and the end of a run: what is due, how long it may still go on, and whether it is over.

use super::entry::{Entry, Slot, Wait};
use super::run::RunState;
use super::status::{RunStatus, State};

impl RunState {
    /// Lets time pass: attempts that are due become ready, waits that are over end.
    pub(crate) fn tick(&mut self, now: i64) -> Vec<Slot> {
        let mut timed_out = Vec::new();
        while let Some((at, slot)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            match (self.item(slot).state, self.item(slot).wait.clone()) {
                (State::Pending, _) => self.make_ready(slot),
                (State::Waiting, Some((Wait::Human, _))) => self.human_timeout(now, slot),
                (State::Waiting, Some((Wait::Signal { .. }, _))) => timed_out.push(slot),
                _ => {}
            }
        }
        if self.run_limit().is_some_and(|limit| now >= limit) && self.status == RunStatus::Running {
            let seconds = self.config.timeout_seconds.unwrap_or(0);
            let reason = Some(format!("run {} took longer than {seconds} s", self.run_id));
            self.record(now, Entry::Run { status: RunStatus::TimedOut, reason });
        }
        timed_out
    }

    /// When the run's own limit is reached; nothing while a person is waited for.
    fn run_limit(&self) -> Option<i64> {
        let seconds = i64::try_from(self.config.timeout_seconds?).unwrap_or(i64::MAX / 2000);
        (self.humans == 0).then(|| self.since + self.waited + seconds * 1000)
    }

    /// When [`RunState::tick`] has something to do next.
    pub(crate) fn deadline(&self) -> Option<i64> {
        if self.status != RunStatus::Running {
            return None;
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.run_limit()].into_iter().flatten().min()
    }

    /// Ends or pauses the run when nothing more can happen by itself. Call it when nothing more can begin.
    pub(crate) fn conclude(&mut self, now: i64) {
        if self.status != RunStatus::Running {
            return;
        }
        let end = |status, reason| Entry::Run { status, reason };
        if self.in_flight > 0 {
            return;
        }
        if self.cancelling {
            self.cancel_open(now, true);
            return self.record(now, end(RunStatus::Cancelled, None));
        }
        if self.open_nodes == 0 {
            let failure = self.first_failure();
            let status = if failure.is_some() { RunStatus::Failed } else { RunStatus::Completed };
            return self.record(now, end(status, failure));
        }
        if let Some(reason) = self.pausing.clone() {
            return self.record(now, end(RunStatus::Paused, Some(reason)));
        }
        let idle = self.ready.is_empty() && self.timers.is_empty() && self.waiting == 0;
        if idle && self.standing.is_empty() {
            let doubt = self
                .nodes
                .iter()
                .find(|state| state.items.iter().any(|item| item.state == State::Paused));
            let reason = match doubt {
                Some(state) => {
                    format!("node {} must be resolved: its attempt was cut short", state.node.id)
                }
                None => "nothing can begin".to_owned(),
            };
            self.record(now, end(RunStatus::Paused, Some(reason)));
        }
    }

    /// Why the run is no success, when everything is over.
    fn first_failure(&self) -> Option<String> {
        for state in &self.nodes {
            for item in &state.items {
                let error = item.errors.last().map_or("", String::as_str);
                match item.state {
                    State::Failed => {
                        return Some(format!("node {} failed: {error}", state.node.id));
                    }
                    State::Skipped if !item.by_condition => {
                        return Some(format!("node {} was skipped", state.node.id));
                    }
                    State::Cancelled => {
                        return Some(format!("node {} was cancelled", state.node.id));
                    }
                    _ => {}
                }
            }
        }
        None
    }
}
