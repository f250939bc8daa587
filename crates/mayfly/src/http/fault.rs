//! What went wrong with a request, before it takes the shape of its path.

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mayfly_core::{Code, Error, Kind};

/// Which part of the service an error is about; clients choose their exception by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Whatever serves the path: the API, or the toolbox below `/toolbox`.
    Path,
    /// The way to the sandbox: it is there but cannot be reached in its state.
    Proxy,
}

/// A refused or failed request.
///
/// Handlers return it; the gate turns it into a body once it knows the path (see `shape.rs`).
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// Stable code, upper case; `docs/errors/` has a page for each.
    pub(crate) code: &'static str,
    /// Who reports it.
    pub(crate) origin: Origin,
    /// What happened and what to do, for the caller.
    pub(crate) message: String,
    /// Whole seconds after which a try makes sense.
    pub(crate) retry_after: Option<u64>,
    /// One line per part of the request that failed, where there can be several.
    pub(crate) errors: Vec<String>,
    /// For operators: the chain below the message, never sent.
    pub(crate) cause: Option<Arc<Error>>,
}

/// Result of a handler.
pub(crate) type Answer<T> = Result<T, Fault>;

impl Fault {
    /// A fault of the HTTP layer itself.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code_of(status),
            origin: Origin::Path,
            message: message.into(),
            retry_after: None,
            errors: Vec::new(),
            cause: None,
        }
    }

    /// 400: the input is wrong; the message names the field.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 400 about the body as a whole.
    pub(crate) fn bad_body(message: impl Into<String>) -> Self {
        let mut fault = Self::bad_request(message);
        fault.code = "INVALID_REQUEST_BODY";
        fault
    }

    /// 401 with the remedy.
    pub(crate) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// 501 in the contract's words.
    pub(crate) fn unsupported(feature: &str) -> Self {
        Error::unsupported(feature).into()
    }

    /// Adds the lines of what failed.
    pub(crate) fn with_errors(mut self, errors: Vec<String>) -> Self {
        self.errors = errors;
        self
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let (status, code, origin) = classify(error.kind(), error.code());
        let message = match error.hint() {
            Some(hint) => format!("{}; hint: {hint}", error.message()),
            None => error.message().to_owned(),
        };
        let retry_after = match error.kind() {
            Kind::Limit | Kind::Unavailable => Some(1),
            _ => None,
        };
        Self {
            status,
            code,
            origin,
            message,
            retry_after,
            errors: Vec::new(),
            cause: Some(Arc::new(error)),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// The one table from kinds and codes to the wire.
fn classify(kind: Kind, code: Option<Code>) -> (StatusCode, &'static str, Origin) {
    let status = status(kind, code);
    let (word, origin) = match code {
        None => (code_of(status), Origin::Path),
        Some(Code::SandboxNotStarted) => (code_of(status), Origin::Proxy),
        Some(code) => (word_of(code), Origin::Path),
    };
    (status, word, origin)
}

fn status(kind: Kind, code: Option<Code>) -> StatusCode {
    match (kind, code) {
        (_, Some(Code::GitRemoteRejected)) => return StatusCode::UNPROCESSABLE_ENTITY,
        (_, Some(Code::GitTransportFailed)) => return StatusCode::BAD_GATEWAY,
        _ => {}
    }
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::Limit => StatusCode::TOO_MANY_REQUESTS,
        Kind::Gone => StatusCode::GONE,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Timeout => StatusCode::REQUEST_TIMEOUT,
        Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn word_of(code: Code) -> &'static str {
    match code {
        Code::InvalidFilePath => "INVALID_FILE_PATH",
        Code::FileNotFound => "FILE_NOT_FOUND",
        Code::FileAccessDenied => "FILE_ACCESS_DENIED",
        Code::FileReadFailed => "FILE_READ_FAILED",
        Code::ProcessExecutionTimeout => "PROCESS_EXECUTION_TIMEOUT",
        Code::ProcessNotFound => "PROCESS_NOT_FOUND",
        Code::SessionEnded => "SESSION_ENDED",
        Code::CommandAlreadyCompleted => "COMMAND_ALREADY_COMPLETED",
        Code::LspServerNotInitialized => "LSP_SERVER_NOT_INITIALIZED",
        Code::InvalidRequestBody => "INVALID_REQUEST_BODY",
        Code::SandboxNotStarted => "CONFLICT",
        Code::GitAuthFailed => "GIT_AUTH_FAILED",
        Code::GitRepoNotFound => "GIT_REPO_NOT_FOUND",
        Code::GitBranchNotFound => "GIT_BRANCH_NOT_FOUND",
        Code::GitBranchExists => "GIT_BRANCH_EXISTS",
        Code::GitPushRejected => "GIT_PUSH_REJECTED",
        Code::GitDirtyWorktree => "GIT_DIRTY_WORKTREE",
        Code::GitMergeConflict => "GIT_MERGE_CONFLICT",
        Code::GitRemoteRejected => "GIT_REMOTE_REJECTED",
        Code::GitTransportFailed => "GIT_TRANSPORT_FAILED",
    }
}

/// The code of a status that says nothing finer.
pub(crate) fn code_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "BAD_REQUEST",
        401 => "UNAUTHORIZED",
        403 => "FORBIDDEN",
        404 => "NOT_FOUND",
        405 => "METHOD_NOT_ALLOWED",
        408 => "REQUEST_TIMEOUT",
        409 => "CONFLICT",
        410 => "GONE",
        413 => "PAYLOAD_TOO_LARGE",
        415 => "UNSUPPORTED_MEDIA_TYPE",
        421 => "MISDIRECTED_REQUEST",
        422 => "UNPROCESSABLE_ENTITY",
        429 => "TOO_MANY_REQUESTS",
        501 => "NOT_IMPLEMENTED",
        502 => "BAD_GATEWAY",
        503 => "SERVICE_UNAVAILABLE",
        _ => "INTERNAL_SERVER_ERROR",
    }
}
