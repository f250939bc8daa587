//! What can go wrong with one path, and the error the caller gets for it.

use rustix::io::Errno;

use crate::refusal::{Code, Kind, Refusal};

/// A failure before it knows the path as the caller wrote it.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The kernel said no.
    Os(Errno),
    /// Cannot be a path; the reason.
    BadPath(&'static str),
    /// `/`, `.` or `..` where the name of an entry is needed.
    NoName,
    /// A folder where a file is needed.
    IsFolder,
    /// Anything else where a folder is needed.
    NotFolder,
    /// A pipe, socket or device where a plain file is needed.
    NotPlain,
    /// On a file system of the kernel itself, such as /proc, /sys or /dev.
    KernelFolder,
    /// The name is taken.
    Exists,
    /// More than the bound named here.
    TooMany(&'static str),
    /// The call's time is over.
    TimeOver,
    /// The server is ending.
    Stopping,
    /// Changed so fast that no lookup could finish.
    Restless,
    /// Ended before its size.
    Shrank,
    /// Any other wrong input, in words that follow the path.
    Wrong(String),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ISDIR => Self::IsFolder,
            Errno::NOTDIR => Self::NotFolder,
            Errno::EXIST | Errno::NOTEMPTY => Self::Exists,
            Errno::AGAIN => Self::Restless,
            Errno::NXIO | Errno::NODEV => Self::NotPlain,
            Errno::NAMETOOLONG => Self::BadPath("the path, with the links in it, is too long"),
            Errno::LOOP => {
                Self::BadPath("the path has too many links, or one that leads to no path")
            }
            other => Self::Os(other),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Errno::from_io_error(&error).map_or(Self::Os(Errno::IO), Self::from)
    }
}

impl Fault {
    /// Whether the entry is simply not there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Os(Errno::NOENT))
    }

    /// The caller's error, naming the path as asked for.
    pub(crate) fn at(self, path: &str) -> Refusal {
        let path = shown(path);
        let bad = |text: String| Refusal::invalid(text).with_code(Code::InvalidFilePath);
        match self {
            Self::Os(errno) => os(errno, &path),
            Self::BadPath(why) => bad(format!("`{path}` cannot be used: {why}")),
            Self::NoName => bad(format!("`{path}` does not end in the name of a file or folder")),
            Self::IsFolder => bad(format!("`{path}` is a folder")),
            Self::NotFolder => bad(format!("`{path}` is not a folder, or a part of it is not one")),
            Self::NotPlain => {
                bad(format!("`{path}` is a pipe, socket or device, not a plain file"))
            }
            Self::KernelFolder => {
                bad(format!("`{path}` belongs to the kernel (/proc, /sys, /dev), not to files"))
                    .with_hint("run a command in the sandbox to use it")
            }
            Self::Exists => Refusal::new(Kind::Conflict, format!("`{path}` already exists")),
            Self::TooMany(what) => {
                Refusal::new(Kind::Limit, format!("`{path}` gives more than {what}"))
                    .with_hint("ask for a smaller folder or a narrower pattern")
            }
            Self::TimeOver => {
                Refusal::new(Kind::Timeout, format!("`{path}` was not finished within 30 s"))
                    .with_hint("ask for a smaller folder, or run a command in the sandbox")
            }
            Self::Stopping => Refusal::new(Kind::Unavailable, "the server is stopping"),
            Self::Restless => Refusal::new(
                Kind::Unavailable,
                format!("`{path}` is being moved about and could not be looked up"),
            ),
            Self::Shrank => {
                Refusal::new(Kind::Conflict, format!("`{path}` became shorter while it was read"))
                    .with_code(Code::FileReadFailed)
            }
            Self::Wrong(why) => Refusal::invalid(format!("`{path}` {why}")),
        }
    }
}

fn os(errno: Errno, path: &str) -> Refusal {
    match errno {
        Errno::NOENT => Refusal::new(Kind::NotFound, format!("`{path}` does not exist"))
            .with_code(Code::FileNotFound),
        Errno::ACCESS | Errno::PERM => {
            Refusal::new(Kind::Denied, format!("the sandbox's user may not do this to `{path}`"))
                .with_code(Code::FileAccessDenied)
        }
        Errno::ROFS => Refusal::new(Kind::Denied, format!("`{path}` is read-only"))
            .with_code(Code::FileAccessDenied),
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Refusal::new(
            Kind::Limit,
            format!("no disk space for `{path}`: the sandbox's disk is full"),
        )
        .with_hint("delete files in the sandbox or give it a larger disk"),
        Errno::BUSY | Errno::TXTBSY => Refusal::new(
            Kind::Conflict,
            format!("`{path}` is in use as a mount point or running program"),
        ),
        Errno::XDEV => Refusal::new(
            Kind::Conflict,
            format!("`{path}` cannot be moved to another file system or layer"),
        )
        .with_hint("copy it and delete the original, or run mv in the sandbox"),
        Errno::INVAL => Refusal::invalid(format!("`{path}` does not allow this"))
            .with_code(Code::InvalidFilePath),
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
            let message = format!("no memory or descriptor left to use `{path}`");
            Refusal {
                errno: Some(errno.raw_os_error()),
                ..Refusal::new(Kind::Unavailable, message)
            }
        }
        other => {
            Refusal::internal(format!("`{path}` could not be used"), &std::io::Error::from(other))
        }
    }
}

/// Enough of a path for a message.
fn shown(path: &str) -> String {
    const MOST: usize = 300;
    if path.chars().nth(MOST).is_none() {
        return path.to_owned();
    }
    path.chars().take(MOST).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answers_have_kinds_and_codes() {
        let cases = [
            (Errno::NOENT, Kind::NotFound, Some(Code::FileNotFound)),
            (Errno::ACCESS, Kind::Denied, Some(Code::FileAccessDenied)),
            (Errno::ROFS, Kind::Denied, Some(Code::FileAccessDenied)),
            (Errno::LOOP, Kind::Invalid, Some(Code::InvalidFilePath)),
            (Errno::NAMETOOLONG, Kind::Invalid, Some(Code::InvalidFilePath)),
            (Errno::NOTDIR, Kind::Invalid, Some(Code::InvalidFilePath)),
            (Errno::NOSPC, Kind::Limit, None),
            (Errno::DQUOT, Kind::Limit, None),
            (Errno::EXIST, Kind::Conflict, None),
            (Errno::XDEV, Kind::Conflict, None),
            (Errno::MFILE, Kind::Unavailable, None),
            (Errno::IO, Kind::Internal, None),
        ];
        for (errno, kind, code) in cases {
            let error = Fault::from(errno).at("/some/file");
            assert_eq!((error.kind, error.code), (kind, code), "{errno}");
            assert!(error.message.contains("/some/file"), "{}", error.message);
        }
    }

    #[test]
    fn a_long_path_is_cut_in_messages() {
        let error = Fault::NoName.at(&"ä/".repeat(2000));
        assert!(error.message.len() < 1000);
    }
}
