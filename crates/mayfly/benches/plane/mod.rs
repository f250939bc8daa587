//! Figures of the control plane: empty requests of many clients, pages of long lists, events.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use mayfly_core::id::{OrganizationId, SandboxId, ServerId};
use mayfly_core::limits::Resources;
use mayfly_core::network::NetworkPolicy;
use mayfly_core::ports::clock::Clock;
use mayfly_core::ports::runtime::Profile;
use mayfly_core::ports::store::{Change, Store as _};
use mayfly_core::sandbox::{Desired, Sandbox, State, Timers};
use mayfly_core::time::{Moment, Monotonic, Timestamp};
use mayfly_store::SqliteStore;
use tokio_tungstenite::tungstenite::Message;

use crate::measure::{Limit, Times, print, print_times, samples};

/// Clients at once that send empty requests.
const CLIENTS: usize = 64;
/// Sandboxes of the long list.
pub(crate) const LONG: u128 = 10_000;

/// What a store needs of a clock; the server that comes after moves the times to its own.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Moment {
        Moment { wall: Timestamp(1_700_000_000_000), mono: Monotonic::BOOT }
    }

    fn boot_id(&self) -> &'static str {
        "benchmark"
    }
}

/// Writes so many records into the database of a server that has ended, as broken ones, which nothing touches.
pub(crate) fn fill(folder: &Path, count: u128) {
    let work = async {
        let store =
            SqliteStore::open(&folder.join("state.db"), &Still).expect("the database opens");
        let setting =
            async |name: &str| store.setting(name).await.expect("it reads").expect("it is set");
        let organization: OrganizationId = setting("organization").await.parse().expect("an id");
        let server: ServerId = setting("server").await.parse().expect("an id");
        let snapshot = store.snapshots(organization).await.expect("a list").remove(0);
        let rows = (0..count).map(|number| {
            let id = SandboxId::from_uuid(uuid::Uuid::from_u128(number + 1));
            let wall = 1_700_000_000_000 + i64::try_from(number).expect("small");
            let at = Moment { wall: Timestamp(wall), mono: Monotonic::BOOT };
            Sandbox {
                id,
                organization,
                name: format!("listed-{number}"),
                snapshot: snapshot.id,
                snapshot_name: snapshot.name.clone(),
                user: "root".to_owned(),
                later_env: std::collections::BTreeMap::new(),
                env: [("PATH".to_owned(), "/usr/bin".to_owned())].into(),
                labels: [("number".to_owned(), number.to_string())].into(),
                public: false,
                target: "us".to_owned(),
                resources: Resources::DEFAULT,
                network: NetworkPolicy::default(),
                volumes: Vec::new(),
                profile: Profile::Full,
                state: State::Error,
                desired: Desired::Stopped,
                resume_to: None,
                error_reason: Some("a record of the benchmark".to_owned()),
                recoverable: false,
                timers: Timers { auto_archive: 0, ..Timers::default() },
                created: at,
                ttl_from: at,
                last_activity: at,
                stopped_since: None,
                updated_at: at.wall,
                server,
                idempotency_key: None,
                warm: false,
                version: 1,
            }
        });
        let changes =
            rows.map(|next| store.replace(Change { next, expected: None, events: vec![] }));
        for written in futures_util::stream::iter(changes).buffered(256).collect::<Vec<_>>().await {
            written.expect("a record is written");
        }
    };
    tokio::runtime::Runtime::new().expect("a runtime starts").block_on(work);
}

/// Pages of a hundred of the long list, by every order, and in the middle of it.
pub(crate) fn lists(mut get: impl FnMut(&str) -> serde_json::Value) {
    let n = samples(200);
    for (name, query) in [
        ("list page of 100 of 10,000 sandboxes", ""),
        ("the same by name", "&sort=name"),
        ("the same by last use", "&sort=lastActivityAt"),
        ("the same by a label", "&labels=%7B%22number%22%3A%229%22%7D"),
    ] {
        let mut times = Times::default();
        let mut cursor = String::new();
        for _ in 0..n {
            let began = Instant::now();
            let page = get(&format!("/api/sandbox?limit=100{query}{cursor}"));
            times.add(began.elapsed());
            assert!(!page["items"].as_array().expect("items").is_empty());
            cursor = page["nextCursor"]
                .as_str()
                .map_or_else(String::new, |next| format!("&cursor={next}"));
        }
        let limit = if query.is_empty() { Limit::AtMost(5000.0) } else { Limit::None };
        print_times(name, &times, None, limit);
    }
}

