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
        // A key that is not needed is not judged.
        for value in ["Bearer mf_key_unknown", "Basic eDp5"] {
            let request = Request::get(path).header("authorization", value);
            let reply = edge.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(reply.status, StatusCode::OK, "{path} with {value}");
        }
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
async fn attempts_without_a_valid_key_are_limited_by_address() {
    let edge = Edge::new().await;
    let guess = |number: usize| {
        Request::get("/api/sandbox")
            .header("authorization", format!("Bearer mf_key_{number}"))
            .body(Body::empty())
            .unwrap()
    };
    // The key is known to the server from an earlier call.
    assert_eq!(edge.get("/api/sandbox").await.status, StatusCode::OK);
    let mut refused = None;
    for number in 0..200 {
        let reply = edge.send(guess(number)).await;
        if reply.status == StatusCode::TOO_MANY_REQUESTS {
            assert!(reply.headers.contains_key("retry-after"));
            refused.get_or_insert(number);
        } else {
            assert_eq!((reply.status, refused), (StatusCode::UNAUTHORIZED, None));
        }
    }
    assert!(refused.is_some_and(|first| first <= 50), "{refused:?}");
    let keyless = edge.bare(Method::GET, "/api/sandbox").await;
    assert_eq!(keyless.fault().0, 429, "no key counts as a wrong one");
    assert_eq!(edge.get("/api/sandbox").await.status, StatusCode::OK, "known keys still pass");
    assert_eq!(edge.bare(Method::GET, "/health").await.status, StatusCode::OK);
    let other = edge.from([192, 0, 2, 7]);
    assert_eq!(other.send(guess(1)).await.status, StatusCode::UNAUTHORIZED, "another address");
}

#[tokio::test]
async fn callers_without_a_key_have_a_rate_too() {
    let edge = Edge::with(Options { rate: 2, ..Options::default() }).await.vouched();
    let statuses = async |path: &str| {
        let mut last = StatusCode::OK;
        for _ in 0..10 {
            last = edge.bare(Method::GET, path).await.status;
        }
        last
    };
    assert_eq!(statuses("/api/sandbox").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(statuses("/health").await, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn refusals_are_audited_with_their_rule_and_place() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    edge.bare(Method::GET, "/api/sandbox").await;
    edge.call("POST", &format!("/api/sandbox/{id}/archive"), "").await;
    edge.call("POST", "/api/sandbox", r#"{"cpu":999}"#).await;
    edge.app.engine.shutdown().await;
    let admin = edge.app.engine.access().administrator();
    let told = |events: Vec<mayfly_core::event::Event>| -> Vec<String> {
        let told = events.into_iter().filter_map(|event| match event.what {
            mayfly_core::event::What::Audit { rule, target } => Some(format!("{rule}: {target}")),
            _ => None,
        });
        told.collect()
    };
    let of_one = edge.app.engine.sandboxes().events(&admin, &id, 9).await.unwrap();
    let archive = "state: POST /api/sandbox/{sandbox}/archive from 127.0.0.1, refused 1 times";
    assert_eq!(told(of_one), [archive]);
    let mut of_none = told(edge.app.engine.audit(&admin, 9).await.unwrap());
    of_none.sort();
    let stranger = "authentication: GET /api/sandbox from 127.0.0.1, refused 1 times";
    assert_eq!(of_none, [stranger, "limit: POST /api/sandbox from 127.0.0.1, refused 1 times"]);
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
    assert_eq!(edge.send(request.unwrap()).await.fault().0, 400);
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
