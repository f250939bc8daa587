//! What every handler can reach.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header::HOST;
use axum::http::request::Parts as RequestParts;
use mayfly_core::access::Caller;
use mayfly_core::ports::clock::Clock;
use mayfly_core::ports::entropy::Entropy;
use mayfly_core::ports::store::Store;
use mayfly_core::time::Timestamp;
use mayfly_engine::Engine;

use super::counters::Counters;
use super::fault::{Answer, Fault};
use super::preview::Pool;
use super::rate::Rate;
use super::sockets::Sockets;

/// Failed authentications per second and address, sustained; the burst is twice that.
const STRANGERS: u32 = 20;

/// Choices of the operator about the HTTP edge.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Scheme and host that clients reach the server by; `None` = the Host of each request.
    pub(crate) public_url: Option<String>,
    /// The listener's own `host:port`, used where a request has no usable Host.
    pub(crate) listen: String,
    /// Domain, with its port, below which previews are seen; `None` = nobody could reach them.
    pub(crate) proxy_domain: Option<String>,
    /// Port of the SSH gateway; `None` = there is none.
    pub(crate) ssh_port: Option<u16>,
    /// Hosts that pass without a key; empty = keys are always needed.
    pub(crate) dev_hosts: Vec<String>,
    /// Region label of sandboxes whose caller names none.
    pub(crate) target: String,
    /// Snapshot for callers who name none.
    pub(crate) default_snapshot: String,
    /// Longest time of one command.
    pub(crate) execute_timeout: Duration,
    /// Most bytes of output in one answer.
    pub(crate) max_output: usize,
    /// Most bytes of a JSON body.
    pub(crate) max_body: usize,
    /// Requests per second and key, or address where there is no key, sustained; the burst is twice that.
    pub(crate) rate: u32,
    /// web sockets at once.
    pub(crate) websockets: usize,
    /// web sockets at once of one key, or of all callers without one.
    pub(crate) websockets_per_key: usize,
    /// How often open web sockets are looked at: whether client and key are still good.
    pub(crate) websocket_look: Duration,
    /// Listeners to events at once of one organization.
    pub(crate) listeners: usize,
    /// Between two pings to a listener; it has four fifths of that to answer.
    pub(crate) event_ping: Duration,
    /// Origins whose pages may read answers in a browser, such as `https://app.example.com`.
    pub(crate) cors_origins: Vec<String>,
    /// Folder of the server's state.
    pub(crate) data_dir: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            public_url: None,
            listen: "127.0.0.1:3457".to_owned(),
            proxy_domain: Some("localhost:3457".to_owned()),
            ssh_port: Some(2222),
            dev_hosts: Vec::new(),
            target: "us".to_owned(),
            default_snapshot: "host".to_owned(),
            execute_timeout: Duration::from_hours(1),
            max_output: 1 << 20,
            max_body: 1 << 20,
            rate: 10_000,
            websockets: 10_000,
            websockets_per_key: 5_000,
            websocket_look: Duration::from_secs(25),
            listeners: 1_000,
            event_ping: Duration::from_secs(25),
            cors_origins: Vec::new(),
            data_dir: PathBuf::new(),
        }
    }
}

impl Options {
    /// Scheme that clients reach the server by.
    pub(crate) fn scheme(&self) -> &'static str {
        let is_secure = self.public_url.as_ref().is_some_and(|url| url.starts_with("https:"));
        if is_secure { "https" } else { "http" }
    }
}

/// The parts an [`App`] is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Use cases.
    pub(crate) engine: Engine,
    /// Settings of the server itself.
    pub(crate) store: Arc<dyn Store>,
    /// Time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Secrets and boundaries.
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Key that tokens are derived from.
    pub(crate) master: [u8; 32],
    /// Choices of the operator.
    pub(crate) options: Options,
}

/// State of the router; a cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) master: [u8; 32],
    pub(crate) options: Options,
    pub(crate) rate: Rate,
    /// Failed authentications by address.
    pub(crate) strangers: Rate,
    pub(crate) counters: Counters,
    pub(crate) sockets: Sockets,
    /// Connections into sandboxes for their visitors.
    pub(crate) previews: Pool,
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    /// Puts the parts together.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { engine, store, clock, entropy, master, options } = parts;
        let rate = Rate::new(options.rate);
        let strangers = Rate::new(STRANGERS);
        let counters = Counters::new(clock.now().mono);
        let sockets =
            Sockets::new(options.websockets, options.websockets_per_key, options.websocket_look);
        Self(Arc::new(Inner {
            engine,
            store,
            clock,
            entropy,
            master,
            options,
            rate,
            strangers,
            counters,
            sockets,
            previews: Pool::default(),
        }))
    }

    /// Wall-clock time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// Time since the last request; none while a WebSocket is open.
    pub(crate) fn idle(&self) -> Duration {
        if self.sockets.open() > 0 {
            return Duration::ZERO;
        }
        self.clock.now().mono.since(self.counters.last_request())
    }

    /// Random lower-case hex digits, 2 per byte.
    pub(crate) fn random_hex<const N: usize>(&self) -> String {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        hex(&bytes)
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// The authenticated caller of the request.
#[derive(Clone, Debug)]
pub(crate) struct Who(pub(crate) Arc<Caller>);

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut RequestParts, _: &S) -> Answer<Self> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            Fault::unauthenticated(
                "this endpoint needs an API key: send `Authorization: Bearer <key>`",
            )
        })
    }
}

/// Scheme and host under which the client sees this server, without a trailing slash.
#[derive(Clone, Debug)]
pub(crate) struct Seen(pub(crate) String);

impl FromRequestParts<App> for Seen {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut RequestParts, app: &App) -> Answer<Self> {
        if let Some(url) = &app.options.public_url {
            return Ok(Self(url.trim_end_matches('/').to_owned()));
        }
        let plain = |host: &&str| {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
        };
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).filter(plain);
        Ok(Self(format!("http://{}", host.unwrap_or(&app.options.listen))))
    }
}
