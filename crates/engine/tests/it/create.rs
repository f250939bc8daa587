//! Creating: idempotent, bounded, undone when it fails, and never cut short by a leaving caller.

use std::collections::BTreeMap;
use std::time::Duration;

use mayfly_core::Kind;
use mayfly_core::event::What;
use mayfly_core::limits::Resources;
use mayfly_core::ports::store::SandboxQuery;
use mayfly_core::sandbox::State;
use mayfly_engine::{CreateSandbox, Settings};
use mayfly_testkit::{Fuse, Verb};
use tokio::task::JoinSet;

use crate::site::{Site, exec, named};

#[tokio::test(start_paused = true)]
async fn a_sandbox_is_made_shown_listed_and_reached() {
    let site = Site::new().await;
    let env = BTreeMap::from([("A".to_owned(), "sandbox".to_owned())]);
    let wanted = CreateSandbox { env, cpu: Some(2), ..CreateSandbox::default() };
    let made = site.engine.sandboxes().create(&site.caller, wanted).await.unwrap();
    assert_eq!(made.state, State::Started);
    assert_eq!(made.name, made.id.to_string(), "the name defaults to the id");
    assert_eq!(made.resources, Resources { cpu: 2, ..Resources::DEFAULT });
    assert_eq!((made.snapshot_name.as_str(), made.user.as_str()), ("host", "root"));
    let listed = site.engine.sandboxes();
    let query = SandboxQuery { limit: 10, ..SandboxQuery::default() };
    let page = listed.list(&site.caller, &query).await.unwrap();
    assert_eq!(page.items.iter().map(|row| row.id).collect::<Vec<_>>(), [made.id]);

    let reach = site.engine.reach(&site.caller, &made.name).await.unwrap();
    let out = reach.exec(exec(&["printenv", "A"])).await.unwrap();
    assert_eq!(&out.output[..], b"sandbox\n");
    let mut call = exec(&["printenv", "A"]);
    call.env.insert("A".to_owned(), "call".to_owned());
    assert_eq!(&reach.exec(call).await.unwrap().output[..], b"call\n", "later wins");
    let events = site.engine.sandboxes().events(&site.caller, &made.name, 9).await.unwrap();
    let whats: Vec<_> = events.into_iter().map(|event| event.what).collect();
    let started = What::StateChanged { from: State::Creating, to: State::Started };
    assert_eq!(whats, [started, What::Created]);
    site.assert_in_line();
}

#[tokio::test(start_paused = true)]
async fn l6_the_same_key_or_name_gives_one_sandbox() {
    let site = Site::new().await;
    let wanted = CreateSandbox { idempotency_key: Some("once".to_owned()), ..named("one") };
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let (engine, caller, wanted) = (site.engine.clone(), site.caller.clone(), wanted.clone());
        calls.spawn(async move { engine.sandboxes().create(&caller, wanted).await });
    }
    let made = calls.join_all().await;
    let first = made[0].as_ref().unwrap().id;
    assert!(made.iter().all(|made| made.as_ref().unwrap().id == first), "one for all");
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let (engine, caller) = (site.engine.clone(), site.caller.clone());
        calls.spawn(async move { engine.sandboxes().create(&caller, named("two")).await });
    }
    let made = calls.join_all().await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "a name is given once");
    let refused = made.iter().find_map(|made| made.as_ref().err()).unwrap();
    assert_eq!(refused.kind(), Kind::Conflict);
    assert!(refused.message().contains("two"), "{refused}");
    assert_eq!(site.runtime.peek().len(), 2);
    site.assert_in_line();
}

