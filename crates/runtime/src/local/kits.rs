//! Kits: namespaces and control groups made ahead of their sandbox, each with its parked process 1.
//!
//! A kit is used once and never recycled: the kernel keeps counters and caches per namespace that must
//! not pass from one sandbox to the next.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mayfly_core::{Error, Kind, Result};
use mayfly_init::protocol::Prepare;

use super::cgroup::{Cgroups, Group};
use super::forkserver::{Forkserver, Parked, path_bytes};
use super::ids::{IDS, Ids, SLOTS};
use super::live::ended;
use super::network::Network;
use super::slots::Slots;

/// Pause after a kit could not be made.
const RETRY: Duration = Duration::from_secs(1);

/// One ready set of namespaces.
#[derive(Debug)]
pub(super) struct Kit {
    pub(super) slot: u32,
    pub(super) group: Group,
    pub(super) pid: i32,
    pub(super) pidfd: Arc<OwnedFd>,
    /// What its network waits under, where sandboxes have one.
    pub(super) network: Option<[u8; 16]>,
    /// Forkservers that had died when it was made; it died with the next one.
    deaths: u64,
}

#[derive(Debug)]
struct Shelf {
    ready: VecDeque<Kit>,
    slots: Slots,
    /// Kits that somebody will take soon.
    asked: usize,
    /// How often none could be made.
    failures: u64,
    stopping: bool,
}

/// A kit that will be taken; one is made while its taker does other things.
#[derive(Debug)]
pub(super) struct Order<'a> {
    kits: &'a Kits,
    failures: u64,
}

impl Drop for Order<'_> {
    fn drop(&mut self) {
        self.kits.shelf().asked -= 1;
    }
}

/// The kits of a runtime; a thread of its own keeps `wanted` of them ready.
#[derive(Debug)]
pub(super) struct Kits {
    forkserver: Arc<Forkserver>,
    network: Arc<Network>,
    cgroups: Cgroups,
    ids: Ids,
    /// Processes of a sandbox where no control group limits them, else 0.
    pids: u64,
    wanted: usize,
    shelf: Mutex<Shelf>,
    /// More are wanted, or none any more.
    wanting: Condvar,
    /// One more is ready, or could not be made.
    arrived: Condvar,
}

impl Kits {
    /// A shelf that knows which slots adopted sandboxes use.
    pub(super) fn new(
        (forkserver, network): (Arc<Forkserver>, Arc<Network>),
        (cgroups, ids, pids): (Cgroups, Ids, u32),
        wanted: usize,
        used: impl IntoIterator<Item = u32>,
    ) -> Arc<Self> {
        let shelf = Shelf {
            ready: VecDeque::new(),
            slots: Slots::new(SLOTS, used),
            asked: 0,
            failures: 0,
            stopping: false,
        };
        let pids = if cgroups.used() { 0 } else { pids.into() };
        Arc::new(Self {
            forkserver,
            network,
            cgroups,
            ids,
            pids,
            wanted,
            shelf: Mutex::new(shelf),
            wanting: Condvar::new(),
            arrived: Condvar::new(),
        })
    }

