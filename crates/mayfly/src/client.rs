//! HTTP client of the command line: over TCP with a key, or over the server's private socket.

mod websocket;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, UPGRADE, USER_AGENT,
};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use mayfly_core::{Error, Kind, Result};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

pub(crate) use websocket::{WebSocket, broken};

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Most bytes of an answer that is read as a whole.
const ANSWER: usize = 64 << 20;

/// Body of a request.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// By URL, as an ordinary client.
    Url {
        /// `host:port`.
        authority: String,
        /// Path before `/api`, without a trailing slash.
        prefix: String,
        /// API key, where there is one.
        key: Option<String>,
    },
    /// By the socket in the data directory; the kernel vouches for us.
    Socket(PathBuf),
}

impl Place {
    /// The place of a URL such as `http://127.0.0.1:3457`, with or without `/api` at its end.
    pub(crate) fn of_url(url: &str, key: Option<String>) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!("`{url}` is not the URL of a server"))
                .with_hint("expected something like http://127.0.0.1:3457")
        };
        let parsed: Uri = url.parse().map_err(|_| wrong())?;
        match parsed.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(Error::new(Kind::Unsupported, "the command line speaks http only")
                    .with_hint("use the http address of the server, or run mayfly on its host"));
            }
            _ => return Err(wrong()),
        }
        let authority = parsed.authority().ok_or_else(wrong)?;
        let port = authority.port_u16().unwrap_or(80);
        let path = parsed.path().trim_end_matches('/');
        Ok(Self::Url {
            authority: format!("{}:{port}", authority.host()),
            prefix: path.strip_suffix("/api").unwrap_or(path).to_owned(),
            key,
        })
    }
}

/// A connection to the server, whatever it runs over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Speaks to one server; a connection per request, because commands are short.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    place: Place,
    /// Organization to act in, for callers who need no key.
    organization: Option<String>,
}

impl Client {
    /// A client of the server at this place.
    pub(crate) fn new(place: Place) -> Self {
        Self { place, organization: None }
    }

    /// The same, acting in an organization, by id or name. With a key only the key's own one is possible.
    pub(crate) fn within(self, organization: Option<String>) -> Result<Self> {
        if organization.is_some() && matches!(self.place, Place::Url { key: Some(_), .. }) {
            return Err(Error::invalid("an API key acts in its own organization only")
                .with_hint("leave out --org, or use the server's own machine without --url"));
        }
        Ok(Self { organization, ..self })
    }

    /// Sends JSON (or nothing) and reads JSON (or nothing).
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let text = body.map(ToString::to_string).unwrap_or_default();
        let length = text.len() as u64;
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
        let response = self.send(method, path, "application/json", length, body).await?;
        let bytes = whole(response).await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::internal(format!("the answer to {path} is not JSON"), error))
    }

    /// Sends bytes of a known length.
    pub(crate) async fn upload(&self, path: &str, length: u64, body: Body) -> Result<()> {
        let response =
            self.send(Method::POST, path, "application/octet-stream", length, body).await?;
        whole(response).await.map(drop)
    }

    /// Reads bytes piece by piece.
    pub(crate) async fn download(
        &self,
        path: &str,
        mut sink: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let body = Full::default().map_err(|never| match never {}).boxed_unsync();
        let response = self.send(Method::GET, path, "application/json", 0, body).await?;
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| cut(path, error))?;
            if let Some(bytes) = frame.data_ref() {
                sink(bytes)?;
            }
        }
        Ok(())
    }

    /// Asks to change the connection's protocol; its bytes from then on.
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        protocol: &str,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>> {
        let body = Full::default().map_err(|never| match never {}).boxed_unsync();
        let request = self.head(Method::GET, path).header(CONNECTION, "upgrade");
        let response = self.ask(path, request.header(UPGRADE, protocol), body).await?;
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| cut(path, error))?;
        Ok(TokioIo::new(upgraded))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        length: u64,
        body: Body,
    ) -> Result<Response<Incoming>> {
        let mut request = self.head(method, path).header(CONTENT_LENGTH, length);
        if length > 0 {
            request = request.header(CONTENT_TYPE, kind);
        }
        self.ask(path, request, body).await
    }

    /// A request to this path with what every request carries.
    fn head(&self, method: Method, path: &str) -> Builder {
        let (host, prefix, key) = match &self.place {
            Place::Url { authority, prefix, key } => {
                (authority.as_str(), prefix.as_str(), key.as_deref())
            }
            Place::Socket(_) => ("localhost", "", None),
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .header(HOST, host)
            .header(USER_AGENT, concat!("mayfly/", env!("CARGO_PKG_VERSION")));
        let request = match key {
            Some(key) => request.header(AUTHORIZATION, format!("Bearer {key}")),
            None => request,
        };
        match &self.organization {
            Some(organization) => request.header("x-daytona-organization-id", organization),
            None => request,
        }
    }

    async fn ask(&self, path: &str, request: Builder, body: Body) -> Result<Response<Incoming>> {
        let request = request.body(body).map_err(|error| {
            Error::invalid(format!("cannot ask for {path}: {error}")).with_source(error)
        })?;
        let response =
            exchange(self.stream().await?, request).await.map_err(|error| cut(path, error))?;
        if response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let status = response.status();
        Err(refusal(status, &whole(response).await?))
    }

    async fn stream(&self) -> Result<Box<dyn Stream>> {
        match &self.place {
            Place::Url { authority, .. } => {
                let stream = self.reach(TcpStream::connect(authority.as_str())).await?;
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Place::Socket(path) => Ok(Box::new(self.reach(UnixStream::connect(path)).await?)),
        }
    }

    async fn reach<S>(&self, connect: impl Future<Output = std::io::Result<S>>) -> Result<S> {
        let name = match &self.place {
            Place::Url { authority, .. } => authority.clone(),
            Place::Socket(path) => path.display().to_string(),
        };
        let out_of_reach = |why: String| {
            Error::new(Kind::Unavailable, format!("no server answers at {name}: {why}"))
                .with_hint("start one with `mayfly serve`, or check --url and MAYFLY_URL")
        };
        match tokio::time::timeout(CONNECT, connect).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(out_of_reach(error.to_string()).with_source(error)),
            Err(_) => Err(out_of_reach(format!("no connection within {} s", CONNECT.as_secs()))),
        }
    }
}

