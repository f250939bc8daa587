//! The file service of a channel: SFTP over the sandbox's file port, as its user.
//!
//! What the port has no call for (links, empty folders, times, cut files) is done by the sandbox's own programs inside
//! it. A file that is written appears under its name when it is closed, whole; one whose visitor leaves before that
//! leaves nothing behind.

mod handles;

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use mayfly_core::file::{FileInfo, FileKind, Permissions};
use mayfly_core::process::{ExecOutcome, ExecRequest};
use mayfly_core::{Code, Error, Kind};
use mayfly_engine::Reach;
use russh::ChannelStream;
use russh::server::Msg;
use russh_sftp::protocol::{
    Attrs, Data, File, FileAttributes, Handle, Name, OpenFlags, Status, StatusCode, Version,
};
use russh_sftp::server::{Handler, StatusReply};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use handles::{Handles, Held, Reading, Writing};

/// Longest that a program inside may take for one request.
const PATIENCE: Duration = Duration::from_secs(30);
/// Entries of a folder per answer.
const PER_ANSWER: usize = 256;

/// Rights that nobody but the owner gets by default.
const UMASK: u32 = 0o022;

/// Bits of a mode that say what something is.
const KIND_BITS: [(FileKind, u32); 4] = [
    (FileKind::File, 0o100_000),
    (FileKind::Folder, 0o040_000),
    (FileKind::Link, 0o120_000),
    (FileKind::Special, 0o010_000),
];

type Answer<T> = Result<T, StatusReply>;

/// Serves a channel until its visitor closes it.
pub(super) async fn serve(
    reach: Reach,
    stream: ChannelStream<Msg>,
    farewell: impl Future<Output = ()> + Send + 'static,
) {
    let home = reach.places().await.map_or_else(|_| "/".to_owned(), |places| places.workdir);
    let (gone, ended) = oneshot::channel();
    let service = Service { tree: Tree { reach, home }, handles: Handles::default() };
    let stream = Told { stream, farewell: Some(Box::pin(farewell)), _gone: gone };
    russh_sftp::server::run(stream, service).await;
    // The library serves in a task of its own, which ends by dropping the stream.
    let _ = ended.await;
}

/// A stream whose end somebody waits for.
struct Told {
    stream: ChannelStream<Msg>,
    /// Said once the visitor has said all, and before the stream is dropped, which closes the channel.
    farewell: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _gone: oneshot::Sender<()>,
}

impl AsyncRead for Told {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match read {
            Poll::Ready(Ok(())) if buffer.filled().len() == before => {
                let Some(farewell) = &mut self.farewell else { return read };
                let said = farewell.as_mut().poll(context);
                if said.is_ready() {
                    self.farewell = None;
                }
                said.map(Ok)
            }
            read => read,
        }
    }
}

