//! Organizations, keys, limits and the audit log as callers see them.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Edge, KEY};

const ALL: [&str; 1] = ["admin"];

#[tokio::test]
async fn organizations_are_made_and_limited_by_the_operator_only() {
    let edge = Edge::new().await;
    let acme = edge.tenant("acme", &ALL).await;
    let operator = edge.clone().vouched();
    let all = operator.plain("GET", "/api/organizations", None, "").await.json();
    let names: Vec<_> = all.as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, [&json!("acme"), &json!("default")]);
    // A key is no operator, of whatever organization it is.
    for key in [KEY, acme.as_str()] {
        for (method, path, body) in [
            ("POST", "/api/organizations", r#"{"name":"x"}"#),
            ("PUT", "/api/organizations/acme/limits", "{}"),
            ("DELETE", "/api/organizations/acme", ""),
        ] {
            let refused = edge.call_as(key, method, path, body).await.fault();
            assert_eq!((refused.0, refused.1.as_str()), (403, "FORBIDDEN"), "{method} {path}");
        }
    }
    let own = edge.call_as(&acme, "GET", "/api/organizations", "").await.json();
    assert_eq!(own.as_array().unwrap().len(), 1, "{own}");
    let limits = json!({ "sandboxes": 1, "cpu": 0 }).to_string();
    let set = operator.plain("PUT", "/api/organizations/acme/limits", None, &limits).await.json();
    assert_eq!(
        set["limits"],
        json!({ "sandboxes": 1, "cpu": 0, "memory": null, "disk": null, "volumes": null })
    );
    assert_eq!(edge.call_as(&acme, "POST", "/api/sandbox", "{}").await.status, StatusCode::OK);
    let second = edge.call_as(&acme, "POST", "/api/sandbox", "{}").await;
    assert!(second.headers.contains_key("retry-after"));
    let (status, code, message) = second.fault();
    assert_eq!((status, code.as_str()), (429, "TOO_MANY_REQUESTS"));
    assert!(message.contains("limit of 1 sandboxes"), "{message}");
    let shown = edge.call_as(&acme, "GET", "/api/organizations/acme", "").await.json();
    assert_eq!((&shown["usage"]["sandboxes"], &shown["usage"]["disk"]), (&json!(1), &json!(3)));
    let kept = operator.plain("DELETE", "/api/organizations/acme", None, "").await;
    assert_eq!(kept.fault().0, 409, "it has a sandbox");
}

#[tokio::test]
async fn the_operator_acts_in_the_organization_that_is_named_and_keys_do_not() {
    let edge = Edge::new().await;
    let acme = edge.tenant("acme", &ALL).await;
    let operator = edge.clone().vouched();
    let made = operator.plain("POST", "/api/sandbox", Some("acme"), "").await.json();
    let path = format!("/api/sandbox/{}", made["id"].as_str().unwrap());
    assert_eq!(edge.call_as(&acme, "GET", &path, "").await.status, StatusCode::OK);
    assert_eq!(edge.get(&path).await.fault().0, 404, "the default organization's key");
    let unknown = operator.plain("GET", "/api/sandbox", Some("none"), "").await;
    assert_eq!(unknown.fault().0, 404);
    let request = axum::extract::Request::get(&path)
        .header("authorization", format!("Bearer {KEY}"))
        .header("x-daytona-organization-id", "acme")
        .body(axum::body::Body::empty())
        .unwrap();
    assert_eq!(edge.send(request).await.fault().0, 404, "a key decides by itself");
    // Without a key and from elsewhere the header opens nothing.
    assert_eq!(edge.plain("GET", "/api/sandbox", Some("acme"), "").await.fault().0, 401);
}

