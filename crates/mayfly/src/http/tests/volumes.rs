//! `/api/volumes`, and volumes of a sandbox (Daytona contract, sections 2 and 10; case 20).

use serde_json::{Value, json};

use super::Edge;

async fn make(edge: &Edge, name: &str) -> Value {
    let made = edge.call("POST", "/api/volumes", &json!({ "name": name }).to_string()).await;
    assert_eq!(made.status.as_u16(), 200, "{made:?}");
    made.json()
}

fn mounting(volume: &str, path: &str) -> String {
    json!({ "volumes": [{ "volumeId": volume, "mountPath": path, "subpath": "a/b" }] }).to_string()
}

#[tokio::test]
async fn a_volume_has_the_fields_and_words_of_the_contract() {
    let edge = Edge::new().await;
    let missing = edge.get("/api/volumes/by-name/my%20data").await.fault();
    assert_eq!((missing.0, missing.2.as_str()), (404, "volume my data not found"));
    let made = make(&edge, "my data").await;
    let id = made["id"].as_str().unwrap();
    let expected = json!({
        "id": id, "name": "my data", "organizationId": made["organizationId"], "state": "ready",
        "size": 10, "errorReason": null, "createdAt": "2026-01-01T00:00:00.000Z",
        "updatedAt": "2026-01-01T00:00:00.000Z", "lastUsedAt": null,
    });
    assert_eq!(made, expected);
    for path in [format!("/api/volumes/{id}"), "/api/volumes/by-name/my%20data".to_owned()] {
        assert_eq!(edge.get(&path).await.json(), made, "{path}");
    }
    assert_eq!(edge.get("/api/volumes").await.json(), json!([made]));
    let taken = edge.call("POST", "/api/volumes", r#"{"name":"my data"}"#).await.fault();
    assert_eq!((taken.0, taken.1.as_str()), (409, "CONFLICT"));
    for (body, field) in [
        ("{}", "name"),
        (r#"{"name":""}"#, "name"),
        (r#"{"name":7}"#, "name"),
        (r#"{"name":"x","size":0}"#, "size"),
        (r#"{"name":"x","size":"big"}"#, "size"),
    ] {
        let (status, _, message) = edge.call("POST", "/api/volumes", body).await.fault();
        assert!(status == 400 && message.contains(field), "{body}: {message}");
    }
    let over = edge.call("POST", "/api/volumes", r#"{"name":"x","size":100000}"#).await.fault();
    assert_eq!(over.0, 429, "{}", over.2);
    let bad = edge.get("/api/volumes?includeDeleted=perhaps").await.fault();
    assert!(bad.0 == 400 && bad.2.contains("includeDeleted"), "{}", bad.2);
}

#[tokio::test]
async fn a_mounted_volume_is_shown_with_its_sandbox_and_not_deleted() {
    let edge = Edge::new().await;
    let volume = make(&edge, "data").await;
    let id = volume["id"].as_str().unwrap().to_owned();
    let made = edge.call("POST", "/api/sandbox", &mounting("data", "/srv/data/")).await;
    assert_eq!(made.status.as_u16(), 200, "{made:?}");
    let made = made.json();
    let shown =
        json!([{ "volumeId": id, "mountPath": "/srv/data", "subpath": "a/b", "readOnly": false }]);
    assert_eq!(made["volumes"], shown);
    let sandbox = format!("/api/sandbox/{}", made["id"].as_str().unwrap());
    assert_eq!(edge.get(&sandbox).await.json()["volumes"], shown);
    let path = format!("/api/volumes/{id}");
    let kept = edge.call("DELETE", &path, "").await.fault();
    assert_eq!(kept.0, 409);
    assert!(kept.2.contains("in use by sandbox"), "{}", kept.2);
    assert!(edge.get(&path).await.json()["lastUsedAt"].is_string());
    assert_eq!(edge.call("DELETE", &sandbox, "").await.status.as_u16(), 200);
    let gone = edge.call("DELETE", &path, "").await;
    assert_eq!((gone.status.as_u16(), &gone.json()["state"]), (200, &json!("deleted")));
    assert_eq!(edge.get(&path).await.fault().0, 404);
    assert_eq!(edge.call("DELETE", &path, "").await.fault().0, 404);
    assert_eq!(edge.get("/api/volumes").await.json(), json!([]));
    let all = edge.get("/api/volumes?includeDeleted=true").await.json();
    assert_eq!((&all[0]["id"], &all[0]["state"]), (&json!(id), &json!("deleted")));
    let lines = edge.get("/api/audit").await.json().to_string();
    for action in ["POST /api/volumes", "DELETE /api/volumes/{volume}"] {
        assert!(lines.contains(action), "{action} in {lines}");
    }
}

#[tokio::test]
async fn mounts_that_cannot_be_are_refused_with_the_field_and_make_nothing() {
    let edge = Edge::new().await;
    make(&edge, "data").await;
    let twice = json!({ "volumes": [
        { "volumeId": "data", "mountPath": "/a" }, { "volumeId": "data", "mountPath": "/a/b" },
    ] });
    let above = json!({ "volumes": [
        { "volumeId": "data", "mountPath": "/a", "subpath": "x/../../y" },
    ] });
    for (body, status, word) in [
        (mounting("none", "/a"), 404, "volume none not found"),
        (mounting("data", "a"), 400, "mountPath"),
        (mounting("data", "/proc/x"), 400, "mountPath"),
        (mounting("", "/a"), 400, "volumeId"),
        (twice.to_string(), 400, "mountPath"),
        (above.to_string(), 400, "subpath"),
        (r#"{"volumes":[{"volumeId":"data"}]}"#.to_owned(), 400, "mountPath"),
        (r#"{"volumes":{"volumeId":"data"}}"#.to_owned(), 400, "volumes"),
    ] {
        let (found, _, message) = edge.call("POST", "/api/sandbox", &body).await.fault();
        assert_eq!(found, status, "{body}: {message}");
        assert!(message.contains(word), "{body}: {message}");
    }
    assert_eq!(edge.get("/api/sandbox").await.json()["items"], json!([]));
}

#[tokio::test]
async fn permissions_and_limits_of_volumes_hold() {
    let edge = Edge::new().await;
    let key = edge.tenant("acme", &["write:volumes"]).await;
    let made = edge.call_as(&key, "POST", "/api/volumes", r#"{"name":"data"}"#).await.json();
    let path = format!("/api/volumes/{}", made["id"].as_str().unwrap());
    assert_eq!(edge.call_as(&key, "DELETE", &path, "").await.fault().0, 403);
    assert_eq!(edge.get(&path).await.fault().0, 404, "another organization's");
    let foreign = edge.call("POST", "/api/sandbox", &mounting("data", "/a")).await.fault();
    assert_eq!((foreign.0, foreign.2.as_str()), (404, "volume data not found"));
    let operator = edge.clone().vouched();
    let limits = r#"{"volumes":1}"#;
    let set = operator.plain("PUT", "/api/organizations/acme/limits", None, limits).await.json();
    assert_eq!((&set["usage"]["volumes"], &set["limits"]["volumes"]), (&json!(1), &json!(1)));
    let over = edge.call_as(&key, "POST", "/api/volumes", r#"{"name":"more"}"#).await.fault();
    assert!(over.0 == 429 && over.2.contains("limit of 1 volumes"), "{}", over.2);
    let kept = operator.plain("DELETE", "/api/organizations/acme", None, "").await.fault();
    assert!(kept.0 == 409 && kept.2.contains("volumes"), "{}", kept.2);
}
