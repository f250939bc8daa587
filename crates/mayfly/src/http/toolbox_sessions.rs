//! `/toolbox/{id}/process/session…`: shells whose state persists, their commands and what these write.

use std::time::Duration;

use axum::Json as Reply;
use axum::body::Body;
use axum::extract::ws::{Message, close_code};
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, UPGRADE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use mayfly_core::ports::processes::Follower;
use mayfly_core::{Code, Error, Kind};
use mayfly_engine::{Busy, Reach, SessionCommand, ShellSession};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::fault::{Answer, Fault};
use super::input::{Json, Params};
use super::pass::SocketToolbox;
use super::session_logs::{Collected, Framing, Marker, PIECE};
use super::sockets::{Incoming, Line, Upgrade};
use super::toolbox::Toolbox;

/// Most bytes of a whole log in one answer; the runtime keeps about as many.
const WHOLE_LOG: usize = 12 << 20;

/// A session to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateSessionRequest {
    /// Unique within the sandbox.
    session_id: String,
}

/// A session and its commands, oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Session {
    session_id: String,
    commands: Vec<Command>,
}

impl From<ShellSession> for Session {
    fn from(session: ShellSession) -> Self {
        let commands = session.commands.into_iter().map(Command::from).collect();
        Self { session_id: session.id, commands }
    }
}

/// A command of a session.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Command {
    id: String,
    #[serde(rename = "command")]
    text: String,
    /// Absent while it waits or runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
}

impl From<SessionCommand> for Command {
    fn from(command: SessionCommand) -> Self {
        let SessionCommand { id, text, exit_code, .. } = command;
        Self { id, text, exit_code }
    }
}

/// A command to run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionExecuteRequest {
    command: String,
    /// Answer at once, do not wait for the end.
    #[serde(default)]
    run_async: Option<bool>,
    /// The same, as older clients call it.
    #[serde(default, rename = "async")]
    older_async: Option<bool>,
    /// Accepted without effect: input is never echoed here, so there is nothing to suppress.
    #[serde(default)]
    #[expect(dead_code, reason = "read so that a wrong type is refused, and described")]
    suppress_input_echo: Option<bool>,
}

/// A command that was taken; with its output when its end was waited for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionExecuteResponse {
    cmd_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
    /// 128 + n after signal n.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
}

/// What a command wrote so far.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionCommandLogsResponse {
    output: String,
    stdout: String,
    stderr: String,
}

/// Input for a command.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SessionSendInputRequest {
    data: String,
}

/// Makes a session: one shell, whose variables, functions and folder persist.
#[utoipa::path(post, path = "/toolbox/{sandbox}/process/session", tag = "process", request_body = CreateSessionRequest,
    params(("sandbox" = String, Path)),
    responses((status = 201), (status = 409, description = "the id is taken"), (status = 429, description = "too many sessions")))]
async fn create(
    Toolbox(reach): Toolbox,
    Json(body): Json<CreateSessionRequest>,
) -> Answer<StatusCode> {
    reach.shells().create(&body.session_id).await?;
    Ok(StatusCode::CREATED)
}

/// All sessions.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/session", tag = "process",
    params(("sandbox" = String, Path)), responses((status = 200, body = [Session])))]
async fn list(Toolbox(reach): Toolbox) -> Answer<Reply<Vec<Session>>> {
    Ok(Reply(reach.shells().all().await?.into_iter().map(Session::from).collect()))
}

/// One session.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/session/{session}", tag = "process",
    params(("sandbox" = String, Path), ("session" = String, Path)), responses((status = 200, body = Session)))]
async fn show(
    Toolbox(reach): Toolbox,
    Path((_, session)): Path<(String, String)>,
) -> Answer<Reply<Session>> {
    Ok(Reply(reach.shells().get(&session).await?.into()))
}

/// Ends a session with all its processes.
#[utoipa::path(delete, path = "/toolbox/{sandbox}/process/session/{session}", tag = "process",
    params(("sandbox" = String, Path), ("session" = String, Path)), responses((status = 204)))]
