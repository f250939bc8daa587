//! The refusals that any endpoint may give, in the description of the API: written once, by rule, so that no endpoint
//! forgets one. What is peculiar to an endpoint stands at its handler and wins.

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::shape::Refusal;

/// Whether a rule holds for an endpoint.
type Holds = fn(&Endpoint<'_>) -> bool;

/// Status, when it may come, and what it says.
const RULES: &[(&str, Holds, &str)] = &[
    ("400", |_| true, "Something of the request is wrong; the message names it"),
    ("401", |at| at.secured, "The key is missing, wrong, expired or revoked"),
    ("403", |at| at.secured, "The key lacks a permission, or a page of another origin asked"),
    (
        "404",
        |at| at.names_something(),
        "Nothing of that name is there for the caller's organization",
    ),
    ("408", |at| at.body || at.toolbox(), "It took too long to come, or to be done"),
    ("409", |at| at.changes_or_reaches(), "Its state or a name that is taken stands against it"),
    ("413", |at| at.body, "The body is larger than what is taken"),
    ("415", |at| at.body, "The body is not of the type that is taken"),
    ("422", |at| at.toolbox(), "What was asked for is in order, and was refused where it goes to"),
    ("429", |_| true, "A limit or a rate is reached; `Retry-After` says when to ask again"),
    ("501", |at| at.may_lack(), "This server or this image does not have it; the message names it"),
    ("503", |_| true, "No room, or the server is about to end; ask again"),
];

/// What the rules look at.
struct Endpoint<'a> {
    path: &'a str,
    body: bool,
    secured: bool,
    reads: bool,
}

impl Endpoint<'_> {
    fn toolbox(&self) -> bool {
        self.path.starts_with("/toolbox/")
    }

    /// Parts of the path, or ids in the body, that may lead to nothing.
    fn names_something(&self) -> bool {
        self.path.contains('{') || self.path == "/api/sandbox" && self.body
    }

    fn changes_or_reaches(&self) -> bool {
        self.toolbox() || !self.reads
    }

    /// Sizes, snapshots and timers of the contract that are not built, and programs that an image may lack.
    fn may_lack(&self) -> bool {
        let some = ["/pause", "/resize", "{timer}", "/git/", "/lsp/"];
        self.body && self.path == "/api/sandbox" || some.iter().any(|part| self.path.contains(part))
    }
}

/// Adds to every operation what it does not say itself.
pub(super) fn add(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    components.schemas.insert(Refusal::name().into_owned(), Refusal::schema());
    for (status, _, meaning) in RULES {
        components.responses.insert(name(status), RefOr::T(refusal(meaning)));
    }
    for (path, item) in &mut document.paths.paths {
        let PathItem { get, put, post, delete, patch, .. } = item;
        complete(path, true, get);
        for writing in [put, post, delete, patch] {
            complete(path, false, writing);
        }
    }
}

fn complete(path: &str, reads: bool, operation: &mut Option<Operation>) {
    let Some(operation) = operation else { return };
    // An empty requirement is how a handler says that it needs no key.
    let nothing = [SecurityRequirement::default()];
    let secured = operation.security.as_deref() != Some(&nothing);
    let endpoint = Endpoint { path, reads, secured, body: operation.request_body.is_some() };
    for (status, holds, _) in RULES {
        if holds(&endpoint) {
            let answers = &mut operation.responses.responses;
            let refused = || RefOr::Ref(Ref::from_response_name(name(status)));
            answers.entry((*status).to_owned()).or_insert_with(refused);
        }
    }
}

/// What the answer of a status is called among the document's parts.
fn name(status: &str) -> String {
    format!("refused-{status}")
}

fn refusal(meaning: &str) -> Response {
    let body = Content::builder().schema(Some(Ref::from_schema_name(Refusal::name()))).build();
    ResponseBuilder::new().description(meaning).content("application/json", body).build()
}

#[cfg(test)]
mod tests {
    use super::super::openapi::document;

    #[test]
    fn every_endpoint_names_the_refusals_that_it_may_give() {
        let document: serde_json::Value = serde_json::from_str(&document()).unwrap();
        let answers = |path: &str, method: &str| {
            let answers = document["paths"][path][method]["responses"].as_object().unwrap();
            answers.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(answers("/health", "get"), "200 400 429 503");
        assert_eq!(
            answers("/api/sandbox", "post"),
            "200 400 401 403 404 408 409 413 415 429 501 503"
        );
        assert!(answers("/toolbox/{sandbox}/git/push", "post").contains("422"));
        // The handler's own words stay.
        let clone = &document["paths"]["/toolbox/{sandbox}/git/clone"]["post"]["responses"];
        assert!(clone["401"]["description"].is_string(), "{clone}");
        assert_eq!(clone["403"]["$ref"], "#/components/responses/refused-403");
    }
}