#[tokio::test]
async fn keys_have_the_shape_that_clients_read_and_show_themselves() {
    let edge = Edge::new().await;
    let made = edge
        .call("POST", "/api/api-keys", r#"{"name":"ci","permissions":["write:sandboxes"]}"#)
        .await
        .json();
    let value = made["value"].as_str().unwrap();
    let shown = edge.call_as(value, "GET", "/api/api-keys/current", "").await.json();
    let fields: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "createdAt",
            "expiresAt",
            "lastUsedAt",
            "name",
            "organizationId",
            "permissions",
            "userId",
            "value"
        ]
    );
    assert_eq!(shown["name"], "ci");
    assert_ne!(shown["value"], made["value"]);
    assert_eq!(edge.get("/api/api-keys/ci").await.json(), shown);
    assert_eq!(edge.get("/api/api-keys/none").await.fault().0, 404);
    assert_eq!(edge.call_as(value, "GET", "/api/api-keys/ci", "").await.fault().0, 403);
    assert_eq!(shown["lastUsedAt"], Value::Null, "uses are written down together");
    edge.app.engine.shutdown().await;
    let used = edge.get("/api/api-keys/ci").await.json();
    assert_eq!(used["lastUsedAt"], "2026-01-01T00:00:00.000Z");
    let expired = r#"{"name":"old","permissions":[],"expiresAt":"2026-01-01T00:10:00Z"}"#;
    let old = edge.call("POST", "/api/api-keys", expired).await.json();
    let old = old["value"].as_str().unwrap();
    assert_eq!(edge.call_as(old, "GET", "/api/sandbox", "").await.status, StatusCode::OK);
    edge.world.clock.advance(std::time::Duration::from_mins(10));
    assert_eq!(edge.call_as(old, "GET", "/api/sandbox", "").await.fault().0, 401);
    let vouched = edge.clone().vouched().bare(Method::GET, "/api/api-keys/current").await;
    assert_eq!(vouched.fault().0, 404, "no key came with this call");
}

