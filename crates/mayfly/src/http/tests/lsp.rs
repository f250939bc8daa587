//! The wire of the language server calls, and one that is stuck.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Edge, Options};

async fn edge() -> (Edge, String) {
    let options = Options { execute_timeout: Duration::from_millis(20), ..Options::default() };
    let edge = Edge::with(options).await;
    let id = edge.sandbox().await;
    (edge, id)
}

fn named(more: Value) -> String {
    let mut body = json!({ "languageId": "python", "pathToProject": "p" });
    if let Value::Object(more) = more {
        body.as_object_mut().unwrap().extend(more);
    }
    body.to_string()
}

#[tokio::test]
async fn calls_before_the_start_say_so() {
    let (edge, id) = edge().await;
    let base = format!("/toolbox/{id}/lsp");
    let put = format!("/toolbox/{id}/files/upload-v2?path=a.py");
    assert_eq!(edge.call("POST", &put, "x = 1").await.status, StatusCode::OK);
    let file = json!({ "uri": "file:///root/a.py", "position": { "line": 0, "character": 0 } });
    for (method, rest, body) in [
        ("POST", "stop", named(Value::Null)),
        ("POST", "did-close", named(file)),
        ("GET", "workspacesymbols?query=x&languageId=python&pathToProject=p", String::new()),
    ] {
        let (status, code, message) =
            edge.call(method, &format!("{base}/{rest}"), &body).await.fault();
        assert_eq!(
            (status, code.as_str()),
            (400, "LSP_SERVER_NOT_INITIALIZED"),
            "{rest}: {message}"
        );
        assert!(message.contains("/root/p"), "{message}");
    }
}

#[tokio::test]
async fn wrong_input_is_named() {
    let (edge, id) = edge().await;
    let base = format!("/toolbox/{id}/lsp");
    for (rest, body, field) in [
        ("start", json!({ "languageId": "cobol", "pathToProject": "p" }), "languageId"),
        ("start", json!({ "languageId": "python", "pathToProject": "" }), "pathToProject"),
        ("start", json!({ "languageId": "python", "pathToProject": "a\u{0}b" }), "pathToProject"),
        ("did-close", json!({ "languageId": "python", "pathToProject": "p", "uri": "/a" }), "uri"),
        (
            "did-open",
            json!({ "languageId": "python", "pathToProject": "p", "uri": "file://" }),
            "uri",
        ),
        (
            "completions",
            json!({ "languageId": "python", "pathToProject": "p", "uri": "file:///a",
            "position": { "line": -1, "character": 0 } }),
            "position.line",
        ),
    ] {
        let reply = edge.call("POST", &format!("{base}/{rest}"), &body.to_string()).await;
        let (status, _, message) = reply.fault();
        assert!(status == 400 && message.starts_with(field), "{rest}: {status} {message}");
    }
    let missing = edge.get(&format!("{base}/document-symbols?languageId=python")).await;
    assert!(missing.fault().2.starts_with("pathToProject"));
}

#[tokio::test]
async fn a_language_server_that_says_nothing_is_ended_in_time() {
    let (edge, id) = edge().await;
    let base = format!("/toolbox/{id}/lsp");
    for _ in 0..10 {
        let (status, _, message) =
            edge.call("POST", &format!("{base}/start"), &named(Value::Null)).await.fault();
        assert!(status == 408 && message.contains("no answer"), "{status} {message}");
    }
    // None of them was left behind: ten are more than a sandbox may have.
    let (status, code, _) =
        edge.call("POST", &format!("{base}/stop"), &named(Value::Null)).await.fault();
    assert_eq!((status, code.as_str()), (400, "LSP_SERVER_NOT_INITIALIZED"));
}
