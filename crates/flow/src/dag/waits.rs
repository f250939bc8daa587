//! Signals: those that attempts wait for, and those that came before anybody did.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use super::driver::Driver;
use crate::clock::Millis;
use crate::model::entry::{Slot, Wait};

impl Driver {
    /// An attempt waits for a signal, or gets one that is there.
    pub(super) fn take_wait(
        &mut self,
        now: Millis,
        slot: Slot,
        name: String,
        timeout: Option<Duration>,
        reply: oneshot::Sender<Option<Value>>,
    ) {
        let Some(live) = self.attempts.get_mut(&slot) else { return };
        // What was delivered to an earlier attempt of the invocation is delivered to this one.
        let taken = live.taken.entry(name.clone()).or_default();
        let item = self.run.item(slot);
        let delivered = item.delivered.iter().filter(|(of, _)| *of == name);
        let before = delivered.map(|(_, payload)| payload.clone()).nth(*taken);
        if before.is_none() && !self.run.has_signal(&name) {
            let expired = matches!(&item.wait,
                Some((Wait::Signal { name: of }, Some(until))) if *of == name && *until <= now);
            if expired {
                self.after.push(Box::new(move |_| drop(reply.send(None))));
                return;
            }
            let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2);
            let until = timeout.map(|time| now.saturating_add(millis(time)));
            live.waiting = Some(reply);
            return self.run.wait(now, slot, Wait::Signal { name }, until);
        }
        *taken += 1;
        let payload = before.or_else(|| {
            self.run.deliver(now, slot, &name);
            self.run.item(slot).delivered.last().map(|(_, payload)| payload.clone())
        });
        self.after.push(Box::new(move |_| drop(reply.send(payload))));
    }

    /// A signal came for whoever waits for it, else it is kept.
    pub(crate) fn signal(&mut self, now: Millis, name: &str, payload: Value) {
        let Some(slot) = self.run.signal(now, name, payload.clone()) else { return };
        let live = self.attempts.get_mut(&slot);
        let reply = live.and_then(|live| {
            *live.taken.entry(name.to_owned()).or_default() += 1;
            live.waiting.take()
        });
        self.run.wake(now, slot, reply.is_some());
        if let Some(reply) = reply {
            self.after.push(Box::new(move |_| drop(reply.send(Some(payload)))));
        }
    }
}
