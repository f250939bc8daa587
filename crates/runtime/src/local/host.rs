//! The blocking heart of the local runtime: make, start, stop and destroy sandboxes on this host.
//!
//! ```text
//! create:  folder in the pool -> boot                      start: folder as it was -> boot
//! boot:    kit (namespaces, groups) -> limits -> socket -> file systems named -> status -> running
//! end:     process 1 gone -> groups removed -> slot free   destroy: end -> folder deleted
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mayfly_core::id::SandboxId;
use mayfly_core::limits::Resources;
use mayfly_core::ports::runtime::{Notice, Profile, SandboxSpec};
use mayfly_core::snapshot::Source;
use mayfly_core::{Error, Kind, Result};
use mayfly_init::protocol::{Create, Overlay, WEAK_NETWORK, Writer, init};
use tokio::sync::mpsc;

use super::adopt::{adopt, note};
use super::cgroup::Limits;
use super::forkserver::{self, path_bytes};
use super::ground::{Ground, make_private, private_folder};
use super::image::{Generator, HostImage, Keeper};
use super::init::Sockets;
use super::kits::{Kit, Kits, Order};
use super::live::{Live, Registry};
use super::network::{Coming, Network};
use super::options::{Options, WEAK_POLICY};
use super::pool::{Part, Reserve};
use super::spec::Spec;
use super::storage::{Storage, is_absent};
use super::users::Identity;
use super::volumes;

/// Longest wait for a killed process 1, milliseconds; what is stuck longer is reported.
const KILL_PATIENCE: u64 = 10_000;
/// Longest wait for process 1 to write its logs down before they are read, milliseconds.
const LOGS_PATIENCE: i64 = 200;
/// How often, and after what pause, a full pool is asked for the space of deleted sandboxes.
const RECLAIM_ROUNDS: u32 = 40;
const RECLAIM_PAUSE: Duration = Duration::from_millis(25);
/// Tries to start one sandbox while forkservers die under it.
const BOOT_TRIES: u32 = 3;
/// Longest time that compressing a sandbox takes; what is left then stays as it is.
const COMPRESSING: Duration = Duration::from_secs(20);
/// Most bytes of `/dev/shm`; never more than half the sandbox's memory.
const MAX_SHM: u64 = 64 << 20;

/// Everything the verbs work with.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) options: Options,
    pub(super) data: OwnedFd,
    pub(super) profile: Profile,
    pub(super) ground: Ground,
    pub(super) kits: Arc<Kits>,
    pub(super) sockets: Sockets,
    pub(super) registry: Arc<Registry>,
    pub(super) network: Arc<Network>,
    image: Mutex<Option<HostImage>>,
    /// Whether sandboxes were deleted since the pool was last asked for their space.
    freed: Mutex<bool>,
    /// Sandboxes that an earlier server started; which layers they stand on is not known.
    adopted: Mutex<Vec<Weak<Live>>>,
    /// Sandboxes that began to run and whose end must be watched.
    started: mpsc::Sender<Arc<Live>>,
}

