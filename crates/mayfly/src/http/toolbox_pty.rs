//! `/toolbox/{id}/process/pty…`: terminals.

use std::collections::{BTreeMap, VecDeque};

use axum::Json as Reply;
use axum::extract::ws::{Message, close_code};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use mayfly_core::ports::processes::Follower;
use mayfly_core::process::Window;
use mayfly_core::{Kind, Result};
use mayfly_engine::{NewTerminal, Reach, Terminal};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::fault::{Answer, Fault};
use super::input::{Json, Params, environment};
use super::pass::SocketToolbox;
use super::sockets::{Gone, Incoming, Line, Upgrade};
use super::time::rfc3339;
use super::toolbox::Toolbox;

/// Subprotocol of clients that want to be told of the end before the close.
const EXIT_CONTROL: &str = "X-Daytona-Pty-Exit-Control";
/// Subprotocol that carries the environment, base64url of a JSON object.
const ENVS: &str = "X-Daytona-Pty-Envs~";
/// Size of a terminal whose maker names none.
const WINDOW: Window = Window { columns: 80, rows: 24 };
/// Bytes of output read at once.
const PIECE: usize = 64 << 10;
/// Bytes of recent output that a client sees when it connects.
const RECENT: usize = 128 << 10;
/// Most bytes looked through for them: more than the runtime keeps.
const LOOKED_THROUGH: usize = 16 << 20;
/// Exit code of a terminal that was deleted.
const KILLED: i32 = 137;

/// A terminal to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PtyCreateRequest {
    /// Unique among the living terminals of the sandbox.
    id: String,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    envs: Option<BTreeMap<String, String>>,
    #[serde(default)]
    cols: Option<u16>,
    #[serde(default)]
    rows: Option<u16>,
    /// Start when somebody connects.
    #[serde(default)]
    lazy_start: Option<bool>,
}

/// The terminal that was made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PtyCreateResponse {
    session_id: String,
}

/// A terminal.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PtySessionInfo {
    id: String,
    /// Whether its shell runs.
    active: bool,
    cols: u16,
    rows: u16,
    cwd: String,
    envs: BTreeMap<String, String>,
    created_at: String,
    lazy_start: bool,
}

impl From<Terminal> for PtySessionInfo {
    fn from(terminal: Terminal) -> Self {
        Self {
            id: terminal.id,
            active: terminal.active,
            cols: terminal.window.columns,
            rows: terminal.window.rows,
            cwd: terminal.cwd,
            envs: terminal.envs,
            created_at: rfc3339(terminal.created_at),
            lazy_start: terminal.lazy,
        }
    }
}

/// All terminals.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PtyListResponse {
    sessions: Vec<PtySessionInfo>,
}

/// A size, in characters.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PtyResizeRequest {
    cols: u16,
    rows: u16,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Done {
    pub(crate) message: String,
}

/// Makes a terminal.
#[utoipa::path(post, path = "/toolbox/{sandbox}/process/pty", tag = "process", request_body = PtyCreateRequest,
    params(("sandbox" = String, Path)),
    responses((status = 201, body = PtyCreateResponse), (status = 409, description = "a living terminal has the id")))]
async fn create(
    Toolbox(reach): Toolbox,
    Json(body): Json<PtyCreateRequest>,
) -> Answer<(StatusCode, Reply<PtyCreateResponse>)> {
    let wanted = NewTerminal {
        id: body.id,
        cwd: folder(body.cwd.as_deref())?,
        envs: environment("envs", body.envs)?,
        window: Window {
            columns: body.cols.unwrap_or(WINDOW.columns),
            rows: body.rows.unwrap_or(WINDOW.rows),
        },
        lazy: body.lazy_start.unwrap_or_default(),
    };
    let made = reach.terminals().create(wanted).await?;
    Ok((StatusCode::CREATED, Reply(PtyCreateResponse { session_id: made.id })))
}

fn folder(cwd: Option<&str>) -> Answer<Option<String>> {
    match cwd.filter(|cwd| !cwd.is_empty()) {
        Some(cwd) if cwd.contains('\0') => Err(Fault::bad_request("cwd: must not contain NUL")),
        cwd => Ok(cwd.map(str::to_owned)),
    }
}

/// All terminals.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/pty", tag = "process",
    params(("sandbox" = String, Path)), responses((status = 200, body = PtyListResponse)))]
async fn list(Toolbox(reach): Toolbox) -> Answer<Reply<PtyListResponse>> {
    let sessions = reach.terminals().all().await?.into_iter().map(PtySessionInfo::from).collect();
    Ok(Reply(PtyListResponse { sessions }))
}

