//! Counts commands of sessions that still run as use of their sandbox, whoever waits for them.

use std::sync::Arc;
use std::time::Duration;

use mayfly_core::sandbox::State;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::house::House;
use crate::living::Live;

/// Sandboxes looked at at once.
const AT_ONCE: usize = 16;
/// Longest look at one; one that does not answer has no say.
const LOOK: Duration = Duration::from_secs(5);

/// Looks at every sandbox where commands may run.
pub(crate) async fn pass(house: Arc<House>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut looks = JoinSet::new();
    for live in house.living.all() {
        if live.record().state != State::Started || !live.commands.begin_look() {
            continue;
        }
        let (house, room) = (Arc::clone(&house), Arc::clone(&room));
        looks.spawn(async move {
            let _place = room.acquire_owned().await;
            look(&house, &live).await;
        });
    }
    while looks.join_next().await.is_some() {}
}

async fn look(house: &House, live: &Live) {
    let list = timeout(LOOK, house.runtime.processes().list(live.id())).await;
    let running = match list {
        Ok(Ok(processes)) => {
            processes.iter().any(|one| one.shell.is_some() && one.exit_code.is_none())
        }
        Ok(Err(error)) => {
            tracing::debug!(sandbox = %live.id(), %error, "its commands are not known");
            false
        }
        Err(_) => false,
    };
    if live.commands.seen(running) {
        live.touch(house.now());
    }
}
