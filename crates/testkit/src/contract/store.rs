//! The store's contract.

use std::collections::BTreeSet;

use mayfly_core::Kind;
use mayfly_core::access::{ApiKey, Permission, SshAccess};
use mayfly_core::event::{Event, What};
use mayfly_core::id::{OrganizationId, SandboxId, SnapshotId, SshAccessId, VolumeId};
use mayfly_core::limits::Resources;
use mayfly_core::ports::store::{Change, SandboxQuery, SortBy, Store, Swap};
use mayfly_core::sandbox::{Sandbox, State};
use mayfly_core::snapshot::{Snapshot, Source};
use mayfly_core::time::Timestamp;
use mayfly_core::volume::{Volume, VolumeState};
use uuid::Uuid;

use crate::sample::{moment, organization, sandbox};

/// Runs the whole suite on a store that may already hold rows of others.
///
/// # Panics
/// When a promise is broken.
pub async fn store_contract(store: &dyn Store) {
    changes(store).await;
    names(store).await;
    repeats(store).await;
    warm_rows(store).await;
    touches(store).await;
    lists(store).await;
    forgets(store).await;
    snapshots(store).await;
    keys(store).await;
    ways_in(store).await;
    settings(store).await;
    super::tenants::tenants(store).await;
    volumes(store).await;
}

async fn changes(store: &dyn Store) {
    let mut row = sandbox(organization(), "changes");
    row.state = State::Stopped;
    row.stopped_since = Some(moment(7));
    row.resume_to = Some(State::Started);
    row.error_reason = Some("why \u{fc} 'quoted'".to_owned());
    row.timers.auto_delete = -1;
    assert_eq!(insert(store, &row).await, Swap::Done);
    assert_eq!(read(store, row.id).await, Some(row.clone()), "a row comes back as it was written");
    assert_eq!(insert(store, &row).await, Swap::Stale, "what exists is not made again");
    let next = Sandbox { state: State::Starting, version: 2, ..row.clone() };
    let event =
        |what| Event { at: Timestamp(5), organization: row.organization, sandbox: row.id, what };
    let moved = event(What::StateChanged { from: State::Stopped, to: State::Starting });
    let audit = event(What::Audit { rule: "memory".to_owned(), target: "2 GiB".to_owned() });
    let change = Change {
        next: next.clone(),
        expected: Some(1),
        events: vec![moved.clone(), audit.clone()],
    };
    assert_eq!(store.replace(change.clone()).await.expect("replace"), Swap::Done);
    assert_eq!(store.replace(change).await.expect("replace"), Swap::Stale, "decided on an old row");
    assert_eq!(read(store, row.id).await, Some(next));
    let events = store.events(row.id, 10).await.expect("events");
    assert_eq!(events, [audit.clone(), moved], "newest first, none of the stale change");
    let alone = Event { sandbox: Event::NO_SANDBOX, ..audit.clone() };
    store.add_events(vec![alone.clone()]).await.expect("events without a change");
    assert_eq!(store.events(Event::NO_SANDBOX, 1).await.expect("events"), [alone]);
    assert_eq!(store.events(row.id, 1).await.expect("events"), [audit]);
    let ghost = Sandbox { version: 4, ..sandbox(row.organization, "ghost") };
    let ghost = Change { next: ghost, expected: Some(3), events: vec![] };
    assert_eq!(store.replace(ghost).await.expect("replace"), Swap::Stale, "there is no such row");
}

async fn volumes(store: &dyn Store) {
    let owner = organization();
    let volume = |name: &str| Volume {
        id: VolumeId::from_uuid(Uuid::now_v7()),
        organization: owner,
        name: name.to_owned(),
        state: VolumeState::Creating,
        size_gib: 3,
        error_reason: None,
        created_at: Timestamp(1),
        updated_at: Timestamp(2),
        last_used_at: None,
    };
    let own = async || {
        let all = store.volumes().await.expect("volumes");
        all.into_iter().filter(|row| row.organization == owner).collect::<Vec<_>>()
    };
    let (one, two) = (volume("one"), volume("two"));
    for row in [&one, &two] {
        store.put_volume(row).await.expect("put");
    }
    let used = Volume {
        state: VolumeState::Error,
        error_reason: Some("gone".to_owned()),
        last_used_at: Some(Timestamp(9)),
        ..one.clone()
    };
    store.put_volume(&used).await.expect("put again");
    assert_eq!(own().await, [used, two.clone()], "as they were last written");
    let taken = volume("one");
    let refused = store.put_volume(&taken).await.expect_err("a name is taken once");
    assert_eq!(refused.kind(), Kind::Conflict);
    let elsewhere = Volume { organization: organization(), ..taken.clone() };
    store.put_volume(&elsewhere).await.expect("names are per owner");
    let gone = one.moved(VolumeState::Deleted, Timestamp(50));
    store.put_volume(&gone).await.expect("deleted");
    let next = volume("one");
    store.put_volume(&next).await.expect("a name is free again");
    store.forget_deleted_volumes(Timestamp(50)).await.expect("forget");
    assert_eq!(own().await, [gone, two.clone(), next.clone()], "not before its time");
    store.forget_deleted_volumes(Timestamp(51)).await.expect("forget");
    assert_eq!(own().await, [two, next]);
}

