//! The description of the API, generated from the handlers.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use super::app::App;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "mayfly",
        description = "Isolated computers for agents. The sandbox API is the Daytona v0 API.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    security(("key" = [])),
    modifiers(&Key)
)]
struct Document;

struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}

/// An empty router with the document's head.
pub(super) fn base() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
}

/// The document as committed in `openapi/mayfly.json`.
pub(crate) fn document() -> String {
    let (_, mut document) = super::routes().split_for_parts();
    super::openapi_refusals::add(&mut document);
    let mut text =
        document.to_pretty_json().expect("the document is made of types that JSON can hold");
    text.push('\n');
    text
}

/// Serves the committed document, so that no request pays for generating it.
pub(super) fn router() -> Router<App> {
    const COMMITTED: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/mayfly.json"));
    Router::new()
        .route("/api/openapi.json", get(async || ([(CONTENT_TYPE, "application/json")], COMMITTED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_the_generated_one() {
        let committed =
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/mayfly.json"));
        assert!(
            document() == committed,
            "openapi/mayfly.json is out of date: run `cargo run -p mayfly -- openapi > openapi/mayfly.json`"
        );
    }
}