impl Host {
    /// Opens the host: pool, groups, forkserver; adopts what an earlier server left running and removes
    /// what it left half made.
    pub(super) fn open(
        options: Options,
        profile: Profile,
        started: mpsc::Sender<Arc<Live>>,
        notices: mpsc::Sender<Notice>,
    ) -> Result<Self> {
        let data_dir = options.data_dir.clone();
        make_private(&data_dir)?;
        private_folder(&data_dir, "layers")?;
        let data =
            fs::File::open(&data_dir).map_err(|error| Error::internal("data directory", error))?;
        let ground = Ground::prepare(&options, profile, &data)?;
        let run = private_folder(&data_dir, "run")?;
        let sockets = Sockets::open(&run)?;
        let Ground { storage, cgroups, ids, .. } = &ground;
        let adopted = adopt(&sockets, storage, cgroups, *ids);
        let mut slots: Vec<u32> = adopted.iter().map(|live| live.slot).collect();
        // What is still dying, or stuck in the kernel, keeps its slot and nobody from starting.
        slots.extend(cgroups.sweep(&slots)?);
        storage.remove_half_made()?;
        let folders = (run.as_path(), private_folder(&data_dir, "audit")?);
        let network = network(&options, profile, folders, &adopted, notices)?;
        let registry = Arc::new(Registry::default());
        let limits = (cgroups.clone(), *ids, options.ceilings.pids);
        let forkserver = Arc::clone(&ground.forkserver);
        let kits = Kits::new((forkserver, Arc::clone(&network)), limits, options.namespaces, slots);
        let host = Self {
            options,
            profile,
            data: data.into(),
            ground,
            kits,
            sockets,
            registry,
            network,
            image: Mutex::new(None),
            freed: Mutex::new(true),
            adopted: Mutex::default(),
            started,
        };
        let adopted = adopted.into_iter().map(|live| Arc::downgrade(&host.began(live))).collect();
        *host.adopted.lock().unwrap_or_else(PoisonError::into_inner) = adopted;
        Ok(host)
    }

    fn began(&self, live: Live) -> Arc<Live> {
        let live = Arc::new(live);
        self.registry.insert(Arc::clone(&live));
        // The queue is as long as sandboxes are many; a full one only delays the watch.
        let _ = self.started.blocking_send(Arc::clone(&live));
        live
    }

    /// How many running sandboxes an earlier server started.
    pub(super) fn adopted(&self) -> usize {
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        adopted.retain(|live| live.strong_count() > 0);
        adopted.len()
    }

    /// The `host` image as the host stands now; generated once, then two milliseconds to check.
    pub(super) fn image(&self) -> Result<HostImage> {
        let mut image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = image.as_ref() {
            return Ok(ready.clone());
        }
        let made = HostImage::prepare(&self.layers(), Path::new("/"), self)?;
        Ok(image.insert(made).clone())
    }

    /// Where generated layers lie.
    pub(super) fn layers(&self) -> PathBuf {
        self.options.data_dir.join("layers")
    }

    /// Deletes the generated layers, which an ordinary user cannot do by himself. No sandbox runs.
    pub(super) fn clear_layers(&self) -> Result<()> {
        *self.image.lock().unwrap_or_else(PoisonError::into_inner) = None;
        HostImage::sweep(&self.layers(), &BTreeSet::new(), self)
    }

    /// Makes and starts a sandbox, or finds it running.
    pub(super) fn create(&self, spec: &SandboxSpec) -> Result<()> {
        self.registry.exclusively(spec.id, || {
            if self.is_running(spec.id)? {
                return self.network.set(spec.id, &spec.network);
            }
            volumes::check(&self.ground.storage, &spec.volumes)?;
            self.admit()?;
            self.network.text(&spec.network)?;
            // Before anything is made: a user that the image does not have.
            let user = self.image()?.accounts.identity(&spec.user)?;
            // A stopped sandbox of that id keeps its files whatever happens, account files included.
            let is_new = is_absent(&self.ground.storage.has(spec.id));
            let made = self.complete_and_boot(spec, is_new.then_some(user));
            if made.is_err() && is_new {
                let _ = self.ground.storage.remove(spec.id);
            }
            made
        })
    }

    /// Refuses what the pool or the disk has no room for. Space of deleted sandboxes comes back at the
    /// kernel's leisure, so a full pool is asked for it first; one caller does so, others wait for him.
    pub(super) fn admit(&self) -> Result<()> {
        let reserve = Reserve { host: self.options.reserve_bytes, ..Reserve::default() };
        let measure = || self.ground.storage.admit(&self.data, reserve);
        let mut admitted = measure();
        if admitted.is_ok() {
            return admitted;
        }
        let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..RECLAIM_ROUNDS {
            admitted = measure();
            if admitted.is_ok() || !*freed {
                break;
            }
            if !self.ground.storage.reclaim()? {
                break;
            }
            std::thread::sleep(RECLAIM_PAUSE);
        }
        *freed = false;
        admitted
    }