/// A path segment or query value, safe to put into a URL.
pub(crate) fn encode(text: &str) -> String {
    const KEEP: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEEP).to_string()
}

async fn exchange(
    stream: Box<dyn Stream>,
    request: Request<Body>,
) -> hyper::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the connection; its failures arrive at the request.
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    sender.send_request(request).await
}

async fn whole(response: Response<Incoming>) -> Result<Bytes> {
    let body = http_body_util::Limited::new(response.into_body(), ANSWER);
    let collected = body.collect().await.map_err(|error| {
        Error::new(Kind::Unavailable, format!("the server's answer broke off: {error}"))
    })?;
    Ok(collected.to_bytes())
}

fn cut(path: &str, error: hyper::Error) -> Error {
    Error::new(
        Kind::Unavailable,
        format!("the server did not finish its answer to {path}: {error}"),
    )
    .with_hint("look into the server's log; a change may have happened or not")
    .with_source(error)
}

/// The server's refusal as an error of ours; its message carries the hint behind a mark.
fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let kind = match status.as_u16() {
        401 => Kind::Unauthenticated,
        403 => Kind::Denied,
        404 => Kind::NotFound,
        408 | 504 => Kind::Timeout,
        409 => Kind::Conflict,
        410 => Kind::Gone,
        429 => Kind::Limit,
        501 => Kind::Unsupported,
        502 | 503 => Kind::Unavailable,
        400..=499 => Kind::Invalid,
        _ => Kind::Internal,
    };
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = match body["message"].as_str() {
        Some(message) => message.to_owned(),
        None => format!("the server answered {status}"),
    };
    let error = match message.split_once("; hint: ") {
        Some((message, hint)) => Error::new(kind, message).with_hint(hint),
        None => Error::new(kind, message),
    };
    if kind == Kind::Unauthenticated && error.hint().is_none() {
        return error.with_hint("set MAYFLY_API_KEY to a key of that server");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_the_server_with_or_without_api() {
        let place = |url| Place::of_url(url, None);
        let expected = |authority: &str, prefix: &str| Place::Url {
            authority: authority.into(),
            prefix: prefix.into(),
            key: None,
        };
        let cases = [
            ("http://127.0.0.1:3457", expected("127.0.0.1:3457", "")),
            ("http://box/api", expected("box:80", "")),
            ("http://box:1/api/", expected("box:1", "")),
            ("http://[::1]:9/deep/api", expected("[::1]:9", "/deep")),
        ];
        for (url, expected) in cases {
            assert_eq!(place(url).unwrap(), expected, "{url}");
        }
        for url in ["", "box:80", "ftp://box", "/x", "http://"] {
            assert_eq!(place(url).unwrap_err().kind(), Kind::Invalid, "{url}");
        }
        assert_eq!(place("https://box").unwrap_err().kind(), Kind::Unsupported);
    }

    #[test]
    fn refusals_keep_kind_message_and_hint() {
        let body = br#"{"statusCode":409,"message":"name taken; hint: choose another"}"#;
        let error = refusal(StatusCode::CONFLICT, body);
        assert_eq!(error.kind(), Kind::Conflict);
        assert_eq!((error.message(), error.hint()), ("name taken", Some("choose another")));
        let error = refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.message().contains("502"));
    }

    #[test]
    fn path_parts_are_encoded_whole() {
        assert_eq!(encode("a b/ü?&-_.~"), "a%20b%2F%C3%BC%3F%26-_.~");
    }
}
