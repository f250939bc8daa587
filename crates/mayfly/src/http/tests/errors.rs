//! Every error in the shape of its path.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::any;
use tower::ServiceExt;

use super::{Edge, KEY, Reply};
use crate::http::app::Options;
use crate::http::gate;

/// A path of every family of shapes.
const PATHS: [&str; 8] = [
    "/api/nothing",
    "/toolbox/x/nothing",
    "/api/sessions/x",
    "/api/flows/x",
    "/api/v1/dreams",
    "/llm/anthropic/v1/messages",
    "/llm/openai/v1/models",
    "/s3/bucket/key",
];

/// Whether the body has the shape that the contract gives this path.
fn check(path: &str, reply: &Reply) {
    if path.starts_with("/s3") {
        let text = std::str::from_utf8(&reply.body).unwrap();
        assert!(text.contains("<Error><Code>") && text.ends_with("</Error>"), "{text}");
        assert_eq!(reply.headers["content-type"], "application/xml");
        return;
    }
    let body = reply.json();
    assert_eq!(reply.headers["content-type"], "application/json");
    if path.starts_with("/api/v1") {
        assert!(body["error"].is_string() && body["code"].is_string(), "{path}: {body}");
    } else if path.starts_with("/api/sessions") || path.starts_with("/api/flows") {
        let code = body["code"].as_str().unwrap();
        assert!(body["error"].is_string() && code == code.to_lowercase(), "{path}: {body}");
    } else if path.starts_with("/llm/anthropic") {
        assert!(body["type"] == "error" && body["error"]["type"].is_string(), "{path}: {body}");
    } else if path.starts_with("/llm/openai") {
        assert!(body["error"]["message"].is_string(), "{path}: {body}");
    } else {
        let source = if path.starts_with("/toolbox") { "DAYTONA_DAEMON" } else { "DAYTONA_API" };
        assert_eq!(body["source"], source);
        assert_eq!(body["path"], path);
        reply.fault();
    }
}

#[tokio::test]
async fn a_missing_or_wrong_key_is_401_and_an_unknown_path_404() {
    let edge = Edge::new().await;
    for path in PATHS {
        let reply = edge.bare(Method::GET, path).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{path}");
        check(path, &reply);
        for header in ["Bearer wrong", "Basic abc", "Bearer ", "Bearer"] {
            let request = Request::get(path).header("authorization", header).body(Body::empty());
            let reply = edge.send(request.unwrap()).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{path} {header}");
            check(path, &reply);
        }
        let reply = edge.get(path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        check(path, &reply);
    }
}

#[tokio::test]
async fn a_panic_is_500_in_shape_and_the_next_request_passes() {
    let edge = Edge::new().await;
    let router = Router::new()
        .route("/{*rest}", any(async || -> StatusCode { panic!("a planted mistake") }))
        .layer(from_fn_with_state(edge.app.clone(), gate::pass));
    for path in PATHS {
        let request =
            Request::get(path).header("authorization", format!("Bearer {KEY}")).body(Body::empty());
        let response = router.clone().oneshot(request.unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
        let reply = Reply { status: parts.status, headers: parts.headers, body };
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        check(path, &reply);
        assert!(!String::from_utf8_lossy(&reply.body).contains("planted"));
    }
    assert_eq!(edge.get("/api/sandbox").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_flood_of_one_key_is_429_with_retry_after() {
    let edge = Edge::with(Options { rate: 2, ..Options::default() }).await;
    for path in PATHS {
        let mut last = edge.get(path).await;
        for _ in 0..8 {
            last = edge.get(path).await;
        }
        assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
        assert_eq!(last.headers["retry-after"], "1");
        check(path, &last);
    }
    assert_eq!(edge.bare(Method::GET, "/health").await.status, StatusCode::OK);
}

#[tokio::test]
async fn methods_bodies_and_types_are_checked() {
    let edge = Edge::with(Options { max_body: 1000, ..Options::default() }).await;
    let reply = edge.call("PUT", "/api/sandbox", "").await;
    assert_eq!(reply.fault().0, 405);
    assert!(reply.headers.contains_key("allow"));
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(2000));
    let (status, code, _) = edge.call("POST", "/api/sandbox", &large).await.fault();
    assert_eq!((status, code.as_str()), (413, "PAYLOAD_TOO_LARGE"));
    let request = Request::post("/api/sandbox")
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", "text/xml")
        .body(Body::from("<x/>"));
    let (status, code, _) = edge.send(request.unwrap()).await.fault();
    assert_eq!((status, code.as_str()), (415, "UNSUPPORTED_MEDIA_TYPE"));
    for (body, code, start) in [
        ("{\"cpu\":\"two\"}", "BAD_REQUEST", "cpu:"),
        ("{\"cpu\":1.5}", "BAD_REQUEST", "cpu:"),
        ("{\"env\":{\"A\":1}}", "BAD_REQUEST", "env.A:"),
        ("{\"labels\":[]}", "BAD_REQUEST", "labels:"),
        ("{\"public\":\"yes\"}", "BAD_REQUEST", "public:"),
        ("{\"env\":{\"A=B\":\"x\"}}", "BAD_REQUEST", "env:"),
        ("{\"env\":{\"A\":\"\\u0000\"}}", "BAD_REQUEST", "env.A:"),
        ("{", "INVALID_REQUEST_BODY", "the request body"),
    ] {
        let (status, found, message) = edge.call("POST", "/api/sandbox", body).await.fault();
        assert_eq!((status, found.as_str()), (400, code), "{body}");
        assert!(message.starts_with(start), "{body}: {message}");
    }
    let request = Request::post("/api/sandbox")
        .header("authorization", format!("Bearer {KEY}"))
        .body(Body::from(&b"{\"name\":\"\xff\"}"[..]));
    let (status, _, message) = edge.send(request.unwrap()).await.fault();
    assert!(status == 400 && message.contains("UTF-8"), "{message}");
    assert_eq!(edge.get("/api/sandbox").await.json()["items"], serde_json::json!([]));
}

#[tokio::test]
async fn what_is_not_built_is_501_by_name_and_what_never_will_be_is_404() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    for (method, path, feature) in [
        ("POST", format!("/api/sandbox/{id}/fork"), "fork"),
        ("POST", format!("/api/sandbox/{id}/snapshot"), "snapshot of a sandbox"),
        ("GET", format!("/api/sandbox/{id}/telemetry/logs"), "telemetry logs"),
        ("POST", "/api/snapshots".to_owned(), "builds"),
        ("POST", "/api/warm-pools".to_owned(), "warm-pools"),
        ("GET", "/api/object-storage/push-access".to_owned(), "object storage"),
        ("GET", format!("/toolbox/{id}/computeruse/status"), "computeruse"),
    ] {
        let (status, code, message) = edge.call(method, &path, "").await.fault();
        assert_eq!((status, code.as_str()), (501, "NOT_IMPLEMENTED"), "{path}");
        assert_eq!(message, format!("{feature} is not supported by this server"));
    }
    for path in
        ["/api/runners", "/api/jobs", "/api/admin/x", "/api/sandbox/for-runner", "/api/workspace/x"]
    {
        assert_eq!(edge.get(path).await.fault().0, 404, "{path}");
    }
}
