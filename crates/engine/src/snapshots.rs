//! Snapshots as callers see them.

use mayfly_core::access::Caller;
use mayfly_core::snapshot::Snapshot;
use mayfly_core::{Error, Result};

use crate::engine::Engine;

/// Use cases of snapshots.
#[derive(Clone, Copy, Debug)]
pub struct Snapshots<'a>(pub(crate) &'a Engine);

impl Snapshots<'_> {
    /// Snapshots that the caller's organization sees.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Snapshot>> {
        let _ = caller;
        Err(Error::unsupported("snapshots"))
    }

    /// One of them, by id, else by name.
    pub async fn get(&self, caller: &Caller, id_or_name: &str) -> Result<Snapshot> {
        let _ = (caller, id_or_name);
        Err(Error::unsupported("snapshots"))
    }
}
