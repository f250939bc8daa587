//! What operators scrape.

use std::collections::HashMap;

use super::Edge;

#[tokio::test]
async fn metrics_count_what_happened_in_the_form_that_scrapers_read() {
    let edge = Edge::new().await;
    let made = edge.call("POST", "/api/sandbox", r#"{"name":"box"}"#).await.json();
    let id = made["id"].as_str().unwrap();
    let path = format!("/toolbox/{id}/process/execute");
    for _ in 0..3 {
        edge.call("POST", &path, r#"{"command":"true"}"#).await;
    }
    edge.call_as("mf_key_wrong", "GET", "/api/sandbox", "").await;
    let mut listener =
        edge.app.engine.listen(edge.app.engine.access().administrator().organization);
    let text = String::from_utf8(edge.get("/metrics").await.body.to_vec()).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let values: HashMap<&str, f64> = lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name, value.parse().unwrap_or_else(|_| panic!("{name} {value}"))))
        .collect();
    let expected = [
        (r#"mayfly_sandboxes{state="started",warm="false"}"#, 1.0),
        (r#"mayfly_http_answers_total{kind="execute",class="2xx"}"#, 3.0),
        (r#"mayfly_http_answers_total{kind="create",class="2xx"}"#, 1.0),
        (r#"mayfly_http_answer_seconds_bucket{kind="execute",le="+Inf"}"#, 3.0),
        (r#"mayfly_http_answer_seconds_count{kind="execute"}"#, 3.0),
        (r#"mayfly_refusals_total{rule="authentication"}"#, 1.0),
        (r#"mayfly_effect_seconds_count{effect="create"}"#, 1.0),
        (r#"mayfly_effect_failures_total{effect="create"}"#, 0.0),
        ("mayfly_command_seconds_count", 3.0),
        ("mayfly_event_listeners", 1.0),
        ("mayfly_store_queue", 0.0),
    ];
    for (name, value) in expected {
        assert_eq!(values.get(name), Some(&value), "{name}\n{text}");
    }
    assert!(values["mayfly_audit_lines_total"] >= 1.0, "the create\'s own");
    assert!(values.keys().any(|name| name.starts_with("mayfly_build_info{version=")));
    // Every name has its family before it, and no line comes twice.
    assert_eq!(values.len(), text.lines().filter(|line| !line.starts_with('#')).count());
    for name in values.keys() {
        let bare = name.split('{').next().unwrap();
        let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| bare.strip_suffix(end));
        let family = family.filter(|family| family.ends_with("_seconds")).unwrap_or(bare);
        assert!(text.contains(&format!("# TYPE {family} ")), "{name}");
    }
    assert!(listener.try_recv().is_err());
}
