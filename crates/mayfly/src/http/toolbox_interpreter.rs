//! `/toolbox/{id}/process/interpreter…`: Python whose state persists from call to call.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json as Reply;
use axum::extract::ws::close_code;
use axum::extract::{Path, State};
use axum::response::Response;
use mayfly_core::process::Stream;
use mayfly_core::{Error, Kind};
use mayfly_engine::{CodeEvent, CodeRequest, CodeRun, Context, Reach};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Options};
use super::fault::{Answer, Fault};
use super::input::{Json, environment, parse};
use super::pass::SocketToolbox;
use super::sockets::{Gone, Incoming, Line, Upgrade};
use super::time::rfc3339;
use super::toolbox::Toolbox;
use super::toolbox_pty::Done;

/// Time limit of callers who name none.
const TIME_LIMIT: Duration = Duration::from_mins(10);
/// Longest wait for the call after the connection.
const FIRST_MESSAGE: Duration = Duration::from_secs(30);
/// Close code of a call whose time was over.
const TIMED_OUT: u16 = 4008;

/// A context to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CreateContextRequest {
    /// Where it starts; absent = the work dir.
    #[serde(default)]
    cwd: Option<String>,
    /// `python`.
    #[serde(default)]
    language: Option<String>,
}

/// A context: variables, imports and functions of its own.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InterpreterContext {
    id: String,
    cwd: String,
    language: String,
    /// Whether its interpreter runs; an ended one starts anew at the next call.
    active: bool,
    created_at: String,
}

impl From<Context> for InterpreterContext {
    fn from(context: Context) -> Self {
        let Context { id, cwd, language, active, created_at, .. } = context;
        Self { id, cwd, language, active, created_at: rfc3339(created_at) }
    }
}

/// Contexts that somebody made; the default one is not among them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListContextsResponse {
    contexts: Vec<InterpreterContext>,
}

/// The first message of a caller.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    code: String,
    #[serde(default)]
    context_id: Option<String>,
    #[serde(default)]
    envs: Option<BTreeMap<String, String>>,
    /// Seconds; absent = 10 minutes, 0 = only the server's maximum.
    #[serde(default)]
    timeout: Option<u64>,
}

/// Makes a context.
#[utoipa::path(post, path = "/toolbox/{sandbox}/process/interpreter/context", tag = "process", request_body = CreateContextRequest,
    params(("sandbox" = String, Path)), responses((status = 200, body = InterpreterContext)))]
async fn create(
    Toolbox(reach): Toolbox,
    Json(body): Json<CreateContextRequest>,
) -> Answer<Reply<InterpreterContext>> {
    let cwd = body.cwd.filter(|cwd| !cwd.is_empty());
    if cwd.as_ref().is_some_and(|cwd| cwd.contains('\0')) {
        return Err(Fault::bad_request("cwd: must not contain NUL"));
    }
    let language = body.language.as_deref().filter(|language| !language.is_empty());
    Ok(Reply(reach.contexts().create(cwd, language).await?.into()))
}

/// Contexts that somebody made.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/interpreter/context", tag = "process",
    params(("sandbox" = String, Path)), responses((status = 200, body = ListContextsResponse)))]
async fn list(Toolbox(reach): Toolbox) -> Answer<Reply<ListContextsResponse>> {
    let contexts = reach.contexts().all().await?;
    let contexts = contexts.into_iter().map(InterpreterContext::from).collect();
    Ok(Reply(ListContextsResponse { contexts }))
}

/// Ends a context.
#[utoipa::path(delete, path = "/toolbox/{sandbox}/process/interpreter/context/{context}", tag = "process",
    params(("sandbox" = String, Path), ("context" = String, Path)), responses((status = 200, body = Done)))]
async fn delete(
    Toolbox(reach): Toolbox,
    Path((_, context)): Path<(String, String)>,
) -> Answer<Reply<Done>> {
    reach.contexts().delete(&context).await?;
    Ok(Reply(Done { message: format!("context {context} was ended") }))
}

