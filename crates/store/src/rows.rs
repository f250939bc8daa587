//! Column forms of the core's values: words for enums, JSON for maps, whole milliseconds for times.

use std::collections::{BTreeMap, BTreeSet};

use mayfly_core::access::Permission;
use mayfly_core::network::{self, NetworkPolicy, ProxyUrl, joined};
use mayfly_core::ports::runtime::Profile;
use mayfly_core::sandbox::{Desired, State};
use mayfly_core::time::Monotonic;
use mayfly_core::volume::{Mount, VolumeState};
use rusqlite::types::Type;
use serde_json::Value;

const STATES: [(State, &str); 15] = [
    (State::Creating, "creating"),
    (State::Started, "started"),
    (State::Stopping, "stopping"),
    (State::Stopped, "stopped"),
    (State::Starting, "starting"),
    (State::Archiving, "archiving"),
    (State::Archived, "archived"),
    (State::Restoring, "restoring"),
    (State::Pausing, "pausing"),
    (State::Paused, "paused"),
    (State::Resuming, "resuming"),
    (State::Resizing, "resizing"),
    (State::Error, "error"),
    (State::Destroying, "destroying"),
    (State::Destroyed, "destroyed"),
];

const DESIRED: [(Desired, &str); 6] = [
    (Desired::Started, "started"),
    (Desired::Stopped, "stopped"),
    (Desired::Archived, "archived"),
    (Desired::Paused, "paused"),
    (Desired::Resized, "resized"),
    (Desired::Destroyed, "destroyed"),
];

const PROFILES: [(Profile, &str); 3] =
    [(Profile::Full, "full"), (Profile::Unprivileged, "unprivileged"), (Profile::None, "none")];

/// Word of a state.
pub(crate) fn state_text(state: State) -> &'static str {
    word(&STATES, state)
}

/// State of a word in this column.
pub(crate) fn state(column: usize, text: &str) -> rusqlite::Result<State> {
    value(&STATES, column, "state", text)
}

/// Word of a wanted state.
pub(crate) fn desired_text(desired: Desired) -> &'static str {
    word(&DESIRED, desired)
}

/// Wanted state of a word in this column.
pub(crate) fn desired(column: usize, text: &str) -> rusqlite::Result<Desired> {
    value(&DESIRED, column, "desired state", text)
}

/// Word of an isolation profile.
pub(crate) fn profile_text(profile: Profile) -> &'static str {
    word(&PROFILES, profile)
}

/// Isolation profile of a word in this column.
pub(crate) fn profile(column: usize, text: &str) -> rusqlite::Result<Profile> {
    value(&PROFILES, column, "isolation profile", text)
}

/// Permissions as the contract's strings with commas between.
pub(crate) fn permissions_text(permissions: &BTreeSet<Permission>) -> String {
    permissions.iter().map(|permission| permission.as_str()).collect::<Vec<_>>().join(",")
}

/// Permissions of such a text.
pub(crate) fn permissions(column: usize, text: &str) -> rusqlite::Result<BTreeSet<Permission>> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| Permission::parse(part).ok_or_else(|| unknown(column, "permission", part)))
        .collect()
}

/// A map as a JSON object.
pub(crate) fn map_text(map: &BTreeMap<String, String>) -> rusqlite::Result<String> {
    serde_json::to_string(map)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// Map of a JSON object.
pub(crate) fn map(column: usize, text: &str) -> rusqlite::Result<BTreeMap<String, String>> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}

/// What a sandbox may reach, as a JSON object.
pub(crate) fn network_text(network: &NetworkPolicy) -> String {
    serde_json::json!({
        "blockAll": network.block_all,
        "cidrs": joined(&network.cidrs),
        "domains": joined(&network.domains),
        "proxy": network.proxy.as_ref().map(ProxyUrl::as_str),
    })
    .to_string()
}

/// What a sandbox may reach of such a text; one that cannot be read is a failure, never less strict.
pub(crate) fn network(column: usize, text: &str) -> rusqlite::Result<NetworkPolicy> {
    let read = || {
        let value: Value = serde_json::from_str(text).ok()?;
        let proxy = match value.get("proxy")? {
            Value::Null => None,
            proxy => Some(proxy.as_str()?.parse().ok()?),
        };
        Some(NetworkPolicy {
            block_all: value.get("blockAll")?.as_bool()?,
            cidrs: network::cidrs(value.get("cidrs")?.as_str()?).ok()?,
            domains: network::domains(value.get("domains")?.as_str()?).ok()?,
            proxy,
        })
    };
    read().ok_or_else(|| {
        // Not the text itself: it may hold the password of a proxy.
        let reason = "the network of a sandbox cannot be read";
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, reason.into())
    })
}

/// State of a volume of a word in this column.
pub(crate) fn volume_state(column: usize, text: &str) -> rusqlite::Result<VolumeState> {
    VolumeState::parse(text).ok_or_else(|| unknown(column, "state of a volume", text))
}

