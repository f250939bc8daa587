//! `/api/system/backup`: everything of the server as one compressed archive, made while it runs.
//!
//! ```text
//! mayfly-backup   version of the form, and of the program       sandboxes/<id>/…   files of each sandbox
//! state.db        all records                                   volumes/<id>/…     files of each volume
//! master.key      what tokens and sealed values derive from     complete           last: what was left out
//! ```

use std::io::{self, Write};

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use bytes::Bytes;
use mayfly_core::ports::captures::{Exported, Sink};
use mayfly_core::{Error, Kind, Result};
use mayfly_engine::{Engine, Frame};
use tokio::sync::mpsc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{App, Who};
use super::fault::Answer;

/// First member of a backup, and the version of its form.
pub(crate) const FIRST: (&str, u32) = ("mayfly-backup", 2);
/// Records, master key, files of sandboxes and of volumes, and the last member.
pub(crate) const RECORDS: &str = "state.db";
pub(crate) const MASTER: &str = "master.key";
pub(crate) const SANDBOXES: &str = "sandboxes";
pub(crate) const VOLUMES: &str = "volumes";
pub(crate) const LAST: &str = "complete";

/// Bytes that travel at once, and pieces that may wait for a slow client; the writer waits then.
const PIECE: usize = 256 << 10;
const WAITING: usize = 8;
/// Compression level: files of sandboxes are many and mostly compressed once already.
const LEVEL: i32 = 3;

/// A backup as a zstd-compressed tar archive; a connection that breaks off before its end is no backup. The
/// operator's alone, over the server's private socket: the things and secrets of all organizations are in it.
#[utoipa::path(get, path = "/api/system/backup", tag = "system",
    responses((status = 200, content_type = "application/zstd", body = String)))]
async fn backup(State(app): State<App>, Who(caller): Who) -> Answer<Response> {
    let frame = app.engine.frame(&caller).await?;
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(write_all(app.engine.clone(), frame, app.master, sender));
    let pieces = futures_util::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/zstd"));
    Ok(response)
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(backup))
}

type Piece = std::result::Result<Bytes, io::Error>;

/// Writes the archive and lets the frame go, whatever becomes of the client.
async fn write_all(
    engine: Engine,
    mut frame: Frame,
    master: [u8; 32],
    sender: mpsc::Sender<Piece>,
) {
    let written = write(&engine, &mut frame, master, sender.clone()).await;
    engine.end_frame(frame).await;
    if let Err(error) = written {
        tracing::warn!(%error, "a backup was not finished");
        // A client that is gone needs no word; any other must not take a part for the whole.
        let _ = sender.send(Err(io::Error::other(error.message().to_owned()))).await;
    }
}

async fn write(
    engine: &Engine,
    frame: &mut Frame,
    master: [u8; 32],
    sender: mpsc::Sender<Piece>,
) -> Result<()> {
    let pieces = Pieces { sender, waiting: Vec::with_capacity(PIECE) };
    let encoder = zstd::Encoder::new(pieces, LEVEL).map_err(failed)?;
    let mut out: Sink = Box::new(Archive(Some(encoder)));
    let size = frame.records.size;
    let records = std::mem::replace(&mut frame.records.data, Box::new(io::empty()));
    out = blocking(move || {
        let head = format!("{}\n{}\n", FIRST.1, env!("CARGO_PKG_VERSION"));
        member(&mut out, FIRST.0, head.len() as u64, head.as_bytes())?;
        member(&mut out, RECORDS, size, records)?;
        member(&mut out, MASTER, 32, &master[..])?;
        Ok(out)
    })
    .await?;
    let mut total = Exported::default();
    let sandboxes = frame.sandboxes.iter().map(|(id, files)| (format!("{SANDBOXES}/{id}"), *files));
    let volumes = frame.volumes.iter().map(|(id, files)| (format!("{VOLUMES}/{id}"), *files));
    let all: Vec<_> = sandboxes.chain(volumes).collect();
    let count = all.len();
    for (prefix, capture) in all {
        let exported;
        (out, exported) = engine.export(capture, &prefix, out).await?;
        total.members += exported.members;
        total.skipped += exported.skipped;
    }
    blocking(move || {
        let text = format!("{count}\n{}\n{}\n", total.members, total.skipped);
        member(&mut out, LAST, text.len() as u64, text.as_bytes())?;
        out.write_all(&[0; 1024])?;
        out.flush()
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal("the backup broke off", error))?.map_err(failed)
}

fn failed(error: io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("the backup could not be written: {error}"))
        .with_source(error)
}

/// Copies a stream of a known size as one member.
fn member(out: &mut Sink, name: &str, size: u64, data: impl io::Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_mode(0o600);
    header.set_size(size);
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    if io::copy(&mut data.take(size), out)? != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match usize::try_from(size % 512).unwrap_or(0) {
        0 => Ok(()),
        over => out.write_all(&[0; 512][over..]),
    }
}

/// The compressed archive; a flush ends it.
struct Archive(Option<zstd::Encoder<'static, Pieces>>);

impl Write for Archive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.take() {
            Some(encoder) => encoder.finish()?.flush(),
            None => Ok(()),
        }
    }
}

/// Hands bytes to the connection, piece by piece.
struct Pieces {
    sender: mpsc::Sender<Piece>,
    waiting: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.waiting, Vec::with_capacity(PIECE));
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
