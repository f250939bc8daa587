//! `/toolbox/{id}/files`: everything but the transfers.

use axum::Json as Reply;
use axum::http::StatusCode;
use mayfly_core::file::{FileInfo, FileKind, Permissions};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::fault::{Answer, Fault};
use super::input::{Json, Params};
use super::time::rfc3339;
use super::toolbox::Toolbox;

/// Deepest list.
const MAX_DEPTH: u32 = 64;
/// Most files of one replace.
pub(crate) const MAX_FILES: usize = 10_000;

/// A file or folder.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FileInfo)]
pub(crate) struct FileBody {
    name: String,
    path: String,
    is_dir: bool,
    size: u64,
    /// Such as `-rw-r--r--`.
    mode: String,
    /// Such as `0644`.
    permissions: String,
    owner: String,
    group: String,
    mod_time: String,
    modified_at: String,
}

impl FileBody {
    fn new(info: FileInfo) -> Self {
        let time = rfc3339(info.modified_at);
        Self {
            name: info.name,
            path: info.path,
            is_dir: info.kind == FileKind::Folder,
            size: info.size,
            mode: letters(info.kind, info.mode),
            permissions: format!("{:04o}", info.mode & 0o7777),
            owner: info.owner,
            group: info.group,
            mod_time: time.clone(),
            modified_at: time,
        }
    }
}

/// Mode as `ls` prints it.
fn letters(kind: FileKind, mode: u32) -> String {
    let mut out = String::with_capacity(10);
    out.push(match kind {
        FileKind::File => '-',
        FileKind::Folder => 'd',
        FileKind::Link => 'l',
        FileKind::Special => '?',
    });
    for (shift, special, set, plain) in
        [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift;
        out.push(if bits & 4 == 0 { '-' } else { 'r' });
        out.push(if bits & 2 == 0 { '-' } else { 'w' });
        out.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => plain,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}

/// A line that matched.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Match {
    file: String,
    line: u64,
    content: String,
}

/// Paths that matched.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Found {
    files: Vec<String>,
}

/// What text to replace where.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReplaceRequest {
    pub(crate) files: Vec<String>,
    /// Literal text.
    pub(crate) pattern: String,
    new_value: String,
}

impl ReplaceRequest {
    /// Within its bounds, or 400 naming the field.
    pub(crate) fn checked(self) -> Answer<Self> {
        if self.pattern.is_empty() {
            return Err(Fault::bad_request("pattern: the text to replace must not be empty"));
        }
        if self.files.len() > MAX_FILES {
            return Err(Fault::bad_request(format!("files: at most {MAX_FILES} at once")));
        }
        Ok(self)
    }
}

/// What became of one file.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplaceResult {
    file: String,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Entries of a folder, sorted by name.
#[utoipa::path(get, path = "/toolbox/{sandbox}/files", tag = "files",
    params(("sandbox" = String, Path), ("path" = Option<String>, Query, description = "Default: the work dir"),
        ("depth" = Option<u32>, Query, description = "1 = the folder only")),
    responses((status = 200, body = Vec<FileBody>)))]
async fn list(toolbox: Toolbox, params: Params) -> Answer<Reply<Vec<FileBody>>> {
    let depth = match params.number("depth")? {
        None => 1,
        Some(depth @ 1..=MAX_DEPTH) => depth,
        Some(_) => {
            return Err(Fault::bad_request(format!(
                "depth: expected a whole number from 1 to {MAX_DEPTH}"
            )));
        }
    };
    let (files, id) = toolbox.files();
    let found = files.list(id, params.get("path").unwrap_or("."), depth).await?;
    Ok(Reply(found.into_iter().map(FileBody::new).collect()))
}

/// One file or folder.
#[utoipa::path(get, path = "/toolbox/{sandbox}/files/info", tag = "files",
    params(("sandbox" = String, Path), ("path" = String, Query)), responses((status = 200, body = FileBody)))]
async fn info(toolbox: Toolbox, params: Params) -> Answer<Reply<FileBody>> {
    let (files, id) = toolbox.files();
    Ok(Reply(FileBody::new(files.info(id, params.require("path")?).await?)))
}

/// Makes a folder and its parents; an existing one is a success.
#[utoipa::path(post, path = "/toolbox/{sandbox}/files/folder", tag = "files",
    params(("sandbox" = String, Path), ("path" = String, Query), ("mode" = Option<String>, Query, description = "Octal, default 0755")),
    responses((status = 201)))]
async fn make_folder(toolbox: Toolbox, params: Params) -> Answer<StatusCode> {
    let mode = octal(&params)?.unwrap_or(0o755);
    let (files, id) = toolbox.files();
    files.make_folder(id, params.require("path")?, mode).await?;
    Ok(StatusCode::CREATED)
}

/// Deletes a file or, with `recursive`, a folder.
#[utoipa::path(delete, path = "/toolbox/{sandbox}/files", tag = "files",
    params(("sandbox" = String, Path), ("path" = String, Query), ("recursive" = Option<bool>, Query)),
    responses((status = 204)))]
