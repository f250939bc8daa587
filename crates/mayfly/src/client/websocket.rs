//! Live connections to the server, with the same place and key as any request.

use hyper::Method;
use hyper::header::{
    CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use mayfly_core::{Error, Kind, Result};
use tokio_tungstenite::tungstenite::Error as Broken;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Client, Stream, refusal};

/// An open WebSocket.
pub(crate) type WebSocket = WebSocketStream<Box<dyn Stream>>;

impl Client {
    /// Opens a WebSocket at a path, offering these subprotocols.
    pub(crate) async fn websocket(&self, path: &str, protocols: &[&str]) -> Result<WebSocket> {
        let mut request = self
            .head(Method::GET, path)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, generate_key());
        if !protocols.is_empty() {
            request = request.header(SEC_WEBSOCKET_PROTOCOL, protocols.join(", "));
        }
        let mut request = request.body(()).map_err(|error| {
            Error::invalid(format!("cannot ask for {path}: {error}")).with_source(error)
        })?;
        // The handshake writes only the path of it, but asks for a whole address.
        let whole = format!("ws://localhost{}", request.uri());
        *request.uri_mut() = whole
            .parse()
            .map_err(|error| Error::invalid(format!("cannot ask for {path}: {error}")))?;
        match client_async(request, self.stream().await?).await {
            Ok((socket, _)) => Ok(socket),
            Err(Broken::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err(refusal(response.status(), body))
            }
            Err(error) => Err(broken(path, error)),
        }
    }
}

/// A WebSocket that ended without saying so.
pub(crate) fn broken(what: &str, error: Broken) -> Error {
    Error::new(Kind::Unavailable, format!("the connection for {what} broke: {error}"))
        .with_source(error)
}
