//! Pages of other origins.

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;

use super::{Edge, KEY, Reply};
use crate::http::app::Options;

const PAGE: &str = "https://app.example.com";

async fn asked(edge: &Edge, origin: &str) -> Reply {
    let request = Request::builder()
        .method("OPTIONS")
        .uri("/api/sandbox")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,X-Daytona-Source, x-daytona-sdk-version,x-evil,x-daytona-a b",
        );
    edge.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn only_origins_that_were_configured_may_use_the_api_from_a_browser() {
    let options = Options { cors_origins: vec![PAGE.to_owned()], ..Options::default() };
    let edge = Edge::with(options).await;
    let answer = asked(&edge, PAGE).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("access-control-allow-origin"), Some(PAGE));
    let allowed = header("access-control-allow-headers");
    assert_eq!(allowed, Some("authorization, x-daytona-source, x-daytona-sdk-version"));
    assert!(header("access-control-allow-methods").is_some_and(|all| all.contains("DELETE")));
    assert_eq!(header("access-control-allow-credentials"), None, "keys are never cookies");
    for (origin, allowed) in [
        (PAGE, true),
        ("https://app.example.com.evil.test", false),
        ("http://app.example.com", false),
        ("null", false),
    ] {
        let request = Request::get("/api/sandbox")
            .header("origin", origin)
            .header("authorization", format!("Bearer {KEY}"));
        let answer = edge.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK);
        let read = answer.headers.get("access-control-allow-origin");
        assert_eq!(read.is_some(), allowed, "{origin}");
        assert!(answer.headers.contains_key("vary"));
        if !allowed {
            let answer = asked(&edge, origin).await;
            assert!(!answer.headers.contains_key("access-control-allow-origin"), "{origin}");
        }
    }
    let refused = Request::get("/api/sandbox").header("origin", PAGE);
    let refused = edge.send(refused.body(Body::empty()).unwrap()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.headers.contains_key("access-control-allow-origin"), "pages read why");
}

#[tokio::test]
async fn no_origin_is_allowed_by_default() {
    let edge = Edge::new().await;
    for origin in [PAGE, "http://localhost:3457", "null"] {
        let answer = asked(&edge, origin).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{origin}");
        assert_ne!(answer.status, StatusCode::NO_CONTENT);
    }
}