async fn delete(toolbox: Toolbox, params: Params) -> Answer<StatusCode> {
    let recursive = params.boolean("recursive")?.unwrap_or_default();
    let (files, id) = toolbox.files();
    files.delete(id, params.require("path")?, recursive).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Renames; an existing destination is 409.
#[utoipa::path(post, path = "/toolbox/{sandbox}/files/move", tag = "files",
    params(("sandbox" = String, Path), ("source" = String, Query), ("destination" = String, Query)),
    responses((status = 200)))]
async fn rename(toolbox: Toolbox, params: Params) -> Answer<StatusCode> {
    let (files, id) = toolbox.files();
    files.rename(id, params.require("source")?, params.require("destination")?).await?;
    Ok(StatusCode::OK)
}

/// Lines that contain the literal text, recursive; binary files are skipped.
#[utoipa::path(get, path = "/toolbox/{sandbox}/files/find", tag = "files",
    params(("sandbox" = String, Path), ("path" = Option<String>, Query), ("pattern" = String, Query)),
    responses((status = 200, body = Vec<Match>)))]
async fn find(toolbox: Toolbox, params: Params) -> Answer<Reply<Vec<Match>>> {
    let (files, id) = toolbox.files();
    let path = params.get("path").unwrap_or(".");
    let found = files.find(id, path, params.require("pattern")?).await?;
    let found =
        found.into_iter().map(|it| Match { file: it.file, line: it.line, content: it.content });
    Ok(Reply(found.collect()))
}

/// Paths whose last part matches the glob, recursive.
#[utoipa::path(get, path = "/toolbox/{sandbox}/files/search", tag = "files",
    params(("sandbox" = String, Path), ("path" = Option<String>, Query), ("pattern" = String, Query)),
    responses((status = 200, body = Found)))]
async fn search(toolbox: Toolbox, params: Params) -> Answer<Reply<Found>> {
    let (files, id) = toolbox.files();
    let path = params.get("path").unwrap_or(".");
    Ok(Reply(Found { files: files.search(id, path, params.require("pattern")?).await? }))
}

/// Replaces the literal text in each file, atomically per file.
#[utoipa::path(post, path = "/toolbox/{sandbox}/files/replace", tag = "files", request_body = ReplaceRequest,
    params(("sandbox" = String, Path)), responses((status = 200, body = Vec<ReplaceResult>)))]
async fn replace(
    toolbox: Toolbox,
    Json(body): Json<ReplaceRequest>,
) -> Answer<Reply<Vec<ReplaceResult>>> {
    let ReplaceRequest { files: paths, pattern, new_value } = body.checked()?;
    let (files, id) = toolbox.files();
    let done = files.replace(id, &paths, &pattern, &new_value).await?;
    let done = done.into_iter().map(|it| ReplaceResult {
        file: it.file,
        success: it.error.is_none(),
        error: it.error,
    });
    Ok(Reply(done.collect()))
}

/// Changes owner, group and mode; what is absent stays.
#[utoipa::path(post, path = "/toolbox/{sandbox}/files/permissions", tag = "files",
    params(("sandbox" = String, Path), ("path" = String, Query), ("owner" = Option<String>, Query),
        ("group" = Option<String>, Query), ("mode" = Option<String>, Query, description = "Octal")),
    responses((status = 200)))]
async fn set_permissions(toolbox: Toolbox, params: Params) -> Answer<StatusCode> {
    let change = Permissions {
        owner: params.get("owner").map(str::to_owned),
        group: params.get("group").map(str::to_owned),
        mode: octal(&params)?,
    };
    let (files, id) = toolbox.files();
    files.set_permissions(id, params.require("path")?, &change).await?;
    Ok(StatusCode::OK)
}

pub(crate) fn octal(params: &Params) -> Answer<Option<u32>> {
    let Some(text) = params.get("mode") else { return Ok(None) };
    let digits = text.bytes().all(|digit| digit.is_ascii_digit());
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| digits && *mode <= 0o7777)
        .map(Some)
        .ok_or_else(|| Fault::bad_request("mode: expected octal permission bits such as 0755"))
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, delete))
        .routes(routes!(info))
        .routes(routes!(make_folder))
        .routes(routes!(rename))
        .routes(routes!(find))
        .routes(routes!(search))
        .routes(routes!(replace))
        .routes(routes!(set_permissions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_print_as_ls_prints_them() {
        for (kind, mode, text) in [
            (FileKind::File, 0o644, "-rw-r--r--"),
            (FileKind::Folder, 0o1777, "drwxrwxrwt"),
            (FileKind::File, 0o4755, "-rwsr-xr-x"),
            (FileKind::File, 0o2644, "-rw-r-Sr--"),
            (FileKind::Link, 0o777, "lrwxrwxrwx"),
        ] {
            assert_eq!(letters(kind, mode), text);
        }
    }

    #[test]
    fn octal_modes_are_bounded() {
        for (text, mode) in [
            ("0755", Some(0o755)),
            ("644", Some(0o644)),
            ("8", None),
            ("77777", None),
            ("+7", None),
        ] {
            let params =
                Params::parse(&format!("mode={}", text.replace('+', "%2B"))).expect("a query");
            assert_eq!(octal(&params).ok().flatten(), mode, "{text}");
        }
    }
}
