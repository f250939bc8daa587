//! What happened, kept with the change that caused it.

use crate::id::{OrganizationId, SandboxId};
use crate::sandbox::State;
use crate::time::Timestamp;

/// Something worth telling or auditing; written in the transaction of its change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Whose.
    pub organization: OrganizationId,
    /// Which sandbox; [`Event::NO_SANDBOX`] where none is concerned.
    pub sandbox: SandboxId,
    /// What.
    pub what: What,
}

impl Event {
    /// Stands for no sandbox.
    pub const NO_SANDBOX: SandboxId = SandboxId::from_uuid(uuid::Uuid::nil());
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A sandbox was made.
    Created,
    /// A sandbox changed its state.
    StateChanged {
        /// Before.
        from: State,
        /// After.
        to: State,
    },
    /// A limit was hit, a call refused or a policy applied (isolation contract, G9).
    Audit {
        /// Rule that applied, such as `memory` or `state`.
        rule: String,
        /// What it was applied to; never a secret.
        target: String,
    },
}
