//! `mayfly sandbox cp`: files and folders between here and a sandbox.
//!
//! Files stream and appear whole or not at all; permission bits go along, owners and links do not.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use mayfly_core::{Error, Kind, Result};
use serde_json::{Value, json};

use super::exec::find;
use super::output::{Progress, cell};
use super::{Ended, Session};
use crate::client::{Body, Client, encode};
use crate::exit_code;

/// Deepest folder below the one that is copied.
const DEEPEST: usize = 100;
/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Copy files and folders into or out of a sandbox
#[derive(Debug, Args)]
pub(super) struct Copy {
    /// A local path, or SANDBOX:PATH
    from: String,
    /// A local path, or SANDBOX:PATH; an existing folder takes the source into it
    to: String,
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
enum End<'a> {
    Here(&'a Path),
    Inside { sandbox: &'a str, path: &'a str },
}

/// One copy under way.
#[derive(Debug)]
struct Transfer<'a> {
    session: &'a Session<'a>,
    client: Client,
    sandbox: String,
    files: u64,
    bytes: u64,
    skipped: u64,
}

impl Copy {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        let (from, to) = (end(&self.from), end(&self.to));
        let sandbox = match (&from, &to) {
            (End::Here(_), End::Inside { sandbox, .. })
            | (End::Inside { sandbox, .. }, End::Here(_)) => *sandbox,
            _ => {
                return Err(Error::invalid("exactly one of the two paths must be SANDBOX:PATH")
                    .with_hint("for a local path with a colon write ./ before it"));
            }
        };
        let client = session.client().await?;
        let sandbox = find(&client, sandbox).await?;
        let mut transfer = Transfer { session, client, sandbox, files: 0, bytes: 0, skipped: 0 };
        match (from, to) {
            (End::Here(from), End::Inside { path, .. }) => transfer.put(from, path).await?,
            (End::Inside { path, .. }, End::Here(to)) => transfer.get(path, to).await?,
            _ => {}
        }
        let Transfer { files, bytes, skipped, .. } = transfer;
        if skipped > 0 {
            session.output.note(&format!("{skipped} links and special files were left out"));
        }
        let value = json!({ "files": files, "bytes": bytes, "skipped": skipped });
        session.output.show(&value, || format!("{files} files, {bytes} bytes\n"))?;
        Ok(exit_code::SUCCESS)
    }
}

