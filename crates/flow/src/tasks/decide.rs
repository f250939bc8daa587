//! What happens to a task: pure decisions on what is known of it, without I/O, clock or async runtime.

use std::time::Duration;

use super::status::TaskStatus;
use crate::clock::Millis;
use crate::durability::Durability;

/// What is known of a task when something is decided about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) status: TaskStatus,
    pub(crate) durability: Durability,
    pub(crate) retries: u32,
    pub(crate) max_retries: u32,
    pub(crate) recoveries: u32,
    /// Dependencies that are not satisfied.
    pub(crate) unmet: u32,
    pub(crate) run_at: Option<Millis>,
}

/// What happens to it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// Its worker ended well.
    Completed,
    /// Its worker failed.
    Failed { error: &'a str, permanent: bool },
    /// Its worker waits for other tasks and is free for something else.
    Waits,
    /// Its worker is dead, or its lease is over.
    Lost,
    /// Its worker gives it back; `begun` says whether the agent was called.
    Released { begun: bool },
    /// Its time or its dependencies are other than they were.
    Reconsider,
    /// A task that it depends on failed or was rejected.
    Doomed { reason: &'a str },
    /// A caller says so.
    Set { to: TaskStatus, reason: Option<&'a str> },
}

/// What a task becomes. The version of its row rises with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) to: TaskStatus,
    pub(crate) reason: Option<String>,
    pub(crate) run_at: Option<Millis>,
    pub(crate) retries: u32,
    pub(crate) recoveries: u32,
}

/// The rules that a system was built with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rules {
    pub(crate) retry_first: Duration,
    pub(crate) retry_most: Duration,
    pub(crate) retry_jitter: f64,
    pub(crate) max_recoveries: u32,
}

/// Why nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is as asked already, or there is nothing to do.
    Same,
    /// From where it stands, it cannot become that.
    Illegal(TaskStatus),
}

/// Decides; `chance` is 0 to 1 and moves a delay within its jitter.
pub(crate) fn decide(
    facts: &Facts,
    event: Event<'_>,
    now: Millis,
    rules: &Rules,
    chance: f64,
) -> Result<Change, Refusal> {
    let change = match event {
        Event::Completed => facts.running()?.to(TaskStatus::Completed, None),
        Event::Failed { error, permanent } => {
            facts.running()?.failed(error, permanent, now, rules, chance)
        }
        Event::Waits => facts.running()?.place(now, None),
        Event::Lost => facts.running()?.lost(now, rules),
        Event::Released { begun } => facts.running()?.released(begun, now),
        Event::Reconsider => match facts.status {
            TaskStatus::Pending | TaskStatus::Blocked | TaskStatus::Ready => facts.place(now, None),
            _ => return Err(Refusal::Same),
        },
        Event::Doomed { reason } => match facts.status {
            TaskStatus::Pending | TaskStatus::Blocked | TaskStatus::Ready => {
                facts.to(TaskStatus::Failed, Some(reason))
            }
            _ => return Err(Refusal::Same),
        },
        Event::Set { to, reason } => facts.set(to, reason, now)?,
    };
    if change.to == facts.status {
        return Err(Refusal::Same);
    }
    if facts.status.can_become(change.to) { Ok(change) } else { Err(Refusal::Illegal(change.to)) }
}

impl Facts {
    fn running(&self) -> Result<&Self, Refusal> {
        // Whoever was faster has decided already.
        if self.status == TaskStatus::Running { Ok(self) } else { Err(Refusal::Same) }
    }

    fn to(&self, to: TaskStatus, reason: Option<&str>) -> Change {
        Change {
            to,
            reason: reason.map(str::to_owned),
            run_at: self.run_at,
            retries: self.retries,
            recoveries: self.recoveries,
        }
    }

    /// Where a task stands that nobody works on.
    fn place(&self, now: Millis, reason: Option<&str>) -> Change {
        let to = if self.unmet > 0 {
            TaskStatus::Blocked
        } else if self.run_at.is_some_and(|at| at > now) {
            TaskStatus::Pending
        } else {
            TaskStatus::Ready
        };
        self.to(to, reason)
    }

    fn failed(
        &self,
        error: &str,
        permanent: bool,
        now: Millis,
        rules: &Rules,
        chance: f64,
    ) -> Change {
        let last = permanent
            || self.durability == Durability::AtMostOnce
            || self.retries >= self.max_retries;
        if last {
            return self.to(TaskStatus::Failed, Some(error));
        }
        let retries = self.retries + 1;
        let run_at = Some(now.saturating_add(retry_delay(rules, retries, chance)));
        Self { retries, run_at, ..self.clone() }.place(now, Some(error))
    }