    /// Starts a stopped sandbox, or finds it running.
    pub(super) fn start(&self, spec: &SandboxSpec) -> Result<()> {
        self.registry.exclusively(spec.id, || {
            if self.is_running(spec.id)? {
                return self.network.set(spec.id, &spec.network);
            }
            self.network.text(&spec.network)?;
            volumes::check(&self.ground.storage, &spec.volumes)?;
            self.ground.storage.has(spec.id)?;
            self.complete_and_boot(spec, None)
        })
    }

    /// Makes what its folder lacks, also of one that a crash left half made, and boots it. `user` is who its
    /// commands run as, where that is known.
    fn complete_and_boot(&self, spec: &SandboxSpec, user: Option<Identity>) -> Result<()> {
        // Its namespaces are made meanwhile.
        let order = self.kits.order();
        self.ground.storage.make(spec.id, spec.resources.disk_bytes(), &Spec::from(spec))?;
        self.boot(spec, user, order)
    }

    fn boot(&self, spec: &SandboxSpec, user: Option<Identity>, order: Order<'_>) -> Result<()> {
        let Source::Host { .. } = &spec.source;
        let image = self.image()?;
        let mut tries = 1;
        let mut order = Some(order);
        loop {
            let order = order.take().unwrap_or_else(|| self.kits.order());
            let deaths = self.ground.forkserver.deaths();
            let error = match self.try_boot(spec, &image, order) {
                Ok(kit) => {
                    let (place, process) = ((kit.slot, self.ground.ids), (kit.pid, kit.pidfd));
                    let spec = (spec.id, Spec::from(spec));
                    self.began(Live::new(spec, place, kit.group, process, user));
                    return Ok(());
                }
                Err(error) => error,
            };
            // Parked processes die with their forkserver; the next one is there at once.
            if tries == BOOT_TRIES || self.ground.forkserver.deaths() == deaths {
                return Err(error);
            }
            tries += 1;
        }
    }

    fn try_boot(&self, spec: &SandboxSpec, image: &HostImage, order: Order<'_>) -> Result<Kit> {
        let kit = self.kits.take(order)?;
        if let Err(error) = self.assemble(spec, image, &kit) {
            self.network.remove(spec.id);
            self.kits.discard(&kit);
            self.sockets.remove(spec.id);
            return Err(error);
        }
        Ok(kit)
    }

    fn assemble(&self, spec: &SandboxSpec, image: &HostImage, kit: &Kit) -> Result<()> {
        // Closed until then, and answered before anything but process 1 can run.
        let network =
            self.network.assign(kit.network, spec.id, &self.network.text(&spec.network)?)?;
        self.build(spec, image, kit)?;
        Coming::wait(network)
    }

    fn build(&self, spec: &SandboxSpec, image: &HostImage, kit: &Kit) -> Result<()> {
        kit.group.set_limits(&self.limits(spec.resources))?;
        let listener = self.sockets.bind(spec.id)?;
        let (status, theirs) = forkserver::status_pair(forkserver::PATIENCE)?;
        let lower =
            |layers: &[PathBuf]| layers.iter().map(|layer| path_bytes(layer).to_vec()).collect();
        let overlay = |target: &str, layers: &[PathBuf], upper: Part, work: Part| Overlay {
            target: target.into(),
            lower: lower(layers),
            upper: upper.name().into(),
            work: work.name().into(),
        };
        let folder = self.ground.sandboxes.join(spec.id.to_string());
        // Without control groups and quotas the limits that processes carry themselves are all there is.
        let (pids, file_bytes) = if self.ground.cgroups.used() {
            (0, 0)
        } else {
            (self.options.ceilings.pids.into(), spec.resources.disk_bytes())
        };
        let request = Create {
            slot: kit.slot,
            hostname: hostname(spec.id).into_bytes(),
            folder: path_bytes(&folder).to_vec(),
            overlays: vec![
                overlay("", &image.root_layers, Part::Upper, Part::Work),
                overlay("usr", &image.usr_layers, Part::UsrUpper, Part::UsrWork),
            ],
            volumes: volumes::request(&self.ground.sandboxes, &spec.volumes),
            shm_bytes: (spec.resources.memory_bytes() / 2).min(MAX_SHM),
            open_files: self.options.ceilings.open_files.into(),
            pids,
            file_bytes,
            log_bytes: self.options.ceilings.log_bytes,
        };
        self.ground.forkserver.create(&request, listener.as_fd(), theirs.as_fd())?;
        drop(theirs);
        forkserver::await_status(&status)
    }

