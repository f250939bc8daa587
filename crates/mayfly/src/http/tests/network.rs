//! Networks of sandboxes on the wire: settings, the record's fields, the audit.

use mayfly_core::network::{AuditEntry, AuditKind, cidrs};
use mayfly_core::time::Timestamp;
use mayfly_testkit::Fuse;
use serde_json::json;

use super::Edge;

async fn settings(edge: &Edge, id: &str, body: serde_json::Value) -> super::Reply {
    edge.call("POST", &format!("/api/sandbox/{id}/network-settings"), &body.to_string()).await
}

#[tokio::test]
async fn lists_are_taken_at_create_and_shown() {
    let edge = Edge::new().await;
    let body = json!({ "name": "box", "networkAllowList": " 1.1.1.0/24, 8.8.8.8", "domainAllowList": "*.A.com",
        "outboundProxyUrl": "http://u:p@proxy.example:3128", "networkBlockAll": null });
    let made = edge.call("POST", "/api/sandbox", &body.to_string()).await.json();
    for sandbox in [made.clone(), edge.get("/api/sandbox/box").await.json()] {
        assert_eq!(sandbox["networkBlockAll"], false);
        assert_eq!(sandbox["networkAllowList"], "1.1.1.0/24,8.8.8.8/32");
        assert_eq!(sandbox["domainAllowList"], "*.a.com");
        assert_eq!(sandbox["outboundProxyUrl"], "http://u:p@proxy.example:3128");
    }
    let id = made["id"].as_str().unwrap().parse().unwrap();
    let running = edge.world.runtime(&Fuse::never()).network(id).unwrap();
    assert_eq!(running.cidrs, cidrs("1.1.1.0/24,8.8.8.8").unwrap());
    let blocked = edge.call("POST", "/api/sandbox", r#"{"networkBlockAll":true}"#).await.json();
    assert_eq!(blocked["networkBlockAll"], true);
}

#[tokio::test]
async fn n9_settings_are_applied_live_and_bad_ones_change_nothing() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let changed = settings(&edge, &id, json!({ "networkAllowList": "1.1.1.0/24" })).await.json();
    assert_eq!(
        (&changed["networkAllowList"], &changed["networkBlockAll"]),
        (&json!("1.1.1.0/24"), &json!(false))
    );
    for (body, named) in [
        (json!({ "networkAllowList": "1.1.1.1/33" }), "`1.1.1.1/33`"),
        (json!({ "networkAllowList": "2.2.2.0/24,,3.3.3.3" }), "entry 2 is empty"),
        (json!({ "networkAllowList": "10.0.0.0/8" }), "`10.0.0.0/8`"),
        (json!({ "networkBlockAll": true, "domainAllowList": "*" }), "`*`"),
        (json!({ "networkBlockAll": true, "outboundProxyUrl": "ftp://x" }), "outboundProxyUrl"),
        (json!({ "networkBlockAll": "yes" }), "networkBlockAll"),
    ] {
        let (status, _, message) = settings(&edge, &id, body.clone()).await.fault();
        assert_eq!(status, 400, "{body}");
        assert!(message.contains(named), "{message}");
    }
    let kept = edge.get(&format!("/api/sandbox/{id}")).await.json();
    assert_eq!(
        (&kept["networkAllowList"], &kept["networkBlockAll"]),
        (&json!("1.1.1.0/24"), &json!(false))
    );
    let running = edge.world.runtime(&Fuse::never()).network(id.parse().unwrap()).unwrap();
    assert!(!running.block_all && running.cidrs.len() == 1);
    let cleared =
        json!({ "networkBlockAll": true, "networkAllowList": "", "outboundProxyUrl": "" });
    let changed = settings(&edge, &id, cleared).await.json();
    assert_eq!(changed["networkBlockAll"], true);
    assert!(changed["networkAllowList"].is_null());
    assert_eq!(settings(&edge, "nobody", json!({})).await.fault().0, 404);
}

#[tokio::test]
async fn the_audit_is_read_page_by_page() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    for count in 1..=3 {
        edge.world.runtime(&Fuse::never()).audited(
            id.parse().unwrap(),
            AuditEntry {
                kind: if count == 1 { AuditKind::Denied } else { AuditKind::End },
                at: Timestamp(0),
                millis: 5,
                protocol: "tcp".to_owned(),
                address: "1.2.3.4".parse().unwrap(),
                port: 443,
                name: (count == 3).then(|| "a.com".to_owned()),
                verdict: if count == 1 { "private" } else { "allowed" }.to_owned(),
                up: 7,
                down: 9,
                count,
            },
        );
    }
    let path = format!("/api/sandbox/{id}/network/audit");
    let first = edge.get(&format!("{path}?limit=2")).await.json();
    assert_eq!(
        first["items"][0],
        json!({ "event": "denied", "time": "1970-01-01T00:00:00.000Z", "durationMs": 5, "protocol": "tcp",
            "name": null, "address": "1.2.3.4", "port": 443, "bytesUp": 7, "bytesDown": 9,
            "verdict": "denied", "reason": "private", "count": 1 })
    );
    assert_eq!(
        (&first["items"][1]["verdict"], &first["items"][1]["reason"]),
        (&json!("allowed"), &json!(null))
    );
    let after = first["next"].as_str().unwrap();
    let second = edge.get(&format!("{path}?after={after}")).await.json();
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert_eq!(second["items"][0]["name"], "a.com");
    let third =
        edge.get(&format!("{path}?after={}", second["next"].as_str().unwrap())).await.json();
    assert_eq!((&third["items"], &third["next"]), (&json!([]), &second["next"]));
    for bad in ["limit=0", "limit=1001", "limit=x", "after=nonsense"] {
        assert_eq!(edge.get(&format!("{path}?{bad}")).await.fault().0, 400, "{bad}");
    }
}
