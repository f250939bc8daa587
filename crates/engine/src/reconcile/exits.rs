//! Takes note of sandboxes that ended without being asked to.

use std::sync::Arc;

use mayfly_core::ports::runtime::Exit;
use mayfly_core::sandbox::Fact;

use crate::driver;
use crate::house::House;

/// Waits for ends until drain.
pub(crate) async fn run(house: Arc<House>) {
    loop {
        tokio::select! {
            () = house.tasks.stopped() => return,
            exit = house.runtime.next_exit() => note(&house, exit).await,
        }
    }
}

async fn note(house: &House, exit: Exit) {
    let Some(live) = house.living.get(exit.id) else { return };
    tracing::info!(sandbox = %exit.id, reason = %exit.reason, "sandbox ended unasked");
    let outcome = async {
        match driver::note(house, &live, &Fact::Exited { reason: exit.reason }).await? {
            Some(effect) => driver::drive(house, &live, effect).await,
            None => Ok(()),
        }
    };
    if let Err(error) = outcome.await {
        tracing::warn!(sandbox = %exit.id, %error, "an end was not written down");
    }
}
