//! The one writer of error bodies: the path decides the shape.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use mayfly_core::time::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::fault::{Fault, Origin};
use super::time::rfc3339;

/// Families of error bodies (platform contract, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Daytona: everything below `/api` and `/toolbox` that is not named here.
    Daytona,
    /// Sessions, flows, runs, tasks, topics.
    Session,
    /// `/api/v1`.
    Dream,
    /// `/llm/anthropic`.
    Anthropic,
    /// `/llm/openai`.
    OpenAi,
    /// `/s3`.
    S3,
}

impl Shape {
    /// The shape that errors on this path have, whether or not anything is served there.
    pub(crate) fn of(path: &str) -> Self {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        match (parts.next(), parts.next()) {
            (Some("s3"), _) => Self::S3,
            (Some("llm"), Some(provider)) if provider.starts_with("anthropic") => Self::Anthropic,
            (Some("llm"), _) => Self::OpenAi,
            (Some("api"), Some("v1")) => Self::Dream,
            (Some("api"), Some("sessions" | "flows" | "runs" | "tasks" | "topics")) => {
                Self::Session
            }
            _ => Self::Daytona,
        }
    }
}

/// Writes the fault as the answer to a request on this path.
pub(crate) fn answer(fault: &Fault, method: &Method, path: &str, at: Timestamp) -> Response {
    let shape = Shape::of(path);
    let (kind, body) = match shape {
        Shape::Daytona => ("application/json", daytona(fault, method, path, at)),
        Shape::Session => ("application/json", session(fault).to_string()),
        Shape::Dream => ("application/json", dream(fault).to_string()),
        Shape::Anthropic => ("application/json", anthropic(fault).to_string()),
        Shape::OpenAi => ("application/json", openai(fault).to_string()),
        Shape::S3 => ("application/xml", s3(fault, path)),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = fault.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(seconds) = fault.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The error object of the sandbox API.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Refusal<'a> {
    /// The status of the answer.
    status_code: u16,
    /// What is wrong, what was expected and what to do.
    message: &'a str,
    /// A word for programs, such as `NOT_FOUND`.
    code: &'a str,
    /// Who refused: `DAYTONA_API`, `DAYTONA_DAEMON` (the toolbox) or `DAYTONA_PROXY` (the sandbox is not reachable).
    source: &'a str,
    path: &'a str,
    method: &'a str,
    timestamp: String,
    /// Where several things failed: each of them.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [String],
}

/// The Daytona error object as text.
fn daytona(fault: &Fault, method: &Method, path: &str, at: Timestamp) -> String {
    let refusal = Refusal {
        status_code: fault.status.as_u16(),
        message: &fault.message,
        code: fault.code,
        source: source(fault, path),
        path,
        method: method.as_str(),
        timestamp: rfc3339(at),
        errors: &fault.errors,
    };
    serde_json::to_string(&refusal).expect("texts and a number are JSON")
}

/// Body of an `error` part in a bulk download.
pub(crate) fn download_error(fault: &Fault) -> String {
    json!({
        "message": fault.message,
        "statusCode": fault.status.as_u16(),
        "code": fault.code,
        "source": "DAYTONA_DAEMON",
    })
    .to_string()
}

fn source(fault: &Fault, path: &str) -> &'static str {
    match fault.origin {
        Origin::Proxy => "DAYTONA_PROXY",
        Origin::Path if path.starts_with("/toolbox") => "DAYTONA_DAEMON",
        Origin::Path => "DAYTONA_API",
    }
}

fn session(fault: &Fault) -> Value {
    let mut body = json!({ "error": fault.message, "code": fault.code.to_ascii_lowercase() });
    if let Some(seconds) = fault.retry_after {
        body["retryAfter"] = json!(seconds);
    }
    body
}

fn dream(fault: &Fault) -> Value {
    json!({
        "error": fault.status.canonical_reason().unwrap_or("Error"),
        "message": fault.message,
        "code": fault.code,
    })
}

fn anthropic(fault: &Fault) -> Value {
    let kind = match fault.status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "api_error",
        _ => "invalid_request_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": fault.message } })
}

fn openai(fault: &Fault) -> Value {
    let kind = match fault.status {
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    json!({ "error": {
        "message": fault.message,
        "type": kind,
        "param": null,
        "code": fault.code.to_ascii_lowercase(),
    } })
}

fn s3(fault: &Fault, path: &str) -> String {
    let code = match fault.status.as_u16() {
        401 | 403 => "AccessDenied",
        404 => "NoSuchKey",
        405 => "MethodNotAllowed",
        413 => "EntityTooLarge",
        429 | 503 => "SlowDown",
        501 => "NotImplemented",
        status if status >= 500 => "InternalError",
        _ => "InvalidRequest",
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{}</Message><Resource>{}</Resource></Error>",
        escape_xml(&fault.message),
        escape_xml(path)
    )
}

fn escape_xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter if letter.is_control() && !matches!(letter, '\t' | '\n' | '\r') => {
                out.push('\u{fffd}');
            }
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_the_contract_has_its_shape() {
        for (path, shape) in [
            ("/api/sandbox/x", Shape::Daytona),
            ("/api/snapshots", Shape::Daytona),
            ("/toolbox/x/files", Shape::Daytona),
            ("/api", Shape::Daytona),
            ("/health", Shape::Daytona),
            ("/api/sessions", Shape::Session),
            ("/api/sessions/ses-1/events", Shape::Session),
            ("/api/flows/x", Shape::Session),
            ("/api/runs", Shape::Session),
            ("/api/tasks/1", Shape::Session),
            ("/api/topics/t", Shape::Session),
            ("/api/v1/dream", Shape::Dream),
            ("/llm/anthropic/v1/messages", Shape::Anthropic),
            ("/llm/openai/v1/chat/completions", Shape::OpenAi),
            ("/s3/bucket/key", Shape::S3),
        ] {
            assert_eq!(Shape::of(path), shape, "{path}");
        }
    }

    #[test]
    fn xml_text_cannot_break_out_of_its_element() {
        let fault = Fault::bad_request("a<b>&\"\u{0}");
        let body = s3(&fault, "/s3/<x>");
        assert!(body.contains("a&lt;b&gt;&amp;&quot;\u{fffd}"));
        assert!(body.contains("<Resource>/s3/&lt;x&gt;</Resource>"));
    }
}
