//! Who did what, and what was refused: the audit log of an organization.

use crate::id::OrganizationId;
use crate::time::Timestamp;

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counts up over all organizations; 0 = not written yet.
    pub id: u64,
    /// When, the last time.
    pub at: Timestamp,
    /// Whose key it was, or whose sandbox.
    pub organization: OrganizationId,
    /// Name of the API key; `None` = another way in, or none.
    pub key: Option<String>,
    /// Address of the caller, or how else it came.
    pub origin: String,
    /// What was asked for: method and endpoint.
    pub action: String,
    /// What it was about, as the caller named it; never a secret.
    pub object: Option<String>,
    /// HTTP status of the answer; 0 = the caller left before it.
    pub status: u16,
    /// Which rule refused it; `None` = it was done.
    pub rule: Option<String>,
    /// How often, where equal ones were counted up.
    pub count: u64,
}

/// Which lines to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Only lines with a smaller id.
    pub before: Option<u64>,
    /// Lines to skip.
    pub offset: u64,
    /// Most lines, 1 to 200.
    pub limit: u32,
}

/// Lines, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The lines.
    pub items: Vec<Entry>,
    /// Lines that are kept of the organization.
    pub total: u64,
}
