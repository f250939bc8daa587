//! Verbs: where they lead, what they refuse, and whose sandboxes they see.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mayfly_core::access::{Caller, Permission};
use mayfly_core::sandbox::State;
use mayfly_core::{Code, Kind};
use mayfly_engine::{Resize, Timer};
use mayfly_testkit::Verb;

use crate::site::{Site, exec, named};

#[tokio::test(start_paused = true)]
async fn a_sandbox_goes_round_all_its_states() {
    let site = Site::new().await;
    site.create("box").await;
    let (all, who) = (site.engine.sandboxes(), &site.caller);
    assert_eq!(all.start(who, "box").await.unwrap().state, State::Started, "unchanged");
    assert_eq!(all.pause(who, "box").await.unwrap().state, State::Paused);
    let refused = site.engine.reach(who, "box").await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (Kind::Conflict, Some(Code::SandboxNotStarted)));
    assert!(refused.message().contains("paused"), "{refused}");
    assert_eq!(all.start(who, "box").await.unwrap().state, State::Started);
    assert_eq!(all.archive(who, "box").await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(all.stop(who, "box", false).await.unwrap().state, State::Stopped);
    assert_eq!(all.archive(who, "box").await.unwrap().state, State::Archived);
    assert_eq!(all.stop(who, "box", true).await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(all.start(who, "box").await.unwrap().state, State::Started);
    assert_eq!(all.recover(who, "box", false).await.unwrap_err().kind(), Kind::Conflict);
    site.assert_in_line();
    assert_eq!(all.delete(who, "box").await.unwrap().state, State::Destroyed);
    assert_eq!(all.start(who, "box").await.unwrap_err().message(), "sandbox box not found");
    site.assert_in_line();
}

#[tokio::test(start_paused = true)]
async fn a_verb_during_a_transition_is_refused_naming_both() {
    let site = Site::new().await;
    site.create("box").await;
    site.runtime.delay(Verb::Stop, Duration::from_secs(3));
    let (all, who) = (site.engine.sandboxes(), &site.caller);
    assert_eq!(all.stop(who, "box", false).await.unwrap().state, State::Stopping);
    let refused = all.start(who, "box").await.unwrap_err();
    assert_eq!(refused.message(), "cannot start sandbox box while it is stopping");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(site.state("box").await, Some(State::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_resize_grows_the_disk_only_and_returns_to_where_it_was() {
    let site = Site::new().await;
    site.create("box").await;
    let (all, who) = (site.engine.sandboxes(), &site.caller);
    let disk = |disk| Resize { disk_gib: Some(disk), ..Resize::default() };
    let refused = all.resize(who, "box", disk(2)).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
    let zero = Resize { cpu: Some(0), ..Resize::default() };
    assert_eq!(all.resize(who, "box", zero).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(all.resize(who, "box", disk(100_000)).await.unwrap_err().kind(), Kind::Limit);
    let grown = all.resize(who, "box", disk(5)).await.unwrap();
    assert_eq!((grown.state, grown.resources.disk_gib), (State::Started, 5));
    all.stop(who, "box", false).await.unwrap();
    let cpu = Resize { cpu: Some(4), ..Resize::default() };
    let grown = all.resize(who, "box", cpu).await.unwrap();
    assert_eq!((grown.state, grown.resources.cpu), (State::Stopped, 4));
    site.runtime.fail(Verb::Resize, Kind::Internal);
    assert!(all.resize(who, "box", disk(9)).await.is_err());
    let kept = all.get(who, "box").await.unwrap();
    assert_eq!((kept.state, kept.resources.disk_gib), (State::Stopped, 5), "as before");
    site.assert_in_line();
}

#[tokio::test(start_paused = true)]
async fn what_fails_says_why_and_can_be_recovered() {
    let site = Site::new().await;
    site.create("box").await;
    let (all, who) = (site.engine.sandboxes(), &site.caller);
    all.stop(who, "box", false).await.unwrap();
    site.runtime.fail(Verb::Start, Kind::Unavailable);
    assert_eq!(all.start(who, "box").await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(site.state("box").await, Some(State::Stopped), "it may pass later");
    site.runtime.fail(Verb::Start, Kind::Internal);
    assert!(all.start(who, "box").await.is_err());
    let broken = all.get(who, "box").await.unwrap();
    assert_eq!((broken.state, broken.recoverable), (State::Error, true));
    assert_eq!(all.recover(who, "box", false).await.unwrap().state, State::Started);
    let id = broken.id;
    site.runtime.end(id, "out of memory");
    tokio::time::sleep(Duration::from_millis(10)).await;
    let ended = all.get(who, "box").await.unwrap();
    assert_eq!(ended.state, State::Error);
    assert_eq!(ended.error_reason.as_deref(), Some("out of memory"));
    assert_eq!(all.recover(who, "box", true).await.unwrap().state, State::Stopped);
    site.assert_in_line();
}

#[tokio::test(start_paused = true)]
async fn l12_a_full_database_keeps_the_old_state_and_recovers() {
    let site = Site::new().await;
    site.create("box").await;
    let (all, who) = (site.engine.sandboxes(), &site.caller);
    site.store.fail_writes(1);
    assert_eq!(all.stop(who, "box", false).await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(site.state("box").await, Some(State::Started));
    site.store.fail_writes(1);
    let refused = all.create(who, named("two")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    site.assert_in_line();
    // The effect is done, its fact cannot be written for longer than a driver tries.
    site.runtime.delay(Verb::Stop, Duration::from_secs(2));
    assert_eq!(all.stop(who, "box", false).await.unwrap().state, State::Stopping);
    site.store.fail_writes(20);
    tokio::time::sleep(Duration::from_secs(10)).await;
    site.store.fail_writes(0);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(site.state("box").await, Some(State::Stopped), "taken up again");
    site.assert_in_line();
}

#[tokio::test(start_paused = true)]
async fn l7_anothers_sandbox_is_as_unknown_as_none() {
    let site = Site::new().await;
    site.create("box").await;
    let all = site.engine.sandboxes();
    let id = all.get(&site.caller, "box").await.unwrap().id.to_string();
    let stranger = site.stranger();
    for name in ["box", id.as_str(), "nothing"] {
        let expected = format!("sandbox {name} not found");
        let refusals = [
            all.get(&stranger, name).await.unwrap_err(),
            all.start(&stranger, name).await.unwrap_err(),
            all.stop(&stranger, name, true).await.unwrap_err(),
            all.delete(&stranger, name).await.unwrap_err(),
            all.resize(&stranger, name, Resize::default()).await.unwrap_err(),
            all.set_labels(&stranger, name, BTreeMap::new()).await.unwrap_err(),
            all.touch(&stranger, name).await.unwrap_err(),
            all.events(&stranger, name, 5).await.unwrap_err(),
            site.engine.reach(&stranger, name).await.unwrap_err(),
        ];
        for refused in refusals {
            assert_eq!((refused.kind(), refused.message()), (Kind::NotFound, expected.as_str()));
        }
    }
    all.delete(&site.caller, "box").await.unwrap();
    assert_eq!(all.delete(&stranger, &id).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(site.state("box").await, None);
}

#[tokio::test(start_paused = true)]
async fn permissions_are_asked_for_by_name() {
    let site = Site::new().await;
    site.create("box").await;
    let with =
        |permission| Caller { permissions: BTreeSet::from([permission]), ..site.caller.clone() };
    let (writer, deleter) = (with(Permission::WriteSandboxes), with(Permission::DeleteSandboxes));
    let all = site.engine.sandboxes();
    let refused = all.delete(&writer, "box").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Denied);
    assert!(refused.message().contains("delete:sandboxes"), "{refused}");
    assert_eq!(all.create(&deleter, named("x")).await.unwrap_err().kind(), Kind::Denied);
    assert_eq!(site.engine.reach(&deleter, "box").await.unwrap_err().kind(), Kind::Denied);
    assert!(site.engine.reach(&writer, "box").await.is_ok());
    assert!(all.delete(&deleter, "box").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn settings_change_and_stay_checked() {
    let site = Site::new().await;
    site.create("box").await;
    let (all, who) = (site.engine.sandboxes(), &site.caller);
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    assert_eq!(all.set_labels(who, "box", labels.clone()).await.unwrap().labels, labels);
    let reserved = BTreeMap::from([("mayfly.owner".to_owned(), "b".to_owned())]);
    assert_eq!(all.set_labels(who, "box", reserved).await.unwrap_err().kind(), Kind::Invalid);
    assert!(all.set_public(who, "box", true).await.unwrap().public);
    let refused = all.set_timer(who, "box", Timer::AutoPause, 5).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid, "auto-stop is still set");
    assert_eq!(all.set_timer(who, "box", Timer::AutoStop, 0).await.unwrap().timers.auto_stop, 0);
    assert_eq!(all.set_timer(who, "box", Timer::AutoPause, 5).await.unwrap().timers.auto_pause, 5);
    let reach = site.engine.reach(who, "box").await.unwrap();
    assert_eq!(reach.exec(exec(&["false"])).await.unwrap().exit_code, 1);
    assert_eq!(reach.logs().await.unwrap().len(), 1);
}
