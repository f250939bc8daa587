//! The store's contract about organizations, their audit logs, and filters that a list of one's own needs.

use mayfly_core::Kind;
use mayfly_core::access::{ApiKey, Organization, Quota};
use mayfly_core::audit::{Entry, Look};
use mayfly_core::id::OrganizationId;
use mayfly_core::ports::store::{Change, SandboxQuery, Store, Swap};
use mayfly_core::sandbox::{Desired, Sandbox, State};
use mayfly_core::time::Timestamp;
use uuid::Uuid;

use crate::sample::{moment, organization, sandbox};

/// Runs this part of the suite.
pub(super) async fn tenants(store: &dyn Store) {
    organizations(store).await;
    audit(store).await;
    ends(store).await;
}

fn named(name: &str) -> Organization {
    let id = organization();
    Organization {
        id,
        name: format!("{name}-{id}"),
        quota: Quota { sandboxes: Some(3), cpu: Some(0), ..Quota::default() },
        created_at: Timestamp(7),
    }
}

fn key_of(owner: OrganizationId) -> ApiKey {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(Uuid::now_v7().as_bytes());
    ApiKey {
        name: "k".to_owned(),
        organization: owner,
        hash,
        masked: "***".to_owned(),
        permissions: [].into(),
        created_at: Timestamp(1),
        expires_at: None,
        last_used_at: None,
    }
}

async fn organizations(store: &dyn Store) {
    let (mut one, two) = (named("a-one"), named("b-two"));
    for row in [&two, &one] {
        store.put_organization(row).await.expect("put");
    }
    let found = async || {
        let all = store.organizations().await.expect("list");
        all.into_iter().filter(|row| row.id == one.id || row.id == two.id).collect::<Vec<_>>()
    };
    assert_eq!(found().await, [one.clone(), two.clone()], "by name, as they were written");
    let taken = Organization { id: organization(), ..one.clone() };
    let refused = store.put_organization(&taken).await.expect_err("a name is taken once");
    assert_eq!(refused.kind(), Kind::Conflict);

    let row = sandbox(one.id, "box");
    let insert = Change { next: row.clone(), expected: None, events: vec![] };
    assert_eq!(store.replace(insert).await.expect("insert"), Swap::Done);
    let (own, other) = (key_of(one.id), key_of(two.id));
    for key in [&own, &other] {
        store.add_key(key).await.expect("add");
    }
    let refused = store.delete_organization(one.id).await.expect_err("it has a sandbox");
    assert_eq!(refused.kind(), Kind::Conflict);
    assert!(store.key_by_hash(&own.hash).await.expect("by hash").is_some(), "nothing is half done");
    let gone = Sandbox { state: State::Destroyed, version: 2, ..row };
    let gone = Change { next: gone, expected: Some(1), events: vec![] };
    assert_eq!(store.replace(gone).await.expect("destroy"), Swap::Done);
    assert!(store.delete_organization(one.id).await.expect("delete"));
    assert!(!store.delete_organization(one.id).await.expect("delete"), "it is gone");
    assert_eq!(store.key_by_hash(&own.hash).await.expect("by hash"), None, "with its keys");
    assert!(store.key_by_hash(&other.hash).await.expect("by hash").is_some(), "others' stay");
    one.quota.disk_gib = Some(9);
    store.put_organization(&one).await.expect("its name is free again");
    one.quota = Quota::default();
    store.put_organization(&one).await.expect("changed");
    assert_eq!(found().await, [one.clone(), two.clone()]);
}

async fn audit(store: &dyn Store) {
    let (mine, other) = (organization(), organization());
    let entry = |owner, at| Entry {
        id: 0,
        at: Timestamp(at),
        organization: owner,
        key: (at % 2 == 0).then(|| "ci".to_owned()),
        origin: "192.0.2.1".to_owned(),
        action: "POST /api/sandbox".to_owned(),
        object: (at > 2).then(|| "box".to_owned()),
        status: 403,
        rule: (at > 1).then(|| "permission".to_owned()),
        count: 7,
    };
    let written = vec![entry(mine, 1), entry(other, 2), entry(mine, 3), entry(mine, 4)];
    store.add_audit(written, 1000).await.expect("add");
    let look = |limit| Look { limit, ..Look::default() };
    let page = store.audit(mine, look(2)).await.expect("read");
    let last = page.items[1].id;
    let plain = |items: Vec<Entry>| -> Vec<Entry> {
        items.into_iter().map(|entry| Entry { id: 0, ..entry }).collect()
    };
    assert_eq!(page.total, 3);
    assert!(page.items[0].id > last, "newest first");
    assert_eq!(plain(page.items), [entry(mine, 4), entry(mine, 3)], "as they were written");
    let rest = store.audit(mine, Look { before: Some(last), ..look(9) }).await.expect("read");
    assert_eq!(plain(rest.items), [entry(mine, 1)]);
    let skipped = store.audit(mine, Look { offset: 2, ..look(9) }).await.expect("read");
    assert_eq!(plain(skipped.items), [entry(mine, 1)]);
    assert_eq!(store.audit(mine, look(0)).await.expect_err("no lines").kind(), Kind::Invalid);
    let flood: Vec<_> = (0..500).map(|at| entry(mine, at)).collect();
    store.add_audit(flood, 100).await.expect("add");
    let kept = store.audit(mine, look(1)).await.expect("read");
    assert!((100..=200).contains(&kept.total), "{} lines are kept", kept.total);
    assert_eq!(kept.items[0].at, Timestamp(499), "the newest");
    assert_eq!(store.audit(other, look(9)).await.expect("read").total, 1, "others' stay");
}

async fn ends(store: &dyn Store) {
    let mine = organization();
    let row = |name: &str| sandbox(mine, name);
    let mut short = row("short");
    (short.timers.ttl, short.ttl_from) = (10, moment(0));
    let mut long = row("long");
    (long.timers.ttl, long.ttl_from) = (20, moment(0));
    let mut broken = row("broken");
    (broken.state, broken.desired) = (State::Error, Desired::Destroyed);
    for next in [&short, &long, &broken] {
        let change = Change { next: next.clone(), expected: None, events: vec![] };
        assert_eq!(store.replace(change).await.expect("insert"), Swap::Done);
    }
    let between = short.ttl_from.wall.0 + 15 * 60_000;
    let all = SandboxQuery { limit: 9, ..SandboxQuery::default() };
    for (query, expected) in [
        (
            SandboxQuery { destroy_at: (Some(Timestamp(between)), None), ..all.clone() },
            vec!["long"],
        ),
        (
            SandboxQuery { destroy_at: (None, Some(Timestamp(between))), ..all.clone() },
            vec!["short"],
        ),
        (SandboxQuery { without_doomed: true, ..all.clone() }, vec!["long", "short"]),
        (SandboxQuery { states: vec![State::Error], ..all.clone() }, vec!["broken"]),
        (SandboxQuery { uncounted: true, ..all }, vec!["broken", "long", "short"]),
    ] {
        let page = store.sandboxes(mine, &query).await.expect("list");
        let mut names: Vec<_> = page.items.iter().map(|row| row.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, expected, "{query:?}");
        let total = if query.uncounted { 0 } else { expected.len() as u64 };
        assert_eq!(page.total, total, "{query:?}");
    }
}