    fn limits(&self, resources: Resources) -> Limits {
        Limits {
            cpu_cores: resources.cpu,
            memory_bytes: resources.memory_bytes(),
            pids: self.options.ceilings.pids,
        }
    }

    /// Stops or continues all its processes.
    pub(super) fn freeze(&self, id: SandboxId, frozen: bool) -> Result<()> {
        let live = self.registry.started(id)?;
        if !self.ground.cgroups.used() {
            // Signals would do it, but what runs inside would notice, and could not be told from what was
            // stopped before.
            return Err(Error::unsupported("pausing in the isolation profile `unprivileged`")
                .with_hint("stop the sandbox, or run the server as root"));
        }
        live.group.freeze(frozen)?;
        // Of one that was found frozen nothing is known until it can answer.
        if !frozen && let Ok(socket) = self.sockets.connect(id) {
            note(&live, super::init::greet(&socket, LOGS_PATIENCE));
        }
        Ok(())
    }

    /// Changes limits, live when it runs.
    pub(super) fn resize(&self, id: SandboxId, resources: Resources) -> Result<()> {
        self.registry.exclusively(id, || {
            if let Some(live) = self.registry.get(id) {
                live.group.set_limits(&self.limits(resources))?;
            }
            self.ground.storage.resize(id, resources.disk_bytes())
        })
    }

    /// Ends all processes; the folder stays.
    pub(super) fn stop(&self, id: SandboxId, grace: Duration) -> Result<()> {
        self.registry.exclusively(id, || {
            let Some(live) = self.registry.get(id) else { return Ok(()) };
            self.end(&live, grace)?;
            self.ground.storage.end_logs(id);
            Ok(())
        })
    }

    /// Lets the files of a stopped sandbox take less room.
    pub(super) fn archive(&self, id: SandboxId) -> Result<()> {
        self.registry.exclusively(id, || {
            if self.registry.get(id).is_some() {
                return Err(Error::conflict(format!(
                    "sandbox {id} runs: only a stopped one is archived"
                )));
            }
            self.ground.storage.compress(id, COMPRESSING)
        })
    }

    /// Clears away after a process 1 that ended unasked; `false` when a verb has done it already.
    pub(super) fn mourn(&self, live: &Arc<Live>) -> Result<bool> {
        self.registry.exclusively(live.id, || self.clear_dead(live))
    }

    fn clear_dead(&self, live: &Arc<Live>) -> Result<bool> {
        let ours = self.bury(live)?;
        if ours {
            self.ground.storage.end_logs(live.id);
        }
        Ok(ours)
    }

    /// Whether it runs; one that died a moment ago is cleared away first.
    fn is_running(&self, id: SandboxId) -> Result<bool> {
        match self.registry.get(id) {
            Some(live) if live.is_alive() => Ok(true),
            Some(dead) => self.clear_dead(&dead).map(|_| false),
            None => Ok(false),
        }
    }

    /// Ends it and deletes what is left of it.
    pub(super) fn destroy(&self, id: SandboxId) -> Result<()> {
        self.registry.exclusively(id, || {
            if let Some(live) = self.registry.get(id) {
                self.end(&live, Duration::ZERO)?;
            }
            self.sockets.remove(id);
            self.network.forget(id);
            *self.freed.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.ground.storage.remove(id)
        })
    }

