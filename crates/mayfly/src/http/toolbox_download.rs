//! Downloads: one file as it is, or many as one multipart answer. Files stream.

use std::collections::VecDeque;
use std::fmt::Write;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use mayfly_core::ports::files::FileReader;
use mayfly_engine::Reach;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::fault::{Answer, Fault};
use super::input::{Json, Params};
use super::shape::download_error;
use super::toolbox::{SignedToolbox, Toolbox};

/// Most files of one download.
const MAX_FILES: usize = 10_000;
/// What stays as it is in `filename*` (RFC 8187).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Paths to download.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct DownloadRequest {
    paths: Vec<String>,
}

/// One file; also by signed URL.
#[utoipa::path(get, path = "/toolbox/{sandbox}/files/download", tag = "files",
    params(("sandbox" = String, Path), ("path" = String, Query), ("expires" = Option<i64>, Query, description = "Unix seconds, 0 = never"),
        ("signature" = Option<String>, Query, description = "Stands in for the API key")),
    responses((status = 200, content_type = "application/octet-stream", body = String)))]
async fn download(SignedToolbox(toolbox): SignedToolbox, params: Params) -> Answer<Response> {
    let path = params.require("path")?;
    let (files, id) = toolbox.files();
    let mut reader = files.read(id, path).await?;
    let size = reader.size();
    // The first bytes before the status: a small file, or one that cannot be read, is answered whole.
    let first = if size == 0 { Bytes::new() } else { reader.next().await? };
    let whole = u64::try_from(first.len()).is_ok_and(|length| length == size);
    let body = if whole { Body::from(first) } else { rest(first, reader) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    let name = path.rsplit('/').next().unwrap_or_default();
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; {}", file_name(name))) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// The first bytes, then what the reader still has; an error cuts the connection, so nobody takes a part
/// for the whole.
fn rest(first: Bytes, reader: Box<dyn FileReader>) -> Body {
    Body::from_stream(stream::try_unfold((Some(first), reader), async |(first, mut reader)| {
        let chunk = match first {
            Some(first) => first,
            None => reader.next().await?,
        };
        Ok::<_, mayfly_core::Error>((!chunk.is_empty()).then_some((chunk, (None, reader))))
    }))
}

/// Many files as parts `file` or `error`, in the order asked for; 200 even when all fail.
#[utoipa::path(post, path = "/toolbox/{sandbox}/files/bulk-download", tag = "files", request_body = DownloadRequest,
    params(("sandbox" = String, Path)), responses((status = 200, content_type = "multipart/form-data", body = String)))]
async fn bulk_download(
    State(app): State<App>,
    Toolbox(reach): Toolbox,
    Json(body): Json<DownloadRequest>,
) -> Answer<Response> {
    if body.paths.is_empty() || body.paths.len() > MAX_FILES {
        return Err(Fault::bad_request(format!("paths: expected 1 to {MAX_FILES} paths")));
    }
    // 192 random bits: no data can hold it but by guessing.
    let boundary = app.random_hex::<24>();
    let kind = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"))
        .expect("hex digits are visible ASCII");
    let parts = Parts { reach, boundary, paths: body.paths.into(), open: None, ended: false };
    let stream = stream::try_unfold(parts, async |mut parts| {
        Ok::<_, mayfly_core::Error>(parts.next().await?.map(|chunk| (chunk, parts)))
    });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// A multipart answer, as far as it was sent.
struct Parts {
    reach: Reach,
    boundary: String,
    paths: VecDeque<String>,
    open: Option<Box<dyn FileReader>>,
    ended: bool,
}

impl Parts {
    async fn next(&mut self) -> mayfly_core::Result<Option<Bytes>> {
        if let Some(reader) = &mut self.open {
            let chunk = reader.next().await?;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
            self.open = None;
            return Ok(Some(Bytes::from_static(b"\r\n")));
        }
        let Some(path) = self.paths.pop_front() else {
            let end = (!self.ended).then(|| Bytes::from(format!("--{}--\r\n", self.boundary)));
            self.ended = true;
            return Ok(end);
        };
        self.begin(&path).await.map(Some)
    }

    /// A part's headers, with its whole data where that is at hand.
    async fn begin(&mut self, path: &str) -> mayfly_core::Result<Bytes> {
        let opened = async {
            let mut reader = self.reach.files().read(self.reach.id(), path).await?;
            let first = if reader.size() == 0 { Bytes::new() } else { reader.next().await? };
            Ok::<_, mayfly_core::Error>((reader, first))
        };
        match opened.await {
            Ok((reader, first)) => {
                let size = reader.size();
                let mut part = self.headers("file", path, "application/octet-stream", size);
                part.extend_from_slice(&first);
                if u64::try_from(first.len()).is_ok_and(|length| length == size) {
                    part.extend_from_slice(b"\r\n");
                } else {
                    self.open = Some(reader);
                }
                Ok(part.into())
            }
            Err(error) => {
                let body = download_error(&Fault::from(error));
                let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
                let mut part = self.headers("error", path, "application/json", length);
                part.extend_from_slice(body.as_bytes());
                part.extend_from_slice(b"\r\n");
                Ok(part.into())
            }
        }
    }

    fn headers(&self, name: &str, path: &str, kind: &str, length: u64) -> Vec<u8> {
        let mut text = String::new();
        let _ = write!(
            text,
            "--{}\r\nContent-Disposition: form-data; name=\"{name}\"; {}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n",
            self.boundary,
            file_name(path)
        );
        text.into_bytes()
    }
}

/// `filename="…"`, or `filename*=…` where the name holds more than visible ASCII.
fn file_name(path: &str) -> String {
    if path.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        format!("filename=\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        format!("filename*=UTF-8''{}", utf8_percent_encode(path, PLAIN))
    }
}

/// Routes of downloads.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(download)).routes(routes!(bulk_download))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_their_header() {
        for (path, text) in [
            ("a/b.txt", "filename=\"a/b.txt\""),
            ("a \"b\"\\c", "filename=\"a \\\"b\\\"\\\\c\""),
            ("ü.txt", "filename*=UTF-8''%C3%BC.txt"),
            ("a\r\nb", "filename*=UTF-8''a%0D%0Ab"),
        ] {
            assert_eq!(file_name(path), text);
        }
    }
}
