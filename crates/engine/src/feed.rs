//! What happens to sandboxes, told as it happens to whoever listens in their organization.
//!
//! News is published while the record is, under its lock: in the order of the states, and never before a look
//! at the sandbox shows it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mayfly_core::id::OrganizationId;
use mayfly_core::sandbox::{Sandbox, State};
use tokio::sync::broadcast;

/// News that a listener may be behind; then it has missed some and is told so.
const BEHIND: usize = 1024;

/// Something that happened to a sandbox.
#[derive(Clone, Debug)]
pub struct News {
    /// The sandbox as it is from now on.
    pub sandbox: Arc<Sandbox>,
    /// The state that it left; `None` = it is new.
    pub from: Option<State>,
}

/// News of one organization, in order. An error of its receiver means that some were missed.
pub type Listener = broadcast::Receiver<News>;

/// Listeners by organization.
#[derive(Debug, Default)]
pub(crate) struct Feed(Mutex<HashMap<OrganizationId, broadcast::Sender<News>>>);

impl Feed {
    /// Listens from now on.
    pub(crate) fn listen(&self, organization: OrganizationId) -> Listener {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(organization).or_insert_with(|| broadcast::Sender::new(BEHIND)).subscribe()
    }

    /// How many listen, of all organizations.
    pub(crate) fn listeners(&self) -> u64 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().map(|sender| sender.receiver_count() as u64).sum()
    }

    /// Tells what a new record means, where somebody listens.
    pub(crate) fn tell(&self, before: Option<&Sandbox>, after: &Arc<Sandbox>) {
        if after.warm {
            return;
        }
        let from = match before {
            Some(before) if before.warm => None,
            Some(before) if before.state == after.state => return,
            Some(before) => Some(before.state),
            None => None,
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = all.get(&after.organization) else { return };
        if sender.send(News { sandbox: Arc::clone(after), from }).is_err() {
            // The last listener left.
            all.remove(&after.organization);
        }
    }
}
