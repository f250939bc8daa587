//! The one error of the platform: a kind, what happened, what to do, and its cause.

use std::fmt;

/// Result with the platform's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is; one table at the edge maps it to HTTP status, another to exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The named thing does not exist, or belongs to another organization.
    NotFound,
    /// The name is taken or the state does not allow the verb.
    Conflict,
    /// The input is wrong; the message names the field.
    Invalid,
    /// No or unknown credentials.
    Unauthenticated,
    /// Known caller, missing permission.
    Denied,
    /// A quota or rate is used up.
    Limit,
    /// The thing existed and is over for good (an ended session, a finished command).
    Gone,
    /// Something needed is out of reach at the moment; the same call may pass later.
    Unavailable,
    /// The call's own time limit ran out.
    Timeout,
    /// The contract knows the feature, this server does not.
    Unsupported,
    /// A broken promise of our own.
    Internal,
}

/// Finer codes that clients turn into typed exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The path leaves the sandbox, is empty, or cannot be a path.
    InvalidFilePath,
    /// No such file or folder.
    FileNotFound,
    /// The sandbox's user may not do this to that file.
    FileAccessDenied,
    /// The file could not be read to its end.
    FileReadFailed,
    /// The command ran into its time limit and was killed.
    ProcessExecutionTimeout,
    /// No such process or log.
    ProcessNotFound,
    /// The shell of a session, or a terminal, has ended.
    SessionEnded,
    /// The command has ended and takes no input any more.
    CommandAlreadyCompleted,
    /// The body is not what the endpoint expects.
    InvalidRequestBody,
    /// The sandbox is not started, so nothing inside can be reached.
    SandboxNotStarted,
    /// No language server was started for that language and project, or it ended.
    LspServerNotInitialized,
    /// The remote takes neither what was given nor what is stored.
    GitAuthFailed,
    /// No repository at that path or URL.
    GitRepoNotFound,
    /// No such branch, tag or commit.
    GitBranchNotFound,
    /// The branch is there already.
    GitBranchExists,
    /// The remote's branch has commits that the pushed one lacks.
    GitPushRejected,
    /// Local changes would be lost.
    GitDirtyWorktree,
    /// Changes on both sides contradict each other.
    GitMergeConflict,
    /// The remote's own rules refuse the push.
    GitRemoteRejected,
    /// The remote cannot be reached, or the connection broke.
    GitTransportFailed,
}

/// An error with its kind, a message for the caller and an optional remedy.
///
/// The message is a lower-case fragment that names the thing and what was expected; `hint` says what to
/// do. The source is for operators: it is logged once and never sent to a caller.
#[derive(Debug)]
#[expect(clippy::error_impl_error, reason = "it is the one error of every crate here")]
pub struct Error {
    kind: Kind,
    code: Option<Code>,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of a kind with its message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, code: None, message: message.into(), hint: None, source: None }
    }

    /// [`Kind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// [`Kind::Conflict`].
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// [`Kind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// [`Kind::Unsupported`], in the contract's words.
    pub fn unsupported(feature: &str) -> Self {
        Self::new(Kind::Unsupported, format!("{feature} is not supported by this server"))
    }

    /// [`Kind::Internal`] with its cause.
    pub fn internal(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(Kind::Internal, message).with_source(source)
    }

    /// Adds the finer code.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }

    /// Adds what the caller can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause, for operators.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The finer code, where there is one.
    pub fn code(&self) -> Option<Code> {
        self.code
    }

    /// What happened, for the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether the same call may pass later without a change by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Limit | Kind::Timeout)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as &(dyn std::error::Error + 'static))
    }
}
