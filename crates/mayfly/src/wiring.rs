//! Start and end of a server: the only place that names concrete adapters.

mod clock;
mod notify;
mod register;
mod restore;
mod secrets;
mod uninstall;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mayfly_core::limits::{Ceilings, Resources};
use mayfly_core::network::Cidr;
use mayfly_core::ports::clock::Clock;
use mayfly_core::ports::entropy::Entropy;
use mayfly_core::ports::runtime::{Layer, LayerState, Profile, Runtime};
use mayfly_core::ports::store::Store;
use mayfly_core::{Error, Kind, Result};
use mayfly_engine::{Engine, NetworkSettings, Settings};
use mayfly_runtime::local::{LocalRuntime, NetworkOptions, Options as RuntimeOptions, Wanted, Way};
use mayfly_store::SqliteStore;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, Neighbour, NetworkDefault, ProfileChoice, Steering};
use crate::http::{self, App, Limits};
use crate::lock::DataLock;
use crate::ssh::{self, Gateway};
use crate::telemetry;
use clock::{HostClock, HostEntropy};
pub(crate) use register::clear_gone;
pub(crate) use restore::restore;
pub(crate) use uninstall::uninstall;

/// A background server leaves after this long without a request and without a running sandbox.
const IDLE: Duration = Duration::from_mins(10);
/// Port of the SSH gateway where the settings name none.
const SSH_PORT: u16 = 2222;
/// How often that is looked at.
const IDLE_LOOK: Duration = Duration::from_secs(15);

/// Longest look for the addresses of the public URL.
const LOOK_UP: Duration = Duration::from_secs(3);

/// Size of the pool that `doctor` tries, bytes.
const DOCTOR_POOL: u64 = 256 << 20;

/// How to serve.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServeOptions {
    /// Callers need no key, on loopback.
    pub(crate) dev: bool,
    /// Only the unix socket, and leave when idle.
    pub(crate) background: bool,
}

/// Serves until a terminate or interrupt signal, or until a background server idles; then drains.
pub(crate) async fn serve(config: Config, options: ServeOptions) -> Result<()> {
    telemetry::start(&config.log)?;
    let lock = DataLock::take(&config, options.background).await?;
    restore::check(&config)?;
    let _entry = register::enter(&config).await;
    let listener = if options.background { None } else { Some(bind(&config).await?) };
    let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let previews = beside(&config, config.server.preview_listen, address, None).await?;
    let gate = beside(&config, config.ssh.listen, address, Some(SSH_PORT)).await?;
    let ssh_port = gate.as_ref().and_then(|gate| gate.local_addr().ok()).map(|gate| gate.port());
    let engine_parts = open(&config).await?;
    let Opened { engine, store, clock, entropy, master } = engine_parts;
    engine.organizations().ensure(&config.tenants.organizations).await?;
    first_key(&config, &engine).await?;
    let listen = address.map_or_else(|| "localhost".to_owned(), |address| address.to_string());
    let proxy_domain = Some(config.server.proxy_domain.clone()).filter(|domain| !domain.is_empty());
    let proxy_domain =
        proxy_domain.or_else(|| address.map(|address| format!("localhost:{}", address.port())));
    let app = App::new(http::Parts {
        engine: engine.clone(),
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
        entropy,
        master,
        options: http::Options {
            proxy_domain,
            ssh_port,
            ..http_options(&config, options, &listen)
        },
    });
    let limits = Limits {
        connections: usize::try_from(config.server.connections).unwrap_or(usize::MAX),
        drain: Duration::from_secs(config.server.drain_seconds),
        ..Limits::default()
    };
    let (stop, stopped) = watch::channel(false);
    let router = http::router(app.clone());
    let mut listeners = JoinSet::new();
    let inside = lock.bind_private(&config.internal_socket())?;
    listeners.spawn(http::serve_internal(inside, engine.clone(), limits, stopped.clone()));
    listeners.spawn(http::serve_unix(lock.bind_socket()?, router.clone(), limits, stopped.clone()));
    if let Some(listener) = listener {
        listeners.spawn(http::serve_tcp(listener, router, limits, stopped.clone()));
    }
    if let Some(listener) = gate {
        let gateway = Gateway::new(engine.clone(), Arc::clone(&store), clock, &master);
        listeners.spawn(ssh::serve(listener, Arc::new(gateway), stopped.clone()));
    }
    if let Some(listener) = previews {
        let paths = http::preview_paths(app.clone());
        listeners.spawn(http::serve_tcp(listener, paths, limits, stopped.clone()));
    }
    announce(&listen, options);
    notify::tell(notify::READY);
    wait_for_end(options, &app, &*store).await?;
    tracing::info!("draining");
    notify::tell(notify::STOPPING);
    let _ = stop.send(true);
    app.sockets.end(limits.drain).await;
    while listeners.join_next().await.is_some() {}
    engine.shutdown().await;
    // Last, so that the next server finds everything written.
    drop(lock);
    Ok(())
}

