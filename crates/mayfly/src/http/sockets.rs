//! Web sockets: how many there may be, who may keep one open, and their end.
//!
//! A socket is looked at every half a minute: a client that is gone is let go, and so is one whose key was
//! revoked meanwhile.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Interval, MissedTickBehavior, timeout};

use super::app::App;
use super::fault::{Answer, Fault};
use super::pass::Pass;

/// Largest message of a client.
const LARGEST: usize = 4 << 20;
/// Bytes read from a socket at once; with ten thousand of them the default would be over a gigabyte.
const READ_BUFFER: usize = 8 << 10;
/// Longest time in which a client takes nothing of a message.
const SEND: Duration = Duration::from_secs(25);
/// How long a client may take to answer a close.
const FAREWELL: Duration = Duration::from_secs(2);
/// Sockets at once of one address that have not said yet whose they are.
const STRANGERS: usize = 100;
/// Looks at a client that says nothing, not even a pong, before it is let go.
const SILENT_LOOKS: u32 = 3;

/// All web sockets of the server.
#[derive(Debug)]
pub(crate) struct Sockets {
    slots: Arc<Semaphore>,
    most: usize,
    most_per_caller: usize,
    hasher: RandomState,
    by_caller: Mutex<HashMap<u64, usize>>,
    stop: watch::Sender<bool>,
    look: Duration,
}

impl Sockets {
    /// At most so many, in all and per caller, each looked at in this rhythm.
    pub(crate) fn new(most: usize, most_per_caller: usize, look: Duration) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self {
            slots: Arc::new(Semaphore::new(most)),
            most,
            most_per_caller,
            hasher: RandomState::new(),
            by_caller: Mutex::default(),
            stop: watch::Sender::new(false),
            look,
        }
    }

    /// Open ones.
    pub(crate) fn open(&self) -> usize {
        self.most - self.slots.available_permits()
    }

    /// Tells all clients that the server goes away, and waits until they are gone, within the time.
    pub(crate) async fn end(&self, within: Duration) {
        self.stop.send_replace(true);
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        // Those that are left are cut off with the process.
        let _ = timeout(within, self.slots.acquire_many(all)).await;
    }

    fn ticket(&self, app: &App, pass: &Pass) -> Answer<Ticket> {
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        let slot = slot.map_err(|_| many("the server", self.most))?;
        let most = match pass {
            Pass::Stranger(_) => STRANGERS,
            _ => self.most_per_caller,
        };
        let caller = self.count(&pass.caller(), most)?;
        Ok(Ticket { app: app.clone(), caller, _slot: slot })
    }

    /// One more of this caller, who may have so many.
    fn count(&self, caller: &str, most: usize) -> Answer<u64> {
        let caller = self.hasher.hash_one(caller);
        let mut by_caller = self.by_caller.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_caller.get(&caller).copied().unwrap_or_default();
        if count >= most {
            return Err(many("this caller", most));
        }
        by_caller.insert(caller, count + 1);
        Ok(caller)
    }

    fn uncount(&self, caller: u64) {
        let mut by_caller = self.by_caller.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_caller.get_mut(&caller) {
            *count -= 1;
            if *count == 0 {
                by_caller.remove(&caller);
            }
        }
    }
}

fn many(what: &str, most: usize) -> Fault {
    let message = format!("{what} has {most} WebSockets open, which is the most; close some");
    let mut fault = Fault::new(StatusCode::TOO_MANY_REQUESTS, message);
    fault.retry_after = Some(1);
    fault
}

/// Room for one socket.
#[derive(Debug)]
struct Ticket {
    app: App,
    caller: u64,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.app.sockets.uncount(self.caller);
    }
}

/// A request that asks for a WebSocket.
#[derive(Debug)]
pub(crate) struct Upgrade {
    inner: WebSocketUpgrade,
    offered: Vec<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let inner =
            WebSocketUpgrade::from_request_parts(parts, state).await.map_err(|refusal| {
                Fault::bad_request(format!(
                    "this endpoint speaks WebSocket: {}",
                    refusal.body_text()
                ))
            })?;
        let split = |value: &HeaderValue| -> Vec<String> {
            let text = value.to_str().unwrap_or_default();
            text.split(',').map(|one| one.trim().to_owned()).collect()
        };
        let offered = inner.requested_protocols().flat_map(split).collect();
        Ok(Self { inner, offered })
    }
}

impl Upgrade {
    /// Subprotocols that the client offers, in its order.
    pub(crate) fn offered(&self) -> &[String] {
        &self.offered
    }

