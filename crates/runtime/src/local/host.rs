//! The blocking heart of the local runtime: make, start, stop and destroy sandboxes on this host.
//!
//! ```text
//! create:  folder in the pool -> boot                      start: folder as it was -> boot
//! boot:    kit (namespaces, groups) -> limits -> socket -> file systems named -> status -> running
//! end:     process 1 gone -> groups removed -> slot free   destroy: end -> folder deleted
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mayfly_core::id::SandboxId;
use mayfly_core::limits::Resources;
use mayfly_core::ports::runtime::SandboxSpec;
use mayfly_core::snapshot::Source;
use mayfly_core::{Error, Kind, Result};
use mayfly_init::protocol::{Create, Hello, MAX_PACKET, Overlay, Writer, init};
use tokio::sync::mpsc;

use super::cgroup::{Cgroups, Limits};
use super::forkserver::{self, Forkserver, path_bytes};
use super::image::HostImage;
use super::init::Sockets;
use super::kits::{Kit, Kits, Order, id_base, slot_of};
use super::live::{Live, Registry, identify};
use super::options::Options;
use super::pool::{self, Headroom, Part, Place, Pool, Reserve};
use super::seccomp::{self, Architecture};
use super::spec::Spec;

/// Longest wait for a killed process 1, milliseconds; what is stuck longer is reported.
const KILL_PATIENCE: u64 = 10_000;
/// Longest wait for the language of one adopted process 1, milliseconds.
const ADOPTION_PATIENCE: i64 = 200;
/// Longest wait for process 1 to write its logs down before they are read, milliseconds.
const LOGS_PATIENCE: i64 = 200;
/// How often, and after what pause, a full pool is asked for the space of deleted sandboxes.
const RECLAIM_ROUNDS: u32 = 40;
const RECLAIM_PAUSE: Duration = Duration::from_millis(25);
/// Tries to start one sandbox while forkservers die under it.
const BOOT_TRIES: u32 = 3;
/// Capabilities that sandboxes keep (platform contract, section 8): `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`,
/// `KILL`, `SETGID`, `SETUID`, `SETPCAP`, `NET_BIND_SERVICE`, `SYS_CHROOT`, `SETFCAP`.
pub(super) const CAPABILITIES: u64 =
    1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 31;
/// Most bytes of `/dev/shm`; never more than half the sandbox's memory.
const MAX_SHM: u64 = 64 << 20;

/// Everything the verbs work with.
#[derive(Debug)]
pub(super) struct Host {
    options: Options,
    data: OwnedFd,
    /// The pool as the forkserver sees it.
    pub(super) pool_path: PathBuf,
    pub(super) pool: Pool,
    pub(super) cgroups: Cgroups,
    pub(super) forkserver: Arc<Forkserver>,
    pub(super) kits: Arc<Kits>,
    pub(super) sockets: Sockets,
    pub(super) registry: Arc<Registry>,
    image: Mutex<Option<HostImage>>,
    /// Whether sandboxes were deleted since the pool was last asked for their space.
    freed: Mutex<bool>,
    /// Sandboxes that began to run and whose end must be watched.
    started: mpsc::Sender<Arc<Live>>,
}

impl Host {
    /// Opens the host: pool, groups, forkserver; adopts what an earlier server left running and removes
    /// what it left half made.
    pub(super) fn open(options: Options, started: mpsc::Sender<Arc<Live>>) -> Result<Self> {
        let data_dir = options.data_dir.clone();
        let folder = |name: &str| make_private(&data_dir.join(name)).map(|()| data_dir.join(name));
        make_private(&data_dir)?;
        let (sockets, mount_point, stage, _) =
            (folder("run")?, folder("pool")?, folder("stage")?, folder("layers")?);
        let data =
            fs::File::open(&data_dir).map_err(|error| Error::internal("data directory", error))?;
        let place = prepare_pool(&options, &data)?;
        let cgroups = Cgroups::detect(&group_name(&data_dir)?)?;
        let hello = hello(&options, &stage)?;
        let (forkserver, root) = Forkserver::start(hello, place, mount_point.clone())?;
        let (forkserver, sockets) = (Arc::new(forkserver), Sockets::open(&sockets)?);
        let pool = Pool::open(root)?;
        let adopted = adopt(&sockets, &pool, &cgroups);
        let slots: Vec<u32> = adopted.iter().map(|live| live.slot).collect();
        cgroups.sweep(&slots)?;
        remove_half_made(&pool)?;
        let registry = Arc::new(Registry::default());
        let kits = Kits::new(Arc::clone(&forkserver), cgroups.clone(), options.namespaces, slots);
        let host = Self {
            options,
            data: data.into(),
            pool_path: mount_point,
            pool,
            cgroups,
            forkserver,
            kits,
            sockets,
            registry,
            image: Mutex::new(None),
            freed: Mutex::new(true),
            started,
        };
        for live in adopted {
            host.began(live);
        }
        Ok(host)
    }

