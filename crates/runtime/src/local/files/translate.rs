//! From the words of the file calls to those of the platform.

use mayfly_core::file::{FileInfo, FileKind, Match, Replaced};
use mayfly_core::time::Timestamp;
use mayfly_core::{Code, Error, Kind};
use mayfly_files as files;

pub(super) fn error(refusal: files::Refusal) -> Error {
    let kind = match refusal.kind {
        files::Kind::NotFound => Kind::NotFound,
        files::Kind::Conflict => Kind::Conflict,
        files::Kind::Invalid => Kind::Invalid,
        files::Kind::Denied => Kind::Denied,
        files::Kind::Limit => Kind::Limit,
        files::Kind::Unavailable => Kind::Unavailable,
        files::Kind::Timeout => Kind::Timeout,
        files::Kind::Internal => Kind::Internal,
    };
    let code = refusal.code.map(|code| match code {
        files::Code::InvalidFilePath => Code::InvalidFilePath,
        files::Code::FileNotFound => Code::FileNotFound,
        files::Code::FileAccessDenied => Code::FileAccessDenied,
        files::Code::FileReadFailed => Code::FileReadFailed,
    });
    let mut error = Error::new(kind, refusal.message);
    if let Some(code) = code {
        error = error.with_code(code);
    }
    if let Some(hint) = refusal.hint {
        error = error.with_hint(hint);
    }
    match refusal.errno {
        Some(errno) => error.with_source(std::io::Error::from_raw_os_error(errno)),
        None => error,
    }
}

pub(super) fn info(info: files::Info) -> FileInfo {
    let kind = match info.kind {
        files::FileKind::File => FileKind::File,
        files::FileKind::Folder => FileKind::Folder,
        files::FileKind::Link => FileKind::Link,
        files::FileKind::Special => FileKind::Special,
    };
    FileInfo {
        name: info.name,
        path: info.path,
        kind,
        size: info.size,
        mode: info.mode,
        owner: info.owner,
        group: info.group,
        modified_at: Timestamp(info.modified),
    }
}

pub(super) fn found(found: files::Match) -> Match {
    Match { file: found.file, line: found.line, content: found.content }
}

pub(super) fn replaced((file, error): (String, Option<String>)) -> Replaced {
    Replaced { file, error }
}