/// Probes the host without a server, the lock or the data directory's content: in a folder of its own.
pub(crate) async fn doctor(config: Config) -> Result<Vec<Layer>> {
    let folder = std::env::temp_dir().join(format!("mayfly-doctor-{}", std::process::id()));
    let mut options = runtime_options(&config)?;
    options.data_dir.clone_from(&folder);
    options.pool_bytes = Some(DOCTOR_POOL);
    options.namespaces = 0;
    let layers = match LocalRuntime::open(options).await {
        Ok(runtime) => {
            let layers = runtime.doctor().await;
            if let Err(error) = runtime.clear_layers().await {
                tracing::warn!(%error, folder = %folder.display(), "what was generated stays");
            }
            layers
        }
        Err(error) => vec![Layer {
            name: "runtime".to_owned(),
            state: LayerState::Absent,
            required: true,
            evidence: error.message().to_owned(),
            remedy: error.hint().map(str::to_owned),
        }],
    };
    // What cannot be deleted is an empty folder below the host's temporary one.
    let _ = std::fs::remove_dir_all(&folder);
    Ok(layers)
}

struct Opened {
    engine: Engine,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    master: [u8; 32],
}

async fn open(config: &Config) -> Result<Opened> {
    let clock: Arc<dyn Clock> = Arc::new(HostClock::new()?);
    let entropy: Arc<dyn Entropy> = Arc::new(HostEntropy);
    let master = secrets::master_key(&config.storage.data_dir, &*entropy)?;
    let (database, store_clock) = (config.database(), Arc::clone(&clock));
    let store = tokio::task::spawn_blocking(move || SqliteStore::open(&database, &*store_clock));
    let mut options = runtime_options(config)?;
    options.network.denied.extend(own_addresses(config).await);
    options.network.internal = Some(config.internal_socket());
    let runtime = LocalRuntime::open(options);
    let (store, runtime) = tokio::join!(store, runtime);
    let store = store.map_err(|error| Error::internal("opening the store broke off", error))??;
    let store: Arc<dyn Store> = Arc::new(store);
    let runtime = runtime?;
    tell_profile(runtime.profile());
    tell_network(&runtime.network());
    let runtime: Arc<dyn Runtime> = Arc::new(runtime);
    let engine = Engine::open(
        Arc::clone(&store),
        runtime,
        Arc::clone(&clock),
        Arc::clone(&entropy),
        settings(config),
    )
    .await?;
    Ok(Opened { engine, store, clock, entropy, master })
}

fn tell_profile(profile: Profile) {
    match profile {
        Profile::Full => tracing::info!("isolation profile: full"),
        Profile::Unprivileged => tracing::info!(
            "isolation profile: unprivileged; cpu, memory and disk of sandboxes are not limited"
        ),
        Profile::None => tracing::warn!("isolation profile: none; sandboxes are not isolated"),
    }
}

fn tell_network(network: &Layer) {
    if network.state == LayerState::Holds {
        tracing::info!("network of sandboxes: {}", network.evidence);
    } else {
        tracing::warn!("sandboxes have loopback only: {}", network.evidence);
    }
}

