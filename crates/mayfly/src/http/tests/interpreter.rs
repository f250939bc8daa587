//! Interpreters: state, contexts apart, errors, time limits, turns.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::site::{Heard, Site};

async fn run(site: &Site, call: Value) -> Heard {
    let mut talk = site.talk("interpreter/execute", &[]).await;
    talk.send(&call.to_string()).await;
    talk.rest().await
}

/// What a call printed on a stream.
fn printed(heard: &Heard, kind: &str) -> String {
    let texts = heard.texts.iter().filter(|text| text["type"] == kind);
    texts.map(|text| text["text"].as_str().unwrap()).collect()
}

async fn context(site: &Site) -> String {
    let made = site.edge.call("POST", &site.path("interpreter/context"), r#"{"cwd":"/tmp"}"#).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    let made = made.json();
    assert_eq!((&made["cwd"], &made["language"]), (&json!("/tmp"), &json!("python")));
    assert!(made["active"] == true && made["createdAt"].is_string());
    made["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn d10_state_is_kept_and_contexts_are_apart() {
    let site = Site::new().await;
    assert_eq!(run(&site, json!({ "code": "x = 41" })).await.code, 1000);
    let heard = run(&site, json!({ "code": "print(x)\nwarn(careful)" })).await;
    assert_eq!(printed(&heard, "stdout"), "41\n");
    assert_eq!(printed(&heard, "stderr"), "careful\n");
    assert_eq!(heard.texts.last().unwrap(), &json!({ "type": "control", "text": "completed" }));
    let (a, b) = (context(&site).await, context(&site).await);
    run(&site, json!({ "code": "x = 1", "contextId": a })).await;
    for (id, x) in [(&a, "1\n"), (&b, "x\n")] {
        let heard = run(&site, json!({ "code": "print(x)", "contextId": id })).await;
        assert_eq!(printed(&heard, "stdout"), x);
    }
    let all = site.edge.get(&site.path("interpreter/context")).await.json();
    let ids: Vec<_> = all["contexts"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [&json!(a), &json!(b)], "the default one is not listed");
    let gone = site.edge.call("DELETE", &site.path(&format!("interpreter/context/{a}")), "").await;
    assert!(gone.status == StatusCode::OK && gone.json()["message"].is_string());
    let heard = run(&site, json!({ "code": "print(x)", "contextId": a })).await;
    assert_eq!(heard.code, 1008, "{heard:?}");
    for id in [a.as_str(), "default"] {
        let path = site.path(&format!("interpreter/context/{id}"));
        assert_eq!(site.edge.call("DELETE", &path, "").await.fault().0, 404);
    }
    let ruby = r#"{"language":"ruby"}"#;
    let refused = site.edge.call("POST", &site.path("interpreter/context"), ruby).await;
    assert_eq!(refused.fault().0, 400);
}

#[tokio::test]
async fn d10_an_error_comes_as_its_own_message() {
    let site = Site::new().await;
    let heard = run(&site, json!({ "code": "print(a)\nraise ValueError('boom')\nprint(b)" })).await;
    assert_eq!((printed(&heard, "stdout").as_str(), heard.code), ("a\n", 1000));
    let error = heard.texts.iter().find(|text| text["type"] == "error").unwrap();
    assert_eq!((&error["name"], &error["value"]), (&json!("ValueError"), &json!("boom")));
    let heard = run(&site, json!({ "code": "x = 1\nquit()" })).await;
    assert_eq!((&heard.texts[0]["name"], heard.code), (&json!("InterpreterExited"), 1000));
    let heard = run(&site, json!({ "code": "print(x)" })).await;
    assert_eq!(printed(&heard, "stdout"), "x\n", "an ended interpreter starts anew");
}

#[tokio::test]
async fn d10_time_over_is_4008_and_the_state_stays() {
    let site = Site::new().await;
    let heard = run(&site, json!({ "code": "x = 7\nprint(on)\nhang()", "timeout": 1 })).await;
    assert_eq!((printed(&heard, "stdout").as_str(), heard.code), ("on\n", 4008));
    let heard = run(&site, json!({ "code": "print(x)" })).await;
    assert_eq!(printed(&heard, "stdout"), "7\n");
}

#[tokio::test]
async fn calls_of_one_context_wait_and_a_client_that_leaves_lets_the_next_one_in() {
    let site = Site::new().await;
    let mut first = site.talk("interpreter/execute", &[]).await;
    first.send(&json!({ "code": "print(first)\nhang()" }).to_string()).await;
    assert_eq!(first.json().await["text"], "first\n");
    let mut second = site.talk("interpreter/execute", &[]).await;
    second.send(&json!({ "code": "print(second)" }).to_string()).await;
    // Another context does not wait.
    let other = context(&site).await;
    let heard = run(&site, json!({ "code": "print(other)", "contextId": other })).await;
    assert_eq!(printed(&heard, "stdout"), "other\n");
    first.leave().await;
    let heard = second.rest().await;
    assert_eq!((printed(&heard, "stdout").as_str(), heard.code), ("second\n", 1000));
}

#[tokio::test]
async fn wrong_calls_are_closed_with_the_reason() {
    let site = Site::new().await;
    for (call, says) in [
        (json!({}), "code"),
        (json!({ "code": 1 }), "code"),
        (json!({ "code": "", "timeout": -1 }), "timeout"),
        (json!({ "code": "", "envs": { "A=B": "" } }), "envs"),
        (json!([]), "object"),
        (json!({ "code": "", "contextId": "none" }), "none"),
    ] {
        let heard = run(&site, call.clone()).await;
        assert!(heard.code == 1008 && heard.reason.contains(says), "{call}: {heard:?}");
    }
    let heard = run(&site, json!({ "code": "print(A)", "envs": { "A": "b" } })).await;
    assert_eq!(printed(&heard, "stdout"), "b\n");
}
