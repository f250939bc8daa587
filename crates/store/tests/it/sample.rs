//! Records and clocks to test with.

use std::collections::BTreeMap;
use std::path::Path;

use mayfly_core::event::{Event, What};
use mayfly_core::id::{OrganizationId, SandboxId, ServerId, SnapshotId};
use mayfly_core::limits::Resources;
use mayfly_core::network::NetworkPolicy;
use mayfly_core::ports::clock::Clock;
use mayfly_core::ports::runtime::Profile;
use mayfly_core::ports::store::{Change, Store, Swap};
use mayfly_core::sandbox::{Desired, Sandbox, State, Timers};
use mayfly_core::time::{Moment, Monotonic, Timestamp};
use mayfly_store::SqliteStore;
use uuid::Uuid;

/// A clock that stands still.
#[derive(Debug)]
pub(crate) struct FixedClock {
    pub(crate) now: Moment,
    pub(crate) boot: &'static str,
}

impl Clock for FixedClock {
    fn now(&self) -> Moment {
        self.now
    }

    fn boot_id(&self) -> &str {
        self.boot
    }
}

pub(crate) fn moment(wall: i64, mono: u64) -> Moment {
    Moment { wall: Timestamp(wall), mono: Monotonic(mono) }
}

/// Opens a store in this folder, in boot `first`.
pub(crate) fn open(folder: &Path) -> SqliteStore {
    let clock = FixedClock { now: moment(1_000_000, 1_000_000), boot: "first" };
    SqliteStore::open(&folder.join("state.db"), &clock).unwrap()
}

pub(crate) fn organization(n: u128) -> OrganizationId {
    OrganizationId::from_uuid(Uuid::from_u128(n))
}

pub(crate) fn id(n: u128) -> SandboxId {
    SandboxId::from_uuid(Uuid::from_u128(n))
}

/// A started sandbox of organization 1 with every field set.
pub(crate) fn sandbox(n: u128) -> Sandbox {
    let at = moment(500_000 + i64::try_from(n).unwrap(), 500_000 + u64::try_from(n).unwrap());
    Sandbox {
        id: id(n),
        organization: organization(1),
        name: format!("Box-{n}"),
        snapshot: SnapshotId::from_uuid(Uuid::from_u128(9)),
        snapshot_name: "host".into(),
        user: "root".into(),
        env: BTreeMap::from([("A".into(), "ü \n \"x\"".into())]),
        later_env: BTreeMap::new(),
        labels: BTreeMap::from([("team".into(), "red".into()), ("a\"b.c".into(), "1".into())]),
        network: NetworkPolicy::blocked(),
        public: true,
        target: "us".into(),
        resources: Resources::DEFAULT,
        volumes: Vec::new(),
        profile: Profile::Unprivileged,
        state: State::Started,
        desired: Desired::Paused,
        resume_to: Some(State::Stopped),
        error_reason: Some("out of memory".into()),
        recoverable: true,
        timers: Timers { auto_stop: 1, auto_pause: 2, auto_archive: 3, auto_delete: -4, ttl: 5 },
        created: at,
        ttl_from: moment(500_100, 500_100),
        last_activity: moment(500_200, 500_200),
        stopped_since: Some(moment(500_300, 500_300)),
        updated_at: Timestamp(500_400),
        server: ServerId::from_uuid(Uuid::from_u128(3)),
        idempotency_key: Some(format!("key-{n}")),
        warm: false,
        version: 1,
    }
}

/// Creation of a sandbox, with its event.
pub(crate) fn creation(next: Sandbox) -> Change {
    let created = Event {
        at: next.updated_at,
        organization: next.organization,
        sandbox: next.id,
        what: What::Created,
    };
    Change { next, expected: None, events: vec![created] }
}

pub(crate) async fn create(store: &SqliteStore, next: Sandbox) {
    assert_eq!(store.replace(creation(next)).await.unwrap(), Swap::Done);
}
