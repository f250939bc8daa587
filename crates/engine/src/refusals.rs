//! What was refused, counted up until it is written down (see `reconcile/refusals.rs`).
//!
//! A flood of refusals costs one event per kind and round, and a bounded number of kinds is told apart: what
//! is refused can be repeated for ever at no cost to whoever repeats it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use mayfly_core::id::{OrganizationId, SandboxId};

/// Kinds told apart in one round; more are counted together under [`OTHERS`].
const MAX_KINDS: usize = 256;
/// Target of what is not told apart.
const OTHERS: &str = "others";

/// Something that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// Whose call it was; `None` = an unknown caller's, which the server's own organization is told.
    pub organization: Option<OrganizationId>,
    /// Which sandbox it was about.
    pub sandbox: Option<SandboxId>,
    /// Rule that applied: `authentication`, `permission`, `state`, `limit`, ...
    pub rule: &'static str,
    /// What was refused and from where; never a secret.
    pub target: String,
}

/// Refusals since the last round.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<Refusal, u64>>);

impl Refusals {
    /// Counts one.
    pub(crate) fn note(&self, refusal: Refusal) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = if counts.len() < MAX_KINDS || counts.contains_key(&refusal) {
            refusal
        } else {
            Refusal { organization: None, sandbox: None, target: OTHERS.to_owned(), ..refusal }
        };
        *counts.entry(refusal).or_default() += 1;
    }

    /// What was counted since the last call.
    pub(crate) fn take(&self) -> HashMap<Refusal, u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