async fn names(store: &dyn Store) {
    let (mine, other) = (organization(), organization());
    let row = sandbox(mine, "name");
    assert_eq!(insert(store, &row).await, Swap::Done);
    assert_eq!(insert(store, &sandbox(mine, "name")).await, Swap::NameTaken);
    assert_eq!(insert(store, &sandbox(mine, "Name")).await, Swap::Done, "case counts");
    assert_eq!(insert(store, &sandbox(other, "name")).await, Swap::Done, "names are per owner");
    let found = store.sandbox_by_name(mine, "name").await.expect("by name");
    assert_eq!(found.map(|found| found.id), Some(row.id));
    let gone = Sandbox { state: State::Destroyed, ..row };
    assert_eq!(change(store, gone).await, Swap::Done);
    assert_eq!(store.sandbox_by_name(mine, "name").await.expect("by name"), None);
    assert_eq!(insert(store, &sandbox(mine, "name")).await, Swap::Done, "a name is free again");
}

async fn repeats(store: &dyn Store) {
    let (mine, other) = (organization(), organization());
    let with_key =
        |owner, name| Sandbox { idempotency_key: Some("key".to_owned()), ..sandbox(owner, name) };
    let first = with_key(mine, "first");
    assert_eq!(insert(store, &first).await, Swap::Done);
    for name in ["second", "first"] {
        let again = insert(store, &with_key(mine, name)).await;
        assert_eq!(again, Swap::Repeated(Box::new(first.clone())), "the key comes before the name");
    }
    let found = async |owner, key| store.sandbox_by_key(owner, key).await.expect("by key");
    assert_eq!(found(mine, "key").await, Some(first.clone()));
    assert_eq!(found(mine, "kex").await, None);
    assert_eq!(found(other, "key").await, None, "keys are per owner");
    assert_eq!(insert(store, &with_key(other, "first")).await, Swap::Done, "keys are per owner");
    let moved = Sandbox { state: State::Stopping, ..first.clone() };
    assert_eq!(change(store, moved).await, Swap::Done, "its own key does not stand in its way");
    let freed = Sandbox { idempotency_key: None, version: 2, ..first };
    assert_eq!(change(store, freed).await, Swap::Done);
    assert_eq!(
        insert(store, &with_key(mine, "third")).await,
        Swap::Done,
        "a freed key works again"
    );
}

async fn warm_rows(store: &dyn Store) {
    let (server, mine) = (organization(), organization());
    let warm = Sandbox { warm: true, ..sandbox(server, "warm") };
    assert_eq!(insert(store, &warm).await, Swap::Done);
    let listed = store.sandboxes(server, &query(10)).await.expect("list");
    assert_eq!((listed.items.len(), listed.total), (0, 0), "warm ones are never listed");
    let living = store.living().await.expect("living");
    assert!(living.iter().any(|row| row.id == warm.id), "warm ones live");
    assert_eq!(insert(store, &sandbox(mine, "taken")).await, Swap::Done);
    let keyed = Sandbox { idempotency_key: Some("k".to_owned()), ..sandbox(mine, "keyed") };
    assert_eq!(insert(store, &keyed).await, Swap::Done);
    let claim = |name: &str, key: Option<&str>| Sandbox {
        warm: false,
        organization: mine,
        name: name.to_owned(),
        idempotency_key: key.map(str::to_owned),
        ..warm.clone()
    };
    assert_eq!(change(store, claim("taken", None)).await, Swap::NameTaken, "claims obey names");
    let repeated = Swap::Repeated(Box::new(keyed));
    assert_eq!(change(store, claim("x", Some("k"))).await, repeated, "claims obey keys");
    assert_eq!(change(store, claim("claimed", None)).await, Swap::Done);
    assert_eq!(change(store, claim("again", None)).await, Swap::Stale, "claimed once");
    let found = store.sandbox_by_name(mine, "claimed").await.expect("by name");
    assert_eq!(found.map(|found| found.id), Some(warm.id));
    assert_eq!(store.sandbox_by_name(server, "warm").await.expect("by name"), None);
}