/// One terminal.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/pty/{terminal}", tag = "process",
    params(("sandbox" = String, Path), ("terminal" = String, Path)), responses((status = 200, body = PtySessionInfo)))]
async fn show(
    Toolbox(reach): Toolbox,
    Path((_, terminal)): Path<(String, String)>,
) -> Answer<Reply<PtySessionInfo>> {
    Ok(Reply(reach.terminals().get(&terminal).await?.into()))
}

/// Changes the size of a terminal.
#[utoipa::path(post, path = "/toolbox/{sandbox}/process/pty/{terminal}/resize", tag = "process", request_body = PtyResizeRequest,
    params(("sandbox" = String, Path), ("terminal" = String, Path)),
    responses((status = 200, body = PtySessionInfo), (status = 410, description = "it has ended")))]
async fn resize(
    Toolbox(reach): Toolbox,
    Path((_, terminal)): Path<(String, String)>,
    Json(body): Json<PtyResizeRequest>,
) -> Answer<Reply<PtySessionInfo>> {
    let window = Window { columns: body.cols, rows: body.rows };
    Ok(Reply(reach.terminals().resize(&terminal, window).await?.into()))
}

/// Ends a terminal with all its processes.
#[utoipa::path(delete, path = "/toolbox/{sandbox}/process/pty/{terminal}", tag = "process",
    params(("sandbox" = String, Path), ("terminal" = String, Path)), responses((status = 200, body = Done)))]
async fn delete(
    Toolbox(reach): Toolbox,
    Path((_, terminal)): Path<(String, String)>,
) -> Answer<Reply<Done>> {
    reach.terminals().delete(&terminal).await?;
    Ok(Reply(Done { message: format!("terminal {terminal} was ended") }))
}

/// Makes a terminal and connects to it over WebSocket. The environment comes as a subprotocol.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/pty/create-connect", tag = "process",
    params(("sandbox" = String, Path), ("id" = String, Query), ("cols" = Option<u16>, Query), ("rows" = Option<u16>, Query),
        ("cwd" = Option<String>, Query)),
    responses((status = 101, description = "connected"), (status = 409, description = "a living terminal has the id")))]
async fn create_connect(
    State(app): State<App>,
    SocketToolbox { reach, pass }: SocketToolbox,
    params: Params,
    upgrade: Upgrade,
) -> Answer<Response> {
    let wanted = NewTerminal {
        id: params.require("id")?.to_owned(),
        cwd: folder(params.get("cwd"))?,
        envs: envs(upgrade.offered())?,
        window: Window {
            columns: params.number("cols")?.unwrap_or(WINDOW.columns),
            rows: params.number("rows")?.unwrap_or(WINDOW.rows),
        },
        lazy: false,
    };
    let exit_control = upgrade.offered().iter().any(|one| one == EXIT_CONTROL);
    let admitted = upgrade.admit(&app, pass)?;
    let terminal = reach.terminals().create(wanted).await?;
    Ok(admitted.accept(EXIT_CONTROL, move |line| talk(line, reach, terminal, exit_control)))
}

/// Connects to a terminal over WebSocket; several clients may. What fails is told as a control message.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/pty/{terminal}/connect", tag = "process",
    params(("sandbox" = String, Path), ("terminal" = String, Path)), responses((status = 101, description = "connected")))]
async fn connect(
    State(app): State<App>,
    SocketToolbox { reach, pass }: SocketToolbox,
    Path((_, terminal)): Path<(String, String)>,
    upgrade: Upgrade,
) -> Answer<Response> {
    let exit_control = upgrade.offered().iter().any(|one| one == EXIT_CONTROL);
    let admitted = upgrade.admit(&app, pass)?;
    let found = reach.terminals().attach(&terminal).await;
    Ok(admitted.accept(EXIT_CONTROL, async move |line| match found {
        Ok(terminal) => talk(line, reach, terminal, exit_control).await,
        Err(error) => refuse(line, error.message()).await,
    }))
}

/// The environment among the offered subprotocols.
fn envs(offered: &[String]) -> Answer<BTreeMap<String, String>> {
    let Some(encoded) = offered.iter().find_map(|one| one.strip_prefix(ENVS)) else {
        return Ok(BTreeMap::new());
    };
    let decoded = URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).ok();
    let map = decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let map = map.ok_or_else(|| {
        Fault::bad_request(format!("{ENVS}: expected base64url of a JSON object of texts"))
    })?;
    environment("envs", Some(map))
}