async fn bind(config: &Config) -> Result<TcpListener> {
    let address = config.server.listen;
    TcpListener::bind(address).await.map_err(|error| occupied(address, error))
}

fn occupied(address: SocketAddr, error: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot listen on {address}: {error}"))
        .with_hint("end what listens there, or choose another address")
        .with_source(error)
}

/// A listener beside the main one, whose address this is. One that nobody asked for is left out where its port is
/// taken, with a line in the log.
async fn beside(
    config: &Config,
    wanted: Neighbour,
    main: Option<SocketAddr>,
    port: Option<u16>,
) -> Result<Option<TcpListener>> {
    let (address, asked) = match (wanted, main) {
        (Neighbour::Off, _) | (Neighbour::Beside, None) => return Ok(None),
        (Neighbour::At(address), _) => (address, true),
        // Where the main one takes any port, so does this.
        (Neighbour::Beside, Some(main)) if config.server.listen.port() == 0 => {
            (SocketAddr::new(main.ip(), 0), false)
        }
        (Neighbour::Beside, Some(main)) => {
            let next = main.port().saturating_add(1);
            (SocketAddr::new(main.ip(), port.unwrap_or(next)), false)
        }
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if asked => Err(occupied(address, error)),
        Err(error) => {
            tracing::warn!(%address, %error, "a listener beside the main one is left out");
            Ok(None)
        }
    }
}

/// Adopts `MAYFLY_API_KEY`; else makes the first key and tells it, unless there are keys.
async fn first_key(config: &Config, engine: &Engine) -> Result<()> {
    let given = std::env::var("MAYFLY_API_KEY").ok().filter(|key| !key.is_empty());
    if let Some(value) = engine.access().bootstrap_key(given.as_deref()).await? {
        secrets::tell_first_key(&config.storage.data_dir, &value)?;
    }
    Ok(())
}

fn announce(listen: &str, options: ServeOptions) {
    if options.dev {
        tracing::warn!("--dev: every program on this machine may use this server without a key");
    }
    if !options.background {
        // Whoever started the server waits for this line; nobody reading it is no reason to stop.
        let _ = writeln!(std::io::stdout(), "mayfly listens on http://{listen}");
    }
}

async fn wait_for_end(options: ServeOptions, app: &App, store: &dyn Store) -> Result<()> {
    let listen_to =
        |kind| signal(kind).map_err(|error| Error::internal("cannot listen to signals", error));
    let mut terminate = listen_to(SignalKind::terminate())?;
    let mut interrupt = listen_to(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = tokio::time::sleep(IDLE_LOOK), if options.background => {
                if app.idle() >= IDLE && !anything_runs(store).await {
                    return Ok(());
                }
            }
        }
    }
}

/// Whether a sandbox runs or is on its way; when the store does not answer, assume so.
async fn anything_runs(store: &dyn Store) -> bool {
    use mayfly_core::sandbox::State;
    store.living().await.map_or(true, |living| {
        living.iter().any(|sandbox| {
            !matches!(sandbox.state, State::Stopped | State::Archived | State::Error)
                && !sandbox.warm
        })
    })
}

fn http_options(config: &Config, options: ServeOptions, listen: &str) -> http::Options {
    let mut dev_hosts = Vec::new();
    if options.dev {
        dev_hosts.push(listen.to_owned());
        if let Some((_, port)) = listen.rsplit_once(':') {
            dev_hosts.push(format!("localhost:{port}"));
        }
    }
    http::Options {
        public_url: Some(config.server.public_url.clone()).filter(|url| !url.is_empty()),
        listen: listen.to_owned(),
        proxy_domain: None,
        ssh_port: None,
        dev_hosts,
        target: config.sandbox.target.clone(),
        default_snapshot: config.sandbox.snapshot.clone(),
        execute_timeout: Duration::from_secs(config.sandbox.execute_seconds),
        max_output: usize::try_from(config.sandbox.output_bytes).unwrap_or(usize::MAX),
        max_body: usize::try_from(config.server.max_body_bytes).unwrap_or(usize::MAX),
        rate: config.server.rate,
        websockets: usize::try_from(config.server.websockets).unwrap_or(usize::MAX),
        listeners: usize::try_from(config.server.listeners).unwrap_or(usize::MAX),
        cors_origins: config.server.cors_origins.clone(),
        data_dir: config.storage.data_dir.clone(),
        websockets_per_key: usize::try_from(config.server.websockets_per_key).unwrap_or(usize::MAX),
        ..http::Options::default()
    }
}

