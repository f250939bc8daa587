//! Writes down what was refused, counted up, as audit events.

use mayfly_core::event::{Event, What};

use crate::commit;
use crate::house::House;

/// Writes down what was refused since the last time.
pub(crate) async fn write(house: &House) {
    let counts = house.refusals.take();
    if counts.is_empty() {
        return;
    }
    let at = house.now().wall;
    let events = counts.into_iter().map(|(refusal, count)| Event {
        at,
        organization: refusal.organization.unwrap_or(house.organization),
        sandbox: refusal.sandbox.unwrap_or(Event::NO_SANDBOX),
        what: What::Audit {
            rule: refusal.rule.to_owned(),
            target: format!("{}, refused {count} times", refusal.target),
        },
    });
    if let Err(error) = commit::audit(house, events.collect()).await {
        tracing::warn!(%error, "refusals were not written down");
    }
}
