//! Downloads: one file as it is, or many as one multipart answer. Files stream.

use std::collections::VecDeque;

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
/// Small parts are sent together up to this many bytes.
const PACK: usize = 64 << 10;
/// What stays as it is in `filename*` (RFC 8187).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Paths to download.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct DownloadRequest {
    paths: Vec<String>,
}

impl DownloadRequest {
    /// The paths, or 400 when they are none or too many.
    pub(crate) fn into_paths(self) -> Answer<Vec<String>> {
        if self.paths.is_empty() || self.paths.len() > MAX_FILES {
            return Err(Fault::bad_request(format!("paths: expected 1 to {MAX_FILES} paths")));
        }
        Ok(self.paths)
    }
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
    let paths = body.into_paths()?;
    // 192 random bits: no data can hold it but by guessing.
    let boundary = app.random_hex::<24>();
    let kind = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"))
        .expect("hex digits are visible ASCII");
    let mut parts = Parts { reach, boundary, paths: paths.into(), open: None, ended: false };
    let first = parts.next().await?;
    let body = if parts.ended {
        Body::from(first.unwrap_or_default())
    } else {
        let rest = stream::try_unfold((first, parts), async |(first, mut parts)| {
            let chunk = match first {
                Some(first) => Some(first),
                None => parts.next().await?,
            };
            Ok::<_, mayfly_core::Error>(chunk.map(|chunk| (chunk, (None, parts))))
        });
        Body::from_stream(rest)
    };
    let mut response = Response::new(body);
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
    /// The next bytes: a piece of the open file, else as many small parts as fit.
    async fn next(&mut self) -> mayfly_core::Result<Option<Bytes>> {
        let mut out = Vec::new();
        if let Some(reader) = &mut self.open {
            let chunk = reader.next().await?;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
            self.open = None;
            out.extend_from_slice(b"\r\n");
        }
        while self.open.is_none() && out.len() < PACK && !self.ended {
            if let Some(path) = self.paths.pop_front() {
                self.begin(&path, &mut out).await;
            } else {
                out.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
                self.ended = true;
            }
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    /// Appends a part's headers, with its whole data where that is at hand.
    async fn begin(&mut self, path: &str, out: &mut Vec<u8>) {
        let opened = async {
            let mut reader = self.reach.files().read(self.reach.id(), path).await?;
            let first = if reader.size() == 0 { Bytes::new() } else { reader.next().await? };
            Ok::<_, mayfly_core::Error>((reader, first))
        };
        match opened.await {
            Ok((reader, first)) => {
                let size = reader.size();
                self.headers(out, "file", path, "application/octet-stream", size);
                out.extend_from_slice(&first);
                if u64::try_from(first.len()).is_ok_and(|length| length == size) {
                    out.extend_from_slice(b"\r\n");
                } else {
                    self.open = Some(reader);
                }
            }
            Err(error) => {
                let body = download_error(&Fault::from(error));
                let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
                self.headers(out, "error", path, "application/json", length);
                out.extend_from_slice(body.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn headers(&self, out: &mut Vec<u8>, name: &str, path: &str, kind: &str, length: u64) {
        let text = format!(
            "--{}\r\nContent-Disposition: form-data; name=\"{name}\"; {}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n",
            self.boundary,
            part_name(path)
        );
        out.extend_from_slice(text.as_bytes());
    }
}

/// `filename="…"`, or `filename*=…` where the name holds more than visible ASCII.
fn file_name(path: &str) -> String {
    if is_plain(path) {
        format!("filename=\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        format!("filename*=UTF-8''{}", utf8_percent_encode(path, PLAIN))
    }
}

/// The name of a part. Python clients before 0.226, and streams of later ones, read only `filename`, and
/// through Latin-1: its bytes in that encoding are the name's UTF-8, which is what they make of it.
fn part_name(path: &str) -> String {
    if is_plain(path) {
        return file_name(path);
    }
    let mut text = format!("{}; filename=\"", file_name(path));
    for byte in path.bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            0..b' ' | 0x7f => text.push('_'),
            _ => text.push(char::from(byte)),
        }
    }
    text.push('"');
    text
}

fn is_plain(path: &str) -> bool {
    path.bytes().all(|byte| matches!(byte, b' '..=b'~'))
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
            ("ü.txt", "filename*=UTF-8''%C3%BC.txt; filename=\"Ã¼.txt\""),
            ("a\r\nb", "filename*=UTF-8''a%0D%0Ab; filename=\"a__b\""),
        ] {
            assert_eq!(part_name(path), text);
        }
        let odd = "ü\"\r\n漢";
        let name = part_name(odd);
        assert!(
            name.starts_with("filename*=UTF-8''%C3%BC%22%0D%0A%E6%BC%A2; filename=\""),
            "{name}"
        );
        // As those clients read it: UTF-8, quotes taken off, Latin-1, UTF-8 again.
        let quoted = name.split("filename=\"").nth(1).expect("a plain name").trim_end_matches('"');
        let latin: Vec<u8> = quoted
            .replace("\\\"", "\"")
            .chars()
            .map(|letter| u8::try_from(letter).expect("Latin-1"))
            .collect();
        assert_eq!(String::from_utf8(latin).expect("UTF-8"), "ü\"__漢");
    }
}