async fn delete(
    Toolbox(reach): Toolbox,
    Path((_, session)): Path<(String, String)>,
) -> Answer<StatusCode> {
    reach.shells().delete(&session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs a command when those before it ended. Without `runAsync` it waits for the end, at most the server's
/// longest time of a command: after that, and when the caller leaves, the command goes on.
#[utoipa::path(post, path = "/toolbox/{sandbox}/process/session/{session}/exec", tag = "process",
    request_body = SessionExecuteRequest, params(("sandbox" = String, Path), ("session" = String, Path)),
    responses((status = 200, body = SessionExecuteResponse), (status = 202, body = SessionExecuteResponse),
        (status = 408, description = "it takes too long and goes on"), (status = 410, description = "SESSION_ENDED")))]
async fn exec(
    State(app): State<App>,
    Toolbox(reach): Toolbox,
    Path((_, session)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<SessionExecuteRequest>,
) -> Answer<(StatusCode, Reply<SessionExecuteResponse>)> {
    if body.command.contains('\0') {
        return Err(Fault::bad_request("command: must not contain NUL"));
    }
    let wait = !(body.run_async.unwrap_or_default() || body.older_async.unwrap_or_default());
    let command = reach.shells().run(&session, body.command).await?;
    let mut answer = SessionExecuteResponse {
        cmd_id: command.id,
        output: None,
        stdout: None,
        stderr: None,
        exit_code: None,
    };
    if !wait {
        return Ok((StatusCode::ACCEPTED, Reply(answer)));
    }
    let _busy = reach.busy();
    let mut follower = reach.shells().follow(command.number).await?;
    let mut collected = Collected::new(Framing::of(&headers), app.options.max_output);
    let limit = app.options.execute_timeout;
    let code = end(&mut collected, &mut *follower, limit, &answer.cmd_id).await?;
    answer.exit_code = Some(code);
    answer.output = Some(text(&collected.output));
    answer.stdout = Some(text(&collected.stdout));
    answer.stderr = Some(text(&collected.stderr));
    Ok((StatusCode::OK, Reply(answer)))
}

async fn end(
    collected: &mut Collected,
    follower: &mut dyn Follower,
    limit: Duration,
    command: &str,
) -> Answer<i32> {
    match tokio::time::timeout(limit, collected.until_end(follower)).await {
        Ok(Err(error)) if error.kind() == Kind::NotFound => {
            Err(Error::new(Kind::Gone, "the session was deleted while the command ran")
                .with_code(Code::SessionEnded)
                .into())
        }
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Error::new(
            Kind::Timeout,
            format!("timeout: command {command} runs for over {} s and goes on", limit.as_secs()),
        )
        .with_hint("read its logs, or run such commands with runAsync")
        .into()),
    }
}

/// One command.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/session/{session}/command/{command}", tag = "process",
    params(("sandbox" = String, Path), ("session" = String, Path), ("command" = String, Path)),
    responses((status = 200, body = Command)))]
async fn command(
    Toolbox(reach): Toolbox,
    Path((_, session, command)): Path<(String, String, String)>,
) -> Answer<Reply<Command>> {
    Ok(Reply(reach.shells().command(&session, &command).await?.into()))
}

/// What a command wrote so far; clients below 0.167.0 get one text with markers. With `follow=true` everything
/// from the first byte to the end as a marked stream: over WebSocket in binary messages, else as a chunked body.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/session/{session}/command/{command}/logs", tag = "process",
    params(("sandbox" = String, Path), ("session" = String, Path), ("command" = String, Path), ("follow" = Option<bool>, Query)),
    responses((status = 200, body = SessionCommandLogsResponse), (status = 101, description = "the marked stream")))]
