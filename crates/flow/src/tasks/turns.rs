//! A turn of the dispatcher: what it gives to the writer, what it makes of the answer, and its looks at other processes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::dispatcher::{Dispatcher, Done, PAUSE, QUICK, Seen, TOGETHER, Work};
use super::stats::add;
use super::status::TaskStatus;
use crate::error::DagError;
use crate::journal::tasks::{Claim, Happened, Turn, Turned};

impl Dispatcher {
    /// Everything that is to be written and asked, as one job.
    pub(super) fn turn(&mut self) -> Work<Done> {
        let (center, now) = (Arc::clone(&self.center), Instant::now());
        let most = self.wanted();
        let claim = (most > 0).then(|| Claim {
            agents: center.agents.names(),
            most,
            once: center.settings.workers.saturating_sub(self.running.len() + self.queue.len()),
            owner: Some(center.storage.owner().name().into()),
            until: center.lease_end(),
        });
        // Whatever becomes ready from now on is a new reason.
        self.hungry &= claim.is_none();
        center.due.store(i64::MAX, Ordering::SeqCst);
        let mut beats = Vec::new();
        if self.beat <= now {
            self.beat = now + center.settings.heartbeat;
            beats.extend(self.running.keys());
            beats.extend(self.queue.iter().map(|task| (task.id, task.version)));
        }
        self.sweep = now + center.settings.recovery_every;
        self.held = None;
        let ended = self.ended.drain(..self.ended.len().min(TOGETHER)).collect();
        let turn = Arc::new(Turn {
            now: center.now(),
            rules: center.settings.rules,
            ended,
            beats,
            beat_until: center.lease_end(),
            dead: std::mem::take(&mut self.dead),
            claim,
            outbox: center.settings.outbox,
        });
        add(&center.stats.turns, 1);
        Box::pin(async move {
            let mode = center.settings.synchronous;
            let journal = center.storage.journal();
            let mut done = journal.turn(mode, &turn).await;
            if let Ok(turned) = &done
                && let Err(error) = journal.settle_claims(mode, &turned.claimed).await
            {
                done = Err(error);
            }
            (turn, done)
        })
    }

    /// What became of it.
    pub(super) fn turned(&mut self, sent: &Turn, done: Result<Turned, DagError>) {
        let stats = &self.center.stats;
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "what workers did could not be written; it is kept and tried again");
                add(&stats.recovery_failed, 1);
                if self.stop.is_none() {
                    self.ended.splice(0..0, sent.ended.iter().cloned());
                } else {
                    // Whoever begins next finds these tasks lost by this process.
                    self.ended.clear();
                }
                self.dead.extend(sent.dead.iter().cloned());
                self.hungry = true;
                self.held = Some(Instant::now() + PAUSE);
                self.center.due.store(i64::MIN, Ordering::SeqCst);
                return;
            }
        };
        for ((id, version, _), happened) in sent.ended.iter().zip(&done.ended) {
            match happened {
                Happened::Now(TaskStatus::Completed) => add(&stats.completed, 1),
                Happened::Now(TaskStatus::Failed) => add(&stats.failed, 1),
                Happened::Now(_) => {}
                late => {
                    add(&stats.stale, 1);
                    tracing::debug!(task = id.0, version, ?late, "an attempt ended too late");
                }
            }
        }
        add(&stats.claimed, done.claimed.len());
        add(&stats.recovered, done.recovered);
        add(&stats.paused, done.paused);
        // Somebody else has these: what their attempts do is in vain.
        for key in done.lost {
            self.queue.retain(|task| (task.id, task.version) != key);
            if let Some(live) = self.running.get_mut(&key) {
                live.cancel.send_replace(true);
                live.until.get_or_insert_with(|| Instant::now() + self.center.settings.grace);
            }
        }
        if let Some(claim) = &sent.claim {
            let quick = self.claimed.elapsed() < QUICK;
            let full = done.claimed.len() == claim.most;
            let most = self.center.settings.ready_queue.min(TOGETHER);
            self.ahead = match (quick, full) {
                (true, true) => (self.ahead * 2).max(self.center.settings.workers).min(most),
                (false, _) => 0,
                (true, false) => self.ahead,
            };
            if done.more && done.claimed.is_empty() {
                // All that is ready needs a free worker first.
                self.ahead = 0;
            }
            self.claimed = Instant::now();
            if self.queue.is_empty() {
                self.begun = self.claimed;
            }
        }
        self.hungry |= done.more;
        self.queue.extend(done.claimed);
        if self.stop.is_some() {
            self.give_back();
        }
        self.center.after(&done.effects);
    }

    /// Looks what other processes did: whether one of them died, made something ready, or ended what is waited for.
    pub(super) fn look(&self) -> Work<Result<Seen, DagError>> {
        let center = Arc::clone(&self.center);
        Box::pin(async move {
            let owner = center.storage.owner();
            let journal = center.storage.journal();
            let mut dead = journal.task_owners(owner.name()).await?;
            dead.retain(|name| owner.is_dead(name));
            let around = journal.look_around(center.waited(), center.agents.names()).await?;
            Ok(Seen { dead, around })
        })
    }

    pub(super) fn seen(&mut self, seen: Result<Seen, DagError>) {
        self.poll = Instant::now() + self.center.settings.poll;
        match seen {
            Ok(seen) => {
                self.dead = seen.dead;
                self.hungry |= seen.around.ready;
                self.center.settle(&seen.around.rest);
                if seen.around.ready {
                    self.center.offers.send_modify(|count| *count += 1);
                }
                if let Some(next) = seen.around.next {
                    self.center.due.fetch_min(next, Ordering::SeqCst);
                }
            }
            Err(error) => {
                add(&self.center.stats.recovery_failed, 1);
                tracing::warn!(%error, "what other processes did could not be seen");
            }
        }
    }
}