impl AsyncWrite for Told {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

struct Service {
    tree: Tree,
    handles: Handles,
}

/// The sandbox's files, by path.
struct Tree {
    reach: Reach,
    /// What relative paths begin with.
    home: String,
}

impl Tree {
    /// An absolute path without `.` and `..`; the file port looks nothing up outside the root anyway.
    fn absolute(&self, path: &str) -> String {
        let whole =
            if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.home) };
        let mut parts = Vec::new();
        for part in whole.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }

    /// Runs a program of the sandbox's on a path.
    async fn inside(&self, argv: &[&str]) -> Answer<String> {
        let request = ExecRequest {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            title: argv.join(" "),
            cwd: Some("/".to_owned()),
            env: [("LC_ALL".to_owned(), "C".to_owned())].into(),
            stdin: Bytes::new(),
            timeout: PATIENCE,
            max_output: 16 << 10,
        };
        let ExecOutcome { exit_code, output, .. } =
            self.reach.exec(request).await.map_err(reply)?;
        let text = String::from_utf8_lossy(&output).into_owned();
        if exit_code == 0 {
            return Ok(text);
        }
        let code = if text.contains("No such file") {
            StatusCode::NoSuchFile
        } else if text.contains("ermission denied") || text.contains("not permitted") {
            StatusCode::PermissionDenied
        } else {
            StatusCode::Failure
        };
        Err(code.with_message(text.trim_end().to_owned()))
    }

    async fn info(&self, path: &str) -> Answer<FileInfo> {
        self.reach.files().info(self.reach.id(), path).await.map_err(reply)
    }

    /// Changes what a request names; each kind of change by the means that there is.
    async fn change(&self, path: &str, attrs: &FileAttributes) -> Answer<()> {
        if let Some(size) = attrs.size {
            self.inside(&["truncate", "-c", "-s", &size.to_string(), "--", path]).await?;
        }
        let number = |id: Option<u32>| id.map(|id| id.to_string());
        let change = Permissions {
            owner: number(attrs.uid),
            group: number(attrs.gid),
            mode: attrs.permissions.map(|mode| mode & 0o7777),
        };
        if change != Permissions::default() {
            let files = self.reach.files();
            files.set_permissions(self.reach.id(), path, &change).await.map_err(reply)?;
        }
        for (option, time) in [("-m", attrs.mtime), ("-a", attrs.atime)] {
            if let Some(time) = time {
                self.inside(&["touch", "-c", option, "-d", &format!("@{time}"), "--", path])
                    .await?;
            }
        }
        Ok(())
    }
}

impl Handler for Service {
    type Error = StatusReply;

    fn unimplemented(&self) -> StatusReply {
        StatusCode::OpUnsupported.into()
    }

    async fn init(&mut self, _: u32, _: HashMap<String, String>) -> Answer<Version> {
        Ok(Version::new())
    }

    async fn open(
        &mut self,
        id: u32,
        filename: String,
        flags: OpenFlags,
        attrs: FileAttributes,
    ) -> Answer<Handle> {
        let path = self.tree.absolute(&filename);
        let held = if flags.contains(OpenFlags::WRITE) {
            let old = self.tree.info(&path).await;
            let old = match old {
                Ok(old) if flags.contains(OpenFlags::EXCLUDE) => {
                    return Err(StatusCode::Failure.with_message(format!("{} exists", old.path)));
                }
                Ok(old) if old.kind != FileKind::File => {
                    return Err(StatusCode::Failure.with_message("not a plain file"));
                }
                Ok(old) => Some(old),
                Err(missing) if missing.status_code != StatusCode::NoSuchFile => {
                    return Err(missing);
                }
                Err(missing) if !flags.contains(OpenFlags::CREATE) => return Err(missing),
                Err(_) => None,
            };
            let kept = old.as_ref().filter(|_| !flags.contains(OpenFlags::TRUNCATE));
            let mode =
                old.as_ref().map(|old| old.mode).or(attrs.permissions).map(|mode| mode & 0o7777);
            let append = flags.contains(OpenFlags::APPEND);
            let writing =
                Writing::begin(&self.tree.reach, path, kept.map(|old| old.size), append, mode);
            Held::Writing(writing.await.map_err(reply)?)
        } else {
            Held::Reading(Reading::open(&self.tree.reach, path).await.map_err(reply)?)
        };
        Ok(Handle { id, handle: self.handles.add(held)? })
    }

    async fn close(&mut self, id: u32, handle: String) -> Answer<Status> {
        match self.handles.remove(&handle)? {
            Held::Writing(writing) => writing.finish(&self.tree.reach).await.map_err(reply)?,
            Held::Reading(_) | Held::Folder(..) => {}
        }
        Ok(done(id))
    }

    async fn read(&mut self, id: u32, handle: String, offset: u64, len: u32) -> Answer<Data> {
        let Held::Reading(reading) = self.handles.get(&handle)? else {
            return Err(
                StatusCode::PermissionDenied.with_message("the file is open for writing only")
            );
        };
        let data = reading.read(&self.tree.reach, offset, len as usize).await.map_err(reply)?;
        if data.is_empty() {
            return Err(StatusCode::Eof.into());
        }
        Ok(Data { id, data: data.into() })
    }

