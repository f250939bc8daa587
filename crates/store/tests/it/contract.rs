//! The port's contract, as every store must keep it.

use mayfly_store::SqliteStore;
use mayfly_testkit::clock::SimClock;
use mayfly_testkit::contract::store::store_contract;

#[tokio::test]
async fn the_store_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("state.db"), &SimClock::default()).unwrap();
    store_contract(&store).await;
}
