//! Loops that bring wishes, records and the world together: no input, a timer each, stopped at drain.

pub(crate) mod activity;
pub(crate) mod commands;
pub(crate) mod exits;
pub(crate) mod garbage;
pub(crate) mod notices;
pub(crate) mod refusals;
pub(crate) mod space;
pub(crate) mod timers;
pub(crate) mod volumes;
pub(crate) mod world;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::house::House;
use crate::living::Live;
use crate::{telemetry, warm};

type Pass = fn(Arc<House>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts all of them.
pub(crate) fn start(house: &Arc<House>) {
    let settings = &house.settings;
    every(house, settings.timer_tick, |house| Box::pin(async move { timers::pass(&house) }));
    every(house, settings.timer_tick, |house| Box::pin(space::pass(house)));
    every(house, settings.flush_tick, |house| Box::pin(activity::pass(house)));
    every(house, settings.sample_tick, |house| Box::pin(telemetry::pass(house)));
    house.tasks.spawn(mind_commands(Arc::clone(house)));
    every(house, settings.garbage_tick, |house| Box::pin(garbage::pass(house)));
    house.tasks.spawn(exits::run(Arc::clone(house)));
    house.tasks.spawn(notices::run(Arc::clone(house)));
    if house.settings.warm > 0 {
        house.tasks.spawn(keep_warm(Arc::clone(house)));
    }
}

/// Work on a sandbox that no caller waits for; at most one piece per sandbox, a bounded number at once.
fn background(
    house: &Arc<House>,
    live: &Arc<Live>,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let Some(queued) = live.enqueue() else { return };
    let within = Arc::clone(house);
    house.tasks.spawn(async move {
        let Ok(_room) = within.background.acquire().await else { return };
        if !within.tasks.is_stopped() {
            work.await;
        }
        drop(queued);
    });
}

fn every(house: &Arc<House>, tick: Duration, pass: Pass) {
    let house = Arc::clone(house);
    let tasks = house.tasks.clone();
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = house.tasks.stopped() => return,
                () = tokio::time::sleep(tick) => {}
            }
            pass(Arc::clone(&house)).await;
        }
    });
}

/// Looks at once, since timers wait for the first look.
async fn mind_commands(house: Arc<House>) {
    while !house.tasks.is_stopped() {
        commands::pass(Arc::clone(&house)).await;
        tokio::select! {
            () = house.tasks.stopped() => return,
            () = tokio::time::sleep(house.settings.flush_tick) => {}
        }
    }
}

async fn keep_warm(house: Arc<House>) {
    while !house.tasks.is_stopped() {
        warm::refill(Arc::clone(&house)).await;
        tokio::select! {
            () = house.tasks.stopped() => return,
            () = house.warm_nudge.notified() => {}
            () = tokio::time::sleep(house.settings.garbage_tick) => {}
        }
    }
}
