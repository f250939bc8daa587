//! `/api/socket.io`: what happens to sandboxes, told over Socket.IO 4 by WebSocket alone.
//!
//! ```text
//! S 0{sid,..}   C 40{"token":"<key>"}   S 40{sid}, or 44{message} and nothing more
//! S 42["sandbox.state.updated",{sandbox,oldState,newState}], 42["sandbox.created",{..}]
//! S 2   C 3     within the time, or the connection ends
//! ```
//! A listener hears its key's organization only. One that takes its news too slowly is let go: it has missed
//! some, and finds out by asking.

use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, close_code};
use axum::extract::{Extension, State};
use axum::response::Response;
use axum::routing::any;
use mayfly_core::id::OrganizationId;
use mayfly_engine::{Listener, News};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Seen, Who};
use super::events_packet::{self as packet, Packet};
use super::fault::{Answer, Fault};
use super::gate::{self, Peer};
use super::input::Params;
use super::pass::Pass;
use super::sandbox_wire::SandboxBody;
use super::sockets::{Incoming, Line, Upgrade};

/// Longest wait for the client's connect packet; clients give up after 5 seconds themselves.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// Answer to a token that opens nothing.
const UNAUTHORIZED: &str = "Unauthorized";

/// A change of state as it is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Updated {
    sandbox: SandboxBody,
    old_state: &'static str,
    new_state: &'static str,
}

/// What happens to sandboxes, as Socket.IO 4 over WebSocket; the key comes in the connect packet.
#[utoipa::path(get, path = "/api/socket.io/", tag = "events", security(()),
    params(("EIO" = u32, Query, description = "4"), ("transport" = String, Query, description = "websocket")),
    responses((status = 101, description = "The connection speaks WebSocket from here on")))]
async fn open(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    who: Option<Extension<Who>>,
    pass: Option<Extension<Pass>>,
    Seen(seen): Seen,
    params: Params,
    upgrade: Result<Upgrade, Fault>,
) -> Answer<Response> {
    if params.get("transport") != Some("websocket") {
        return Err(Fault::bad_request("transport: this endpoint speaks `websocket` only"));
    }
    if params.get("EIO") != Some("4") {
        return Err(Fault::bad_request("EIO: this endpoint speaks version 4 only"));
    }
    let upgrade = upgrade?;
    let from = gate::address(peer.map(|Extension(peer)| peer));
    let vouched = match (who, pass) {
        (Some(Extension(Who(caller))), Some(Extension(pass))) => Some((caller.organization, pass)),
        _ => None,
    };
    if vouched.is_none() {
        let many = "too many attempts without a valid API key come from this address";
        app.strangers.check(&from, app.clock.now().mono).map_err(gate::too_many(many))?;
    }
    let admitted = upgrade.admit(&app, Pass::Stranger(from.as_str().into()))?;
    let guest = Guest { app, from, vouched, seen };
    Ok(admitted.accept("", move |line| guest.talk(line)))
}

/// A client that has not said yet who it is.
struct Guest {
    app: App,
    from: String,
    /// Whoever comes by a way that needs no token.
    vouched: Option<(OrganizationId, Pass)>,
    seen: String,
}

impl Guest {
    async fn talk(self, mut line: Line) {
        let ping = self.app.options.event_ping;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let hello = packet::open(&self.app.random_hex::<10>(), millis(ping), millis(pong(ping)));
        if line.send(Message::text(hello)).await.is_err() {
            return;
        }
        let Ok(said) = tokio::time::timeout(INTRODUCTION, introduction(&mut line)).await else {
            return line.close(close_code::POLICY, "no connect packet came").await;
        };
        let Some(token) = said else { return };
        match self.admit(&mut line, token).await {
            Ok(heard) => {
                let welcome = packet::welcome(&self.app.random_hex::<10>());
                if line.send(Message::text(welcome)).await.is_ok() {
                    tell(line, heard, &self.seen, ping).await;
                }
            }
            Err(reason) => {
                // A client that is gone needs no reason.
                let _ = line.send(Message::text(packet::refusal("", &reason))).await;
                line.close(close_code::POLICY, &reason).await;
            }
        }
    }