    /// Says that a kit will be taken soon.
    pub(super) fn order(&self) -> Order<'_> {
        let mut shelf = self.shelf();
        shelf.asked += 1;
        self.wanting.notify_one();
        Order { kits: self, failures: shelf.failures }
    }

    /// The kit of an order: a ready one, else one that is being made. Dead ones are passed over. When
    /// [`Kits::fill`] cannot make any, it is tried here, so that the reason is known.
    pub(super) fn take(&self, order: Order<'_>) -> Result<Kit> {
        let mut shelf = self.shelf();
        loop {
            if let Some(kit) = shelf.ready.pop_front() {
                if kit.deaths == self.forkserver.deaths() && !ended(&kit.pidfd, 0) {
                    shelf.asked -= 1;
                    self.wanting.notify_one();
                    std::mem::forget(order);
                    return Ok(kit);
                }
                drop(shelf);
                self.discard(&kit);
                shelf = self.shelf();
                self.wanting.notify_one();
            } else if shelf.stopping || shelf.failures != order.failures {
                drop(shelf);
                return self.make();
            } else {
                shelf = self.arrived.wait(shelf).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Gives back the slot of a sandbox that is completely gone.
    pub(super) fn release(&self, slot: u32) {
        self.shelf().slots.give(slot);
    }

    /// Number of kits ready now.
    pub(super) fn ready(&self) -> usize {
        self.shelf().ready.len()
    }

    /// Keeps the shelf filled until [`Kits::stop`]; runs on a thread of its own.
    pub(super) fn fill(&self) {
        loop {
            let mut shelf = self.shelf();
            while !shelf.stopping && shelf.ready.len() >= self.wanted.max(shelf.asked) {
                shelf = self.wanting.wait(shelf).unwrap_or_else(PoisonError::into_inner);
            }
            if shelf.stopping {
                return;
            }
            drop(shelf);
            let made = self.make();
            let mut shelf = self.shelf();
            match made {
                Ok(kit) => {
                    shelf.ready.push_back(kit);
                    self.arrived.notify_one();
                }
                Err(error) => {
                    tracing::warn!(%error, "namespaces could not be prepared");
                    shelf.failures += 1;
                    self.arrived.notify_all();
                    drop(self.wanting.wait_timeout(shelf, RETRY));
                }
            }
        }
    }

    /// Ends [`Kits::fill`] and drops what is ready.
    pub(super) fn stop(&self) {
        let kits = {
            let mut shelf = self.shelf();
            shelf.stopping = true;
            std::mem::take(&mut shelf.ready)
        };
        self.wanting.notify_all();
        self.arrived.notify_all();
        for kit in kits {
            self.discard(&kit);
        }
    }

    /// Ends a kit that became no sandbox.
    pub(super) fn discard(&self, kit: &Kit) {
        if kit.deaths == self.forkserver.deaths() {
            let _ = self.forkserver.discard(kit.slot);
        }
        let _ = rustix::process::pidfd_send_signal(&kit.pidfd, rustix::process::Signal::KILL);
        self.network.remove_kit(kit.network);
        if let Err(error) = kit.group.remove() {
            tracing::warn!(%error, slot = kit.slot, "control groups of unused namespaces stay");
        }
        self.release(kit.slot);
    }

    fn make(&self) -> Result<Kit> {
        let slot = self.reserve()?;
        let deaths = self.forkserver.deaths();
        let made = self.cgroups.prepare(slot).and_then(|group| {
            let request = Prepare {
                slot,
                id_base: self.ids.in_forkserver(slot),
                id_count: IDS,
                owner: self.ids.owner(slot),
                pids: self.pids,
                cgroup: group.v2_path().map(|path| path_bytes(&path).to_vec()).unwrap_or_default(),
                joins: group
                    .v1_procs_paths()
                    .iter()
                    .map(|path| path_bytes(path).to_vec())
                    .collect(),
            };
            let parked = self.forkserver.prepare(&request);
            match parked.and_then(|parked| self.connect(parked)) {
                Ok((pid, pidfd, network)) => Ok(Kit { slot, group, pid, pidfd, network, deaths }),
                Err(error) => {
                    let _ = group.remove();
                    Err(error)
                }
            }
        });
        if made.is_err() {
            self.release(slot);
        }
        made
    }

    /// Puts the network of a parked process into the hands of the network process, closed.
    fn connect(&self, parked: Parked) -> Result<(i32, Arc<OwnedFd>, Option<[u8; 16]>)> {
        let is_ready = parked.is_ready();
        let (pid, pidfd) = (parked.pid, Arc::new(parked.pidfd));
        if !is_ready {
            // Who takes it is told the reason.
            return Ok((pid, pidfd, None));
        }
        match self.network.prepare(pid, &pidfd) {
            Ok(network) => Ok((pid, pidfd, network)),
            Err(error) => {
                let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
                Err(error)
            }
        }
    }

    fn reserve(&self) -> Result<u32> {
        self.shelf().slots.take().ok_or_else(|| {
            Error::new(Kind::Limit, format!("all {SLOTS} id ranges are in use"))
                .with_hint("delete sandboxes")
        })
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