impl Transfer<'_> {
    /// From here into the sandbox.
    async fn put(&mut self, from: &Path, to: &str) -> Result<()> {
        let mut to = if to.is_empty() { ".".to_owned() } else { to.to_owned() };
        if to.ends_with('/') || self.is_folder(&to).await? {
            let whole = std::path::absolute(from).map_err(|error| local("find", from, error))?;
            let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
            to = join(&to, &name.unwrap_or_default());
        }
        // The path that was named may be a link; links below it are left out.
        let metadata = from.metadata().map_err(|error| local("read", from, error))?;
        if metadata.is_file() {
            return self.put_file(from, &to).await;
        }
        let mut folders = vec![(from.to_owned(), to, 0)];
        while let Some((folder, inside, depth)) = folders.pop() {
            check_depth(depth, &inside)?;
            let mode = mode_of(&folder)?;
            let path = format!("/files/folder?path={}&mode={mode:04o}", encode(&inside));
            self.post(&path).await?;
            let entries = folder.read_dir().map_err(|error| local("list", &folder, error))?;
            for entry in entries {
                let entry = entry.map_err(|error| local("list", &folder, error))?;
                let kind = entry.file_type().map_err(|error| local("read", &folder, error))?;
                let name = entry.file_name().into_string().map_err(|name| {
                    Error::invalid(format!("{} is not a UTF-8 name", folder.join(name).display()))
                })?;
                let inside = join(&inside, &name);
                if kind.is_dir() {
                    folders.push((entry.path(), inside, depth + 1));
                } else if kind.is_file() {
                    self.put_file(&entry.path(), &inside).await?;
                } else {
                    self.skipped += 1;
                }
            }
        }
        Ok(())
    }

    async fn put_file(&mut self, from: &Path, to: &str) -> Result<()> {
        let failed = |error| local("read", from, error);
        let file = File::open(from).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let progress = self.session.output.transfer(length, to);
        let path = self.toolbox(&format!("/files/upload-v2?path={}", encode(to)));
        self.client.upload(&path, length, stream(file, length, progress)).await?;
        let mode = mode_of(from)?;
        if mode & 0o111 != 0 {
            let path = format!("/files/permissions?path={}&mode={mode:04o}", encode(to));
            self.post(&path).await?;
        }
        self.files += 1;
        self.bytes += length;
        Ok(())
    }

    /// Out of the sandbox to here.
    async fn get(&mut self, from: &str, to: &Path) -> Result<()> {
        let from = if from.is_empty() { "." } else { from };
        let info = self.ask(&format!("/files/info?path={}", encode(from))).await?;
        let mut to = to.to_owned();
        if to.is_dir() {
            let name = from.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            if !matches!(name, "" | "." | "..") {
                to.push(name);
            }
        }
        if !is_folder(&info) {
            return self.get_file(from, &to, &info).await;
        }
        let mut folders = vec![(from.to_owned(), to, 0)];
        while let Some((inside, folder, depth)) = folders.pop() {
            check_depth(depth, &inside)?;
            std::fs::create_dir_all(&folder).map_err(|error| local("make", &folder, error))?;
            let entries = self.ask(&format!("/files?path={}", encode(&inside))).await?;
            for entry in entries.as_array().into_iter().flatten() {
                let name = plain_name(entry)?;
                let (inside, here) = (join(&inside, name), folder.join(name));
                if is_folder(entry) {
                    folders.push((inside, here, depth + 1));
                } else if cell(&entry["mode"]).starts_with('-') {
                    self.get_file(&inside, &here, entry).await?;
                } else {
                    self.skipped += 1;
                }
            }
        }
        Ok(())
    }

    async fn get_file(&mut self, from: &str, to: &Path, info: &Value) -> Result<()> {
        let failed = |error| local("write", to, error);
        let folder = match to.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // Written beside its place and put there whole; a link of that name is replaced, not followed.
        let part = folder.join(format!(".mayfly-{}.part", uuid::Uuid::now_v7().simple()));
        let mut file = File::create_new(&part).map_err(failed)?;
        let progress = self.session.output.transfer(info["size"].as_u64().unwrap_or(0), from);
        let path = self.toolbox(&format!("/files/download?path={}", encode(from)));
        let mut length = 0;
        let received = self
            .client
            .download(&path, |bytes| {
                length += bytes.len() as u64;
                progress.advance(bytes.len());
                file.write_all(bytes).map_err(failed)
            })
            .await;
        let mode = u32::from_str_radix(&cell(&info["permissions"]), 8).unwrap_or(0o644);
        let placed = received.and_then(|()| {
            // No set-id bits from a sandbox.
            let permissions = std::fs::Permissions::from_mode(mode & 0o777);
            file.set_permissions(permissions).map_err(failed)?;
            std::fs::rename(&part, to).map_err(failed)
        });
        if placed.is_err() {
            // The failure itself is what counts.
            let _ = std::fs::remove_file(&part);
        }
        self.files += 1;
        self.bytes += length;
        placed
    }

    async fn is_folder(&self, path: &str) -> Result<bool> {
        match self.ask(&format!("/files/info?path={}", encode(path))).await {
            Ok(info) => Ok(is_folder(&info)),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, path: &str) -> Result<Value> {
        self.client.call(Method::GET, &self.toolbox(path), None).await
    }

    async fn post(&self, path: &str) -> Result<()> {
        self.client.call(Method::POST, &self.toolbox(path), None).await.map(drop)
    }

    fn toolbox(&self, path: &str) -> String {
        format!("/toolbox/{}{path}", self.sandbox)
    }
}

