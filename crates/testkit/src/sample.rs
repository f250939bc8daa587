//! Records for tests, all fields filled in.

use std::collections::BTreeMap;

use mayfly_core::id::{OrganizationId, SandboxId, ServerId, SnapshotId, VolumeId};
use mayfly_core::limits::Resources;
use mayfly_core::network::NetworkPolicy;
use mayfly_core::ports::runtime::Profile;
use mayfly_core::sandbox::{Desired, Sandbox, State, Timers};
use mayfly_core::time::{Moment, Monotonic, Timestamp};
use mayfly_core::volume::Mount;
use uuid::Uuid;

/// A moment so many milliseconds after the start of time.
pub fn moment(millis: u64) -> Moment {
    let wall = 1_767_225_600_000_i64.saturating_add_unsigned(millis);
    Moment { wall: Timestamp(wall), mono: Monotonic(1_000 + millis) }
}

/// A fresh organization.
pub fn organization() -> OrganizationId {
    OrganizationId::from_uuid(Uuid::now_v7())
}

/// A started sandbox of this organization and name, version 1, made at [`moment`] zero.
pub fn sandbox(organization: OrganizationId, name: &str) -> Sandbox {
    let now = moment(0);
    Sandbox {
        id: SandboxId::from_uuid(Uuid::now_v7()),
        organization,
        name: name.to_owned(),
        snapshot: SnapshotId::from_uuid(Uuid::now_v7()),
        snapshot_name: "host".to_owned(),
        user: "root".to_owned(),
        env: BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]),
        later_env: BTreeMap::from([("LATER".to_owned(), "a=b\n\"ü\"".to_owned())]),
        labels: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
        public: false,
        target: "local".to_owned(),
        network: NetworkPolicy::default(),
        resources: Resources::DEFAULT,
        volumes: Vec::from([Mount {
            volume: VolumeId::from_uuid(Uuid::from_u128(5)),
            path: "/data".to_owned(),
            subpath: Some("a/ü".to_owned()),
            read_only: true,
        }]),
        profile: Profile::Full,
        state: State::Started,
        desired: Desired::Started,
        resume_to: None,
        error_reason: None,
        recoverable: false,
        timers: Timers::default(),
        created: now,
        ttl_from: now,
        last_activity: now,
        stopped_since: None,
        updated_at: now.wall,
        server: ServerId::from_uuid(Uuid::nil()),
        idempotency_key: None,
        warm: false,
        version: 1,
    }
}
