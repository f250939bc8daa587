//! Why a call was not made, in words for the caller; crosses the socket as it is.

/// What sort of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is no such file.
    NotFound,
    /// The name is taken, or its state does not allow the call.
    Conflict,
    /// The input is wrong.
    Invalid,
    /// The user may not.
    Denied,
    /// A quota or bound is used up.
    Limit,
    /// Out of reach at the moment; the same call may pass later.
    Unavailable,
    /// The call's time ran out.
    Timeout,
    /// A broken promise of our own or of the host.
    Internal,
}

/// A finer reason, where clients know one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Cannot be a path, or not one for this call.
    InvalidFilePath,
    /// No such file or folder.
    FileNotFound,
    /// The sandbox's user may not do this to that file.
    FileAccessDenied,
    /// The file could not be read to its end.
    FileReadFailed,
}

/// A refused or failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What sort of failure it is.
    pub kind: Kind,
    /// The finer reason.
    pub code: Option<Code>,
    /// What happened; names the path as asked for.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The kernel's error number behind it, for operators.
    pub errno: Option<i32>,
}

impl Refusal {
    /// A refusal with its message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, code: None, message: message.into(), hint: None, errno: None }
    }

    /// [`Kind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// [`Kind::Internal`] with the kernel's error.
    pub fn internal(message: impl Into<String>, error: &std::io::Error) -> Self {
        Self { errno: error.raw_os_error(), ..Self::new(Kind::Internal, message) }
    }

    #[must_use]
    pub(crate) fn with_code(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
