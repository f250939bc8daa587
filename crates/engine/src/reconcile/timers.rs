//! Ends phases whose time is over.

use std::sync::Arc;

use mayfly_core::sandbox::{State, due};

use crate::driver;
use crate::house::House;
use crate::living::Live;
use crate::reconcile::background;

/// Looks at every living sandbox; what is due runs in the background, a bounded number at once.
pub(crate) fn pass(house: &Arc<House>) {
    let now = house.now();
    for live in house.living.all() {
        if live.commands.is_unknown() && live.record().state == State::Started {
            continue;
        }
        if due(&live.record(), live.used(now), now).is_none() {
            continue;
        }
        let (within, one) = (Arc::clone(house), Arc::clone(&live));
        background(house, &live, async move { end(&within, &one).await });
    }
}

/// Decides again on the record as it then is, so that a use that came in between is respected.
async fn end(house: &House, live: &Live) {
    let wish = |current: &_| {
        let now = house.now();
        due(current, live.used(now), now)
    };
    if let Err(error) = driver::command(house, live, wish).await {
        tracing::debug!(sandbox = %live.id(), %error, "timer was not applied; the next pass tries again");
    }
}
