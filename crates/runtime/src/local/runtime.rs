//! The runtime port on this machine.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_core::id::{SandboxId, VolumeId};
use mayfly_core::limits::Resources;
use mayfly_core::network::{AuditPage, NetworkPolicy};
use mayfly_core::ports::captures::Captures;
use mayfly_core::ports::files::Files;
use mayfly_core::ports::processes::Processes;
use mayfly_core::ports::runtime::{
    DiskGuard, Exit, Layer, Leftover, Notice, Observed, Places, Profile, Runtime, SandboxSpec,
    Space, Traffic, Usage,
};
use mayfly_core::ports::volumes::Volumes;
use mayfly_core::process::{ExecOutcome, ExecRequest, ProcessLog};
use mayfly_core::snapshot::Source;
use mayfly_core::{Error, Result};
use tokio::io::Interest;
use tokio::sync::{Mutex, mpsc};

use super::captures::LocalCaptures;
use super::files::{LocalFiles, Roots};
use super::host::Host;
use super::image::HostImage;
use super::live::Live;
use super::options::Options;
use super::ports::{self, Ports};
use super::stay::LocalProcesses;
use super::volumes::{self, LocalVolumes};
use super::{doctor, exec, family, logs, space};

/// Ends that may wait to be fetched; sandboxes are fewer.
const EXITS: usize = 65_536;

/// Notices that may wait to be fetched.
const NOTICES: usize = 64;

/// Runs sandboxes on this machine. Sandboxes live on when it is dropped; a later one finds them again.
#[derive(Debug)]
pub struct LocalRuntime {
    host: Arc<Host>,
    files: LocalFiles,
    ports: Ports,
    processes: LocalProcesses,
    captures: LocalCaptures,
    volumes: LocalVolumes,
    exits: Mutex<mpsc::Receiver<Exit>>,
    notices: Mutex<mpsc::Receiver<Notice>>,
    watcher: tokio::task::JoinHandle<()>,
    filler: Option<JoinHandle<()>>,
}

impl LocalRuntime {
    /// Opens the runtime of a data directory; one server at a time may use it.
    ///
    /// [`mayfly_core::Kind::Unavailable`] names the layer that the host lacks and the remedy.
    pub async fn open(options: Options) -> Result<Self> {
        let profile = options.profile.profile(rustix::process::geteuid().is_root())?;
        let (started, to_watch) = mpsc::channel(EXITS);
        let (gone, exits) = mpsc::channel(EXITS);
        let (told, notices) = mpsc::channel(NOTICES);
        let host = blocking(move || Host::open(options, profile, started, told)).await?;
        let host = Arc::new(host);
        let watcher = tokio::spawn(watch_all(Arc::clone(&host), to_watch, gone));
        let roots: Arc<dyn Roots> = host.registry.clone();
        let (files, ports) = match profile {
            Profile::Full => (LocalFiles::start(roots)?, Ports::of_root()),
            Profile::Unprivileged | Profile::None => {
                (LocalFiles::unprivileged(roots), Ports::of_user()?)
            }
        };
        let filling = Arc::clone(&host);
        let filler = std::thread::Builder::new()
            .name("mayfly-kits".to_owned())
            .spawn(move || {
                // Generated once per set of packages, in seconds; a create that comes first waits for it.
                if let Err(error) = filling.image() {
                    tracing::warn!(%error, "the host image could not be prepared");
                }
                filling.kits.fill();
            })
            .map_err(|error| Error::internal("no thread to prepare namespaces", error))?;
        let processes = LocalProcesses::new(Arc::clone(&host));
        let captures = LocalCaptures { host: Arc::clone(&host) };
        let volumes = LocalVolumes { host: Arc::clone(&host) };
        let (exits, notices) = (Mutex::new(exits), Mutex::new(notices));
        let filler = Some(filler);
        Ok(Self {
            host,
            files,
            ports,
            processes,
            captures,
            volumes,
            exits,
            notices,
            watcher,
            filler,
        })
    }

