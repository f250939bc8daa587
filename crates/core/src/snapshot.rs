//! A snapshot: a named immutable environment that sandboxes start from.

use std::collections::BTreeMap;

use crate::id::{OrganizationId, SnapshotId};
use crate::limits::Resources;
use crate::time::Timestamp;

/// Where a snapshot's files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The host's own programs and libraries, read-only, by allow-list.
    Host {
        /// Hash of the host's package database at the time.
        fingerprint: String,
    },
}

/// A named immutable environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Owner; `None` for those every organization sees.
    pub organization: Option<OrganizationId>,
    /// Unique name within what its organization sees.
    pub name: String,
    /// Where its files come from.
    pub source: Source,
    /// Size of a sandbox made from it when the caller names none.
    pub resources: Resources,
    /// Inside user that commands run as.
    pub user: String,
    /// Inside working folder; `None` = the user's home.
    pub workdir: Option<String>,
    /// Environment of every command.
    pub env: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a sandbox was last made from it.
    pub last_used_at: Option<Timestamp>,
}