    fn began(&self, live: Live) {
        let live = Arc::new(live);
        self.registry.insert(Arc::clone(&live));
        // The queue is as long as sandboxes are many; a full one only delays the watch.
        let _ = self.started.blocking_send(live);
    }

    /// The `host` image as the host stands now; generated once, then two milliseconds to check.
    pub(super) fn image(&self) -> Result<HostImage> {
        let mut image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = image.as_ref() {
            return Ok(ready.clone());
        }
        let made = HostImage::prepare(&self.options.data_dir.join("layers"), Path::new("/"))?;
        Ok(image.insert(made).clone())
    }

    /// Makes and starts a sandbox, or finds it running.
    pub(super) fn create(&self, spec: &SandboxSpec) -> Result<()> {
        self.registry.exclusively(spec.id, || {
            if self.is_running(spec.id)? {
                return Ok(());
            }
            self.admit()?;
            // A stopped sandbox of that id keeps its files whatever happens.
            let is_new = self.pool.open_sandbox(spec.id).is_err();
            let made = self.complete_and_boot(spec).and_then(|()| self.check_user(spec));
            if made.is_err() && is_new {
                if let Some(live) = self.registry.get(spec.id) {
                    let _ = self.end(&live, Duration::ZERO);
                }
                let _ = self.pool.remove_sandbox(spec.id);
            }
            made
        })
    }

    /// Refuses a user that the new sandbox's account files do not have; root needs none.
    fn check_user(&self, spec: &SandboxSpec) -> Result<()> {
        match self.registry.get(spec.id) {
            Some(live) if spec.user != "root" => live.user().map(drop),
            _ => Ok(()),
        }
    }

