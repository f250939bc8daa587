//! `/toolbox/{id}/process`: run a command to its end; read what commands wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json as Reply;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use mayfly_core::process::ExecRequest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Options};
use super::fault::{Answer, Fault};
use super::input::{Json, Params, environment};
use super::time::rfc3339;
use super::toolbox::Toolbox;

/// Most bytes of a log in one answer.
const LOG_PIECE: usize = 1 << 20;

/// A command for the sandbox's shell.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ExecuteRequest)]
pub(crate) struct Execute {
    command: String,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    envs: Option<BTreeMap<String, String>>,
    /// Seconds; absent or 0 = only the server's maximum.
    #[serde(default)]
    timeout: Option<u64>,
}

impl Execute {
    /// The command as the runtime takes it, within the server's limits.
    pub(crate) fn into_request(self, options: &Options) -> Answer<ExecRequest> {
        let request = ExecRequest {
            argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), self.command.clone()],
            title: self.command,
            cwd: self.cwd.filter(|cwd| !cwd.is_empty()),
            env: environment("envs", self.envs)?,
            stdin: Bytes::new(),
            timeout: time_limit(options, self.timeout),
            max_output: options.max_output,
        };
        if request.title.contains('\0') {
            return Err(Fault::bad_request("command: must not contain NUL"));
        }
        if request.cwd.as_ref().is_some_and(|cwd| cwd.contains('\0')) {
            return Err(Fault::bad_request("cwd: must not contain NUL"));
        }
        Ok(request)
    }
}

/// How it ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ExecuteResponse)]
pub(crate) struct Executed {
    /// 128 + n after signal n.
    exit_code: i32,
    /// Standard output and error, merged.
    result: String,
}

/// A command whose output is kept.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Log {
    process: u64,
    command: String,
    started_at: String,
    /// Null while it runs.
    exit_code: Option<i32>,
    /// Bytes kept so far.
    size: u64,
}

/// All of them, newest last.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Logs {
    logs: Vec<Log>,
}

/// Runs a command with the sandbox's shell and waits for its end.
#[utoipa::path(post, path = "/toolbox/{sandbox}/process/execute", tag = "process", request_body = Execute,
    params(("sandbox" = String, Path)),
    responses((status = 200, body = Executed), (status = 408, description = "PROCESS_EXECUTION_TIMEOUT: all its processes were killed")))]
async fn execute(
    State(app): State<App>,
    Toolbox(reach): Toolbox,
    Json(body): Json<Execute>,
) -> Answer<Reply<Executed>> {
    let done = reach.exec(body.into_request(&app.options)?).await?;
    Ok(Reply(Executed { exit_code: done.exit_code, result: text(&done.output) }))
}

/// The call's time limit, within the server's.
pub(crate) fn time_limit(options: &Options, seconds: Option<u64>) -> Duration {
    match seconds {
        None | Some(0) => options.execute_timeout,
        Some(seconds) => Duration::from_secs(seconds).min(options.execute_timeout),
    }
}

/// Bytes as text, what is not UTF-8 replaced.
pub(crate) fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Commands whose output is kept.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/logs", tag = "process",
    params(("sandbox" = String, Path)), responses((status = 200, body = Logs)))]
async fn logs(Toolbox(reach): Toolbox) -> Answer<Reply<Logs>> {
    let logs = reach.logs().await?.into_iter().map(|log| Log {
        process: log.process,
        command: log.title,
        started_at: rfc3339(log.started_at),
        exit_code: log.exit_code,
        size: log.size,
    });
    Ok(Reply(Logs { logs: logs.collect() }))
}

/// Kept output of one command from an offset, at most 1 MiB; empty = nothing more at the moment.
#[utoipa::path(get, path = "/toolbox/{sandbox}/process/logs/{process}", tag = "process",
    params(("sandbox" = String, Path), ("process" = u64, Path), ("offset" = Option<u64>, Query)),
    responses((status = 200, content_type = "application/octet-stream", body = String)))]
async fn read_log(
    Toolbox(reach): Toolbox,
    Path((_, process)): Path<(String, String)>,
    params: Params,
) -> Answer<impl IntoResponse> {
    let process = process.parse().map_err(|_| {
        Fault::bad_request("process: expected a whole number as the last part of the path")
    })?;
    let offset = params.number("offset")?.unwrap_or_default();
    let bytes = reach.read_log(process, offset, LOG_PIECE).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes))
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(execute)).routes(routes!(logs)).routes(routes!(read_log))
}