async fn touches(store: &dyn Store) {
    let row = sandbox(organization(), "touched");
    assert_eq!(insert(store, &row).await, Swap::Done);
    store.touch(row.id, moment(50)).await.expect("touch");
    store.touch(row.id, moment(40)).await.expect("touch");
    let touched = Sandbox { last_activity: moment(50), ..row.clone() };
    assert_eq!(read(store, row.id).await, Some(touched), "only forward, and no new version");
    store.touch(SandboxId::from_uuid(Uuid::now_v7()), moment(1)).await.expect("unknown: nothing");
    let next = Sandbox { state: State::Stopping, last_activity: moment(60), ..row.clone() };
    assert_eq!(change(store, next).await, Swap::Done, "a touch does not make a decision stale");
}

async fn lists(store: &dyn Store) {
    let mine = organization();
    let mut ids = Vec::new();
    for (index, name) in ["Alpha", "alps", "beta", "gamma", "delta"].into_iter().enumerate() {
        let cpu = u32::try_from(index % 2).expect("small") + 1;
        let mut row = sandbox(mine, name);
        row.created = moment(index as u64 * 1000);
        row.resources = Resources { cpu, ..Resources::DEFAULT };
        row.public = name == "beta";
        row.labels.insert("index".to_owned(), index.to_string());
        assert_eq!(insert(store, &row).await, Swap::Done);
        ids.push(row.id);
    }
    let gone = Sandbox { state: State::Destroyed, ..sandbox(mine, "gone") };
    assert_eq!(insert(store, &gone).await, Swap::Done);
    insert(store, &sandbox(organization(), "foreign")).await;

    let newest_first: Vec<_> = ids.iter().rev().copied().collect();
    assert_eq!(all(store, mine, query(2)).await, newest_first, "pages lose and repeat nothing");
    let by_cpu = SandboxQuery { sort: SortBy::Cpu, ascending: true, ..query(2) };
    let one_then_two = [ids[0], ids[2], ids[4], ids[1], ids[3]];
    assert_eq!(all(store, mine, by_cpu).await, one_then_two, "ties are broken by id");
    let page = SandboxQuery { offset: 3, ..query(10) };
    let page = store.sandboxes(mine, &page).await.expect("list");
    assert_eq!((page.items.len(), page.total, page.next), (2, 5, None), "skipped rows count");

    let label = |value: &str| vec![("index".to_owned(), value.to_owned())];
    for (query, expected) in [
        (SandboxQuery { name_prefix: Some("AL".to_owned()), ..query(9) }, vec![1, 0]),
        (SandboxQuery { name_prefix: Some("%".to_owned()), ..query(9) }, vec![]),
        (SandboxQuery { labels: label("3"), ..query(9) }, vec![3]),
        (SandboxQuery { labels: label("9"), ..query(9) }, vec![]),
        (SandboxQuery { public: Some(true), ..query(9) }, vec![2]),
        (SandboxQuery { cpu: (Some(2), None), ..query(9) }, vec![3, 1]),
        (SandboxQuery { id: Some(ids[4]), ..query(9) }, vec![4]),
        (SandboxQuery { states: vec![State::Stopped], ..query(9) }, vec![]),
        (SandboxQuery { snapshots: vec!["other".to_owned()], ..query(9) }, vec![]),
        (SandboxQuery { targets: vec!["local".to_owned()], ..query(1) }, vec![4, 3, 2, 1, 0]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|index: usize| ids[index]).collect();
        assert_eq!(all(store, mine, query.clone()).await, expected, "{query:?}");
    }
    let bad = SandboxQuery { cursor: Some("nonsense".to_owned()), ..query(1) };
    let refused = store.sandboxes(mine, &bad).await.expect_err("a made-up cursor is refused");
    assert_eq!(refused.kind(), Kind::Invalid);

    let first = store.sandboxes(mine, &query(2)).await.expect("list");
    for row in &first.items {
        let gone = Sandbox { state: State::Destroyed, ..row.clone() };
        assert_eq!(change(store, gone).await, Swap::Done);
    }
    let rest = SandboxQuery { cursor: first.next, ..query(9) };
    assert_eq!(all(store, mine, rest).await, [ids[2], ids[1], ids[0]], "deletes move no page");
}

