//! Who calls: organizations, keys and what a key may do.

use std::collections::BTreeSet;

use crate::id::{OrganizationId, SandboxId, SshAccessId};
use crate::time::Timestamp;

/// What a key may do, in the contract's strings (platform contract, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permission {
    /// `write:sandboxes`: everything but deleting.
    WriteSandboxes,
    /// `delete:sandboxes`.
    DeleteSandboxes,
    /// `write:snapshots`.
    WriteSnapshots,
    /// `delete:snapshots`.
    DeleteSnapshots,
    /// `write:volumes`.
    WriteVolumes,
    /// `delete:volumes`.
    DeleteVolumes,
    /// `write:sessions`.
    WriteSessions,
    /// `write:flows`.
    WriteFlows,
    /// `write:dreams`.
    WriteDreams,
    /// `read:metrics`.
    ReadMetrics,
    /// `admin`: all of the above and keys of the organization.
    Admin,
}

impl Permission {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 11] = [
        Self::WriteSandboxes,
        Self::DeleteSandboxes,
        Self::WriteSnapshots,
        Self::DeleteSnapshots,
        Self::WriteVolumes,
        Self::DeleteVolumes,
        Self::WriteSessions,
        Self::WriteFlows,
        Self::WriteDreams,
        Self::ReadMetrics,
        Self::Admin,
    ];

    /// The contract's string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WriteSandboxes => "write:sandboxes",
            Self::DeleteSandboxes => "delete:sandboxes",
            Self::WriteSnapshots => "write:snapshots",
            Self::DeleteSnapshots => "delete:snapshots",
            Self::WriteVolumes => "write:volumes",
            Self::DeleteVolumes => "delete:volumes",
            Self::WriteSessions => "write:sessions",
            Self::WriteFlows => "write:flows",
            Self::WriteDreams => "write:dreams",
            Self::ReadMetrics => "read:metrics",
            Self::Admin => "admin",
        }
    }

    /// The permission of that string.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == text)
    }
}

/// A stored API key; its value is known only as a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Unique within the organization.
    pub name: String,
    /// Whose things it opens.
    pub organization: OrganizationId,
    /// SHA-256 of the value.
    pub hash: [u8; 32],
    /// First and last characters, for people to tell keys apart.
    pub masked: String,
    /// What it may do.
    pub permissions: BTreeSet<Permission>,
    /// When it was made.
    pub created_at: Timestamp,
    /// After this it is refused.
    pub expires_at: Option<Timestamp>,
    /// Last use that was written down; uses are written in batches.
    pub last_used_at: Option<Timestamp>,
}

/// How much an organization may have at once. In each field `None` = the server's default, 0 = no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Sandboxes that are not destroyed.
    pub sandboxes: Option<u32>,
    /// Cores of sandboxes that run.
    pub cpu: Option<u32>,
    /// GiB of memory of sandboxes that run.
    pub memory_gib: Option<u32>,
    /// GiB of disk of sandboxes that are not destroyed.
    pub disk_gib: Option<u32>,
    /// Volumes.
    pub volumes: Option<u32>,
}

impl Quota {
    /// These limits, and those of `other` where none is set.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            sandboxes: self.sandboxes.or(other.sandboxes),
            cpu: self.cpu.or(other.cpu),
            memory_gib: self.memory_gib.or(other.memory_gib),
            disk_gib: self.disk_gib.or(other.disk_gib),
            volumes: self.volumes.or(other.volumes),
        }
    }
}

/// An owner of keys, sandboxes and snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Unique on the server.
    pub name: String,
    /// Its own limits.
    pub quota: Quota,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Leave to enter a sandbox by SSH; its token is known only as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SshAccess {
    /// Names it to its maker.
    pub id: SshAccessId,
    /// The one sandbox that it opens.
    pub sandbox: SandboxId,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// From then on it is refused.
    pub expires_at: Timestamp,
}

/// The caller of one request, after authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose things are visible.
    pub organization: OrganizationId,
    /// What may be done.
    pub permissions: BTreeSet<Permission>,
    /// Name of the API key; `None` = another way in.
    pub key: Option<String>,
    /// Whether it is the server's own operator, who makes and ends organizations.
    pub operator: bool,
}

impl Caller {
    /// Whether this permission or `admin` is held.
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission) || self.permissions.contains(&Permission::Admin)
    }
}
