//! The audit log: changes are written before they are answered, refusals and calls into sandboxes are counted up.
//!
//! What can be repeated for ever at no cost to whoever repeats it is told apart only up to a bound; beyond it a
//! round counts the rest together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use mayfly_core::Result;
use mayfly_core::access::{Caller, Permission};
use mayfly_core::audit::{Entry, Look, Page};
use mayfly_core::time::Timestamp;

use crate::commit;
use crate::house::{House, need};

/// Kinds told apart in one round.
const MAX_KINDS: usize = 1024;
/// Most characters kept of what a caller named.
const MAX_OBJECT: usize = 255;
/// Action of what is not told apart.
const OTHERS: &str = "others";

/// Lines counted up since the last round, by themselves without time and count.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<HashMap<Line, Count>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Line {
    organization: mayfly_core::id::OrganizationId,
    key: Option<String>,
    origin: String,
    action: String,
    object: Option<String>,
    status: u16,
    rule: Option<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    times: u64,
    last: Timestamp,
}

impl Tally {
    /// Counts a line.
    pub(crate) fn note(&self, entry: Entry) {
        let Entry { organization, key, origin, action, object, status, rule, .. } = entry;
        let line = Line { organization, key, origin, action, object, status, rule };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = if counts.len() < MAX_KINDS || counts.contains_key(&line) {
            line
        } else {
            let (key, object) = (None, None);
            Line { key, object, origin: OTHERS.to_owned(), action: OTHERS.to_owned(), ..line }
        };
        // One more of each organization, status and rule at most, and those are few.
        let count = counts.entry(line).or_default();
        count.times += 1;
        count.last = count.last.max(entry.at);
    }

    fn take(&self) -> Vec<Entry> {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let entry = |(line, count): (Line, Count)| {
            let Line { organization, key, origin, action, object, status, rule } = line;
            let (at, count) = (count.last, count.times);
            Entry { id: 0, at, organization, key, origin, action, object, status, rule, count }
        };
        let mut entries: Vec<Entry> = counts.into_iter().map(entry).collect();
        entries.sort_by_key(|entry| entry.at);
        entries
    }
}

/// Use cases of the audit log.
#[derive(Clone, Copy, Debug)]
pub struct Audit<'a>(pub(crate) &'a House);

impl Audit<'_> {
    /// Writes a line down; it survives a kill of the server when this returns.
    pub async fn write(&self, entry: Entry) -> Result<()> {
        commit::add_audit(self.0, vec![self.kept(entry)]).await
    }

    /// Counts a line up; written down every half a minute and at shutdown.
    pub fn count(&self, entry: Entry) {
        self.0.tally.note(self.kept(entry));
    }

    /// Lines of the caller's organization, newest first. Needs `admin`.
    pub async fn read(&self, caller: &Caller, look: Look) -> Result<Page> {
        need(caller, Permission::Admin)?;
        self.0.store.audit(caller.organization, look).await
    }

    /// The line as it is kept: not endless, and in a log that somebody can read.
    fn kept(self, mut entry: Entry) -> Entry {
        entry.object = entry.object.map(|object| object.chars().take(MAX_OBJECT).collect());
        if !self.0.tenants.has(entry.organization) {
            entry.organization = self.0.organization;
        }
        entry
    }
}

/// Writes down what was counted up.
pub(crate) async fn flush(house: &House) {
    let entries = house.tally.take();
    if !entries.is_empty()
        && let Err(error) = commit::add_audit(house, entries).await
    {
        tracing::warn!(%error, "lines of the audit log were not written down");
    }
}