/// Runs code over WebSocket: the client's first message is the call, then come `stdout`, `stderr`, `error` and
/// `control` messages. Close 1000 at the end, 4008 when its time was over, 1008 for an unknown context.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/interpreter/execute", tag = "process",
    params(("sandbox" = String, Path)), responses((status = 101, description = "send the call")))]
async fn execute(
    State(app): State<App>,
    SocketToolbox { reach, pass }: SocketToolbox,
    upgrade: Upgrade,
) -> Answer<Response> {
    let options = app.options.clone();
    let admitted = upgrade.admit(&app, pass)?;
    Ok(admitted.accept("", async move |line| talk(line, reach, &options).await))
}

async fn talk(mut line: Line, reach: Reach, options: &Options) {
    let first = match tokio::time::timeout(FIRST_MESSAGE, line.receive()).await {
        Ok(Incoming::Data(first)) => first,
        Ok(Incoming::Left) => return,
        Err(_) => return line.close(close_code::POLICY, "no call came for 30 seconds").await,
    };
    let request = match request(&first, options) {
        Ok(request) => request,
        Err(fault) => return line.close(close_code::POLICY, &fault.message).await,
    };
    let _busy = reach.busy();
    let contexts = reach.contexts();
    let turn = tokio::select! {
        turn = contexts.turn(request) => turn,
        () = left(&mut line) => return,
    };
    let run = match turn {
        Ok(turn) => turn.run().await,
        Err(error) => Err(error),
    };
    let mut run = match run {
        Ok(run) => run,
        Err(error) => return close(line, &error).await,
    };
    match events(&mut line, &mut run).await {
        Outcome::Closed(code) => {
            // Others may have their turn while the client says farewell.
            drop(run);
            line.close(code, "").await;
        }
        Outcome::Failed(error) => {
            run.leave().await;
            close(line, &error).await;
        }
        Outcome::Left => run.leave().await,
    }
}

/// How a conversation ended.
enum Outcome {
    Closed(u16),
    Failed(Error),
    Left,
}

/// Passes events on until the last one.
async fn events(line: &mut Line, run: &mut CodeRun) -> Outcome {
    loop {
        let event = tokio::select! {
            event = run.next() => event,
            () = left(line) => return Outcome::Left,
        };
        let sent = match event {
            Ok(CodeEvent::Output(stream, text)) => {
                let kind = if stream == Stream::Error { "stderr" } else { "stdout" };
                line.tell(&json!({ "type": kind, "text": text })).await
            }
            Ok(CodeEvent::Raised { name, value, traceback }) => {
                let told = json!({ "type": "error", "name": name, "value": value, "traceback": traceback });
                line.tell(&told).await
            }
            Ok(CodeEvent::Done) => {
                // Whether or not it arrives, the call is over.
                let _ = line.tell(&json!({ "type": "control", "text": "completed" })).await;
                return Outcome::Closed(close_code::NORMAL);
            }
            Ok(CodeEvent::TimedOut) => return Outcome::Closed(TIMED_OUT),
            Err(error) => return Outcome::Failed(error),
        };
        if sent == Err(Gone) {
            return Outcome::Left;
        }
    }
}

/// Waits until the client leaves; what else it says is not listened to.
async fn left(line: &mut Line) {
    while line.receive().await != Incoming::Left {}
}

async fn close(line: Line, error: &Error) {
    let code = match error.kind() {
        Kind::NotFound | Kind::Invalid => close_code::POLICY,
        Kind::Timeout => TIMED_OUT,
        Kind::Limit | Kind::Unavailable => close_code::AGAIN,
        _ => close_code::ERROR,
    };
    line.close(code, error.message()).await;
}

fn request(first: &[u8], options: &Options) -> Answer<CodeRequest> {
    let call: Call = parse(first)?;
    let timeout = match call.timeout {
        None => TIME_LIMIT.min(options.execute_timeout),
        Some(0) => options.execute_timeout,
        Some(seconds) => Duration::from_secs(seconds).min(options.execute_timeout),
    };
    Ok(CodeRequest {
        code: call.code,
        context: call.context_id.filter(|id| !id.is_empty()),
        envs: environment("envs", call.envs)?,
        timeout,
    })
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(delete))
        .routes(routes!(execute))
}