    /// Waits until the wanted number of namespace sets is ready, for measurements.
    pub async fn warmed(&self, wanted: usize) {
        while self.host.kits.ready() < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Id of the forkserver process, for tests that kill it.
    pub fn forkserver_pid(&self) -> Option<u32> {
        self.host.ground.forkserver.pid()
    }

    /// How sandboxes are steered to the network process, or why they are not.
    pub fn network(&self) -> Layer {
        self.host.network.layer()
    }

    /// Ids of the network processes, for tests that kill them.
    pub fn network_pids(&self) -> Vec<i32> {
        self.host.network.pids()
    }

    /// Pid of process 1 and host id of inside root, for tests that look from outside.
    pub fn inspect(&self, id: SandboxId) -> Option<(i32, u32)> {
        self.host.registry.get(id).map(|live| (live.pid, live.id_base()))
    }

    /// Deletes what was generated from the host's files, before the data directory itself is deleted: an
    /// ordinary user cannot, since it belongs to his subordinate ids. No sandbox may run.
    pub async fn clear_layers(&self) -> Result<()> {
        self.on_host(Host::clear_layers).await
    }

    /// Makes the folder of a sandbox that does not exist, with nothing in it, and gives it; for a restore, while no
    /// server runs. Blocks. It is whole when its files are there: its description is one of their attributes.
    pub fn empty_folder(&self, id: SandboxId, disk_bytes: u64) -> Result<OwnedFd> {
        self.host.ground.storage.empty(id, disk_bytes)
    }

    /// Sets the limit of a restored sandbox's folder. Blocks.
    pub fn limit_folder(&self, id: SandboxId, disk_bytes: u64) -> Result<()> {
        self.host.ground.storage.resize(id, disk_bytes)
    }

    /// Makes a volume that does not exist, with nothing in it, and gives it; for a restore, while no server runs.
    /// Blocks. It is whole after [`LocalRuntime::limit_volume`].
    pub fn empty_volume(&self, id: VolumeId, bytes: u64) -> Result<OwnedFd> {
        self.pool()?.empty_volume(id, bytes)
    }

    /// Sets the limit of a restored volume, which is whole from then on. Blocks.
    pub fn limit_volume(&self, id: VolumeId, bytes: u64) -> Result<()> {
        self.pool()?.limit_volume(id, bytes)
    }

    fn pool(&self) -> Result<&super::pool::Pool> {
        self.host.ground.storage.pool().ok_or_else(volumes::unsupported)
    }

    async fn on_host<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&Host) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let host = Arc::clone(&self.host);
        blocking(move || verb(&host)).await
    }
}

impl Drop for LocalRuntime {
    fn drop(&mut self) {
        self.watcher.abort();
        self.host.kits.stop();
        if let Some(filler) = self.filler.take() {
            let _ = filler.join();
            // One more set may have been finished meanwhile.
            self.host.kits.stop();
        }
        self.host.network.close();
        // With no sandbox alive nothing of this server stays on the host but its data directory.
        self.host.ground.cgroups.remove_if_empty();
    }
}

/// Does what blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("a worker of the runtime ended early", error)),
    }
}

/// Watches every sandbox that begins to run until it ends.
async fn watch_all(
    host: Arc<Host>,
    mut started: mpsc::Receiver<Arc<Live>>,
    gone: mpsc::Sender<Exit>,
) {
    let mut watches = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            live = started.recv() => match live {
                Some(live) => { watches.spawn(watch(Arc::clone(&host), live, gone.clone())); }
                None => return,
            },
            Some(_) = watches.join_next() => {}
        }
    }
}

async fn watch(host: Arc<Host>, live: Arc<Live>, gone: mpsc::Sender<Exit>) {
    let Ok(pidfd) = live.pidfd.try_clone() else { return };
    let Ok(pidfd) = crate::sys::watch::watch(pidfd, Interest::READABLE) else { return };
    if pidfd.readable().await.is_err() {
        return;
    }
    drop(pidfd);
    if live.ending.load(Ordering::Relaxed) {
        return;
    }
    let exit = blocking(move || {
        let reason = match live.group.oom_kills() {
            Ok(kills) if kills > 0 => "out of memory: process 1 was killed",
            _ => "process 1 of the sandbox ended unexpectedly",
        };
        let unasked = host.mourn(&live)?;
        Ok(unasked.then(|| Exit { id: live.id, reason: reason.to_owned() }))
    })
    .await;
    match exit {
        Ok(Some(exit)) => drop(gone.send(exit).await),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "what a dead sandbox left could not be removed"),
    }
}

#[async_trait]
impl Runtime for LocalRuntime {
    fn profile(&self) -> Profile {
        self.host.profile
    }

    fn has_network(&self) -> bool {
        // Where root lacks it, asking for it is refused, and nothing else is given instead.
        self.host.profile == Profile::Full || self.host.network.is_here()
    }

