//! Faults of the disk, injected into the writer's own connection.

use mayfly_core::ports::clock::Clock;
use mayfly_core::ports::store::Store;
use mayfly_core::time::Moment;
use mayfly_core::{Error, Kind};
use rusqlite::ffi;

use super::fault::Fault;
use super::writer::Durability;
use super::*;

#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Moment {
        Moment::default()
    }

    fn boot_id(&self) -> &'static str {
        "boot"
    }
}

fn store() -> (tempfile::TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("state.db"), &StoppedClock).unwrap();
    (folder, store)
}

/// Runs a pragma on the writer's connection; outside of a transaction none of these take effect later.
async fn pragma(store: &SqliteStore, name: &'static str, value: i64) {
    store
        .database
        .write(Durability::Kill, "set a pragma", move |db| {
            // Some of these answer with their new value.
            db.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(
                |error| match error {
                    rusqlite::Error::QueryReturnedNoRows => Ok(()),
                    error => Err(error),
                },
            )?;
            Ok(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_keeps_the_old_state_and_writing_goes_on_when_there_is_space() {
    let (_folder, store) = store();
    store.set_setting("a", "old").await.unwrap();
    pragma(&store, "max_page_count", 1).await;
    let big = "x".repeat(1 << 20);
    let error = store.set_setting("a", &big).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("free space")));
    assert_eq!(store.setting("a").await.unwrap().as_deref(), Some("old"));
    pragma(&store, "max_page_count", 1_000_000).await;
    store.set_setting("a", &big).await.unwrap();
    assert_eq!(store.setting("a").await.unwrap(), Some(big));
}

#[test]
fn each_failure_of_the_disk_has_its_kind_and_remedy() {
    let cases = [
        (ffi::SQLITE_FULL, Kind::Unavailable, "full"),
        (ffi::SQLITE_READONLY, Kind::Unavailable, "written"),
        (ffi::SQLITE_CANTOPEN, Kind::Unavailable, "opened"),
        (ffi::SQLITE_IOERR_WRITE, Kind::Unavailable, "error"),
        (ffi::SQLITE_BUSY, Kind::Unavailable, "another process"),
        (ffi::SQLITE_CORRUPT, Kind::Internal, "damaged"),
    ];
    for (code, kind, word) in cases {
        let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let error = fault::explain("write a sandbox", failure);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().starts_with("cannot write a sandbox: "), "{error}");
        assert!(error.message().contains(word), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
}

#[tokio::test]
async fn a_job_that_fails_is_undone_alone() {
    let (_folder, store) = store();
    let refused = store.database.write(Durability::Kill, "fail", |db| {
        settings::set(db, "half", "done")?;
        Err::<(), _>(Fault::from(Error::conflict("no")))
    });
    let (first, refused, last) =
        tokio::join!(store.set_setting("a", "1"), refused, store.set_setting("b", "2"));
    first.unwrap();
    last.unwrap();
    assert_eq!(refused.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(store.setting("half").await.unwrap(), None);
    assert_eq!(store.setting("a").await.unwrap().as_deref(), Some("1"));
    assert_eq!(store.setting("b").await.unwrap().as_deref(), Some("2"));
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_written_again_and_reading_goes_on() {
    let (_folder, store) = store();
    store.set_setting("a", "kept").await.unwrap();
    let failing = store.database.write(Durability::PowerLoss, "write", |db| {
        settings::set(db, "a", "lost")?;
        let failure = ffi::Error::new(ffi::SQLITE_IOERR_FSYNC);
        Err::<(), _>(Fault::from(rusqlite::Error::SqliteFailure(failure, None)))
    });
    assert_eq!(failing.await.unwrap_err().kind(), Kind::Unavailable);
    for _ in 0..2 {
        let error = store.set_setting("a", "again").await.unwrap_err();
        assert!(error.message().contains("takes no writes"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("restart")));
    }
    assert_eq!(store.setting("a").await.unwrap().as_deref(), Some("kept"));
}

#[tokio::test]
async fn a_batch_takes_the_strictest_mode_of_its_members() {
    let (_folder, store) = store();
    let mode = |durability| {
        store.database.write(durability, "read the mode", |db| {
            Ok(db.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))?)
        })
    };
    assert_eq!(mode(Durability::Kill).await.unwrap(), 1);
    assert_eq!(mode(Durability::PowerLoss).await.unwrap(), 2);
    assert_eq!(mode(Durability::Kill).await.unwrap(), 1);
}

#[tokio::test]
async fn what_was_queued_is_committed_before_the_store_closes() {
    let (folder, store) = store();
    for n in 0..50 {
        store.set_setting(&format!("n{n}"), "1").await.unwrap();
    }
    drop(store);
    let store = SqliteStore::open(&folder.path().join("state.db"), &StoppedClock).unwrap();
    assert_eq!(store.setting("n49").await.unwrap().as_deref(), Some("1"));
}

#[tokio::test]
async fn the_usual_list_reads_its_rows_in_order_and_sorts_none() {
    let (_folder, store) = store();
    let query = SandboxQuery { limit: 100, uncounted: true, ..SandboxQuery::default() };
    let organization = OrganizationId::from_uuid(uuid::Uuid::from_u128(1));
    let filter = crate::sql::Filter::of(organization, &query);
    let text = format!(
        "EXPLAIN QUERY PLAN SELECT * FROM sandboxes WHERE {} ORDER BY {} LIMIT 100",
        filter.text(),
        crate::sql::order(&query)
    );
    let plan = store.database.read("explain", move |db| {
        let mut statement = db.prepare(&text)?;
        let steps = statement
            .query_map(rusqlite::params_from_iter(&filter.values), |row| row.get::<_, String>(3))?;
        Ok(steps.collect::<rusqlite::Result<Vec<_>>>()?.join("\n"))
    });
    let plan = plan.await.unwrap();
    assert!(plan.contains("sandboxes_by_creation") && !plan.contains("B-TREE"), "{plan}");
}