    fn lost(&self, now: Millis, rules: &Rules) -> Change {
        if self.durability == Durability::AtMostOnce {
            let reason = "its worker was lost while it ran; resolve it by what happened";
            return self.to(TaskStatus::Paused, Some(reason));
        }
        if self.recoveries >= rules.max_recoveries {
            let reason = format!("its worker was lost {} times", self.recoveries + 1);
            return self.to(TaskStatus::Paused, Some(&reason));
        }
        let recoveries = self.recoveries + 1;
        Self { recoveries, ..self.clone() }.place(now, Some("its worker was lost"))
    }

    fn released(&self, begun: bool, now: Millis) -> Change {
        if begun && self.durability == Durability::AtMostOnce {
            let reason = "its worker was stopped while it ran; resolve it by what happened";
            return self.to(TaskStatus::Paused, Some(reason));
        }
        self.place(now, None)
    }

    fn set(&self, to: TaskStatus, reason: Option<&str>, now: Millis) -> Result<Change, Refusal> {
        if to == self.status {
            return Err(Refusal::Same);
        }
        if !self.status.can_become(to) {
            return Err(Refusal::Illegal(to));
        }
        let waits = matches!(to, TaskStatus::Pending | TaskStatus::Blocked | TaskStatus::Ready);
        if !waits {
            return Ok(self.to(to, reason));
        }
        // Blocked on nothing would be for ever, and what waits for others is not ready: its place is where it belongs.
        let mut task = self.clone();
        if self.status == TaskStatus::Paused {
            (task.retries, task.recoveries) = (0, 0);
        }
        if to == TaskStatus::Ready {
            task.run_at = None;
        }
        Ok(task.place(now, reason))
    }
}

/// Milliseconds before the attempt after the `retries`-th failure (from 1): doubled each time, up to the most.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "delays are bounded by a day before they become whole numbers"
)]
pub(crate) fn retry_delay(rules: &Rules, retries: u32, chance: f64) -> Millis {
    const DAY: f64 = 86_400_000.0;
    let steps = i32::try_from(retries.saturating_sub(1)).unwrap_or(i32::MAX);
    let first = rules.retry_first.as_millis() as f64;
    let delay = (first * 2_f64.powi(steps)).min(rules.retry_most.as_millis() as f64);
    (delay.min(DAY) * (1.0 + rules.retry_jitter * (2.0 * chance - 1.0))).round() as Millis
}

