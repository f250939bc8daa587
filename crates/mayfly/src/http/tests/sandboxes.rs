//! Sandboxes and snapshots as clients see them.

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Edge, KEY};

#[tokio::test]
async fn a_sandbox_has_every_field_of_the_contract_with_its_type() {
    let edge = Edge::new().await;
    let body = json!({ "name": "box", "env": { "A": "x y" }, "labels": { "k": "v" }, "public": true,
        "cpu": 2, "memory": 3, "disk": 4, "autoStopInterval": 0, "ttlMinutes": 60, "unknown": [1] });
    let made = edge.call("POST", "/api/sandbox", &body.to_string()).await;
    assert_eq!(made.status, StatusCode::OK);
    let mut found = edge.get("/api/sandbox/box").await.json();
    for (field, length) in [
        ("id", 36),
        ("organizationId", 36),
        ("createdAt", 24),
        ("updatedAt", 24),
        ("lastActivityAt", 24),
    ] {
        assert_eq!(found[field].as_str().map(str::len), Some(length), "{field}");
        found.as_object_mut().unwrap().remove(field);
    }
    assert_eq!(
        found,
        json!({
            "name": "box", "snapshot": "host", "user": found["user"], "env": { "A": "x y" }, "labels": { "k": "v" },
            "public": true, "networkBlockAll": false, "kvm": false, "target": "us", "cpu": 2, "gpu": 0, "memory": 3,
            "disk": 4, "state": "started", "desiredState": "started", "recoverable": false, "autoStopInterval": 0,
            "autoPauseInterval": 0, "autoArchiveInterval": 10080, "autoDeleteInterval": -1,
            "autoDestroyAt": "2026-01-01T01:00:00.000Z", "volumes": [], "backupState": "None",
            "sandboxClass": "container", "daemonVersion": env!("CARGO_PKG_VERSION"),
            "toolboxProxyUrl": "http://box.test:3457/toolbox",
        })
    );
    assert!(found["user"].is_string());
}

#[tokio::test]
async fn the_verbs_lead_through_the_states() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let state = async |verb: &str| {
        let reply = edge.call("POST", &format!("/api/sandbox/{id}/{verb}"), "").await;
        assert_eq!(reply.status, StatusCode::OK, "{verb}: {reply:?}");
        reply.json()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state("start").await, "started");
    assert_eq!(state("pause").await, "paused");
    assert_eq!(state("start").await, "started");
    assert_eq!(state("stop?force=true").await, "stopped");
    assert_eq!(state("archive").await, "archived");
    let (status, code, message) =
        edge.call("POST", &format!("/api/sandbox/{id}/pause"), "").await.fault();
    assert_eq!((status, code.as_str()), (409, "CONFLICT"));
    assert!(message.contains("archived"), "{message}");
    let reply =
        edge.call("POST", &format!("/toolbox/{id}/process/execute"), r#"{"command":"x"}"#).await;
    assert_eq!(reply.json()["source"], "DAYTONA_PROXY");
    assert_eq!(reply.fault().0, 409);
    assert_eq!(state("start").await, "started");
    let path = format!("/api/sandbox/{id}");
    let gone = edge.call("DELETE", &path, "").await.json();
    assert!(matches!(gone["state"].as_str(), Some("destroying" | "destroyed")), "{gone}");
}

