//! Terminals: connect, leave, come back, resize, end.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::site::Site;

const EXIT_CONTROL: &str = "X-Daytona-Pty-Exit-Control";

fn control(status: &str) -> Value {
    json!({ "type": "control", "status": status })
}

#[tokio::test]
async fn d9_a_terminal_ends_with_its_code_in_both_forms() {
    let site = Site::new().await;
    // {"A":"b c"}
    let envs = "X-Daytona-Pty-Envs~eyJBIjoiYiBjIn0";
    let path = "pty/create-connect?id=p1&cols=90&rows=20&cwd=/root";
    let mut first = site.talk(path, &[EXIT_CONTROL, envs]).await;
    assert_eq!(first.protocol.as_deref(), Some(EXIT_CONTROL));
    assert_eq!(first.json().await, control("connected"));
    let info = site.edge.get(&site.path("pty/p1")).await.json();
    let created = info["createdAt"].as_str().unwrap();
    assert!(created.ends_with('Z'), "{created}");
    assert_eq!(
        info,
        json!({ "id": "p1", "active": true, "cols": 90, "rows": 20, "cwd": "/root", "envs": { "A": "b c" },
            "createdAt": created, "lazyStart": false })
    );
    let taken = site.open(&site.path(path), Some(&format!("Bearer {}", super::KEY)), &[]).await;
    assert_eq!(taken.err(), Some(409), "a living id is refused before the upgrade");
    // The second one did not ask to be told of the end.
    let mut second = site.talk("pty/p1/connect", &[envs]).await;
    assert_eq!(second.protocol.as_deref(), Some(envs));
    assert_eq!(second.json().await, control("connected"));
    first.send_bytes(b"echo $A\n").await;
    assert!(first.until("b c\r\n").await.contains("echo $A"), "keys are echoed");
    second.until("b c\r\n").await;
    second.send("exit 3\n").await;
    let (first, second) = (first.rest().await, second.rest().await);
    assert_eq!(first.texts, [json!({ "type": "control", "status": "exited", "exitCode": 3 })]);
    assert!(second.texts.is_empty(), "{second:?}");
    for heard in [first, second] {
        assert_eq!((heard.code, heard.reason.as_str()), (1000, r#"{"exitCode":3}"#));
    }
    let (status, code, _) =
        site.edge.call("POST", &site.path("pty/p1/resize"), r#"{"cols":1,"rows":1}"#).await.fault();
    assert_eq!((status, code.as_str()), (410, "SESSION_ENDED"));
    let mut again = site.talk(path, &[]).await;
    assert_eq!(again.json().await, control("connected"), "an ended id is free");
}

#[tokio::test]
async fn d9_a_client_leaves_comes_back_resizes_and_kills() {
    let site = Site::new().await;
    let edge = &site.edge;
    let body = r#"{"id":"p","envs":{"X":"1"},"cols":100,"rows":30}"#;
    let made = edge.call("POST", &site.path("pty"), body).await;
    assert_eq!((made.status, made.json()), (StatusCode::CREATED, json!({ "sessionId": "p" })));
    let mut talk = site.talk("pty/p/connect", &[]).await;
    assert_eq!(talk.json().await, control("connected"));
    talk.send("echo before\n").await;
    talk.until("before\r\n$ ").await;
    talk.leave().await;
    assert_eq!(edge.get(&site.path("pty")).await.json()["sessions"][0]["active"], true);
    let mut talk = site.talk("pty/p/connect", &[EXIT_CONTROL]).await;
    assert_eq!(talk.json().await, control("connected"));
    talk.until("before\r\n$ ").await;
    let resize = async |body: &str| edge.call("POST", &site.path("pty/p/resize"), body).await;
    let resized = resize(r#"{"cols":120,"rows":40}"#).await.json();
    assert_eq!((&resized["cols"], &resized["rows"]), (&json!(120), &json!(40)));
    assert_eq!(edge.get(&site.path("pty/p")).await.json()["cols"], 120);
    assert_eq!(resize(r#"{"cols":0,"rows":40}"#).await.fault().0, 400);
    assert_eq!(resize(r#"{"cols":70000,"rows":40}"#).await.fault().0, 400);
    assert_eq!(edge.call("DELETE", &site.path("pty/p"), "").await.status, StatusCode::OK);
    let heard = talk.rest().await;
    assert_eq!((heard.code, &heard.texts[0]["exitCode"]), (1000, &json!(137)));
    assert_eq!(edge.get(&site.path("pty/p")).await.fault().0, 404);
    assert_eq!(edge.call("DELETE", &site.path("pty/p"), "").await.fault().0, 404);
}

#[tokio::test]
async fn a_lazy_terminal_starts_when_somebody_connects() {
    let site = Site::new().await;
    let edge = &site.edge;
    let made = edge.call("POST", &site.path("pty"), r#"{"id":"p","lazyStart":true}"#).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let info = edge.get(&site.path("pty/p")).await.json();
    assert_eq!((&info["active"], &info["lazyStart"]), (&json!(false), &json!(true)));
    let again = edge.call("POST", &site.path("pty"), r#"{"id":"p"}"#).await;
    assert_eq!(again.fault().0, 409, "its place is taken");
    let resized = edge.call("POST", &site.path("pty/p/resize"), r#"{"cols":99,"rows":9}"#).await;
    assert_eq!(resized.json()["active"], false);
    let mut talk = site.talk("pty/p/connect", &[]).await;
    assert_eq!(talk.json().await, control("connected"));
    let info = edge.get(&site.path("pty/p")).await.json();
    assert_eq!((&info["active"], &info["cols"]), (&json!(true), &json!(99)));
    let all = edge.get(&site.path("pty")).await.json();
    assert_eq!(all["sessions"].as_array().unwrap().len(), 1, "its place-holder is gone");
}

#[tokio::test]
async fn recent_output_is_replayed_from_the_beginning_of_a_line() {
    let site = Site::new().await;
    site.edge.call("POST", &site.path("pty"), r#"{"id":"p"}"#).await;
    let mut talk = site.talk("pty/p/connect", &[]).await;
    talk.json().await;
    // 640 KiB in ten lines, more than what is replayed.
    for _ in 0..10 {
        talk.send("flood 1; echo\n").await;
    }
    talk.send("echo last; exit 0\n").await;
    let all = talk.rest().await.bytes;
    assert!(all.len() > 10 << 16);
    let mut late = site.talk("pty/p/connect", &[EXIT_CONTROL]).await;
    assert_eq!(late.json().await, control("connected"));
    let heard = late.rest().await;
    assert!(all.ends_with(&heard.bytes), "it is the end of what there was");
    assert!((1 << 16..=128 << 10).contains(&heard.bytes.len()), "{}", heard.bytes.len());
    assert_eq!(all[all.len() - heard.bytes.len() - 1], b'\n');
    assert_eq!(heard.texts[0]["exitCode"], 0);
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_told() {
    let site = Site::new().await;
    let mut talk = site.talk("pty/none/connect", &[EXIT_CONTROL]).await;
    let heard = talk.rest().await;
    assert_eq!(heard.texts[0]["status"], "error");
    assert_eq!(heard.texts[0]["error"], "terminal none not found");
    assert_eq!(heard.code, 1008);
    let key = format!("Bearer {}", super::KEY);
    for (path, protocols) in [
        ("pty/create-connect?cols=1", vec![]),
        ("pty/create-connect?id=a%2Fb", vec![]),
        ("pty/create-connect?id=a&cols=0", vec![]),
        ("pty/create-connect?id=a&rows=x", vec![]),
        ("pty/create-connect?id=a&cwd=/no/such", vec![]),
        ("pty/create-connect?id=a", vec!["X-Daytona-Pty-Envs~!!"]),
        ("pty/create-connect?id=a", vec!["X-Daytona-Pty-Envs~eyJBPUIiOiIxIn0"]),
    ] {
        let refused = site.open(&site.path(path), Some(&key), &protocols).await;
        assert_eq!(refused.err(), Some(400), "{path} {protocols:?}");
    }
    assert_eq!(site.edge.get(&site.path("pty/a/connect")).await.fault().0, 400, "no WebSocket");
}