/// `SANDBOX:PATH` has no slash before its first colon; everything else is local.
fn end(text: &str) -> End<'_> {
    match text.split_once(':') {
        Some((sandbox, path)) if !sandbox.is_empty() && !sandbox.contains('/') => {
            End::Inside { sandbox, path }
        }
        _ => End::Here(Path::new(text)),
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.ends_with('/') { format!("{folder}{name}") } else { format!("{folder}/{name}") }
}

fn is_folder(info: &Value) -> bool {
    info["isDir"].as_bool().unwrap_or(false)
}

/// The entry's name, which must be one plain part: the other end chooses it, and it becomes a local path.
fn plain_name(entry: &Value) -> Result<&str> {
    let name = entry["name"].as_str().unwrap_or_default();
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Ok(name),
        _ => Err(Error::invalid(format!("the sandbox lists a file with the name {name:?}"))
            .with_hint("copy the other files one by one")),
    }
}

fn check_depth(depth: usize, folder: &str) -> Result<()> {
    if depth <= DEEPEST {
        return Ok(());
    }
    Err(Error::invalid(format!("{folder} is more than {DEEPEST} folders deep")))
}

fn mode_of(path: &Path) -> Result<u32> {
    let metadata = path.metadata().map_err(|error| local("read", path, error))?;
    Ok(metadata.permissions().mode() & 0o777)
}

/// The file's bytes, exactly as many as announced: one that grows is cut, one that shrinks is an error.
fn stream(file: File, length: u64, progress: Progress) -> Body {
    let frames = futures_util::stream::try_unfold((file, length), move |(mut file, left)| {
        let next = read_chunk(&mut file, left).map(|chunk| {
            let chunk = chunk?;
            progress.advance(chunk.len());
            let left = left - chunk.len() as u64;
            Some((Frame::data(chunk), (file, left)))
        });
        std::future::ready(next)
    });
    StreamBody::new(frames).boxed_unsync()
}

fn read_chunk(file: &mut File, left: u64) -> std::io::Result<Option<Bytes>> {
    if left == 0 {
        return Ok(None);
    }
    let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
    let read = file.read(&mut chunk)?;
    if read == 0 {
        return Err(std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            "the file became shorter while it was copied",
        ));
    }
    chunk.truncate(read);
    Ok(Some(chunk.into()))
}

fn local(verb: &str, path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::PermissionDenied => Kind::Denied,
        _ => Kind::Unavailable,
    };
    Error::new(kind, format!("cannot {verb} {}: {error}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_with_a_sandbox_have_no_slash_before_the_colon() {
        let inside = |sandbox, path| End::Inside { sandbox, path };
        let here = |path: &'static str| End::Here(Path::new(path));
        for (text, expected) in [
            ("box:/a", inside("box", "/a")),
            ("box:", inside("box", "")),
            ("box:a:b", inside("box", "a:b")),
            ("./a:b", here("./a:b")),
            ("/a:b", here("/a:b")),
            ("a", here("a")),
            (":a", here(":a")),
        ] {
            assert_eq!(end(text), expected, "{text}");
        }
    }

    #[test]
    fn names_that_lead_out_of_the_folder_are_refused() {
        for name in ["", ".", "..", "a/b", "/a", "a/", "../a"] {
            assert!(plain_name(&json!({ "name": name })).is_err(), "{name:?}");
        }
        assert_eq!(plain_name(&json!({ "name": "..a b" })).unwrap(), "..a b");
    }

    #[test]
    fn a_file_is_sent_as_long_as_announced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "0123456789").unwrap();
        let mut file = File::open(&path).unwrap();
        assert_eq!(read_chunk(&mut file, 4).unwrap().unwrap(), "0123");
        assert_eq!(read_chunk(&mut file, 0).unwrap(), None);
        assert_eq!(read_chunk(&mut file, 100).unwrap().unwrap(), "456789");
        assert!(read_chunk(&mut file, 94).is_err());
    }
}
