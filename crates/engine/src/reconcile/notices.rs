//! Writes down what the runtime tells of the host, as audit events.

use std::sync::Arc;

use mayfly_core::event::{Event, What};
use mayfly_core::ports::runtime::Notice;

use crate::commit;
use crate::house::House;

/// Waits for notices until drain.
pub(crate) async fn run(house: Arc<House>) {
    loop {
        tokio::select! {
            () = house.tasks.stopped() => return,
            notice = house.runtime.next_notice() => note(&house, notice).await,
        }
    }
}

async fn note(house: &House, notice: Notice) {
    let event = Event {
        at: house.now().wall,
        organization: house.organization,
        sandbox: Event::NO_SANDBOX,
        what: What::Audit { rule: notice.rule.to_owned(), target: notice.target },
    };
    if let Err(error) = commit::audit(house, vec![event]).await {
        tracing::warn!(%error, "a notice of the runtime was not written down");
    }
}
