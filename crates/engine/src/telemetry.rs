//! What running sandboxes used of late: a ring of samples each, in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use mayfly_core::ports::runtime::Usage;
use mayfly_core::sandbox::State;
use mayfly_core::time::Moment;

use crate::house::House;
use crate::living::Live;

/// Samples kept of a sandbox.
const KEPT: usize = 60;

/// What a sandbox used at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Moment,
    /// What.
    pub usage: Usage,
}

/// The newest samples of a sandbox, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Samples(Mutex<VecDeque<Sample>>);

impl Samples {
    /// All that are kept.
    pub(crate) fn all(&self) -> Vec<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    fn add(&self, sample: Sample) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(sample);
    }
}

/// One round over all running sandboxes; one that cannot be asked is left out.
pub(crate) async fn pass(house: Arc<House>) {
    for live in house.living.all() {
        if house.tasks.is_stopped() {
            return;
        }
        let record = live.record();
        if record.state != State::Started || record.warm {
            continue;
        }
        if let Some(sample) = look(&house, &live).await {
            live.samples.add(sample);
        }
    }
}

/// What a sandbox uses now; `None` where it cannot be asked.
pub(crate) async fn look(house: &House, live: &Live) -> Option<Sample> {
    match house.runtime.usage(live.id()).await {
        Ok(usage) => Some(Sample { at: house.now(), usage }),
        Err(error) => {
            tracing::debug!(sandbox = %live.id(), %error, "its use is not known");
            None
        }
    }
}