    async fn write(
        &mut self,
        id: u32,
        handle: String,
        offset: u64,
        data: Vec<u8>,
    ) -> Answer<Status> {
        let Held::Writing(writing) = self.handles.get(&handle)? else {
            return Err(
                StatusCode::PermissionDenied.with_message("the file is open for reading only")
            );
        };
        writing.write(&self.tree.reach, offset, data.into()).await.map_err(reply)?;
        Ok(done(id))
    }

    async fn stat(&mut self, id: u32, path: String) -> Answer<Attrs> {
        let info = self.tree.info(&self.tree.absolute(&path)).await?;
        Ok(Attrs { id, attrs: attributes(&info) })
    }

    async fn lstat(&mut self, id: u32, path: String) -> Answer<Attrs> {
        let path = self.tree.absolute(&path);
        let text = self.tree.inside(&["stat", "-c", "%f %s %Y %u %g", "--", &path]).await?;
        let mut fields = text.split_whitespace();
        let mode = fields.next().and_then(|mode| u32::from_str_radix(mode, 16).ok());
        let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok());
        let (size, modified) = (number(), number());
        let small = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
        let (uid, gid) = (small(number()), small(number()));
        let time = small(modified);
        let mut attrs = FileAttributes::empty();
        (attrs.size, attrs.permissions, attrs.uid, attrs.gid) = (size, mode, uid, gid);
        (attrs.mtime, attrs.atime) = (time, time);
        Ok(Attrs { id, attrs })
    }

    async fn fstat(&mut self, id: u32, handle: String) -> Answer<Attrs> {
        let attrs = match self.handles.get(&handle)? {
            Held::Writing(writing) => {
                let mut attrs = FileAttributes::empty();
                attrs.size = Some(writing.size());
                attrs.permissions = Some(0o100_644);
                return Ok(Attrs { id, attrs });
            }
            Held::Reading(reading) => reading.path().to_owned(),
            Held::Folder(path, _) => path.clone(),
        };
        Ok(Attrs { id, attrs: attributes(&self.tree.info(&attrs).await?) })
    }

    async fn setstat(&mut self, id: u32, path: String, attrs: FileAttributes) -> Answer<Status> {
        self.tree.change(&self.tree.absolute(&path), &attrs).await?;
        Ok(done(id))
    }

    async fn fsetstat(&mut self, id: u32, handle: String, attrs: FileAttributes) -> Answer<Status> {
        match self.handles.get(&handle)? {
            // The file is not there yet: what it shall be is kept until it is.
            Held::Writing(writing) => writing.later(&attrs),
            Held::Reading(reading) => {
                let path = reading.path().to_owned();
                self.tree.change(&path, &attrs).await?;
            }
            Held::Folder(path, _) => {
                let path = path.clone();
                self.tree.change(&path, &attrs).await?;
            }
        }
        Ok(done(id))
    }

    async fn opendir(&mut self, id: u32, path: String) -> Answer<Handle> {
        let path = self.tree.absolute(&path);
        let entries =
            self.tree.reach.files().list(self.tree.reach.id(), &path, 1).await.map_err(reply)?;
        Ok(Handle { id, handle: self.handles.add(Held::Folder(path, entries.into()))? })
    }

    async fn readdir(&mut self, id: u32, handle: String) -> Answer<Name> {
        let Held::Folder(_, entries) = self.handles.get(&handle)? else {
            return Err(StatusCode::Failure.with_message("not a folder"));
        };
        if entries.is_empty() {
            return Err(StatusCode::Eof.into());
        }
        let count = entries.len().min(PER_ANSWER);
        let files = entries.drain(..count);
        let files = files.map(|info| file(&info)).collect();
        Ok(Name { id, files })
    }

    async fn remove(&mut self, id: u32, filename: String) -> Answer<Status> {
        let path = self.tree.absolute(&filename);
        self.tree.reach.files().delete(self.tree.reach.id(), &path, false).await.map_err(reply)?;
        Ok(done(id))
    }

    async fn mkdir(&mut self, id: u32, path: String, attrs: FileAttributes) -> Answer<Status> {
        let path = self.tree.absolute(&path);
        if self.tree.info(&path).await.is_ok() {
            return Err(StatusCode::Failure.with_message("it exists"));
        }
        let mode = attrs.permissions.unwrap_or(0o777) & 0o7777 & !UMASK;
        self.tree
            .reach
            .files()
            .make_folder(self.tree.reach.id(), &path, mode)
            .await
            .map_err(reply)?;
        Ok(done(id))
    }

    async fn rmdir(&mut self, id: u32, path: String) -> Answer<Status> {
        self.tree.inside(&["rmdir", "--", &self.tree.absolute(&path)]).await?;
        Ok(done(id))
    }

    async fn realpath(&mut self, id: u32, path: String) -> Answer<Name> {
        let path = self.tree.absolute(&path);
        Ok(Name { id, files: vec![File::new(path, FileAttributes::empty())] })
    }

    async fn rename(&mut self, id: u32, oldpath: String, newpath: String) -> Answer<Status> {
        let (from, to) = (self.tree.absolute(&oldpath), self.tree.absolute(&newpath));
        self.tree.reach.files().rename(self.tree.reach.id(), &from, &to).await.map_err(reply)?;
        Ok(done(id))
    }

    async fn readlink(&mut self, id: u32, path: String) -> Answer<Name> {
        let target =
            self.tree.inside(&["readlink", "-n", "--", &self.tree.absolute(&path)]).await?;
        Ok(Name { id, files: vec![File::new(target, FileAttributes::empty())] })
    }

    /// The common client sends the two paths in the other order than the protocol's text has them, and so does every
    /// server take them: the first is what the link leads to.
    async fn symlink(&mut self, id: u32, target: String, link: String) -> Answer<Status> {
        self.tree.inside(&["ln", "-s", "--", &target, &self.tree.absolute(&link)]).await?;
        Ok(done(id))
    }
}