    /// Refuses what the pool or the disk has no room for. Space of deleted sandboxes comes back at the
    /// kernel's leisure, so a full pool is asked for it first; one caller does so, others wait for him.
    fn admit(&self) -> Result<()> {
        let reserve = Reserve { host: self.options.reserve_bytes, ..Reserve::default() };
        let measure = || Headroom::measure(self.pool.root(), &self.data)?.admit(reserve);
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
            self.pool.reclaim()?;
            std::thread::sleep(RECLAIM_PAUSE);
        }
        *freed = false;
        admitted
    }

    /// Starts a stopped sandbox, or finds it running.
    pub(super) fn start(&self, spec: &SandboxSpec) -> Result<()> {
        self.registry.exclusively(spec.id, || {
            if self.is_running(spec.id)? {
                return Ok(());
            }
            self.pool.open_sandbox(spec.id).map(drop)?;
            self.complete_and_boot(spec)
        })
    }

    /// Makes what its folder lacks, also of one that a crash left half made, and boots it.
    fn complete_and_boot(&self, spec: &SandboxSpec) -> Result<()> {
        // Its namespaces are made meanwhile.
        let order = self.kits.order();
        let folder = self.pool.make_sandbox(spec.id, spec.resources.disk_bytes())?;
        Spec::from(spec).save(folder.fd())?;
        drop(folder);
        self.boot(spec, order)
    }

    fn boot(&self, spec: &SandboxSpec, order: Order<'_>) -> Result<()> {
        let Source::Host { .. } = &spec.source;
        let image = self.image()?;
        let mut tries = 1;
        let mut order = Some(order);
        loop {
            let order = order.take().unwrap_or_else(|| self.kits.order());
            let deaths = self.forkserver.deaths();
            match self.try_boot(spec, &image, order) {
                // Parked processes die with their forkserver; the next one is there at once.
                Err(_) if tries < BOOT_TRIES && self.forkserver.deaths() != deaths => tries += 1,
                result => return result,
            }
        }
    }

    fn try_boot(&self, spec: &SandboxSpec, image: &HostImage, order: Order<'_>) -> Result<()> {
        let kit = self.kits.take(order)?;
        match self.assemble(spec, image, &kit) {
            Ok(()) => {
                let live =
                    Live::new(spec.id, kit.slot, kit.group, (kit.pid, kit.pidfd), Spec::from(spec));
                self.began(live);
                Ok(())
            }
            Err(error) => {
                self.kits.discard(&kit);
                self.sockets.remove(spec.id);
                Err(error)
            }
        }
    }

    fn assemble(&self, spec: &SandboxSpec, image: &HostImage, kit: &Kit) -> Result<()> {
        kit.group.set_limits(&self.limits(spec.resources))?;
        let listener = self.sockets.bind(spec.id)?;
        let (status, theirs) = forkserver::status_pair()?;
        let lower =
            |layers: &[PathBuf]| layers.iter().map(|layer| path_bytes(layer).to_vec()).collect();
        let overlay = |target: &str, layers: &[PathBuf], upper: Part, work: Part| Overlay {
            target: target.into(),
            lower: lower(layers),
            upper: upper.name().into(),
            work: work.name().into(),
        };
        let folder = self.pool_path.join("sandboxes").join(spec.id.to_string());
        let request = Create {
            slot: kit.slot,
            hostname: hostname(spec.id).into_bytes(),
            folder: path_bytes(&folder).to_vec(),
            overlays: vec![
                overlay("", &image.root_layers, Part::Upper, Part::Work),
                overlay("usr", &image.usr_layers, Part::UsrUpper, Part::UsrWork),
            ],
            shm_bytes: (spec.resources.memory_bytes() / 2).min(MAX_SHM),
            open_files: self.options.ceilings.open_files.into(),
            log_bytes: self.options.ceilings.log_bytes,
        };
        self.forkserver.create(&request, listener.as_fd(), theirs.as_fd())?;
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

    /// Changes limits, live when it runs.
    pub(super) fn resize(&self, id: SandboxId, resources: Resources) -> Result<()> {
        self.registry.exclusively(id, || {
            if let Some(live) = self.registry.get(id) {
                live.group.set_limits(&self.limits(resources))?;
            }
            self.pool.resize_sandbox(id, resources.disk_bytes())
        })
    }

    /// Ends all processes; the folder stays.
    pub(super) fn stop(&self, id: SandboxId, grace: Duration) -> Result<()> {
        self.registry.exclusively(id, || {
            let Some(live) = self.registry.get(id) else { return Ok(()) };
            self.end(&live, grace)?;
            end_logs(&self.pool, id);
            Ok(())
        })
    }

    /// Clears away after a process 1 that ended unasked; `false` when a verb has done it already.
    pub(super) fn mourn(&self, live: &Arc<Live>) -> Result<bool> {
        self.registry.exclusively(live.id, || self.clear_dead(live))
    }

    fn clear_dead(&self, live: &Arc<Live>) -> Result<bool> {
        let ours = self.bury(live)?;
        if ours {
            end_logs(&self.pool, live.id);
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
            *self.freed.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.pool.remove_sandbox(id)
        })
    }

    fn end(&self, live: &Arc<Live>, grace: Duration) -> Result<()> {
        live.ending.store(true, std::sync::atomic::Ordering::Relaxed);
        let patience = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        if patience > 0 && live.group.is_frozen().unwrap_or(false) {
            live.group.freeze(false)?;
        }
        let asked = patience > 0 && self.ask_to_end(live.id);
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

    fn ask_to_end(&self, id: SandboxId) -> bool {
        let Ok(socket) = self.sockets.connect(id) else { return false };
        let packet = Writer::new(init::SHUTDOWN).finish();
        rustix::net::send(&socket, &packet, rustix::net::SendFlags::NOSIGNAL).is_ok()
    }

    /// Clears away what a dead process 1 leaves on the host; `false` when another did.
    fn bury(&self, live: &Arc<Live>) -> Result<bool> {
        let ours = self.registry.remove(live);
        if ours {
            self.sockets.remove(live.id);
            // Not before it is ours: the number may be another sandbox's by then.
            let _ = live.group.kill();
            live.group.remove()?;
            self.kits.release(live.slot);
        }
        Ok(ours)
    }

    /// The folder of a sandbox's logs, whether it runs or not; what it reported before is in them.
    pub(super) fn logs(&self, id: SandboxId) -> Result<OwnedFd> {
        let folder = self.pool.open_sandbox(id)?.part(Part::Logs)?;
        if let Some(live) = self.registry.get(id)
            && !live.group.is_frozen().unwrap_or(false)
            && let Ok(socket) = self.sockets.connect(id)
        {
            // Late answers are no reason to give no logs.
            let _ = super::init::understands(&socket, LOGS_PATIENCE);
        }
        Ok(folder)
    }
}