/// Empty authenticated requests of many clients at once, each waiting for its answer.
pub(crate) fn empty(address: &str, key: &str) {
    let each = samples(100_000) / CLIENTS;
    let request = format!(
        "GET /api/shared-regions HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\r\n"
    );
    let (ready, mut all) = (AtomicBool::new(false), Times::default());
    let (began, took) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut stream = BufReader::new(TcpStream::connect(address).expect("it listens"));
                let (ready, request) = (&ready, request.as_bytes());
                scope.spawn(move || {
                    while !ready.load(Ordering::Acquire) {
                        std::thread::yield_now();
                    }
                    (0..each).map(|_| one(&mut stream, request)).collect::<Vec<_>>()
                })
            })
            .collect();
        let began = Instant::now();
        ready.store(true, Ordering::Release);
        let took: Vec<_> =
            clients.into_iter().map(|client| client.join().expect("it ends")).collect();
        (began, took)
    });
    #[expect(clippy::cast_precision_loss, reason = "a hundred thousand")]
    let rate = (CLIENTS * each) as f64 / began.elapsed().as_secs_f64();
    took.into_iter().flatten().for_each(|time| all.add(time));
    let name = "HTTP empty authenticated requests per second, 64 clients";
    print(name, "1/s", CLIENTS * each, (rate, rate), None, Limit::AtLeast(20_000.0));
    print_times("the same, time of one", &all, None, Limit::None);
    let slow = all.percentile(0.99);
    let name = "the same, p99 of one";
    print(name, "us", all.count(), (slow, slow), None, Limit::AtMost(10_000.0));
}

fn one(stream: &mut BufReader<TcpStream>, request: &[u8]) -> Duration {
    let began = Instant::now();
    stream.get_mut().write_all(request).expect("it reads");
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("it answers");
        if let Some(rest) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = rest.trim().parse().unwrap_or(0);
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the whole body comes");
    began.elapsed()
}

/// From the answer that says a state has changed to the event that does; 0 where the event came first.
pub(crate) fn events(address: &str, key: &str, id: &str, mut call: impl FnMut(&str)) {
    let url = format!("ws://{address}/api/socket.io/?EIO=4&transport=websocket");
    let (sender, heard) = std::sync::mpsc::channel();
    let (token, listening) = (format!("40{{\"token\":\"{key}\"}}"), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        let work = async {
            let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("an upgrade");
            socket.send(Message::text(token)).await.expect("it reads");
            while let Some(Ok(message)) = socket.next().await {
                let text = message.to_text().unwrap_or_default();
                if text.starts_with("40") {
                    listening.0.send(()).expect("somebody waits");
                } else if text == "2" {
                    socket.send(Message::text("3")).await.expect("it reads");
                } else if text.contains("\"newState\":\"st")
                    && !text.contains("ing\"}]")
                    && sender.send(Instant::now()).is_err()
                {
                    return;
                }
            }
        };
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts")
            .block_on(work);
    });
    listening.1.recv().expect("it listens");
    let mut times = Times::default();
    for round in 0..samples(200) {
        call(&format!(
            "/api/sandbox/{id}/{}",
            if round % 2 == 0 { "stop?force=true" } else { "start" }
        ));
        let answered = Instant::now();
        let told = heard.recv_timeout(Duration::from_secs(10)).expect("the event comes");
        times.add(told.saturating_duration_since(answered));
    }
    print_times("event after a state change", &times, None, Limit::AtMost(5000.0));
}