    /// Takes room for the socket; 429 when there is none.
    pub(crate) fn admit(self, app: &App, pass: Pass) -> Answer<Admitted> {
        let ticket = app.sockets.ticket(app, &pass)?;
        Ok(Admitted { upgrade: self, ticket, pass })
    }
}

/// A request for a WebSocket that has its room.
#[derive(Debug)]
pub(crate) struct Admitted {
    upgrade: Upgrade,
    ticket: Ticket,
    pass: Pass,
}

impl Admitted {
    /// Switches to WebSocket, echoing the preferred subprotocol where it is offered, else the first offered one
    /// (browsers break off when none is echoed), and runs the conversation.
    pub(crate) fn accept<F>(
        self,
        preferred: &str,
        talk: impl FnOnce(Line) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { upgrade: Upgrade { mut inner, offered }, ticket, pass } = self;
        let chosen = offered.iter().find(|one| *one == preferred).or_else(|| offered.first());
        if let Some(value) = chosen.and_then(|one| HeaderValue::from_str(one).ok()) {
            inner.set_selected_protocol(value);
        }
        let look = ticket.app.sockets.look;
        let stop = ticket.app.sockets.stop.subscribe();
        let upgrade = inner
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(LARGEST)
            .max_frame_size(LARGEST);
        upgrade.on_upgrade(move |socket| {
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + look, look);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            talk(Line { socket, ticket, pass, ticks, stop, due: false, silent: 0 })
        })
    }
}

/// What comes from the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A message, text or binary.
    Data(Bytes),
    /// It left, or was let go.
    Left,
}

/// The other end is gone, or takes nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// One open WebSocket.
#[derive(Debug)]
pub(crate) struct Line {
    socket: WebSocket,
    ticket: Ticket,
    pass: Pass,
    ticks: Interval,
    stop: watch::Receiver<bool>,
    /// Whether a look at the client is due.
    due: bool,
    /// Looks since it said anything.
    silent: u32,
}

impl Line {
    /// Waits for the next message. Cancel-safe. After [`Incoming::Left`] the socket is closed.
    pub(crate) async fn receive(&mut self) -> Incoming {
        loop {
            if self.due && !self.look().await {
                return Incoming::Left;
            }
            let stopped = tokio::select! {
                message = self.socket.recv() => {
                    self.silent = 0;
                    match message {
                        Some(Ok(Message::Text(text))) => return Incoming::Data(text.into()),
                        Some(Ok(Message::Binary(bytes))) => return Incoming::Data(bytes),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Incoming::Left,
                    }
                    false
                }
                _ = self.ticks.tick() => {
                    self.due = true;
                    false
                }
                _ = self.stop.wait_for(|stop| *stop) => true,
            };
            if stopped {
                self.say_close(close_code::AWAY, "the server goes away").await;
                return Incoming::Left;
            }
        }
    }

    /// Whether the client is still there and still allowed in.
    async fn look(&mut self) -> bool {
        if self.silent >= SILENT_LOOKS {
            return false;
        }
        if let Err(reason) = self.pass.check(&self.ticket.app).await {
            self.say_close(close_code::POLICY, &reason).await;
            return false;
        }
        if self.send(Message::Ping(Bytes::new())).await.is_err() {
            return false;
        }
        self.due = false;
        self.silent += 1;
        true
    }

    /// The client has said who it is: it counts as this caller, who may have so many, and is judged by this pass.
    pub(crate) fn introduce(&mut self, pass: Pass, caller: &str, most: usize) -> Answer<()> {
        let sockets = &self.ticket.app.sockets;
        let counted = sockets.count(caller, most)?;
        sockets.uncount(std::mem::replace(&mut self.ticket.caller, counted));
        self.pass = pass;
        Ok(())
    }

    /// Sends a message; waits while the client takes it.
    pub(crate) async fn send(&mut self, message: Message) -> Result<(), Gone> {
        match timeout(SEND, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Sends a JSON object as text.
    pub(crate) async fn tell(&mut self, value: &serde_json::Value) -> Result<(), Gone> {
        self.send(Message::text(value.to_string())).await
    }

    /// Ends the conversation and waits until the client has read so.
    pub(crate) async fn close(mut self, code: u16, reason: &str) {
        self.say_close(code, reason).await;
        let farewell = async {
            while let Some(Ok(message)) = self.socket.recv().await {
                if matches!(message, Message::Close(_)) {
                    break;
                }
            }
        };
        // A client that does not answer has had its time.
        let _ = timeout(FAREWELL, farewell).await;
    }

    async fn say_close(&mut self, code: u16, reason: &str) {
        // The protocol allows 123 bytes.
        let reason = &reason[..reason.floor_char_boundary(123)];
        // One that is gone needs no farewell.
        let _ = self.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
    }
}