/// Commands of a sandbox that ended are over, also those that nobody could report.
fn end_logs(pool: &Pool, id: SandboxId) {
    if let Ok(folder) = pool.open_sandbox(id).and_then(|folder| folder.part(Part::Logs)) {
        super::logs::end_all(&folder);
    }
}

/// Removes folders of sandboxes whose making was cut off before anything could run in them.
fn remove_half_made(pool: &Pool) -> Result<()> {
    for id in pool.sandboxes()? {
        if pool.open_sandbox(id).is_ok_and(|folder| Spec::is_missing(folder.fd())) {
            pool.remove_sandbox(id)?;
        }
    }
    Ok(())
}

/// Finds running sandboxes by their sockets. A socket that nobody answers on is removed: its sandbox is
/// stopped. One that is answered but does not fit is ended, since nothing is known of it.
fn adopt(sockets: &Sockets, pool: &Pool, cgroups: &Cgroups) -> Vec<Live> {
    let mut adopted = Vec::new();
    for id in sockets.ids() {
        let found = sockets.connect(id).ok().and_then(|socket| {
            let (pid, pidfd, base) = identify(&socket)?;
            let slot = slot_of(base)?;
            let folder = pool.open_sandbox(id).ok();
            let spec = folder.and_then(|folder| Spec::load(folder.fd()).ok());
            // Only another language is refused: a frozen or busy one answers late, and the kernel's word on
            // who listens is enough.
            let frozen = cgroups.group(slot).is_frozen().unwrap_or(false);
            let speaks = frozen || super::init::understands(&socket, ADOPTION_PATIENCE);
            match spec {
                Some(spec) if speaks => {
                    Some(Live::new(id, slot, cgroups.group(slot), (pid, pidfd), spec))
                }
                _ => {
                    let _ =
                        rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
                    None
                }
            }
        });
        if let Some(live) = found {
            adopted.push(live);
        } else {
            sockets.remove(id);
            end_logs(pool, id);
        }
    }
    adopted
}

fn hello(options: &Options, stage: &Path) -> Result<Hello> {
    let architecture = Architecture::host().ok_or_else(|| {
        Error::new(Kind::Unavailable, "there is no system call list for this processor")
            .with_hint("x86_64 and aarch64 are supported")
    })?;
    let hello = Hello {
        stage: path_bytes(stage).to_vec(),
        filter: seccomp::to_bytes(&seccomp::compile(&seccomp::filter(architecture))),
        capabilities: CAPABILITIES & bounding_set(),
        allow_setuid: options.allow_setuid,
        weakened: options.weakened,
    };
    debug_assert!(hello.encode().len() < MAX_PACKET, "the filter fits one packet");
    Ok(hello)
}

/// Capabilities that this process may pass on; everything when the kernel does not say.
fn bounding_set() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(u64::MAX)
}

fn prepare_pool(options: &Options, data: &fs::File) -> Result<Place> {
    let place = pool::place(&options.data_dir)?;
    if let Place::File(file) = &place {
        pool::requirements()?;
        let size = match options.pool_bytes {
            Some(bytes) => bytes,
            None if file.exists() => 0,
            None => {
                let space = rustix::fs::fstatvfs(data).map_err(|error| {
                    Error::internal("free space could not be read", io::Error::from(error))
                })?;
                pool::loop_file::default_size(
                    space.f_bavail.saturating_mul(space.f_frsize),
                    options.reserve_bytes,
                )?
            }
        };
        pool::loop_file::ensure_file(file, size)?;
    }
    Ok(place)
}

fn make_private(path: &Path) -> Result<()> {
    let failed = |error: io::Error| {
        Error::new(
            Kind::Unavailable,
            format!("{} cannot be used as a private folder: {error}", path.display()),
        )
        .with_hint("choose another data directory")
    };
    if !path.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// Names the parent group after the data directory, so that several servers do not share groups.
fn group_name(data_dir: &Path) -> Result<String> {
    use sha2::Digest as _;
    let whole =
        fs::canonicalize(data_dir).map_err(|error| Error::internal("data directory", error))?;
    let digest = sha2::Sha256::digest(path_bytes(&whole));
    let short = digest.iter().take(6).fold(String::from("mayfly-"), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    });
    Ok(short)
}

/// Short and unique: the random end of the id.
fn hostname(id: SandboxId) -> String {
    let text = id.to_string();
    format!("mayfly-{}", &text[text.len() - 12..])
}

/// Id of inside root, for tests that look from outside.
pub(super) fn root_id(live: &Live) -> u32 {
    id_base(live.slot)
}
