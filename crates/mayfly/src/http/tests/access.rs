//! Who gets in: keys, the unix socket, keyless mode.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use serde_json::json;

use super::{Edge, KEY};
use crate::http::app::Options;

#[tokio::test]
async fn open_endpoints_need_no_key() {
    let edge = Edge::new().await;
    for path in [
        "/",
        "/health",
        "/health/ready",
        "/api/health",
        "/api/config",
        "/api/openapi.json",
        "/metrics",
    ] {
        assert_eq!(edge.bare(Method::GET, path).await.status, StatusCode::OK, "{path}");
    }
    let config = edge.bare(Method::GET, "/api/config").await.json();
    for field in [
        "version",
        "proxyTemplateUrl",
        "proxyToolboxUrl",
        "defaultSnapshot",
        "dashboardUrl",
        "environment",
    ] {
        assert!(config[field].is_string(), "{field}");
    }
    assert!(config["maintananceMode"] == false && config["linkedAccountsEnabled"] == false);
    assert!(config["oidc"]["clientId"].is_string() && config["announcements"].is_object());
    assert!(config["maxAutoArchiveInterval"].is_u64() && config.get("analyticsApiUrl").is_none());
}

#[tokio::test]
async fn metrics_are_open_to_this_host_only() {
    let edge = Edge::new().await;
    edge.sandbox().await;
    let text = edge.bare(Method::GET, "/metrics").await;
    let text = std::str::from_utf8(&text.body).unwrap().to_owned();
    assert!(text.contains("mayfly_sandboxes{state=\"started\",warm=\"false\"} 1"), "{text}");
    let request = Request::get("/metrics").header("x-forwarded-for", "9.9.9.9").body(Body::empty());
    assert_eq!(edge.send(request.unwrap()).await.status, StatusCode::UNAUTHORIZED);
    let public = Options { public_url: Some("https://x.test".to_owned()), ..Options::default() };
    let edge = Edge::with(public).await;
    assert_eq!(edge.bare(Method::GET, "/metrics").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(edge.get("/metrics").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_unix_socket_vouches_for_its_caller() {
    let edge = Edge::new().await.vouched();
    assert_eq!(edge.bare(Method::GET, "/api/sandbox").await.status, StatusCode::OK);
    let request =
        Request::get("/api/sandbox").header("authorization", "Bearer wrong").body(Body::empty());
    assert_eq!(edge.send(request.unwrap()).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn keyless_mode_answers_only_to_its_own_host_and_origin() {
    let hosts = vec!["127.0.0.1:3457".to_owned(), "localhost:3457".to_owned()];
    let edge = Edge::with(Options { dev_hosts: hosts, ..Options::default() }).await;
    for (host, origin, status) in [
        ("127.0.0.1:3457", None, 200),
        ("localhost:3457", None, 200),
        ("localhost:3457", Some("http://localhost:3457"), 200),
        ("evil.test", None, 403),
        ("127.0.0.1:3458", None, 403),
        ("x.localhost:3457", None, 403),
        ("", None, 403),
        ("127.0.0.1:3457", Some("null"), 403),
        ("127.0.0.1:3457", Some("http://evil.test"), 403),
        ("127.0.0.1:3457", Some("http://x.localhost:3457"), 403),
        ("127.0.0.1:3457", Some("https://127.0.0.1:3457"), 403),
        ("127.0.0.1:3457", Some("http://127.0.0.1:9"), 403),
    ] {
        let mut request = Request::get("/api/sandbox").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let reply = edge.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status.as_u16(), status, "{host} {origin:?}");
        assert!(!reply.headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn a_preview_host_never_reaches_the_api() {
    let edge = Edge::new().await;
    let request = Request::get("/api/sandbox")
        .header("host", "8080-abc.localhost:3457")
        .header("authorization", format!("Bearer {KEY}"))
        .body(Body::empty());
    assert_eq!(edge.send(request.unwrap()).await.fault().0, 501);
}

#[tokio::test]
async fn keys_are_made_listed_masked_and_deleted() {
    let edge = Edge::new().await;
    let body = json!({ "name": "ci", "permissions": ["write:sandboxes"], "expiresAt": "2027-01-01T00:00:00Z" });
    let made = edge.call("POST", "/api/api-keys", &body.to_string()).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let made = made.json();
    let value = made["value"].as_str().unwrap();
    assert!(value.starts_with("mf_key_"));
    assert_eq!(made["permissions"], json!(["write:sandboxes"]));
    let list = edge.get("/api/api-keys").await.json();
    let listed = list.as_array().unwrap().iter().find(|key| key["name"] == "ci").unwrap();
    assert_ne!(listed["value"], made["value"]);
    let with_key = |value: &str| {
        Request::get("/api/sandbox")
            .header("authorization", format!("Bearer {value}"))
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(edge.send(with_key(value)).await.status, StatusCode::OK);
    assert_eq!(edge.call("DELETE", "/api/api-keys/ci", "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(edge.send(with_key(value)).await.status, StatusCode::UNAUTHORIZED);
    let (status, _, message) =
        edge.call("POST", "/api/api-keys", r#"{"name":"x","permissions":["fly"]}"#).await.fault();
    assert!(status == 400 && message.starts_with("permissions:"), "{message}");
}