/// A chance that is always the same for the same attempt: 0 to 1, spread evenly.
pub(crate) fn chance(task: i64, retries: u32) -> f64 {
    let mut hash = task.cast_unsigned() ^ (u64::from(retries) << 48);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    f64::from(u32::try_from(hash >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use TaskStatus::{
        Accepted, Blocked, Completed, Failed, Paused, Pending, Ready, Rejected, Running,
    };

    const RULES: Rules = Rules {
        retry_first: Duration::from_secs(1),
        retry_most: Duration::from_mins(5),
        retry_jitter: 0.0,
        max_recoveries: 5,
    };
    const NOW: Millis = 1_000_000;

    fn facts(status: TaskStatus) -> Facts {
        Facts {
            status,
            durability: Durability::BestEffort,
            retries: 0,
            max_retries: 3,
            recoveries: 0,
            unmet: 0,
            run_at: None,
        }
    }

    fn end(facts: &Facts, event: Event<'_>) -> Result<TaskStatus, Refusal> {
        decide(facts, event, NOW, &RULES, 0.5).map(|change| change.to)
    }

    #[test]
    fn every_pair_of_statuses_is_allowed_or_refused_as_the_table_says() {
        for from in TaskStatus::ALL {
            for to in TaskStatus::ALL {
                let answer = end(&facts(from), Event::Set { to, reason: None });
                let waits = matches!(to, Pending | Blocked | Ready);
                let expected = match to {
                    _ if from == to => Err(Refusal::Same),
                    _ if !from.can_become(to) => Err(Refusal::Illegal(to)),
                    // Nothing is unmet and no time is set.
                    _ if waits && from == Ready => Err(Refusal::Same),
                    _ if waits => Ok(Ready),
                    other => Ok(other),
                };
                assert_eq!(answer, expected, "{from} -> {to}");
            }
        }
    }

    #[test]
    fn events_of_workers_touch_running_tasks_only() {
        let events = [
            Event::Completed,
            Event::Failed { error: "x", permanent: false },
            Event::Waits,
            Event::Lost,
            Event::Released { begun: true },
        ];
        for status in TaskStatus::ALL.into_iter().filter(|status| *status != Running) {
            for event in events {
                assert_eq!(end(&facts(status), event), Err(Refusal::Same), "{status} {event:?}");
            }
        }
        for status in [Running, Completed, Failed, Paused, Rejected, Accepted] {
            assert_eq!(end(&facts(status), Event::Reconsider), Err(Refusal::Same));
            assert_eq!(end(&facts(status), Event::Doomed { reason: "x" }), Err(Refusal::Same));
        }
    }

    #[test]
    fn failures_are_repeated_with_growing_delays_until_there_are_too_many() {
        let mut task = facts(Running);
        let mut delays = Vec::new();
        let event = Event::Failed { error: "down", permanent: false };
        loop {
            let change = decide(&task, event, NOW, &RULES, 0.5).unwrap();
            assert_eq!(change.reason.as_deref(), Some("down"));
            if change.to == Failed {
                break;
            }
            assert_eq!(change.to, Pending);
            delays.push(change.run_at.unwrap() - NOW);
            task.retries = change.retries;
        }
        assert_eq!(delays, [1_000, 2_000, 4_000]);
        assert_eq!(retry_delay(&RULES, 9, 0.5), 256_000);
        assert_eq!(retry_delay(&RULES, u32::MAX, 0.5), 300_000);
        assert_eq!(retry_delay(&Rules { retry_jitter: 0.1, ..RULES }, 1, 1.0), 1_100);
        let permanent = Event::Failed { error: "bad", permanent: true };
        assert_eq!(end(&facts(Running), permanent), Ok(Failed));
        let once = Facts { durability: Durability::AtMostOnce, ..facts(Running) };
        assert_eq!(end(&once, event), Ok(Failed));
    }

    #[test]
    fn a_lost_worker_is_replaced_five_times_and_never_for_what_must_not_be_repeated() {
        let mut task = facts(Running);
        for recovered in 1..=5 {
            let change = decide(&task, Event::Lost, NOW, &RULES, 0.5).unwrap();
            assert_eq!((change.to, change.recoveries), (Ready, recovered));
            task.recoveries = change.recoveries;
        }
        let change = decide(&task, Event::Lost, NOW, &RULES, 0.5).unwrap();
        assert_eq!(change.to, Paused);
        assert_eq!(change.reason.as_deref(), Some("its worker was lost 6 times"));
        let once = Facts { durability: Durability::AtMostOnce, ..facts(Running) };
        assert_eq!(end(&once, Event::Lost), Ok(Paused));
        assert_eq!(end(&once, Event::Released { begun: true }), Ok(Paused));
        assert_eq!(end(&once, Event::Released { begun: false }), Ok(Ready));
    }

    #[test]
    fn dependencies_come_before_time_and_time_before_readiness() {
        let later = Some(NOW + 5);
        let both = Facts { unmet: 2, run_at: later, ..facts(Running) };
        assert_eq!(end(&both, Event::Waits), Ok(Blocked));
        let timed = Facts { run_at: later, ..facts(Blocked) };
        assert_eq!(end(&timed, Event::Reconsider), Ok(Pending));
        assert_eq!(
            end(&Facts { run_at: Some(NOW), ..facts(Pending) }, Event::Reconsider),
            Ok(Ready)
        );
        assert_eq!(end(&Facts { unmet: 1, ..facts(Ready) }, Event::Reconsider), Ok(Blocked));
        assert_eq!(end(&facts(Blocked), Event::Doomed { reason: "x" }), Ok(Failed));
        let paused = Facts { unmet: 1, retries: 3, recoveries: 6, ..facts(Paused) };
        let change =
            decide(&paused, Event::Set { to: Ready, reason: None }, NOW, &RULES, 0.5).unwrap();
        assert_eq!((change.to, change.retries, change.recoveries), (Blocked, 0, 0));
    }

    #[test]
    fn chances_are_spread() {
        let low = (0..1000).filter(|task| chance(*task, 1) < 0.5).count();
        assert!((400..600).contains(&low), "{low}");
    }
}