/// Mounted volumes as a JSON list.
pub(crate) fn mounts_text(mounts: &[Mount]) -> String {
    let mounts = mounts.iter().map(|mount| {
        serde_json::json!({
            "volume": mount.volume.to_string(),
            "path": mount.path,
            "subpath": mount.subpath,
            "readOnly": mount.read_only,
        })
    });
    Value::Array(mounts.collect()).to_string()
}

/// Mounted volumes of such a text; one that cannot be read is a failure, never a mount less or a wider one.
pub(crate) fn mounts(column: usize, text: &str) -> rusqlite::Result<Vec<Mount>> {
    let one = |value: &Value| {
        let subpath = match value.get("subpath")? {
            Value::Null => None,
            subpath => Some(subpath.as_str()?.to_owned()),
        };
        Some(Mount {
            volume: value.get("volume")?.as_str()?.parse().ok()?,
            path: value.get("path")?.as_str()?.to_owned(),
            subpath,
            read_only: value.get("readOnly")?.as_bool()?,
        })
    };
    let all: Option<Value> = serde_json::from_str(text).ok();
    let all = all.as_ref().and_then(Value::as_array);
    all.and_then(|all| all.iter().map(one).collect())
        .ok_or_else(|| unknown(column, "list of mounted volumes", text))
}

/// A monotonic time as a column value; the end of the range stands for all beyond it.
pub(crate) fn millis(time: Monotonic) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// The failure for a word that no version of this program wrote.
pub(crate) fn unknown(column: usize, what: &str, text: &str) -> rusqlite::Error {
    let reason = format!("`{text}` is not a {what}");
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, reason.into())
}

fn word<T: PartialEq + Copy>(table: &[(T, &'static str)], value: T) -> &'static str {
    table
        .iter()
        .find_map(|(known, text)| (*known == value).then_some(*text))
        .expect("every value stands in its table, which a test checks")
}

fn value<T: Copy>(
    table: &[(T, &'static str)],
    column: usize,
    what: &str,
    text: &str,
) -> rusqlite::Result<T> {
    table
        .iter()
        .find_map(|(known, word)| (*word == text).then_some(*known))
        .ok_or_else(|| unknown(column, what, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does not compile when a state is added, which is the reminder to add its word.
    fn every_state_has_a_word(state: State) -> bool {
        match state {
            State::Creating
            | State::Started
            | State::Stopping
            | State::Stopped
            | State::Starting
            | State::Archiving
            | State::Archived
            | State::Restoring
            | State::Pausing
            | State::Paused
            | State::Resuming
            | State::Resizing
            | State::Error
            | State::Destroying
            | State::Destroyed => STATES.iter().any(|(known, _)| *known == state),
        }
    }

    #[test]
    fn words_read_back_as_their_values() {
        for (known, text) in STATES {
            assert!(every_state_has_a_word(known));
            assert_eq!(state(0, text).unwrap(), known);
            assert_eq!(state_text(known), text);
        }
        for (known, text) in DESIRED {
            assert_eq!(desired(0, text).unwrap(), known);
            assert_eq!(desired_text(known), text);
        }
        for (known, text) in PROFILES {
            assert_eq!(profile(0, text).unwrap(), known);
            assert_eq!(profile_text(known), text);
        }
        assert!(state(3, "dreaming").unwrap_err().to_string().contains("dreaming"));
    }

    #[test]
    fn networks_read_back_and_no_damaged_one_is_taken_for_less_strict() {
        let full = NetworkPolicy {
            block_all: false,
            cidrs: network::cidrs("1.1.1.0/24,2606::/32").unwrap(),
            domains: network::domains("a.com,*.b.org").unwrap(),
            proxy: Some("http://u:p@x:1".parse().unwrap()),
        };
        for kept in [full, NetworkPolicy::default(), NetworkPolicy::blocked()] {
            assert_eq!(super::network(0, &network_text(&kept)).unwrap(), kept);
        }
        for bad in ["", "{}", r#"{"blockAll":false,"cidrs":"x","domains":"","proxy":null}"#] {
            assert!(super::network(0, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_read_back_and_no_damaged_one_is_taken_for_less() {
        let id = uuid::Uuid::from_u128(7);
        let whole = Mount {
            volume: mayfly_core::id::VolumeId::from_uuid(id),
            path: "/data \"x\"".to_owned(),
            subpath: None,
            read_only: true,
        };
        let part = Mount { subpath: Some("a/ü".to_owned()), read_only: false, ..whole.clone() };
        for kept in [vec![], vec![whole, part]] {
            assert_eq!(mounts(0, &mounts_text(&kept)).unwrap(), kept);
        }
        let no_flag = format!(r#"[{{"volume":"{id}","path":"/x","subpath":null}}]"#);
        for bad in ["", "{}", "[1]", &no_flag] {
            assert!(mounts(0, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn permissions_read_back() {
        let all = BTreeSet::from(Permission::ALL);
        assert_eq!(permissions(0, &permissions_text(&all)).unwrap(), all);
        assert_eq!(permissions(0, "").unwrap(), BTreeSet::new());
        assert!(permissions(0, "write:everything").is_err());
    }
}
