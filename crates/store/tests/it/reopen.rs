//! Opening: earlier versions, later boots, places that cannot be opened.

use std::os::unix::fs::PermissionsExt;

use mayfly_core::Kind;
use mayfly_core::ports::store::Store;
use mayfly_core::time::Monotonic;
use mayfly_store::SqliteStore;

use crate::sample::{FixedClock, create, id, moment, open, sandbox};

#[tokio::test]
async fn moments_of_an_earlier_boot_move_to_this_one_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, sandbox(1)).await;
    drop(store);
    let boot = Monotonic::BOOT.0;
    // The machine was off; this boot is 5 s old and the row was last used 99,800 ms ago.
    let clock = FixedClock { now: moment(600_000, boot + 5_000), boot: "second" };
    for _ in 0..2 {
        let store = SqliteStore::open(&folder.path().join("state.db"), &clock).unwrap();
        let row = store.sandbox(id(1)).await.unwrap().unwrap();
        assert_eq!(row.last_activity, moment(500_200, boot + 5_000 - 99_800));
        assert_eq!(row.created, moment(500_001, boot + 5_000 - 99_999));
        assert_eq!(row.ttl_from, moment(500_100, boot + 5_000 - 99_900));
        assert_eq!(row.stopped_since, Some(moment(500_300, boot + 5_000 - 99_700)));
        assert_eq!(row.version, 1);
    }
}

#[tokio::test]
async fn a_wall_clock_that_was_set_back_gives_moments_of_now() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, sandbox(1)).await;
    drop(store);
    let clock = FixedClock { now: moment(10, Monotonic::BOOT.0 + 7), boot: "second" };
    let store = SqliteStore::open(&folder.path().join("state.db"), &clock).unwrap();
    let row = store.sandbox(id(1)).await.unwrap().unwrap();
    assert_eq!(row.last_activity.mono, Monotonic(Monotonic::BOOT.0 + 7));
}

#[tokio::test]
async fn a_database_of_version_1_loads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let dump = include_str!("../fixtures/v1.sql");
    rusqlite::Connection::open(&path).unwrap().execute_batch(dump).unwrap();
    let store = open(folder.path());
    assert_eq!(store.sandbox(id(1)).await.unwrap(), Some(sandbox(1)));
    assert_eq!(store.events(id(1), 5).await.unwrap().len(), 1);
    assert_eq!(store.setting("server").await.unwrap().as_deref(), Some("s1"));
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let path = folder.path().join("state.db");
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let clock = FixedClock { now: moment(1, 1), boot: "first" };
    let error = SqliteStore::open(&path, &clock).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("99"), "{error}");
}

#[test]
fn a_missing_folder_is_named() {
    let clock = FixedClock { now: moment(1, 1), boot: "first" };
    let error = SqliteStore::open("/nowhere/at/all.db".as_ref(), &clock).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains("/nowhere/at/all.db") && error.hint().is_some());
}

#[test]
fn the_files_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open(folder.path());
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}
