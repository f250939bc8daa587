//! Uploads: many files as multipart, or one as a raw body or multipart field. Bodies stream.

use std::collections::HashMap;

use axum::Json as Reply;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use mayfly_core::ports::files::FileWriter;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::fault::{Answer, Fault};
use super::input::{Params, next_chunk};
use super::multipart::{Event, Malformed, Parser};
use super::toolbox::{SignedToolbox, Toolbox};

/// Most files of one upload.
const MAX_FILES: usize = 10_000;
/// Most bytes of one path; the kernel takes no longer ones.
const MAX_PATH: usize = 4096;
/// Most lines of `errors` in an answer.
const MAX_ERRORS: usize = 100;

/// A file that was stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stored {
    name: String,
    path: String,
    r#type: &'static str,
}

impl Stored {
    fn new(path: String) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        Self { name, path, r#type: "file" }
    }
}

/// All files of an upload.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoredFiles {
    files: Vec<Stored>,
}

/// Fields `files[i].path` then `files[i].file`, any number of pairs; parents are made, each file is
/// replaced atomically. When one fails the others are stored all the same.
#[utoipa::path(post, path = "/toolbox/{sandbox}/files/bulk-upload", tag = "files",
    params(("sandbox" = String, Path)), request_body(content_type = "multipart/form-data", content = Object),
    responses((status = 200, body = StoredFiles)))]
async fn bulk_upload(toolbox: Toolbox, request: Request) -> Answer<Reply<StoredFiles>> {
    let mut upload = Upload {
        toolbox: &toolbox,
        paths: HashMap::new(),
        part: Part::Ignored,
        stored: Vec::new(),
        failed: None,
        errors: Vec::new(),
    };
    let read = async {
        let mut form = Form::open(request)?;
        while let Some(event) = form.next().await? {
            upload.take(event).await?;
        }
        Ok(())
    };
    let read = read.await;
    let Upload { stored, failed, mut errors, .. } = upload;
    let fault: Fault = match (read, failed) {
        (Ok(()), None) => return Ok(Reply(StoredFiles { files: stored })),
        (Ok(()), Some(first)) => first,
        (Err(fault), _) => {
            let fault: Fault = fault;
            errors.push(fault.message.clone());
            fault
        }
    };
    Err(fault.with_errors(errors))
}

/// A multipart body, read event by event.
struct Form {
    parser: Parser,
    body: Body,
}

impl Form {
    fn open(request: Request) -> Answer<Self> {
        let content_type =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let parser = content_type.and_then(Parser::for_content_type).ok_or_else(|| {
            Fault::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the upload must have Content-Type: multipart/form-data with a boundary",
            )
        })?;
        Ok(Self { parser, body: request.into_body() })
    }

    /// The next event that concerns a part; `None` behind the closing delimiter.
    async fn next(&mut self) -> Answer<Option<Event>> {
        loop {
            let event = self.parser.next().map_err(|Malformed(reason)| {
                Fault::bad_body(format!("the body is not multipart/form-data: {reason}"))
            })?;
            match event {
                Event::End => break,
                Event::Starved => match next_chunk(&mut self.body).await? {
                    Some(chunk) => self.parser.push(&chunk),
                    None => {
                        return Err(Fault::bad_body(
                            "the multipart body ends before its closing boundary",
                        ));
                    }
                },
                event => return Ok(Some(event)),
            }
        }
        while next_chunk(&mut self.body).await?.is_some() {}
        Ok(None)
    }
}

/// What the current part is.
enum Part {
    /// A path, as far as it has come.
    Path { index: String, bytes: Vec<u8> },
    /// A file being written.
    File { path: String, writer: Box<dyn FileWriter> },
    /// A field that is not ours, or the rest of a file that failed.
    Ignored,
}

struct Upload<'a> {
    toolbox: &'a Toolbox,
    /// Paths that wait for their file, by index.
    paths: HashMap<String, String>,
    part: Part,
    stored: Vec<Stored>,
    failed: Option<Fault>,
    errors: Vec<String>,
}

