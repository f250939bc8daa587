//! Files as the caller names them and as a language server does.

use mayfly_core::{Code, Error, Result};
use sha2::{Digest as _, Sha256};

use crate::reach::Reach;

/// Longest file that is shown to a language server, bytes.
const MAX_DOCUMENT: usize = 4 << 20;
/// Longest path, bytes.
const MAX_PATH: usize = 4096;

/// A project's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Project {
    /// As the caller named it.
    given: String,
    /// Absolute.
    pub(super) folder: String,
    /// Where relative paths begin.
    workdir: String,
}

impl Project {
    pub(super) async fn new(reach: &Reach, given: &str) -> Result<Self> {
        check("pathToProject", given)?;
        let workdir = reach.places().await?.workdir;
        let folder = join(&workdir, given);
        Ok(Self { given: given.trim_end_matches('/').to_owned(), folder, workdir })
    }

    /// The absolute path behind a URI, `file://` and the path. A relative one begins at the work dir, or in the
    /// project where the work dir has no such file.
    pub(super) async fn resolve(&self, reach: &Reach, uri: &str) -> Result<String> {
        let Some(path) = uri.strip_prefix("file://") else {
            return Err(Error::invalid("uri: expected file:// and the path of a file"));
        };
        check("uri", path)?;
        let first = join(&self.workdir, path);
        if path.starts_with('/') {
            return Ok(first);
        }
        let second = join(&self.folder, path);
        let is_missing = |error: &Error| error.code() == Some(Code::FileNotFound);
        match reach.files().info(reach.id(), &first).await {
            Err(error) if is_missing(&error) => {
                let is_there = reach.files().info(reach.id(), &second).await.is_ok();
                Ok(if is_there { second } else { first })
            }
            _ => Ok(first),
        }
    }

    /// A language server's URI as the caller would write it: its path plain, below the project as that was named.
    pub(super) fn shown(&self, uri: &str) -> String {
        let Some(path) = uri.strip_prefix("file://").and_then(decode) else {
            return uri.to_owned();
        };
        let rest = path.strip_prefix(&self.folder).filter(|rest| rest.starts_with('/'));
        match rest {
            Some(rest) if !self.given.starts_with('/') && !self.given.is_empty() => {
                format!("file://{}{rest}", self.given)
            }
            _ => format!("file://{path}"),
        }
    }
}

fn check(field: &str, path: &str) -> Result<()> {
    if path.is_empty() || path.contains('\0') || path.len() > MAX_PATH {
        let message = format!("{field}: expected a path of 1 to {MAX_PATH} bytes without NUL");
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// A path below a folder unless it is absolute, without empty parts and dots.
fn join(folder: &str, path: &str) -> String {
    let base = if path.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The URI of an absolute path, in the form that every language server reads back.
pub(super) fn uri(path: &str) -> String {
    let mut uri = "file://".to_owned();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                uri.push(char::from(byte));
            }
            byte => {
                let digit = |number: u8| char::from(b"0123456789ABCDEF"[usize::from(number)]);
                uri.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    uri
}

fn decode(text: &str) -> Option<String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.ok().map(std::borrow::Cow::into_owned)
}

/// A file's text, what is not UTF-8 replaced.
pub(super) async fn read(reach: &Reach, path: &str) -> Result<String> {
    let mut reader = reach.files().read(reach.id(), path).await?;
    let mut text = Vec::new();
    loop {
        let piece = reader.next().await?;
        if piece.is_empty() {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        text.extend_from_slice(&piece);
        if text.len() > MAX_DOCUMENT {
            let message = format!("uri: the file is longer than {MAX_DOCUMENT} bytes");
            return Err(Error::invalid(message));
        }
    }
}

/// Tells two contents of a file apart without keeping them.
pub(super) fn fingerprint(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(given: &str) -> Project {
        let workdir = "/root".to_owned();
        Project { given: given.to_owned(), folder: join(&workdir, given), workdir }
    }

    #[test]
    fn folders_are_absolute_and_plain() {
        for (given, folder) in [
            ("a", "/root/a"),
            ("./a//b/../c/", "/root/a/c"),
            ("/x/.", "/x"),
            (".", "/root"),
            ("../..", "/"),
        ] {
            assert_eq!(join("/root", given), folder, "{given}");
        }
    }

    #[test]
    fn names_come_back_as_they_were_given() {
        for (given, found, shown) in [
            ("a", "file:///root/a/x%20y.py", "file://a/x y.py"),
            ("/root/a", "file:///root/a/x.py", "file:///root/a/x.py"),
            ("a", "file:///root/ab/x.py", "file:///root/ab/x.py"),
            ("a", "file:///usr/lib/%C3%BC", "file:///usr/lib/ü"),
            ("a", "zip:///x", "zip:///x"),
            ("a", "file:///%ff", "file:///%ff"),
        ] {
            assert_eq!(project(given).shown(found), shown);
        }
        let path = "/a b/ü#?%.py";
        assert_eq!(uri(path), "file:///a%20b/%C3%BC%23%3F%25.py");
        assert_eq!(decode("/a%20b/%C3%BC%23%3F%25.py").as_deref(), Some(path));
    }
}