async fn logs(
    State(app): State<App>,
    SocketToolbox { reach, pass }: SocketToolbox,
    Path((_, session, command)): Path<(String, String, String)>,
    params: Params,
    headers: HeaderMap,
    upgrade: Answer<Upgrade>,
) -> Answer<Response> {
    let command = reach.shells().command(&session, &command).await?;
    let mut follower = reach.shells().follow(command.number).await?;
    if headers.contains_key(UPGRADE) {
        let admitted = upgrade?.admit(&app, pass)?;
        let busy = reach.busy();
        return Ok(admitted.accept("", move |line| stream(line, follower, busy)));
    }
    if params.boolean("follow")?.unwrap_or_default() {
        return Ok(chunked(follower, reach.busy()));
    }
    let framing = Framing::of(&headers);
    let mut collected = Collected::new(framing, WHOLE_LOG);
    collected.now(&mut *follower).await?;
    if framing == Framing::Marked {
        let body = collected.output.freeze();
        return Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response());
    }
    Ok(Reply(SessionCommandLogsResponse {
        output: text(&collected.output),
        stdout: text(&collected.stdout),
        stderr: text(&collected.stderr),
    })
    .into_response())
}

/// Sends a log until it ends or the client leaves.
async fn stream(mut line: Line, mut follower: Box<dyn Follower>, _busy: Busy) {
    let mut marker = Marker::default();
    loop {
        let output = tokio::select! {
            output = follower.next(PIECE) => output,
            incoming = line.receive() => match incoming {
                // There is nothing to say to a log.
                Incoming::Data(_) => continue,
                Incoming::Left => return,
            },
        };
        let output = match output {
            Ok(output) => output,
            // Its session was deleted.
            Err(error) if error.kind() == Kind::NotFound => {
                return line.close(close_code::NORMAL, "").await;
            }
            Err(error) => return line.close(close_code::ERROR, error.message()).await,
        };
        let end = output.exit_code.is_some();
        for part in marker.mark(output) {
            if line.send(Message::Binary(part)).await.is_err() {
                return;
            }
        }
        if end {
            return line.close(close_code::NORMAL, "").await;
        }
    }
}

/// The same as the body of an answer.
fn chunked(follower: Box<dyn Follower>, busy: Busy) -> Response {
    let state = Some((follower, Marker::default(), busy));
    let parts = futures_util::stream::unfold(state, |state| async {
        let (mut follower, mut marker, busy) = state?;
        match follower.next(PIECE).await {
            Ok(output) => {
                let end = output.exit_code.is_some();
                let parts: Vec<_> = marker.mark(output);
                let part = Bytes::from(parts.concat());
                Some((Ok(part), (!end).then_some((follower, marker, busy))))
            }
            Err(error) if error.kind() == Kind::NotFound => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(parts)).into_response()
}

/// Gives a running command input, as it is: what ends a line is the caller's to send.
#[utoipa::path(post, path = "/toolbox/{sandbox}/process/session/{session}/command/{command}/input", tag = "process",
    request_body = SessionSendInputRequest,
    params(("sandbox" = String, Path), ("session" = String, Path), ("command" = String, Path)),
    responses((status = 204), (status = 410, description = "COMMAND_ALREADY_COMPLETED")))]
async fn input(
    Toolbox(reach): Toolbox,
    Path((_, session, command)): Path<(String, String, String)>,
    Json(body): Json<SessionSendInputRequest>,
) -> Answer<StatusCode> {
    reach.shells().write(&session, &command, Bytes::from(body.data)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The program that the sandbox's image starts by itself; 404 where it has none.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/session/entrypoint", tag = "process",
    params(("sandbox" = String, Path)), responses((status = 404, description = "the image has no entrypoint")))]
async fn entrypoint(Toolbox(reach): Toolbox) -> Fault {
    no_entrypoint(&reach)
}

/// What the image's own program wrote; 404 where it has none.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/session/entrypoint/logs", tag = "process",
    params(("sandbox" = String, Path)), responses((status = 404, description = "the image has no entrypoint")))]
async fn entrypoint_logs(SocketToolbox { reach, .. }: SocketToolbox) -> Fault {
    no_entrypoint(&reach)
}

fn no_entrypoint(reach: &Reach) -> Fault {
    let name = &reach.sandbox().snapshot_name;
    Error::not_found(format!("the image of snapshot {name} starts no entrypoint")).into()
}

/// Bytes as text, what is not UTF-8 replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(entrypoint))
        .routes(routes!(entrypoint_logs))
        .routes(routes!(show, delete))
        .routes(routes!(exec))
        .routes(routes!(command))
        .routes(routes!(logs))
        .routes(routes!(input))
}
