//! `/toolbox/{id}/lsp`: language servers in the sandbox.

use std::time::Duration;

use axum::Json as Reply;
use axum::extract::State;
use mayfly_engine::lsp::{self, Completion, Documentation, Language, Lsp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::fault::{Answer, Fault};
use super::input::{Json, Params};
use super::toolbox::Toolbox;

/// Longest wait for one answer of a language server; the first ones of a large project take long.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longest search for symbols, bytes.
const MAX_QUERY: usize = 1024;

/// Which language server.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LspServerRequest)]
pub(crate) struct ServerBody {
    /// python, typescript or javascript.
    language_id: String,
    /// Folder; a relative one begins at the work dir.
    path_to_project: String,
}

/// Which language server, and which file.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LspDocumentRequest)]
pub(crate) struct DocumentBody {
    language_id: String,
    path_to_project: String,
    /// `file://` and the path of a file.
    uri: String,
}

/// A place in a file, from 0; characters in UTF-16 units.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = LspPosition)]
pub(crate) struct PositionBody {
    line: u32,
    character: u32,
}

/// Why completions are asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CompletionContext)]
pub(crate) struct ContextBody {
    /// 1 = somebody wants them, 2 = a character, 3 = the last ones were incomplete.
    trigger_kind: u32,
    trigger_character: Option<String>,
}

/// Where completions are wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LspCompletionParams)]
pub(crate) struct CompletionBody {
    language_id: String,
    path_to_project: String,
    uri: String,
    position: PositionBody,
    context: Option<ContextBody>,
}

/// Text about a completion.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LspDocumentation)]
pub(crate) struct DocumentationBody {
    /// plaintext or markdown.
    kind: String,
    value: String,
}

/// Something that could stand there.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CompletionItem)]
pub(crate) struct ItemBody {
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    documentation: Option<DocumentationBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sort_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    insert_text: Option<String>,
}

impl ItemBody {
    fn new(item: Completion) -> Self {
        let about = |Documentation { kind, value }| DocumentationBody { kind, value };
        Self {
            label: item.label,
            kind: item.kind,
            detail: item.detail,
            documentation: item.documentation.map(about),
            sort_text: item.sort_text,
            filter_text: item.filter_text,
            insert_text: item.insert_text,
        }
    }
}

/// What could stand at a place.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CompletionList)]
pub(crate) struct ListBody {
    is_incomplete: bool,
    items: Vec<ItemBody>,
}

/// From a place to before another.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LspRange)]
pub(crate) struct RangeBody {
    start: PositionBody,
    end: PositionBody,
}

/// A range in a file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LspLocation)]
pub(crate) struct LocationBody {
    uri: String,
    range: RangeBody,
}

/// Something with a name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LspSymbol)]
pub(crate) struct SymbolBody {
    name: String,
    /// The protocol's number of its kind.
    kind: u32,
    location: LocationBody,
}

impl SymbolBody {
    fn new(symbol: lsp::Symbol) -> Self {
        let place = |at: lsp::Position| PositionBody { line: at.line, character: at.character };
        let range = RangeBody { start: place(symbol.range.start), end: place(symbol.range.end) };
        let location = LocationBody { uri: symbol.uri, range };
        Self { name: symbol.name, kind: symbol.kind, location }
    }
}

/// The language server that the request names.
async fn server<'a>(
    app: &App,
    toolbox: &'a Toolbox,
    language: &str,
    project: &str,
) -> Answer<Lsp<'a>> {
    let language = Language::parse(language)?;
    Ok(toolbox.0.lsp(language, project, PATIENCE.min(app.options.execute_timeout)).await?)
}

/// Starts a language server; one that runs stays.
#[utoipa::path(post, path = "/toolbox/{sandbox}/lsp/start", tag = "lsp", request_body = ServerBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "It runs"), (status = 501, description = "The image has none for that language")))]
async fn start(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<ServerBody>,
) -> Answer<()> {
    let server = server(&app, &toolbox, &body.language_id, &body.path_to_project).await?;
    Ok(server.start().await?)
}

