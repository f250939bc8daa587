//! Compare-and-swap, names, keys, snapshots, settings, events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mayfly_core::Kind;
use mayfly_core::access::{ApiKey, Permission};
use mayfly_core::event::{Event, What};
use mayfly_core::id::SnapshotId;
use mayfly_core::limits::Resources;
use mayfly_core::ports::store::{Change, Store, Swap};
use mayfly_core::sandbox::State;
use mayfly_core::snapshot::{Snapshot, Source};
use mayfly_core::time::Timestamp;
use uuid::Uuid;

use crate::sample::{create, creation, id, moment, open, organization, sandbox};

#[tokio::test]
async fn a_record_reads_back_as_written_by_id_and_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, sandbox(1)).await;
    let mut bare = sandbox(2);
    (bare.resume_to, bare.error_reason, bare.stopped_since, bare.idempotency_key) =
        (None, None, None, None);
    create(&store, bare.clone()).await;
    assert_eq!(store.sandbox(id(1)).await.unwrap(), Some(sandbox(1)));
    assert_eq!(store.sandbox(id(2)).await.unwrap(), Some(bare));
    assert_eq!(store.sandbox_by_name(organization(1), "Box-1").await.unwrap(), Some(sandbox(1)));
    assert_eq!(store.sandbox_by_name(organization(2), "Box-1").await.unwrap(), None);
    assert_eq!(store.sandbox(id(3)).await.unwrap(), None);
}

#[tokio::test]
async fn a_change_on_an_old_version_is_stale_and_writes_no_event() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, sandbox(1)).await;
    let mut next = sandbox(1);
    (next.state, next.version) = (State::Stopped, 2);
    let what = What::StateChanged { from: State::Started, to: State::Stopped };
    let event = Event { at: Timestamp(7), organization: next.organization, sandbox: next.id, what };
    let change = Change { next, expected: Some(1), events: vec![event.clone()] };
    assert_eq!(store.replace(change.clone()).await.unwrap(), Swap::Done);
    assert_eq!(store.replace(change).await.unwrap(), Swap::Stale);
    assert_eq!(store.replace(creation(sandbox(1))).await.unwrap(), Swap::Stale);
    let events = store.events(id(1), 10).await.unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0], event);
    assert_eq!(events[1].what, What::Created);
    assert_eq!(store.events(id(1), 1).await.unwrap(), [event]);
}

#[tokio::test]
async fn a_change_must_count_its_version_up_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, sandbox(1)).await;
    let change = Change { next: sandbox(1), expected: Some(1), events: Vec::new() };
    assert_eq!(store.replace(change).await.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn names_are_unique_among_living_sandboxes_of_one_organization() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, sandbox(1)).await;
    let mut same_name = sandbox(2);
    same_name.name = "Box-1".into();
    assert_eq!(store.replace(creation(same_name.clone())).await.unwrap(), Swap::NameTaken);
    let mut elsewhere = same_name.clone();
    (elsewhere.id, elsewhere.organization) = (id(3), organization(2));
    create(&store, elsewhere).await;

    create(&store, sandbox(4)).await;
    let mut renamed = sandbox(4);
    (renamed.name, renamed.version) = ("Box-1".into(), 2);
    let change = Change { next: renamed, expected: Some(1), events: Vec::new() };
    assert_eq!(store.replace(change).await.unwrap(), Swap::NameTaken);

    let mut gone = sandbox(1);
    (gone.state, gone.version) = (State::Destroyed, 2);
    let change = Change { next: gone, expected: Some(1), events: Vec::new() };
    assert_eq!(store.replace(change).await.unwrap(), Swap::Done);
    create(&store, same_name).await;
    let found = store.sandbox_by_name(organization(1), "Box-1").await.unwrap();
    assert_eq!(found.map(|found| found.id), Some(id(2)));
}

#[tokio::test]
async fn an_idempotency_key_gives_what_it_made_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, sandbox(1)).await;
    let mut again = sandbox(2);
    again.idempotency_key = Some("key-1".into());
    again.name = "Box-1".into();
    let answer = store.replace(creation(again.clone())).await.unwrap();
    assert_eq!(answer, Swap::Repeated(Box::new(sandbox(1))));
    again.organization = organization(2);
    create(&store, again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_racing_changes_exactly_one_wins_each_round() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    create(&store, sandbox(1)).await;
    for version in 1..=5 {
        let racers: Vec<_> = (0..50)
            .map(|racer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let mut next = sandbox(1);
                    (next.version, next.user) = (version + 1, format!("user-{racer}"));
                    let change = Change { next, expected: Some(version), events: Vec::new() };
                    (racer, store.replace(change).await.unwrap())
                })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.unwrap() {
                (racer, Swap::Done) => winners.push(format!("user-{racer}")),
                (_, swap) => assert_eq!(swap, Swap::Stale),
            }
        }
        let stored = store.sandbox(id(1)).await.unwrap().unwrap();
        assert_eq!(winners, [stored.user]);
        assert_eq!(stored.version, version + 1);
    }
}

