//! Lists: every filter, every order, and cursors while rows come and go.

use std::collections::BTreeSet;

use mayfly_core::Kind;
use mayfly_core::ports::store::{Change, SandboxQuery, SortBy, Store, Swap};
use mayfly_core::sandbox::{Sandbox, State};
use mayfly_core::time::Timestamp;
use mayfly_store::SqliteStore;

use crate::sample::{create, creation, id, open, organization, sandbox};

fn all() -> SandboxQuery {
    SandboxQuery { limit: 200, ..SandboxQuery::default() }
}

async fn numbers(store: &SqliteStore, query: &SandboxQuery) -> Vec<u128> {
    let page = store.sandboxes(organization(1), query).await.unwrap();
    assert_eq!(page.total, u64::try_from(page.items.len()).unwrap());
    page.items.iter().map(|row| row.id.as_uuid().as_u128()).collect()
}

#[tokio::test]
async fn each_filter_selects_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let change: [fn(&mut Sandbox); 6] = [
        |_| {},
        |row| (row.name, row.public) = ("Ärger_%".into(), false),
        |row| (row.state, row.recoverable) = (State::Stopped, false),
        |row| (row.snapshot_name, row.target) = ("py".into(), "eu".into()),
        |row| row.labels = [("team".into(), "blue".into())].into(),
        |row| (row.resources.cpu, row.resources.memory_gib, row.resources.disk_gib) = (4, 8, 16),
    ];
    for (n, change) in (1..).zip(change) {
        let mut row = sandbox(n);
        change(&mut row);
        create(&store, row).await;
    }
    let mut other = sandbox(10);
    other.organization = organization(2);
    create(&store, other).await;
    let mut warm = sandbox(11);
    warm.warm = true;
    create(&store, warm).await;
    let mut gone = sandbox(12);
    gone.state = State::Destroyed;
    create(&store, gone).await;

    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let cases: [(SandboxQuery, &[u128]); 18] = [
        (all(), &[6, 5, 4, 3, 2, 1]),
        (SandboxQuery { id: Some(id(3)), ..all() }, &[3]),
        (SandboxQuery { id: Some(id(10)), ..all() }, &[]),
        (SandboxQuery { name_prefix: Some("bOx-1".into()), ..all() }, &[1]),
        (SandboxQuery { name_prefix: Some("äRGER_%".into()), ..all() }, &[2]),
        (SandboxQuery { name_prefix: Some("%".into()), ..all() }, &[]),
        (SandboxQuery { labels: vec![label("team", "blue")], ..all() }, &[5]),
        (
            SandboxQuery { labels: vec![label("a\"b.c", "1"), label("team", "red")], ..all() },
            &[6, 4, 3, 2, 1],
        ),
        (SandboxQuery { labels: vec![label("a\"b.c", "1"), label("team", "blue")], ..all() }, &[]),
        (SandboxQuery { states: vec![State::Stopped, State::Destroyed], ..all() }, &[12, 3]),
        (SandboxQuery { snapshots: vec!["py".into(), "no".into()], ..all() }, &[4]),
        (SandboxQuery { targets: vec!["eu".into()], ..all() }, &[4]),
        (SandboxQuery { public: Some(false), ..all() }, &[2]),
        (SandboxQuery { recoverable: Some(false), ..all() }, &[3]),
        (SandboxQuery { cpu: (Some(2), Some(4)), ..all() }, &[6]),
        (SandboxQuery { memory_gib: (None, Some(7)), ..all() }, &[5, 4, 3, 2, 1]),
        (SandboxQuery { disk_gib: (Some(17), None), ..all() }, &[]),
        (
            SandboxQuery { created: (Some(Timestamp(500_002)), Some(Timestamp(500_003))), ..all() },
            &[3, 2],
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(numbers(&store, &query).await, expected, "{query:?}");
    }
}

#[tokio::test]
async fn every_order_pages_through_all_rows_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for n in 1..=23 {
        let mut row = sandbox(n);
        row.resources.cpu = u32::try_from(n % 3).unwrap() + 1;
        create(&store, row).await;
    }
    let orders = [
        SortBy::Name,
        SortBy::Cpu,
        SortBy::Memory,
        SortBy::Disk,
        SortBy::LastActivity,
        SortBy::Created,
    ];
    for sort in orders {
        for ascending in [true, false] {
            let whole = numbers(&store, &SandboxQuery { sort, ascending, ..all() }).await;
            let mut paged = Vec::new();
            let mut cursor = None;
            loop {
                let query = SandboxQuery { sort, ascending, limit: 5, cursor, ..all() };
                let page = store.sandboxes(organization(1), &query).await.unwrap();
                assert_eq!(page.total, 23);
                paged.extend(page.items.iter().map(|row| row.id.as_uuid().as_u128()));
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(paged, whole, "{sort:?} {ascending}");
            assert_eq!(paged.iter().collect::<BTreeSet<_>>().len(), 23);
        }
    }
    let second = SandboxQuery { ascending: true, limit: 5, offset: 20, ..all() };
    let page = store.sandboxes(organization(1), &second).await.unwrap();
    assert_eq!((page.items.len(), page.next, page.total), (3, None, 23));
}

#[tokio::test]
async fn a_list_of_a_thousand_stays_whole_while_rows_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for n in 1..=1000 {
        create(&store, sandbox(n)).await;
    }
    let mut seen = Vec::new();
    let mut deleted = BTreeSet::new();
    let mut cursor = None;
    for round in 0_u128.. {
        let query = SandboxQuery { limit: 37, cursor, ..all() };
        let page = store.sandboxes(organization(1), &query).await.unwrap();
        seen.extend(page.items.iter().map(|row| row.id.as_uuid().as_u128()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        // Rows already shown, the one the cursor names, and rows yet to come.
        let last = *seen.last().unwrap();
        for n in [last, last + 20, 1 + round * 13, last.saturating_sub(9).max(1)] {
            if n <= 1000 && deleted.insert(n) {
                let mut gone = sandbox(n);
                (gone.state, gone.version) = (State::Destroyed, 2);
                let change = Change { next: gone, expected: Some(1), events: Vec::new() };
                assert_eq!(store.replace(change).await.unwrap(), Swap::Done);
            }
        }
    }
    let unique: BTreeSet<_> = seen.iter().copied().collect();
    assert_eq!(unique.len(), seen.len(), "none twice");
    assert!((1..=1000).all(|n| deleted.contains(&n) || unique.contains(&n)), "no survivor lost");
    assert!(deleted.len() > 50);
}

#[tokio::test]
async fn bad_cursors_limits_and_mixes_are_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.replace(creation(sandbox(1))).await.unwrap();
    let wrong = [
        SandboxQuery { limit: 0, ..all() },
        SandboxQuery { limit: 201, ..all() },
        SandboxQuery { cursor: Some("nonsense".into()), ..all() },
        SandboxQuery { cursor: Some(String::new()), ..all() },
        SandboxQuery { cursor: Some(format!("t.1.{}", id(1))), sort: SortBy::Name, ..all() },
        SandboxQuery { cursor: Some(format!("t.1.{}", id(1))), offset: 3, ..all() },
    ];
    for query in wrong {
        let error = store.sandboxes(organization(1), &query).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{query:?}");
    }
}