async fn forgets(store: &dyn Store) {
    let mine = organization();
    let destroyed = |name, at| Sandbox {
        state: State::Destroyed,
        updated_at: Timestamp(at),
        ..sandbox(mine, name)
    };
    let (old, new) = (destroyed("old", 10), destroyed("new", 30));
    let living = Sandbox { updated_at: Timestamp(5), ..sandbox(mine, "living") };
    for row in [&old, &new, &living] {
        assert_eq!(insert(store, row).await, Swap::Done);
    }
    assert!(store.forget_destroyed(Timestamp(20)).await.expect("forget") >= 1);
    assert_eq!(read(store, old.id).await, None);
    assert!(read(store, new.id).await.is_some() && read(store, living.id).await.is_some());
    let rows = store.living().await.expect("living");
    assert!(!rows.iter().any(|row| row.id == new.id), "destroyed ones do not live");
}

async fn snapshots(store: &dyn Store) {
    let (mine, other) = (organization(), organization());
    let snapshot = |owner, name: &str| Snapshot {
        id: SnapshotId::from_uuid(Uuid::now_v7()),
        organization: owner,
        name: name.to_owned(),
        source: Source::Host { fingerprint: "f1".to_owned() },
        resources: Resources::DEFAULT,
        user: "root".to_owned(),
        workdir: Some("/srv".to_owned()),
        env: [("A".to_owned(), "b".to_owned())].into(),
        created_at: Timestamp(1),
        last_used_at: None,
    };
    let own = snapshot(Some(mine), "own");
    let shared = snapshot(None, &format!("shared-{mine}"));
    let foreign = snapshot(Some(other), "foreign");
    for row in [&own, &shared, &foreign] {
        store.put_snapshot(row).await.expect("put");
    }
    let changed = Snapshot {
        source: Source::Host { fingerprint: "f2".to_owned() },
        last_used_at: Some(Timestamp(9)),
        ..shared
    };
    store.put_snapshot(&changed).await.expect("replaced");
    assert_eq!(store.snapshot(changed.id).await.expect("by id"), Some(changed.clone()));
    let seen = store.snapshots(mine).await.expect("list");
    assert!(seen.contains(&own) && seen.contains(&changed), "own and shared ones are seen");
    assert!(!seen.contains(&foreign), "others' are not");
    for (at, shown) in [(12, 12), (7, 12)] {
        store.use_snapshot(changed.id, Timestamp(at)).await.expect("used");
        let used =
            store.snapshot(changed.id).await.expect("by id").and_then(|row| row.last_used_at);
        assert_eq!(used, Some(Timestamp(shown)), "a use moves forward only");
    }
}

async fn keys(store: &dyn Store) {
    let (mine, other) = (organization(), organization());
    let key = |owner: OrganizationId, name: &str| {
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(Uuid::now_v7().as_bytes());
        ApiKey {
            name: name.to_owned(),
            organization: owner,
            hash,
            masked: "mf_key_a***z".to_owned(),
            permissions: BTreeSet::from([Permission::WriteSandboxes, Permission::Admin]),
            created_at: Timestamp(3),
            expires_at: Some(Timestamp(4)),
            last_used_at: None,
        }
    };
    let (b, a) = (key(mine, "b"), key(mine, "a"));
    for row in [&b, &a, &key(other, "a")] {
        store.add_key(row).await.expect("add");
    }
    let taken = store.add_key(&key(mine, "a")).await.expect_err("a name is taken once");
    assert_eq!(taken.kind(), Kind::Conflict);
    assert_eq!(store.key_by_hash(&b.hash).await.expect("by hash"), Some(b.clone()));
    assert_eq!(store.key_by_hash(&[9; 32]).await.expect("by hash"), None);
    assert_eq!(store.keys(mine).await.expect("list"), [a.clone(), b.clone()], "by name");
    for at in [7, 5] {
        let uses = vec![(b.hash, Timestamp(at)), ([9; 32], Timestamp(at))];
        store.use_keys(uses).await.expect("used");
    }
    let b = ApiKey { last_used_at: Some(Timestamp(7)), ..b };
    assert_eq!(store.keys(mine).await.expect("list"), [a, b.clone()], "uses only move forward");
    assert_eq!(store.key_by_hash(&b.hash).await.expect("by hash"), Some(b.clone()));
    assert!(store.delete_key(mine, "b").await.expect("delete"));
    assert!(!store.delete_key(mine, "b").await.expect("delete"), "there is none any more");
    assert_eq!(store.key_by_hash(&b.hash).await.expect("by hash"), None);
}