#[tokio::test]
async fn last_activity_only_moves_forward() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, sandbox(1)).await;
    store.touch(id(1), moment(900_000, 900_000)).await.unwrap();
    store.touch(id(1), moment(800_000, 800_000)).await.unwrap();
    store.touch(id(2), moment(1, 1)).await.unwrap();
    let mut next = sandbox(1);
    next.version = 2;
    let change = Change { next, expected: Some(1), events: Vec::new() };
    assert_eq!(store.replace(change).await.unwrap(), Swap::Done, "touching is not a change");
    let stored = store.sandbox(id(1)).await.unwrap().unwrap();
    assert_eq!(stored.last_activity, moment(900_000, 900_000));
}

#[tokio::test]
async fn destroyed_records_are_forgotten_after_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for (n, updated) in [(1, 100), (2, 200)] {
        let mut gone = sandbox(n);
        (gone.state, gone.updated_at) = (State::Destroyed, Timestamp(updated));
        create(&store, gone).await;
    }
    create(&store, sandbox(3)).await;
    assert_eq!(store.forget_destroyed(Timestamp(200)).await.unwrap(), 1);
    assert_eq!(store.sandbox(id(1)).await.unwrap(), None);
    assert_eq!(store.events(id(1), 10).await.unwrap(), []);
    assert!(store.sandbox(id(2)).await.unwrap().is_some());
    assert_eq!(store.living().await.unwrap(), [sandbox(3)]);
}

#[tokio::test]
async fn snapshots_are_seen_by_their_organization_or_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut host = Snapshot {
        id: SnapshotId::from_uuid(Uuid::from_u128(1)),
        organization: None,
        name: "host".into(),
        source: Source::Host { fingerprint: "f1".into() },
        resources: Resources::DEFAULT,
        user: "root".into(),
        workdir: Some("/srv".into()),
        env: BTreeMap::from([("PATH".into(), "/usr/bin".into())]),
        created_at: Timestamp(1),
        last_used_at: None,
    };
    store.put_snapshot(&host).await.unwrap();
    (host.last_used_at, host.source) =
        (Some(Timestamp(2)), Source::Host { fingerprint: "f2".into() });
    store.put_snapshot(&host).await.unwrap();
    let mut own = host.clone();
    own.id = SnapshotId::from_uuid(Uuid::from_u128(2));
    own.organization = Some(organization(1));
    assert_eq!(store.put_snapshot(&own).await.unwrap_err().kind(), Kind::Conflict);
    own.name = "mine".into();
    store.put_snapshot(&own).await.unwrap();
    assert_eq!(store.snapshot(host.id).await.unwrap(), Some(host.clone()));
    assert_eq!(store.snapshots(organization(1)).await.unwrap(), [host.clone(), own]);
    assert_eq!(store.snapshots(organization(2)).await.unwrap(), [host]);
}

#[tokio::test]
async fn keys_are_found_by_hash_listed_by_name_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let key = |name: &str, byte: u8| ApiKey {
        name: name.into(),
        organization: organization(1),
        hash: [byte; 32],
        masked: "mf_key_a…z".into(),
        permissions: BTreeSet::from([Permission::WriteSandboxes, Permission::Admin]),
        created_at: Timestamp(1),
        expires_at: Some(Timestamp(9)),
        last_used_at: None,
    };
    store.add_key(&key("b", 1)).await.unwrap();
    store.add_key(&key("a", 2)).await.unwrap();
    let error = store.add_key(&key("a", 3)).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::Conflict, "a key named `a` exists"));
    assert_eq!(store.key_by_hash(&[1; 32]).await.unwrap(), Some(key("b", 1)));
    assert_eq!(store.key_by_hash(&[3; 32]).await.unwrap(), None);
    assert_eq!(store.keys(organization(1)).await.unwrap(), [key("a", 2), key("b", 1)]);
    assert_eq!(store.keys(organization(2)).await.unwrap(), []);
    assert!(!store.delete_key(organization(2), "a").await.unwrap());
    assert!(store.delete_key(organization(1), "a").await.unwrap());
    assert!(!store.delete_key(organization(1), "a").await.unwrap());
}

#[tokio::test]
async fn settings_keep_the_last_value() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert_eq!(store.setting("server").await.unwrap(), None);
    store.set_setting("server", "1").await.unwrap();
    store.set_setting("server", "2").await.unwrap();
    assert_eq!(store.setting("server").await.unwrap().as_deref(), Some("2"));
}