#[tokio::test(start_paused = true)]
async fn l6_a_repeated_key_needs_no_room_and_no_snapshot() {
    let site = Site::with(Settings { max_sandboxes: 1, ..Settings::default() }).await;
    let wanted = CreateSandbox { idempotency_key: Some("once".to_owned()), ..named("one") };
    let sandboxes = site.engine.sandboxes();
    let first = sandboxes.create(&site.caller, wanted.clone()).await.unwrap();
    let gone =
        CreateSandbox { snapshot: Some("deleted".to_owned()), cpu: Some(999), ..wanted.clone() };
    for again in [wanted, gone] {
        assert_eq!(sandboxes.create(&site.caller, again).await.unwrap().id, first.id);
    }
    let other = CreateSandbox { idempotency_key: Some("twice".to_owned()), ..named("two") };
    assert_eq!(sandboxes.create(&site.caller, other).await.unwrap_err().kind(), Kind::Limit);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_when_it_was_last_used_also_to_a_later_server() {
    let site = Site::new().await;
    let shown = async |site: &Site| {
        let found = site.engine.snapshots().get(&site.caller, "host").await.unwrap();
        let listed = site.engine.snapshots().list(&site.caller).await.unwrap();
        assert_eq!(listed[0].last_used_at, found.last_used_at);
        found.last_used_at
    };
    assert_eq!(shown(&site).await, None);
    site.create("one").await;
    let used = shown(&site).await.expect("a sandbox was made from it");
    site.engine.shutdown().await;
    site.world.clock.advance(Duration::from_mins(5));
    let later = Site::on(site.world.clone(), &Fuse::never(), Settings::default()).await.unwrap();
    assert_eq!(shown(&later).await, Some(used));
    later.create("two").await;
    assert!(shown(&later).await > Some(used));
}

#[tokio::test(start_paused = true)]
async fn a_failed_create_leaves_nothing_and_frees_its_name_and_key() {
    let site = Site::new().await;
    let wanted = CreateSandbox { idempotency_key: Some("k".to_owned()), ..named("box") };
    for kind in [Kind::Unavailable, Kind::Unsupported] {
        site.runtime.fail(Verb::Create, kind);
        let refused = site.engine.sandboxes().create(&site.caller, wanted.clone()).await;
        assert_eq!(refused.unwrap_err().kind(), kind, "the runtime's own refusal");
        assert_eq!(site.state("box").await, None);
    }
    let made = site.engine.sandboxes().create(&site.caller, wanted).await.unwrap();
    assert_eq!(made.state, State::Started, "the same call passes later");
    site.assert_in_line();
}

#[tokio::test(start_paused = true)]
async fn limits_are_named_and_nothing_is_made_over_them() {
    let settings = Settings { max_sandboxes: 3, ..Settings::default() };
    let site = Site::with(settings).await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (engine, caller) = (site.engine.clone(), site.caller.clone());
        calls.spawn(async move {
            engine.sandboxes().create(&caller, CreateSandbox::default()).await.map(|_| ())
        });
    }
    let made = calls.join_all().await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 3);
    for refused in made.into_iter().filter_map(Result::err) {
        assert_eq!(refused.kind(), Kind::Limit);
        assert!(refused.message().contains("3 sandboxes"), "{refused}");
    }
    let huge = CreateSandbox { memory_gib: Some(9999), ..CreateSandbox::default() };
    let refused = site.engine.sandboxes().create(&site.caller, huge).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Limit);
    assert!(refused.message().starts_with("memory of 9999 GiB"), "{refused}");
    let unknown = CreateSandbox { snapshot: Some("nope".to_owned()), ..CreateSandbox::default() };
    let refused = site.engine.sandboxes().create(&site.caller, unknown).await.unwrap_err();
    assert_eq!((refused.kind(), refused.message()), (Kind::NotFound, "snapshot nope not found"));
    assert_eq!(site.runtime.peek().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_slow_create_answers_creating_and_goes_on_without_its_caller() {
    let site = Site::new().await;
    site.runtime.delay(Verb::Create, Duration::from_secs(5));
    let sandboxes = site.engine.sandboxes();
    let early = sandboxes.create(&site.caller, named("slow")).await.unwrap();
    assert_eq!(early.state, State::Creating);
    let left = sandboxes.create(&site.caller, named("left"));
    assert!(tokio::time::timeout(Duration::from_millis(10), left).await.is_err());
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(site.state("slow").await, Some(State::Started));
    assert_eq!(site.state("left").await, Some(State::Started), "its caller left, it was made");

    site.runtime.fail(Verb::Create, Kind::Unavailable);
    let early = sandboxes.create(&site.caller, named("fails")).await.unwrap();
    assert_eq!(early.state, State::Creating);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let shown = sandboxes.get(&site.caller, "fails").await.unwrap();
    assert_eq!(shown.state, State::Error, "its caller was told that it exists, so it says why");
    assert!(shown.error_reason.unwrap().contains("Create was made to fail"));
    site.assert_in_line();
}

#[tokio::test(start_paused = true)]
async fn l5_delete_ends_in_destroyed_at_any_time_and_any_number_of_times() {
    let site = Site::new().await;
    site.runtime.delay(Verb::Create, Duration::from_millis(200));
    let sandboxes = site.engine.sandboxes();
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        sandboxes.delete(&site.caller, "box").await.unwrap()
    };
    let (made, deleted) = tokio::join!(sandboxes.create(&site.caller, named("box")), late);
    let id = made.unwrap().id.to_string();
    assert_eq!(deleted.state, State::Destroyed, "a delete waits for the create in its way");
    for _ in 0..3 {
        let again = sandboxes.delete(&site.caller, &id).await.unwrap();
        assert_eq!(again.state, State::Destroyed);
    }
    assert_eq!(site.state("box").await, None);
    site.create("two").await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (engine, caller) = (site.engine.clone(), site.caller.clone());
        calls.spawn(async move { engine.sandboxes().delete(&caller, "two").await });
    }
    for deleted in calls.join_all().await {
        match deleted {
            Ok(sandbox) => assert_eq!(sandbox.state, State::Destroyed),
            Err(error) => assert_eq!(error.kind(), Kind::NotFound, "its name is gone with it"),
        }
    }
    for kind in [Kind::Internal, Kind::Unavailable] {
        site.runtime.fail(Verb::Destroy, kind);
    }
    site.create("three").await;
    let gone = sandboxes.delete(&site.caller, "three").await.unwrap();
    assert_eq!(gone.state, State::Destroyed, "a destroy that fails is tried again");
    site.assert_in_line();
}