impl Upload<'_> {
    async fn take(&mut self, event: Event) -> Answer<()> {
        match event {
            Event::Part(field) => self.begin(&field).await,
            Event::Data(data) => self.data(data).await,
            Event::PartEnd => self.end().await,
            Event::End | Event::Starved => Ok(()),
        }
    }

    async fn begin(&mut self, field: &str) -> Answer<()> {
        self.part = Part::Ignored;
        let Some(rest) = field.strip_prefix("files[") else { return Ok(()) };
        let Some((index, what)) = rest.split_once("].") else { return Ok(()) };
        match what {
            "path" => {
                if self.paths.len() + self.stored.len() >= MAX_FILES || index.len() > 16 {
                    return Err(Fault::bad_request(format!("files: at most {MAX_FILES} at once")));
                }
                self.part = Part::Path { index: index.to_owned(), bytes: Vec::new() };
            }
            "file" => {
                let Some(path) = self.paths.remove(index) else {
                    return Err(Fault::bad_request(format!(
                        "{field}: the field files[{index}].path must come before it"
                    )));
                };
                let (files, id) = self.toolbox.files();
                match files.write(id, &path).await {
                    Ok(writer) => self.part = Part::File { path, writer },
                    Err(error) => self.fail(&path, error.into()),
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn data(&mut self, data: Bytes) -> Answer<()> {
        match &mut self.part {
            Part::Ignored => {}
            Part::Path { index, bytes } => {
                if bytes.len() + data.len() > MAX_PATH {
                    return Err(Fault::bad_request(format!(
                        "files[{index}].path: longer than {MAX_PATH} bytes"
                    )));
                }
                bytes.extend_from_slice(&data);
            }
            Part::File { path, writer } => {
                if let Err(error) = writer.write(data).await {
                    let path = path.clone();
                    self.fail(&path, error.into());
                }
            }
        }
        Ok(())
    }

    async fn end(&mut self) -> Answer<()> {
        match std::mem::replace(&mut self.part, Part::Ignored) {
            Part::Ignored => {}
            Part::Path { index, bytes } => {
                let path = String::from_utf8(bytes).map_err(|_| {
                    Fault::bad_request(format!("files[{index}].path: not valid UTF-8"))
                })?;
                self.paths.insert(index, path);
            }
            Part::File { path, writer } => match writer.commit().await {
                Ok(()) => self.stored.push(Stored::new(path)),
                Err(error) => self.fail(&path, error.into()),
            },
        }
        Ok(())
    }

    fn fail(&mut self, path: &str, fault: Fault) {
        self.part = Part::Ignored;
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(format!("{path}: {}", fault.message));
        }
        self.failed.get_or_insert(fault);
    }
}

/// One file, as the raw body or as the multipart field `file`; also by signed URL.
#[utoipa::path(post, path = "/toolbox/{sandbox}/files/upload-v2", tag = "files",
    params(("sandbox" = String, Path), ("path" = String, Query), ("expires" = Option<i64>, Query, description = "Unix seconds, 0 = never"),
        ("signature" = Option<String>, Query, description = "Stands in for the API key")),
    request_body(content_type = "application/octet-stream", content = String),
    responses((status = 200, body = Stored)))]
async fn upload(
    SignedToolbox(toolbox): SignedToolbox,
    params: Params,
    request: Request,
) -> Answer<Reply<Stored>> {
    let path = params.require("path")?.to_owned();
    let (files, id) = toolbox.files();
    let multipart = request.headers().get(CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().to_ascii_lowercase().starts_with(b"multipart/form-data")
    });
    if !multipart {
        let mut body: Body = request.into_body();
        let mut writer = files.write(id, &path).await?;
        while let Some(chunk) = next_chunk(&mut body).await? {
            writer.write(chunk).await?;
        }
        writer.commit().await?;
        return Ok(Reply(Stored::new(path)));
    }
    let mut form = Form::open(request)?;
    let mut writer: Option<Box<dyn FileWriter>> = None;
    let mut inside = false;
    while let Some(event) = form.next().await? {
        match event {
            Event::Part(field) => {
                inside = field == "file" && writer.is_none();
                if inside {
                    writer = Some(files.write(id, &path).await?);
                }
            }
            Event::Data(data) if inside => {
                if let Some(writer) = &mut writer {
                    writer.write(data).await?;
                }
            }
            _ => {}
        }
    }
    let writer = writer
        .ok_or_else(|| Fault::bad_request("file: the multipart body has no field of this name"))?;
    writer.commit().await?;
    Ok(Reply(Stored::new(path)))
}

/// Routes of uploads.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(bulk_upload)).routes(routes!(upload))
}