fn settings(config: &Config) -> Settings {
    let sandbox = &config.sandbox;
    Settings {
        target: sandbox.target.clone(),
        default_snapshot: sandbox.snapshot.clone(),
        max_sandboxes: usize::try_from(sandbox.max_count).unwrap_or(usize::MAX),
        max_resources: Resources {
            cpu: sandbox.max_cpu,
            memory_gib: sandbox.max_memory_gib,
            disk_gib: sandbox.max_disk_gib,
        },
        volume_gib: config.volumes.size_gib,
        max_volume_gib: config.volumes.max_size_gib,
        quota: config.tenants.quota(),
        keep_audit: config.tenants.audit_lines,
        network: NetworkSettings {
            default_block: config.network.default == NetworkDefault::Block,
            permitted: config.network.permit.clone(),
            has_proxy: config.network.proxy.is_some(),
        },
        warm: usize::try_from(config.pool.warm).unwrap_or(usize::MAX),
        patience: Duration::from_secs(sandbox.patience_seconds),
        stop_grace: Duration::from_secs(sandbox.stop_grace_seconds),
        keep_destroyed: Duration::from_secs(sandbox.keep_destroyed_seconds),
        ..Settings::default()
    }
}

/// Addresses under which this server is reached, also from outside: no sandbox needs them. Those of the host
/// itself are denied by the network process anyway.
async fn own_addresses(config: &Config) -> Vec<Cidr> {
    let mut found = vec![config.server.listen.ip()];
    let url = config.server.public_url.parse::<axum::http::Uri>().ok();
    if let Some(host) = url.as_ref().and_then(axum::http::Uri::host) {
        let host = host.trim_matches(['[', ']']).to_owned();
        let looked_up = tokio::net::lookup_host((host, 0));
        if let Ok(Ok(addresses)) = tokio::time::timeout(LOOK_UP, looked_up).await {
            found.extend(addresses.map(|address| address.ip()));
        } else {
            tracing::warn!(
                "the host of server.public_url is not resolved, so sandboxes may reach what it stands for"
            );
        }
    }
    found.retain(|address| !address.is_unspecified());
    found
        .into_iter()
        .filter_map(|address| address.to_canonical().to_string().parse().ok())
        .collect()
}

fn runtime_options(config: &Config) -> Result<RuntimeOptions> {
    let profile = match config.isolation.profile {
        ProfileChoice::Auto => Wanted::Auto,
        ProfileChoice::Full => Wanted::Full,
        ProfileChoice::Unprivileged => Wanted::Unprivileged,
        ProfileChoice::None => return Err(Error::unsupported("isolation.profile = \"none\"")),
    };
    Ok(RuntimeOptions {
        profile,
        pool_bytes: Some(config.storage.pool_bytes).filter(|bytes| *bytes > 0),
        reserve_bytes: config.storage.reserve_bytes,
        namespaces: usize::try_from(config.pool.namespaces).unwrap_or(usize::MAX),
        network: NetworkOptions {
            permitted: config.network.permit.clone(),
            denied: config.network.deny.clone(),
            resolvers: config.network.resolvers.clone(),
            connections: config.network.connections,
            flows: config.network.flows,
            proxy: config.network.proxy.clone(),
            steering: match config.network.steering {
                Steering::Auto => None,
                Steering::SkLookup => Some(Way::SkLookup),
                Steering::Tproxy => Some(Way::Tproxy),
            },
            ..NetworkOptions::default()
        },
        ceilings: Ceilings {
            pids: config.limits.pids,
            open_files: config.limits.open_files,
            log_bytes: config.limits.log_bytes,
        },
        allow_setuid: config.isolation.allow_setuid,
        ..RuntimeOptions::new(&config.storage.data_dir)
    })
}