    fn end(&self, live: &Arc<Live>, grace: Duration) -> Result<()> {
        live.ending.store(true, std::sync::atomic::Ordering::Relaxed);
        let patience = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        if patience > 0 && live.group.is_frozen().unwrap_or(false) {
            live.group.freeze(false)?;
        }
        let asked = patience > 0 && self.ask_to_end(live);
        if !(asked && live.await_end(patience)) {
            live.kill();
            // A frozen process of a version 1 freezer dies only when it is thawed.
            let _ = live.group.kill();
            if !live.await_end(KILL_PATIENCE) {
                return Err(Error::new(
                    Kind::Timeout,
                    format!("sandbox {} did not end within 10 s of its kill", live.id),
                )
                .with_hint("a process of it is stuck in the kernel; try again later"));
            }
        }
        self.bury(live).map(drop)
    }

    fn ask_to_end(&self, live: &Live) -> bool {
        // What the request means to another version is not known.
        if live.outdated.get().is_some() {
            return false;
        }
        let Ok(socket) = self.sockets.connect(live.id) else { return false };
        let packet = Writer::new(init::SHUTDOWN).finish();
        rustix::net::send(&socket, &packet, rustix::net::SendFlags::NOSIGNAL).is_ok()
    }

    /// Clears away what a dead process 1 leaves on the host; `false` when another did.
    fn bury(&self, live: &Arc<Live>) -> Result<bool> {
        let ours = self.registry.remove(live);
        if ours {
            self.sockets.remove(live.id);
            self.network.remove(live.id);
            // Not before it is ours: the number may be another sandbox's by then.
            let _ = live.group.kill();
            live.group.remove()?;
            self.kits.release(live.slot);
        }
        Ok(ours)
    }

    /// The folder of a sandbox's logs, whether it runs or not; what it reported before is in them.
    pub(super) fn logs(&self, id: SandboxId) -> Result<OwnedFd> {
        let folder = self.ground.storage.logs(id)?;
        if let Some(live) = self.registry.get(id)
            && !live.group.is_frozen().unwrap_or(false)
            && let Ok(socket) = self.sockets.connect(id)
        {
            // Late answers are no reason to give no logs.
            let _ = super::init::greet(&socket, LOGS_PATIENCE);
        }
        Ok(folder)
    }
}

/// The network of the profile's sandboxes, those that run already included.
fn network(
    options: &Options,
    profile: Profile,
    folders: (&Path, PathBuf),
    adopted: &[Live],
    notices: mpsc::Sender<Notice>,
) -> Result<Arc<Network>> {
    let is_left_out = options.weakened & (WEAK_NETWORK | WEAK_POLICY) != 0;
    let kind = (profile == Profile::Full, is_left_out);
    let adopted = adopted.iter().map(|live| (live.id, live.pid, Arc::clone(&live.pidfd))).collect();
    Network::open(options.network.clone(), folders, kind, adopted, notices).map(Arc::new)
}

/// Short and unique: the random end of the id. The network process answers for it, by the same rule.
fn hostname(id: SandboxId) -> String {
    let text = id.to_string();
    format!("mayfly-{}", &text[text.len() - 12..])
}

impl Keeper for Host {
    fn copies_folders(&self) -> bool {
        matches!(self.ground.storage, Storage::Folders(_))
    }

    fn own(&self, folder: &Path) -> Result<()> {
        match self.ground.storage {
            Storage::Pool(_) => Ok(()),
            // One range for all, so the layers can belong to it and need no shifting.
            Storage::Folders(_) => {
                self.ground.forkserver.own(folder, self.ground.ids.in_forkserver(0))
            }
        }
    }

    fn delete(&self, folder: &Path) -> Result<()> {
        match self.ground.storage {
            Storage::Pool(_) => Generator.delete(folder),
            Storage::Folders(_) => self.ground.forkserver.delete(folder),
        }
    }
}
