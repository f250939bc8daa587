//! A clock for tests on paused tokio time: it shows what tokio's clock shows, and stands while a thread of the library
//! works.

use std::sync::{Arc, Condvar, Mutex};

use mayfly_flow::clock::{Clock, Hold, Millis};
use tokio::time::Instant;

/// 2026-01-01, where it begins.
pub(crate) const START: Millis = 1_767_225_600_000;

/// Needs a runtime with `start_paused` around it.
#[derive(Debug)]
pub(crate) struct SimClock {
    start: Instant,
    holds: Arc<Holds>,
}

#[derive(Debug, Default)]
struct Holds {
    count: Mutex<usize>,
    none: Condvar,
}

impl SimClock {
    /// Begins at [`START`] now.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), holds: Arc::default() })
    }
}

impl Clock for SimClock {
    fn now(&self) -> Millis {
        START + Millis::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    fn hold(&self) -> Hold {
        let mut count = self.holds.count.lock().unwrap();
        *count += 1;
        if *count == 1 {
            // Paused time does not move while the runtime has a blocking task.
            let holds = Arc::clone(&self.holds);
            drop(tokio::task::spawn_blocking(move || {
                let count = holds.count.lock().unwrap();
                drop(holds.none.wait_while(count, |count| *count > 0).unwrap());
            }));
        }
        Hold(Some(Box::new(Release(Arc::clone(&self.holds)))))
    }
}

struct Release(Arc<Holds>);

impl Drop for Release {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap() -= 1;
        self.0.none.notify_all();
    }
}
