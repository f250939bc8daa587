//! `mayfly.internal`: what sandboxes reach of this server, through a socket and a router of its own.
//!
//! The network process hands each connection over after one line, `MAYFLY 1 <32 hexadecimal digits>`, that says
//! which sandbox it comes from: the kernel's word, which nothing inside can forge. The API is not behind this
//! router. Nothing is served yet but the answer that says so.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Json};
use mayfly_core::id::SandboxId;
use mayfly_engine::Engine;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::serve::{Limits, connection};

/// Length of the first line.
const LINE: usize = "MAYFLY 1 \r\n".len() + 32;
/// Longest wait for it; it is sent with the connection.
const LINE_TIME: Duration = Duration::from_secs(5);
/// Connections of all sandboxes at once.
const CONNECTIONS: usize = 1024;

/// The sandbox that a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inside(pub(crate) SandboxId);

/// What sandboxes may ask for.
pub(crate) fn router() -> Router {
    Router::new().fallback(async |Extension(Inside(sandbox)): Extension<Inside>, path: Uri| {
        tracing::debug!(%sandbox, path = path.path(), "nothing is served to a sandbox at this path");
        let body = json!({
            "statusCode": 404,
            "code": "NOT_FOUND",
            "message": "mayfly.internal serves nothing at this path",
        });
        (StatusCode::NOT_FOUND, Json(body)).into_response()
    })
}

/// Serves the socket until `stop` turns true. Connections that name no living sandbox are closed.
pub(crate) async fn serve(
    listener: UnixListener,
    engine: Engine,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            // Mostly no descriptors left; trying again at once would spin.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Full: the connection is closed, so that one sandbox cannot make the others wait for ever.
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let (engine, stop) = (engine.clone(), stop.clone());
        connections.spawn(async move {
            if let Some((stream, id)) = introduced(stream, &engine).await {
                connection(stream, Inside(id), router(), limits, stop).await;
            }
            drop(slot);
        });
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(limits.drain, drained).await;
}

async fn introduced(mut stream: UnixStream, engine: &Engine) -> Option<(UnixStream, SandboxId)> {
    let own = rustix::process::geteuid().as_raw();
    let peer = stream.peer_cred().ok()?.uid();
    if peer != own && peer != 0 {
        return None;
    }
    let mut line = [0; LINE];
    tokio::time::timeout(LINE_TIME, stream.read_exact(&mut line)).await.ok()?.ok()?;
    let id = of_line(&line)?;
    engine.is_living(id).then_some((stream, id))
}

/// The sandbox that a first line names.
fn of_line(line: &[u8]) -> Option<SandboxId> {
    let digits = line.strip_prefix(b"MAYFLY 1 ")?.strip_suffix(b"\r\n")?;
    let digits = std::str::from_utf8(digits).ok()?;
    let is_id = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(digits, 16).ok().filter(|_| is_id)?;
    Some(SandboxId::from_uuid(uuid::Uuid::from_u128(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_first_line_names_a_sandbox() {
        let id = SandboxId::from_uuid(uuid::Uuid::from_u128(0xab));
        let line = format!("MAYFLY 1 {:032x}\r\n", 0xab);
        assert_eq!(line.len(), LINE);
        assert_eq!(of_line(line.as_bytes()), Some(id));
        for bad in [
            line.replace("MAYFLY 1", "MAYFLY 2"),
            line.replace("\r\n", "\n\n"),
            line.replace("00ab", "0+ab"),
            line.replace("00ab", "00zz"),
            line.to_lowercase(),
        ] {
            assert_eq!(of_line(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