fn done(id: u32) -> Status {
    Status {
        id,
        status_code: StatusCode::Ok,
        error_message: "Ok".to_owned(),
        language_tag: "en-US".to_owned(),
    }
}

/// A line of a list. The library's own lines know no links.
fn file(info: &FileInfo) -> File {
    let mut file = File::new(info.name.clone(), attributes(info));
    if info.kind == FileKind::Link && file.longname.starts_with('-') {
        file.longname.replace_range(..1, "l");
    }
    file
}

fn attributes(info: &FileInfo) -> FileAttributes {
    let kind =
        KIND_BITS.into_iter().find(|(kind, _)| *kind == info.kind).map_or(0, |(_, bits)| bits);
    let time = u32::try_from(info.modified_at.0.div_euclid(1000)).unwrap_or_default();
    let mut attrs = FileAttributes::empty();
    (attrs.size, attrs.permissions) = (Some(info.size), Some(kind | (info.mode & 0o7777)));
    (attrs.mtime, attrs.atime) = (Some(time), Some(time));
    (attrs.user, attrs.group) = (Some(info.owner.clone()), Some(info.group.clone()));
    attrs
}

#[expect(clippy::needless_pass_by_value, reason = "it is what errors are mapped by")]
fn reply(error: Error) -> StatusReply {
    let code = match (error.kind(), error.code()) {
        (_, Some(Code::FileNotFound)) | (Kind::NotFound, _) => StatusCode::NoSuchFile,
        (_, Some(Code::FileAccessDenied)) | (Kind::Denied, _) => StatusCode::PermissionDenied,
        (Kind::Unsupported, _) => StatusCode::OpUnsupported,
        _ => StatusCode::Failure,
    };
    code.with_message(error.message().to_owned())
}