/// Ends a language server.
#[utoipa::path(post, path = "/toolbox/{sandbox}/lsp/stop", tag = "lsp", request_body = ServerBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "It ended"), (status = 400, description = "LSP_SERVER_NOT_INITIALIZED")))]
async fn stop(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<ServerBody>,
) -> Answer<()> {
    let server = server(&app, &toolbox, &body.language_id, &body.path_to_project).await?;
    Ok(server.stop().await?)
}

/// Shows the language server a file with its content as it is now; later questions see later content.
#[utoipa::path(post, path = "/toolbox/{sandbox}/lsp/did-open", tag = "lsp", request_body = DocumentBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "It is open"), (status = 400, description = "LSP_SERVER_NOT_INITIALIZED")))]
async fn did_open(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<DocumentBody>,
) -> Answer<()> {
    let server = server(&app, &toolbox, &body.language_id, &body.path_to_project).await?;
    Ok(server.open(&body.uri).await?)
}

/// Closes a file in the language server.
#[utoipa::path(post, path = "/toolbox/{sandbox}/lsp/did-close", tag = "lsp", request_body = DocumentBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "It is closed"), (status = 400, description = "LSP_SERVER_NOT_INITIALIZED")))]
async fn did_close(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<DocumentBody>,
) -> Answer<()> {
    let server = server(&app, &toolbox, &body.language_id, &body.path_to_project).await?;
    Ok(server.close(&body.uri).await?)
}

/// What could stand at a place in a file.
#[utoipa::path(post, path = "/toolbox/{sandbox}/lsp/completions", tag = "lsp", request_body = CompletionBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, body = ListBody), (status = 400, description = "LSP_SERVER_NOT_INITIALIZED")))]
async fn completions(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<CompletionBody>,
) -> Answer<Reply<ListBody>> {
    let server = server(&app, &toolbox, &body.language_id, &body.path_to_project).await?;
    let position = lsp::Position { line: body.position.line, character: body.position.character };
    let trigger = body.context.map(|context| (context.trigger_kind, context.trigger_character));
    let found = server.completions(&body.uri, position, trigger).await?;
    let items = found.items.into_iter().map(ItemBody::new).collect();
    Ok(Reply(ListBody { is_incomplete: found.is_incomplete, items }))
}

/// What a file defines.
#[utoipa::path(get, path = "/toolbox/{sandbox}/lsp/document-symbols", tag = "lsp",
    params(("sandbox" = String, Path), ("languageId" = String, Query), ("pathToProject" = String, Query),
        ("uri" = String, Query)),
    responses((status = 200, body = Vec<SymbolBody>), (status = 400, description = "LSP_SERVER_NOT_INITIALIZED")))]
async fn document_symbols(
    State(app): State<App>,
    toolbox: Toolbox,
    params: Params,
) -> Answer<Reply<Vec<SymbolBody>>> {
    let (language, project) = (params.require("languageId")?, params.require("pathToProject")?);
    let server = server(&app, &toolbox, language, project).await?;
    let found = server.document_symbols(params.require("uri")?).await?;
    Ok(Reply(found.into_iter().map(SymbolBody::new).collect()))
}

/// What the project defines under names like the query.
#[utoipa::path(get, path = "/toolbox/{sandbox}/lsp/workspacesymbols", tag = "lsp",
    params(("sandbox" = String, Path), ("query" = String, Query), ("languageId" = String, Query),
        ("pathToProject" = String, Query)),
    responses((status = 200, body = Vec<SymbolBody>), (status = 400, description = "LSP_SERVER_NOT_INITIALIZED")))]
async fn workspace_symbols(
    State(app): State<App>,
    toolbox: Toolbox,
    params: Params,
) -> Answer<Reply<Vec<SymbolBody>>> {
    let (language, project) = (params.require("languageId")?, params.require("pathToProject")?);
    let query = params.get("query").unwrap_or_default();
    if query.len() > MAX_QUERY {
        return Err(Fault::bad_request(format!("query: expected at most {MAX_QUERY} bytes")));
    }
    let server = server(&app, &toolbox, language, project).await?;
    let found = server.workspace_symbols(query).await?;
    Ok(Reply(found.into_iter().map(SymbolBody::new).collect()))
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(did_open))
        .routes(routes!(did_close))
        .routes(routes!(completions))
        .routes(routes!(document_symbols))
        .routes(routes!(workspace_symbols))
}
