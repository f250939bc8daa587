//! The edge behind a real listener, and clients that speak WebSocket.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{Edge, KEY};
use crate::http::app::Options;
use crate::http::{Limits, router, serve_tcp};

const SOON: Duration = Duration::from_secs(10);

/// A server that listens.
pub(super) struct Site {
    pub(super) edge: Edge,
    pub(super) address: SocketAddr,
    /// A started sandbox.
    pub(super) id: String,
    stop: watch::Sender<bool>,
}

/// A client's end of a WebSocket.
pub(super) struct Talk {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The subprotocol that was echoed.
    pub(super) protocol: Option<String>,
}

/// What a conversation was, to its end.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) texts: Vec<Value>,
    pub(super) bytes: Vec<u8>,
    pub(super) frames: usize,
    pub(super) code: u16,
    pub(super) reason: String,
}

impl Site {
    pub(super) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(super) async fn with(options: Options) -> Self {
        let edge = Edge::with(options).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve_tcp(listener, router(edge.app.clone()), Limits::default(), stopped));
        let id = edge.sandbox().await;
        Self { edge, address, id, stop }
    }

    /// A path below the sandbox's toolbox.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("/toolbox/{}/process/{rest}", self.id)
    }

    /// Connects with the key.
    pub(super) async fn talk(&self, rest: &str, protocols: &[&str]) -> Talk {
        let key = format!("Bearer {KEY}");
        self.open(&self.path(rest), Some(&key), protocols).await.expect("an upgrade")
    }

    /// Connects, or gives the status of the refusal.
    pub(super) async fn open(
        &self,
        path: &str,
        key: Option<&str>,
        protocols: &[&str],
    ) -> Result<Talk, u16> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        if let Some(key) = key {
            request.headers_mut().insert("authorization", key.parse().unwrap());
        }
        if !protocols.is_empty() {
            let offered = protocols.join(", ").parse().unwrap();
            request.headers_mut().insert("sec-websocket-protocol", offered);
        }
        match timeout(SOON, connect_async(request)).await.expect("an answer") {
            Ok((socket, response)) => {
                let echoed = response.headers().get("sec-websocket-protocol");
                let protocol = echoed.map(|value| value.to_str().unwrap().to_owned());
                Ok(Talk { socket, protocol })
            }
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Talk {
    pub(super) async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    /// The next message that is text or bytes; `None` = the end.
    pub(super) async fn next(&mut self) -> Option<Message> {
        loop {
            match timeout(SOON, self.socket.next()).await.expect("a message")? {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return Some(message),
                Err(_) => return None,
            }
        }
    }

    /// The next message as JSON.
    pub(super) async fn json(&mut self) -> Value {
        let message = self.next().await.expect("a message");
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }

    /// Reads bytes until they hold the text.
    pub(super) async fn until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            match self.next().await {
                Some(Message::Binary(bytes)) => seen.extend_from_slice(&bytes),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&seen)),
            }
        }
        String::from_utf8(seen).unwrap()
    }

    /// Everything to the end.
    pub(super) async fn rest(&mut self) -> Heard {
        let mut heard = Heard::default();
        while let Some(message) = self.next().await {
            match message {
                Message::Text(text) => heard.texts.push(serde_json::from_str(&text).unwrap()),
                Message::Binary(bytes) => {
                    heard.bytes.extend_from_slice(&bytes);
                    heard.frames += 1;
                }
                Message::Close(Some(frame)) => {
                    heard.code = frame.code.into();
                    heard.reason = frame.reason.to_string();
                }
                _ => {}
            }
        }
        heard
    }

    pub(super) async fn leave(mut self) {
        let _ = self.socket.close(None).await;
    }
}