async fn ways_in(store: &dyn Store) {
    let hash = || {
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(Uuid::now_v7().as_bytes());
        hash
    };
    let access = |sandbox: SandboxId, at: i64| SshAccess {
        id: SshAccessId::from_uuid(Uuid::now_v7()),
        sandbox,
        hash: hash(),
        created_at: Timestamp(at),
        expires_at: Timestamp(at + 10),
    };
    let sandbox = || SandboxId::from_uuid(Uuid::now_v7());
    let (mine, other) = (sandbox(), sandbox());
    let (one, two, foreign) = (access(mine, 100), access(mine, 105), access(other, 105));
    for row in [&one, &two, &foreign] {
        store.add_ssh_access(row).await.expect("add");
    }
    let found = async |row: &SshAccess| store.ssh_access(&row.hash).await.expect("by hash");
    assert_eq!(found(&one).await, Some(one), "it comes back as it was written");
    let deleted = store.delete_ssh_access(other, Some(one.hash)).await.expect("delete");
    assert_eq!(deleted, 0, "another sandbox's is not touched");
    assert_eq!(store.delete_ssh_access(mine, Some(two.hash)).await.expect("delete"), 1);
    assert_eq!((found(&one).await, found(&two).await), (Some(one), None));
    store.add_ssh_access(&access(other, 110)).await.expect("add");
    assert_eq!(found(&one).await, None, "what is over is forgotten");
    assert_eq!(store.delete_ssh_access(other, None).await.expect("delete"), 2, "all of a sandbox");
    assert_eq!(found(&foreign).await, None);
    let (early, late) = (hash(), hash());
    assert!(!store.link_ended(&early).await.expect("read"));
    for _ in 0..2 {
        store.end_link(&early, Timestamp(20), Timestamp(10)).await.expect("end, also again");
    }
    assert!(store.link_ended(&early).await.expect("read"));
    store.end_link(&late, Timestamp(90), Timestamp(20)).await.expect("end");
    assert!(store.link_ended(&late).await.expect("read"));
    assert!(!store.link_ended(&early).await.expect("read"), "its time came by itself");
}

async fn settings(store: &dyn Store) {
    let name = Uuid::now_v7().to_string();
    assert_eq!(store.setting(&name).await.expect("read"), None);
    for value in ["one", "two"] {
        store.set_setting(&name, value).await.expect("set");
        assert_eq!(store.setting(&name).await.expect("read").as_deref(), Some(value));
    }
}

fn query(limit: u32) -> SandboxQuery {
    SandboxQuery { limit, ..SandboxQuery::default() }
}

async fn all(
    store: &dyn Store,
    organization: OrganizationId,
    mut query: SandboxQuery,
) -> Vec<SandboxId> {
    let mut ids = Vec::new();
    loop {
        let page = store.sandboxes(organization, &query).await.expect("list");
        assert!(page.items.len() <= query.limit as usize, "a page keeps its limit");
        ids.extend(page.items.into_iter().map(|row| row.id));
        match page.next {
            Some(cursor) => query.cursor = Some(cursor),
            None => return ids,
        }
    }
}

async fn read(store: &dyn Store, id: SandboxId) -> Option<Sandbox> {
    store.sandbox(id).await.expect("read")
}

async fn insert(store: &dyn Store, row: &Sandbox) -> Swap {
    let change = Change { next: row.clone(), expected: None, events: vec![] };
    store.replace(change).await.expect("replace")
}

/// Writes the next version of this row.
async fn change(store: &dyn Store, mut next: Sandbox) -> Swap {
    let expected = Some(next.version);
    next.version += 1;
    store.replace(Change { next, expected, events: vec![] }).await.expect("replace")
}
