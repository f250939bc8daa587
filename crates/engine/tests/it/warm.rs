//! L8: the warm pool.

use std::collections::BTreeSet;
use std::time::Duration;

use mayfly_core::Kind;
use mayfly_core::ports::store::SandboxQuery;
use mayfly_core::sandbox::State;
use mayfly_engine::{CreateSandbox, Settings};
use mayfly_testkit::{Fuse, Verb};
use tokio::task::JoinSet;

use crate::site::{Site, exec, named};

async fn pool(warm: usize) -> Site {
    let site = Site::with(Settings { warm, ..Settings::default() }).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(site.runtime.peek().len(), warm, "filled at start");
    site
}

#[tokio::test(start_paused = true)]
async fn l8_each_warm_sandbox_is_claimed_once_under_a_hundred_claims() {
    let site = pool(20).await;
    let ready: BTreeSet<_> = site.runtime.peek().iter().map(|(seen, _)| seen.id).collect();
    let mut calls = JoinSet::new();
    for index in 0..100 {
        let (engine, caller) = (site.engine.clone(), site.caller.clone());
        calls.spawn(async move {
            engine.sandboxes().create(&caller, named(&format!("n{index}"))).await.unwrap()
        });
    }
    let made = calls.join_all().await;
    let ids: BTreeSet<_> = made.iter().map(|made| made.id).collect();
    assert_eq!(ids.len(), 100, "each caller has one of its own");
    assert!(ready.is_subset(&ids), "all that were ready are in use");
    assert!(made.iter().all(|made| made.state == State::Started && !made.warm));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(site.runtime.peek().len(), 120, "filled again");
    site.assert_in_line();
}

#[tokio::test(start_paused = true)]
async fn l8_a_claimed_one_is_its_callers_and_unclaimed_ones_are_nobodys() {
    let site = pool(1).await;
    let (all, who) = (site.engine.sandboxes(), &site.caller);
    let id = site.runtime.peek()[0].0.id;
    let query = SandboxQuery { limit: 9, ..SandboxQuery::default() };
    assert_eq!(all.list(who, &query).await.unwrap().total, 0, "not listed");
    assert_eq!(all.get(who, &id.to_string()).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(all.delete(who, &id.to_string()).await.unwrap_err().kind(), Kind::NotFound);
    let mut wanted = named("mine");
    wanted.env.insert("A".to_owned(), "own".to_owned());
    wanted.cpu = Some(2);
    wanted.timers.auto_stop = 30;
    site.world.clock.advance(Duration::from_hours(10));
    let made = all.create(who, wanted).await.unwrap();
    assert_eq!((made.id, made.state, made.resources.cpu), (id, State::Started, 2));
    let events = all.events(who, "mine", 9).await.unwrap();
    assert!(events.iter().all(|event| event.organization == who.organization));
    let reach = site.engine.reach(who, "mine").await.unwrap();
    assert_eq!(&reach.exec(exec(&["printenv", "A"])).await.unwrap().output[..], b"own\n");
    site.pass(29).await;
    assert_eq!(site.state("mine").await, Some(State::Started), "its time began at the claim");
    site.pass(1).await;
    assert_eq!(site.state("mine").await, Some(State::Stopped));
    site.assert_in_line();
}

#[tokio::test(start_paused = true)]
async fn a_claim_obeys_names_and_keys_and_keeps_the_pool() {
    let site = pool(2).await;
    let (all, who) = (site.engine.sandboxes(), &site.caller);
    let keyed = CreateSandbox { idempotency_key: Some("k".to_owned()), ..named("one") };
    let first = all.create(who, keyed.clone()).await.unwrap();
    assert_eq!(all.create(who, keyed).await.unwrap().id, first.id);
    assert_eq!(all.create(who, named("one")).await.unwrap_err().kind(), Kind::Conflict);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(site.runtime.peek().len(), 3, "nothing was used up");
    let other = CreateSandbox { user: Some("nobody".to_owned()), ..named("other") };
    let cold = all.create(who, other).await.unwrap();
    assert_eq!(cold.user, "nobody");
    assert_eq!(site.runtime.peek().len(), 4, "another user needs another make");
}

#[tokio::test(start_paused = true)]
async fn what_breaks_in_the_pool_is_replaced_and_a_restart_keeps_the_rest() {
    let site = pool(3).await;
    let broken = site.runtime.peek()[0].0.id;
    site.runtime.end(broken, "killed");
    site.runtime.fail(Verb::Create, Kind::Unavailable);
    tokio::time::sleep(Duration::from_secs(90)).await;
    let ids: Vec<_> = site.runtime.peek().iter().map(|(seen, _)| seen.id).collect();
    assert_eq!(ids.len(), 3);
    assert!(!ids.contains(&broken));
    site.engine.shutdown().await;
    let settings = Settings { warm: 3, ..Settings::default() };
    let again = Site::on(site.world.clone(), &Fuse::never(), settings).await.unwrap();
    again.create("one").await;
    let made = again.engine.sandboxes().get(&again.caller, "one").await.unwrap();
    assert!(ids.contains(&made.id), "adopted ones are claimed");
    again.assert_in_line();
}