async fn refuse(mut line: Line, message: &str) {
    let control = json!({ "type": "control", "status": "error", "error": message });
    if line.tell(&control).await.is_ok() {
        let reason = json!({ "error": message }).to_string();
        let reason = if reason.len() <= 123 { reason } else { String::new() };
        line.close(close_code::POLICY, &reason).await;
    }
}

/// One client at a terminal, until it leaves or the terminal ends.
async fn talk(mut line: Line, reach: Reach, terminal: Terminal, exit_control: bool) {
    let _busy = reach.busy();
    let code = match attached(&mut line, &reach, &terminal).await {
        Ok(Some(code)) => code,
        Ok(None) => return,
        // It was deleted, and forgotten, while the client looked on.
        Err(error) if error.kind() == Kind::NotFound => KILLED,
        Err(error) => return refuse(line, error.message()).await,
    };
    let exited = json!({ "type": "control", "status": "exited", "exitCode": code });
    if exit_control && line.tell(&exited).await.is_err() {
        return;
    }
    line.close(close_code::NORMAL, &json!({ "exitCode": code }).to_string()).await;
}

/// Carries keys and output; gives the exit code, or nothing when the client left.
async fn attached(line: &mut Line, reach: &Reach, terminal: &Terminal) -> Result<Option<i32>> {
    let terminals = reach.terminals();
    let mut follower = terminals.follow(terminal).await?;
    let connected = json!({ "type": "control", "status": "connected" });
    let (recent, ended) = recent(&mut *follower).await?;
    if line.tell(&connected).await.is_err() || show_all(line, recent).await.is_err() {
        return Ok(None);
    }
    if ended.is_some() {
        return Ok(ended);
    }
    // Keys wait here while the program does not read; output goes on meanwhile.
    let mut typing: Option<BoxFuture<'_, Result<()>>> = None;
    loop {
        tokio::select! {
            output = follower.next(PIECE) => {
                let output = output?;
                let pieces = output.pieces.into_iter().map(|piece| piece.bytes);
                if show_all(line, pieces).await.is_err() {
                    return Ok(None);
                }
                if output.exit_code.is_some() {
                    return Ok(output.exit_code);
                }
            }
            typed = async { typing.as_mut().expect("polled only while keys wait").await },
                if typing.is_some() => {
                typing = None;
                match typed {
                    // The end follows in the output; a program that does not read loses keys, as a terminal does.
                    Err(error) if matches!(error.kind(), Kind::Gone | Kind::Timeout | Kind::Unavailable) => {
                        tracing::debug!(%error, "keys were dropped");
                    }
                    other => other?,
                }
            }
            incoming = line.receive(), if typing.is_none() => match incoming {
                Incoming::Data(keys) => typing = Some(Box::pin(terminals.write(terminal, keys))),
                Incoming::Left => return Ok(None),
            },
        }
    }
}

async fn show_all(line: &mut Line, pieces: impl IntoIterator<Item = Bytes>) -> Result<(), Gone> {
    for piece in pieces {
        line.send(Message::Binary(piece)).await?;
    }
    Ok(())
}

/// The last kept output, from the beginning of a line on where older output is left out; and the exit code when
/// it is all.
async fn recent(follower: &mut dyn Follower) -> Result<(Option<Bytes>, Option<i32>)> {
    let (mut kept, mut size, mut seen) = (VecDeque::new(), 0, 0);
    let mut ended = None;
    while seen < LOOKED_THROUGH {
        let output = follower.now(PIECE).await?;
        ended = output.exit_code;
        let end = output.pieces.is_empty() || ended.is_some();
        for piece in output.pieces {
            (size, seen) = (size + piece.bytes.len(), seen + piece.bytes.len());
            kept.push_back(piece.bytes);
        }
        while let Some(first) = kept.front().map(Bytes::len).filter(|first| size - first >= RECENT)
        {
            size -= first;
            kept.pop_front();
        }
        if end {
            break;
        }
    }
    let mut whole = BytesMut::with_capacity(size);
    for piece in &kept {
        whole.extend_from_slice(piece);
    }
    let mut whole = whole.freeze();
    if whole.len() > RECENT || seen > size {
        let from = whole.len().saturating_sub(RECENT);
        let line = memchr::memchr(b'\n', &whole[from..]).map_or(from, |at| from + at + 1);
        whole = whole.split_off(line);
    }
    Ok(((!whole.is_empty()).then_some(whole), ended))
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(create_connect))
        .routes(routes!(show, delete))
        .routes(routes!(resize))
        .routes(routes!(connect))
}
