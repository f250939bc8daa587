//! What can go wrong in `SQLite`, and what of it callers are told.

use mayfly_core::{Error, Kind};
use rusqlite::{ErrorCode, ffi};

/// A failed piece of work: the database's failure, or our own refusal.
#[derive(Debug)]
pub enum Fault {
    /// `SQLite` failed.
    Sqlite(rusqlite::Error),
    /// The work itself said no; nothing of it is kept.
    Refused(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Fault {
    /// The platform's error for it; `operation` completes "cannot ...".
    pub(super) fn into_error(self, operation: &str) -> Error {
        match self {
            Self::Sqlite(error) => explain(operation, error),
            Self::Refused(error) => error,
        }
    }

    /// Whether the kernel failed to write data back. It may have dropped the dirty pages and would report
    /// success next time, so nothing may be written or acknowledged after it.
    pub(super) fn is_failed_sync(&self) -> bool {
        matches!(self, Self::Sqlite(rusqlite::Error::SqliteFailure(failure, _))
            if matches!(failure.extended_code,
                ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
    }

    /// The database's code; that of an internal failure when there is none.
    pub(super) fn code(&self) -> ffi::Error {
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(code, _)) => *code,
            _ => ffi::Error::new(ffi::SQLITE_INTERNAL),
        }
    }

    /// Whether it is a violated uniqueness rule.
    pub fn is_duplicate(error: &rusqlite::Error) -> bool {
        matches!(error, rusqlite::Error::SqliteFailure(failure, _)
            if failure.code == ErrorCode::ConstraintViolation)
    }
}

/// The platform's error for a failure of `SQLite`; `operation` completes "cannot ...".
pub(super) fn explain(operation: &str, error: rusqlite::Error) -> Error {
    let (kind, why, hint) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => (
            Kind::Unavailable,
            "the disk of the data directory is full",
            Some("free space on the disk of the data directory; nothing was changed"),
        ),
        Some(ErrorCode::ReadOnly) => (
            Kind::Unavailable,
            "the database cannot be written",
            Some(
                "check that the data directory is on a writable disk and belongs to the server's user",
            ),
        ),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => (
            Kind::Unavailable,
            "the database cannot be opened",
            Some("check that the data directory exists and belongs to the server's user"),
        ),
        Some(ErrorCode::SystemIoFailure) => (
            Kind::Unavailable,
            "the disk of the data directory reported an error",
            Some("check the disk and the kernel log; nothing was changed"),
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            Kind::Unavailable,
            "another process holds the database",
            Some("stop the other server that uses this data directory"),
        ),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            Kind::Internal,
            "the database file is damaged",
            Some("restore a backup of the data directory"),
        ),
        _ => (Kind::Internal, "the database failed", None),
    };
    let full = Error::new(kind, format!("cannot {operation}: {why}")).with_source(error);
    match hint {
        Some(hint) => full.with_hint(hint),
        None => full,
    }
}

/// What every writing call answers after a failed write-back.
pub(super) fn stopped() -> Error {
    Error::new(Kind::Unavailable, "the store takes no writes since the disk failed to keep data")
        .with_hint("check the disk and the kernel log, then restart the server")
}

/// What a call answers when the store was closed under it.
pub(super) fn closed() -> Error {
    Error::new(Kind::Unavailable, "the store is closed")
        .with_hint("the server is shutting down; call again when it is back")
}