#[tokio::test]
async fn a_key_does_what_its_permissions_say_and_no_more() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let key = async |name: &str, permissions: Value| {
        let body = json!({ "name": name, "permissions": permissions }).to_string();
        let made = edge.call("POST", "/api/api-keys", &body).await.json();
        made["value"].as_str().unwrap().to_owned()
    };
    let reader = key("reader", json!([])).await;
    let writer = key("writer", json!(["write:sandboxes"])).await;
    let deleter = key("deleter", json!(["delete:sandboxes"])).await;
    let toolbox = format!("/toolbox/{id}");
    let one = format!("/api/sandbox/{id}");
    let rows: Vec<(&str, String, &str, [bool; 3])> = vec![
        ("GET", "/api/sandbox".to_owned(), "", [true, true, true]),
        ("GET", one.clone(), "", [true, true, true]),
        ("GET", format!("{one}/telemetry/metrics"), "", [true, true, true]),
        ("POST", "/api/sandbox".to_owned(), "{}", [false, true, false]),
        ("POST", format!("{one}/last-activity"), "", [false, true, false]),
        ("PUT", format!("{one}/labels"), r#"{"labels":{}}"#, [false, true, false]),
        ("POST", format!("{one}/autostop/5"), "", [false, true, false]),
        ("POST", format!("{one}/public/false"), "", [false, true, false]),
        ("POST", format!("{one}/resize"), r#"{"cpu":1}"#, [false, true, false]),
        (
            "POST",
            format!("{one}/network-settings"),
            r#"{"networkBlockAll":true}"#,
            [false, true, false],
        ),
        ("GET", format!("{one}/ports/3000/preview-url"), "", [false, true, false]),
        ("GET", format!("{one}/signing-key"), "", [false, true, false]),
        ("POST", format!("{one}/ssh-access"), "", [false, true, false]),
        ("GET", format!("{toolbox}/work-dir"), "", [false, true, false]),
        (
            "POST",
            format!("{toolbox}/process/execute"),
            r#"{"command":"echo x"}"#,
            [false, true, false],
        ),
        ("GET", format!("{toolbox}/process/session"), "", [false, true, false]),
        ("GET", "/api/api-keys".to_owned(), "", [false, false, false]),
        (
            "POST",
            "/api/api-keys".to_owned(),
            r#"{"name":"more","permissions":["admin"]}"#,
            [false, false, false],
        ),
        ("DELETE", "/api/api-keys/environment".to_owned(), "", [false, false, false]),
        ("GET", "/api/audit".to_owned(), "", [false, false, false]),
        ("DELETE", one.clone(), "", [false, false, true]),
    ];
    for (method, path, body, may) in rows {
        for (key, may) in [&reader, &writer, &deleter].into_iter().zip(may) {
            let reply = edge.call_as(key, method, &path, body).await;
            if may {
                assert!(reply.status.is_success(), "{method} {path}: {reply:?}");
            } else {
                let (status, code, message) = reply.fault();
                assert_eq!(
                    (status, code.as_str()),
                    (403, "FORBIDDEN"),
                    "{method} {path}: {message}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_to_what_and_what_was_refused() {
    let edge = Edge::new().await;
    let acme = edge.tenant("acme", &ALL).await;
    let made = edge.call_as(&acme, "POST", "/api/sandbox", "{}").await.json();
    let id = made["id"].as_str().unwrap();
    let toolbox = format!("/toolbox/{id}/process/execute");
    for _ in 0..3 {
        edge.call_as(&acme, "POST", &toolbox, r#"{"command":"echo x"}"#).await;
    }
    edge.call_as(&acme, "POST", &format!("/api/sandbox/{id}/archive"), "").await;
    edge.call_as(&acme, "DELETE", &format!("/api/sandbox/{id}"), "").await;
    edge.call_as(&acme, "GET", "/api/sandbox", "").await;
    let lines = async || {
        let page = edge.call_as(&acme, "GET", "/api/audit", "").await.json();
        for line in page["items"].as_array().unwrap() {
            for field in ["id", "actorId", "actorEmail", "action", "createdAt"] {
                assert!(line[field].is_string(), "{field} in {line}");
            }
        }
        page
    };
    let line = |page: &Value, action: &str| {
        let found = page["items"].as_array().unwrap().iter().find(|line| line["action"] == action);
        found.cloned().unwrap_or_else(|| panic!("{action} in {page}"))
    };
    let page = lines().await;
    assert_eq!(page["total"], 3, "changes are there at once, looks never: {page}");
    let create = line(&page, "POST /api/sandbox");
    assert_eq!((&create["targetId"], &create["actorEmail"]), (&made["id"], &json!("acme-key")));
    assert_eq!((&create["statusCode"], &create["ipAddress"]), (&json!(200), &json!("127.0.0.1")));
    assert_eq!(line(&page, "DELETE /api/sandbox/{sandbox}")["targetId"], made["id"]);
    assert_eq!(line(&page, "POST /api/api-keys")["actorEmail"], "", "the operator's socket");
    edge.app.engine.shutdown().await;
    let page = lines().await;
    let refused = line(&page, "POST /api/sandbox/{sandbox}/archive");
    assert_eq!(refused["statusCode"], 409);
    assert!(refused["errorMessage"].as_str().unwrap().contains("state"), "{refused}");
    let calls = line(&page, "POST /toolbox/{sandbox}/process/execute");
    assert_eq!(calls["metadata"]["count"], 3);
    let first = edge.call_as(&acme, "GET", "/api/audit?limit=2", "").await.json();
    let next = first["nextToken"].as_str().unwrap();
    let rest = edge.call_as(&acme, "GET", &format!("/api/audit?nextToken={next}"), "").await.json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 3);
    let text = page.to_string();
    assert!(!text.contains(&acme) && !text.contains(KEY), "no key stands in the log");
    // Nobody reads another's.
    let others = edge.get("/api/audit").await.json().to_string();
    assert!(!others.contains(id), "{others}");
    assert_eq!(edge.get("/api/audit/organizations/acme").await.fault().0, 404);
    let own = edge.call_as(&acme, "GET", "/api/audit/organizations/acme", "").await;
    assert_eq!(own.status, StatusCode::OK);
}

#[tokio::test]
async fn a_line_is_written_for_a_caller_who_left_before_the_answer() {
    let edge = Edge::new().await;
    // The key is known from here on, so the call is let in before it has to wait for anything.
    assert_eq!(edge.get("/api/sandbox").await.status, StatusCode::OK);
    let runtime = edge.world.runtime(&mayfly_testkit::Fuse::never());
    runtime.delay(mayfly_testkit::Verb::Create, std::time::Duration::from_millis(50));
    let mut call = Box::pin(edge.call("POST", "/api/sandbox", r#"{"name":"left"}"#));
    assert!(futures_util::poll!(&mut call).is_pending(), "the answer came at once");
    drop(call);
    edge.app.engine.shutdown().await;
    let page = edge.get("/api/audit").await.json();
    let lines = page["items"].as_array().unwrap();
    let line = lines.iter().find(|line| line["action"] == "POST /api/sandbox").expect("a line");
    assert_eq!((&line["statusCode"], &line["actorEmail"]), (&json!(0), &json!("environment")));
}

#[tokio::test]
async fn telemetry_gives_the_series_of_the_contract() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let path = format!("/api/sandbox/{id}/telemetry/metrics");
    let all = edge.get(&path).await.json();
    let names: Vec<_> = all["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["metricName"].as_str().unwrap())
        .collect();
    for name in ["cpu.limit", "memory.usage", "memory.limit", "memory.cache", "filesystem.total"] {
        assert!(names.contains(&format!("daytona.sandbox.{name}").as_str()), "{name} in {names:?}");
    }
    let one = edge.get(&format!("{path}?metricNames=daytona.sandbox.memory.limit")).await.json();
    assert_eq!(one["series"].as_array().unwrap().len(), 1);
    assert_eq!(one["series"][0]["dataPoints"][0]["value"], json!(f64::from(1 << 30)));
    let none = edge.get(&format!("{path}?from=2100-01-01T00:00:00Z")).await.json();
    assert!(none["series"].as_array().unwrap().iter().all(|one| one["dataPoints"] == json!([])));
    assert_eq!(edge.get(&format!("{path}?from=now")).await.fault().0, 400);
    assert_eq!(edge.get("/api/sandbox/none/telemetry/metrics").await.fault().0, 404);
}

#[tokio::test]
async fn browsers_get_a_page_and_programs_get_json() {
    let edge = Edge::new().await;
    assert_eq!(edge.bare(Method::GET, "/").await.json()["service"], "mayfly");
    let request = axum::extract::Request::get("/")
        .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
        .body(axum::body::Body::empty());
    let page = edge.send(request.unwrap()).await;
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(page.headers.contains_key("content-security-policy"));
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    for link in text.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert_eq!(edge.bare(Method::GET, link).await.status, StatusCode::OK, "{link}");
    }
}

#[tokio::test]
async fn paths_of_older_clients_lead_to_the_same_toolbox() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let old = format!("/api/toolbox/{id}/toolbox");
    let dir = edge.get(&format!("{old}/project-dir")).await.json();
    assert_eq!(dir, edge.get(&format!("/toolbox/{id}/work-dir")).await.json());
    let command = r#"{"command":"echo hi"}"#;
    let old_run = edge.call("POST", &format!("{old}/process/execute"), command).await;
    let new_run = edge.call("POST", &format!("/toolbox/{id}/process/execute"), command).await;
    assert_eq!((old_run.status, old_run.json()), (StatusCode::OK, new_run.json()));
    assert_eq!(edge.bare(Method::GET, &format!("{old}/project-dir")).await.fault().0, 401);
    assert_eq!(edge.get("/api/toolbox/none/toolbox/project-dir").await.fault().0, 404);
}