    async fn host_source(&self) -> Result<Source> {
        self.on_host(|_| Ok(Source::Host { fingerprint: HostImage::fingerprint(Path::new("/"))? }))
            .await
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<()> {
        let spec = spec.clone();
        self.on_host(move |host| host.create(&spec)).await
    }

    async fn start(&self, spec: &SandboxSpec) -> Result<()> {
        let spec = spec.clone();
        self.on_host(move |host| host.start(&spec)).await
    }

    async fn stop(&self, id: SandboxId, grace: Duration) -> Result<()> {
        self.on_host(move |host| host.stop(id, grace)).await
    }

    async fn destroy(&self, id: SandboxId) -> Result<()> {
        self.on_host(move |host| host.destroy(id)).await
    }

    async fn archive(&self, id: SandboxId) -> Result<()> {
        self.on_host(move |host| host.archive(id)).await
    }

    async fn freeze(&self, id: SandboxId) -> Result<()> {
        self.on_host(move |host| host.freeze(id, true)).await
    }

    async fn thaw(&self, id: SandboxId) -> Result<()> {
        self.on_host(move |host| host.freeze(id, false)).await
    }

    async fn resize(&self, id: SandboxId, resources: Resources) -> Result<()> {
        self.on_host(move |host| host.resize(id, resources)).await
    }

    async fn set_network(&self, id: SandboxId, policy: &NetworkPolicy) -> Result<()> {
        let policy = policy.clone();
        self.on_host(move |host| host.network.set(id, &policy)).await
    }

    async fn network_audit(
        &self,
        id: SandboxId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<AuditPage> {
        let after = after.map(str::to_owned);
        self.on_host(move |host| host.network.audit(id, after.as_deref(), limit)).await
    }

    async fn next_notice(&self) -> Notice {
        match self.notices.lock().await.recv().await {
            Some(notice) => notice,
            None => std::future::pending().await,
        }
    }

    async fn guard_disk(&self, sizes: &[(SandboxId, u64)]) -> Result<Vec<DiskGuard>> {
        let sizes = sizes.to_vec();
        self.on_host(move |host| host.ground.storage.guard(&sizes)).await
    }

    async fn space(&self) -> Result<Space> {
        self.on_host(space::measure).await
    }

    async fn traffic(&self) -> Result<Traffic> {
        self.on_host(|host| host.network.traffic()).await
    }

    async fn leftovers(&self, dry: bool) -> Result<Vec<Leftover>> {
        self.on_host(move |host| space::old_layers(host, dry)).await
    }

    async fn list(&self) -> Result<Vec<Observed>> {
        self.on_host(|host| {
            let mut found: BTreeMap<SandboxId, Observed> = host
                .ground
                .storage
                .sandboxes()?
                .into_iter()
                .map(|id| (id, Observed { id, running: false, frozen: false, outdated: None }))
                .collect();
            for live in host.registry.all() {
                let frozen = live.group.is_frozen().unwrap_or(false);
                let (running, outdated) = (live.is_alive(), live.outdated.get().copied());
                found.insert(live.id, Observed { id: live.id, running, frozen, outdated });
            }
            Ok(found.into_values().collect())
        })
        .await
    }

    async fn next_exit(&self) -> Exit {
        match self.exits.lock().await.recv().await {
            Some(exit) => exit,
            None => std::future::pending().await,
        }
    }

    async fn usage(&self, id: SandboxId) -> Result<Usage> {
        self.on_host(move |host| {
            let group = match host.registry.get(id) {
                Some(live) if host.ground.cgroups.used() => live.group.usage()?,
                Some(live) => family::usage(live.pid),
                None => super::cgroup::GroupUsage::default(),
            };
            Ok(Usage {
                cpu_nanos: group.cpu_nanos,
                memory_bytes: group.memory_bytes,
                memory_cache_bytes: group.cache_bytes,
                disk_bytes: host.ground.storage.usage(id)?,
                pids: group.pids,
            })
        })
        .await
    }

    async fn places(&self, id: SandboxId) -> Result<Places> {
        self.on_host(move |host| {
            let live = host.registry.started(id)?;
            Ok(Places { home: live.user()?.home.clone(), workdir: live.workdir()?.to_owned() })
        })
        .await
    }

    async fn exec(&self, id: SandboxId, request: ExecRequest) -> Result<ExecOutcome> {
        let live = self.host.registry.started(id)?;
        exec::run(&self.host.sockets, &live, request, now()).await
    }

    async fn logs(&self, id: SandboxId) -> Result<Vec<ProcessLog>> {
        self.on_host(move |host| logs::list(&host.logs(id)?)).await
    }

    async fn read_log(
        &self,
        id: SandboxId,
        process: u64,
        offset: u64,
        max: usize,
    ) -> Result<Bytes> {
        self.on_host(move |host| logs::read(&host.logs(id)?, process, offset, max)).await
    }

    fn files(&self) -> &dyn Files {
        &self.files
    }

    fn processes(&self) -> &dyn Processes {
        &self.processes
    }

    fn captures(&self) -> Result<&dyn Captures> {
        Ok(&self.captures)
    }

    fn volumes(&self) -> Result<&dyn Volumes> {
        match self.host.profile {
            Profile::Full => Ok(&self.volumes),
            Profile::Unprivileged | Profile::None => Err(volumes::unsupported()),
        }
    }

    async fn connect(&self, id: SandboxId, port: u16) -> Result<OwnedFd> {
        self.ports.connect(&*self.host.registry.started(id)?, port).await
    }

    async fn bind(&self, id: SandboxId, port: u16) -> Result<OwnedFd> {
        self.ports.bind(&*self.host.registry.started(id)?, port).await
    }

    async fn ports(&self, id: SandboxId) -> Result<Vec<u16>> {
        self.on_host(move |host| ports::listening(&*host.registry.started(id)?)).await
    }

    async fn doctor(&self) -> Vec<Layer> {
        self.on_host(|host| Ok(doctor::examine(host))).await.unwrap_or_default()
    }
}

/// Wall clock in milliseconds, shown in logs only.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