#[tokio::test]
async fn small_changes_are_answered_in_their_forms() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let path = |rest: &str| format!("/api/sandbox/{id}/{rest}");
    let labels = edge.call("PUT", &path("labels"), r#"{"labels":{"a":"b"}}"#).await.json();
    assert_eq!(labels, json!({ "labels": { "a": "b" } }));
    for (rest, field, value) in [
        ("autostop/7", "autoStopInterval", json!(7)),
        ("autoarchive/8", "autoArchiveInterval", json!(8)),
        ("autodelete/-5", "autoDeleteInterval", json!(-1)),
        ("public/true", "public", json!(true)),
    ] {
        assert_eq!(edge.call("POST", &path(rest), "").await.json()[field], value, "{rest}");
    }
    for rest in ["autostop/x", "autostop/-1", "public/maybe", "resize?x"] {
        let body = if rest.starts_with("resize") { r#"{"cpu":0}"# } else { "" };
        assert_eq!(edge.call("POST", &path(rest), body).await.fault().0, 400, "{rest}");
    }
    let touched = edge.call("POST", &path("last-activity"), "").await;
    assert!(touched.status == StatusCode::CREATED && touched.body.is_empty());
    assert_eq!(
        edge.get(&path("toolbox-proxy-url")).await.json(),
        json!({ "url": "http://box.test:3457/toolbox" })
    );
    let resized = edge.call("POST", &path("resize"), r#"{"cpu":4,"memory":null}"#).await.json();
    assert_eq!((&resized["cpu"], &resized["memory"]), (&json!(4), &json!(1)));
}

#[tokio::test]
async fn names_ids_and_idempotency_keys_make_one_sandbox() {
    let edge = Edge::new().await;
    let with_key = |key: &str| {
        Request::post("/api/sandbox")
            .header("authorization", format!("Bearer {KEY}"))
            .header("idempotency-key", key)
            .body(Body::empty())
            .unwrap()
    };
    let first = edge.send(with_key("k")).await.json();
    assert_eq!(edge.send(with_key("k")).await.json()["id"], first["id"]);
    assert_ne!(edge.send(with_key("other")).await.json()["id"], first["id"]);
    assert_eq!(edge.call("POST", "/api/sandbox", r#"{"name":"n"}"#).await.status, StatusCode::OK);
    let (status, _, message) = edge.call("POST", "/api/sandbox", r#"{"name":"n"}"#).await.fault();
    assert!(status == 409 && message.contains('n'), "{message}");
    for body in [r#"{"snapshot":"none"}"#, r#"{"snapshot":"0192f0c1-2b3c-7def-8123-456789abcdef"}"#]
    {
        assert_eq!(edge.call("POST", "/api/sandbox", body).await.fault().0, 404, "{body}");
    }
    assert_eq!(edge.get("/api/sandbox/none").await.fault().0, 404);
}

#[tokio::test]
async fn both_list_forms_give_every_sandbox_once() {
    let edge = Edge::new().await;
    for _ in 0..5 {
        edge.sandbox().await;
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for _ in 0..5 {
        let page = edge.get(&format!("/api/sandbox?limit=2&cursor={cursor}")).await.json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()));
        match &page["nextCursor"] {
            Value::String(next) => {
                cursor =
                    percent_encoding::utf8_percent_encode(next, percent_encoding::NON_ALPHANUMERIC)
                        .to_string();
            }
            end => {
                assert!(end.is_null() && page.as_object().unwrap().contains_key("nextCursor"));
                break;
            }
        }
    }
    assert_eq!(seen.len(), 5);
    let page = edge.get("/api/sandbox/paginated?page=2&limit=2").await.json();
    assert_eq!(
        (&page["total"], &page["page"], &page["totalPages"]),
        (&json!(5), &json!(2), &json!(3))
    );
    assert_eq!(
        page["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect::<Vec<_>>(),
        seen[2..4].iter().collect::<Vec<_>>()
    );
    for query in ["cursor=%21", "limit=x", "labels=x", "sort=x"] {
        assert_eq!(edge.get(&format!("/api/sandbox?{query}")).await.fault().0, 400, "{query}");
    }
}

#[tokio::test]
async fn a_fresh_install_lists_its_snapshot() {
    let edge = Edge::new().await;
    let page = edge.get("/api/snapshots").await.json();
    assert_eq!(
        (&page["total"], &page["page"], &page["totalPages"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let found = &page["items"][0];
    for (field, value) in [
        ("name", json!("host")),
        ("state", json!("active")),
        ("general", json!(true)),
        ("gpu", json!(0)),
        ("cpu", json!(1)),
        ("mem", json!(1)),
        ("disk", json!(3)),
    ] {
        assert_eq!(found[field], value, "{field}");
    }
    for field in ["size", "entrypoint", "errorReason", "lastUsedAt", "sourceSandboxId"] {
        assert!(found.as_object().unwrap().contains_key(field), "{field} is always sent");
    }
    let id = found["id"].as_str().unwrap();
    assert_eq!(edge.get(&format!("/api/snapshots/{id}")).await.json()["name"], "host");
    assert_eq!(edge.get("/api/snapshots/none").await.fault().0, 404);
}