    /// Who the token says it is; listening begins before the client is told that it does.
    async fn admit(&self, line: &mut Line, token: Option<String>) -> Result<Listener, String> {
        let (organization, pass) = match (token, &self.vouched) {
            (Some(token), _) => match self.app.engine.access().authenticate(&token).await {
                Ok(caller) => (caller.organization, Pass::Key(token.into())),
                Err(error) => {
                    tracing::debug!(%error, "a listener was not let in");
                    let now = self.app.clock.now().mono;
                    // Only counted: the answer is a refusal already.
                    let _ = self.app.strangers.take(&self.from, now);
                    return Err(UNAUTHORIZED.to_owned());
                }
            },
            (None, Some((organization, pass))) => (*organization, pass.clone()),
            (None, None) => return Err(UNAUTHORIZED.to_owned()),
        };
        let caller = format!("events of {organization}");
        line.introduce(pass, &caller, self.app.options.listeners).map_err(|fault| fault.message)?;
        Ok(self.app.engine.listen(organization))
    }
}

/// The token of the first connect packet, where it has one; `None` = the client left or speaks something else.
async fn introduction(line: &mut Line) -> Option<Option<String>> {
    loop {
        let Incoming::Data(bytes) = line.receive().await else { return None };
        match Packet::parse(std::str::from_utf8(&bytes).ok()?)? {
            Packet::Connect(token) => return Some(token),
            Packet::Elsewhere(namespace) => {
                let refusal = packet::refusal(&namespace, "Invalid namespace");
                line.send(Message::text(refusal)).await.ok()?;
            }
            Packet::Pong | Packet::Said => {}
            Packet::Leave => return None,
        }
    }
}

/// How long a client may take to answer a ping.
fn pong(ping: Duration) -> Duration {
    ping * 4 / 5
}

/// Tells the news until the client leaves, falls silent, or is too slow.
async fn tell(mut line: Line, mut heard: Listener, seen: &str, every: Duration) {
    let mut pings = interval_at(Instant::now() + every, every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answer_by: Option<Instant> = None;
    loop {
        let deadline = answer_by.unwrap_or_else(Instant::now);
        let text = tokio::select! {
            news = heard.recv() => match news {
                Ok(news) => said(news, seen),
                Err(_) => return line.close(close_code::POLICY, "too slow: news was missed").await,
            },
            incoming = line.receive() => {
                let Incoming::Data(bytes) = incoming else { return };
                let text = std::str::from_utf8(&bytes).ok().filter(|text| text.len() <= packet::LARGEST);
                match text.and_then(Packet::parse) {
                    Some(Packet::Pong) => answer_by = None,
                    Some(Packet::Said | Packet::Connect(_)) => {}
                    Some(Packet::Elsewhere(namespace)) => {
                        let refusal = packet::refusal(&namespace, "Invalid namespace");
                        if line.send(Message::text(refusal)).await.is_err() {
                            return;
                        }
                    }
                    Some(Packet::Leave) => return line.close(close_code::NORMAL, "").await,
                    None => return line.close(close_code::PROTOCOL, "no packet of Socket.IO").await,
                }
                continue;
            }
            _ = pings.tick() => {
                answer_by = answer_by.or_else(|| Some(Instant::now() + pong(every)));
                packet::PING.to_owned()
            }
            () = sleep_until(deadline), if answer_by.is_some() => {
                return line.close(close_code::POLICY, "a ping was not answered").await;
            }
        };
        if line.send(Message::text(text)).await.is_err() {
            return;
        }
    }
}

fn said(News { sandbox, from }: News, seen: &str) -> String {
    let new_state = sandbox.state.as_str();
    let sandbox = SandboxBody::new(std::sync::Arc::unwrap_or_clone(sandbox), seen);
    match from {
        None => packet::event("sandbox.created", &sandbox),
        Some(from) => {
            let updated = Updated { sandbox, old_state: from.as_str(), new_state };
            packet::event("sandbox.state.updated", &updated)
        }
    }
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(open))
}

/// The same without the slash, and what other transports send.
pub(crate) fn others() -> Router<App> {
    let refused =
        async || Fault::bad_request("transport: this endpoint speaks `websocket` only, by GET");
    Router::new()
        .route("/api/socket.io/", axum::routing::post(refused))
        .route("/api/socket.io", any(refused).get(open))
}
