//! Sessions: state that persists, streams apart, old and new forms.

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::site::Site;
use super::{Edge, KEY, Reply};

/// A sandbox with a session `one`; the path of it.
async fn session() -> (Edge, String) {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let all = format!("/toolbox/{id}/process/session");
    let made = edge.call("POST", &all, r#"{"sessionId":"one"}"#).await;
    assert_eq!((made.status, made.body.len()), (StatusCode::CREATED, 0));
    (edge, format!("{all}/one"))
}

async fn exec(edge: &Edge, session: &str, command: &str) -> Value {
    let body = json!({ "command": command });
    let done = edge.call("POST", &format!("{session}/exec"), &body.to_string()).await;
    assert_eq!(done.status, StatusCode::OK, "{done:?}");
    done.json()
}

async fn start(edge: &Edge, session: &str, command: &str) -> String {
    let body = json!({ "command": command, "runAsync": true });
    let taken = edge.call("POST", &format!("{session}/exec"), &body.to_string()).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED, "{taken:?}");
    let taken = taken.json();
    assert_eq!(taken.as_object().unwrap().len(), 1, "{taken}");
    taken["cmdId"].as_str().unwrap().to_owned()
}

async fn old(edge: &Edge, method: &str, path: &str, body: Value) -> Reply {
    let request = Request::builder().method(method).uri(path);
    let request = request
        .header("authorization", format!("Bearer {KEY}"))
        .header("x-daytona-sdk-version", "0.166.0")
        .header("content-type", "application/json");
    edge.send(request.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test]
async fn d7_a_session_keeps_its_state_and_others_do_not_see_it() {
    let (edge, one) = session().await;
    exec(&edge, &one, "export A=1").await;
    let done = exec(&edge, &one, "echo $A").await;
    assert_eq!((&done["stdout"], &done["exitCode"]), (&json!("1\n"), &json!(0)));
    assert_eq!((&done["output"], &done["stderr"]), (&json!("1\n"), &json!("")));
    let all = one.strip_suffix("/one").unwrap();
    edge.call("POST", all, r#"{"sessionId":"two"}"#).await;
    assert_eq!(exec(&edge, &format!("{all}/two"), "echo $A").await["stdout"], "\n");
    let (status, code, message) = edge.call("POST", all, r#"{"sessionId":"one"}"#).await.fault();
    assert_eq!((status, code.as_str()), (409, "CONFLICT"), "{message}");
    for id in ["", "a/b", "entrypoint"] {
        let body = json!({ "sessionId": id }).to_string();
        assert_eq!(edge.call("POST", all, &body).await.fault().0, 400, "{id}");
    }
    let listed = edge.get(all).await.json();
    assert_eq!(listed[0]["sessionId"], "one");
    assert_eq!(listed[0]["commands"][1]["command"], "echo $A");
    assert_eq!(listed[0]["commands"][1]["exitCode"], 0);
    assert_eq!(listed[1]["sessionId"], "two");
    assert_eq!(edge.call("DELETE", &one, "").await.status, StatusCode::NO_CONTENT);
    for path in [one.clone(), format!("{one}/command/x"), format!("{one}/command/x/logs")] {
        assert_eq!(edge.get(&path).await.fault().0, 404, "{path}");
    }
    assert_eq!(edge.get(&format!("{all}/two/command/x")).await.fault().0, 404);
    assert_eq!(edge.get(&format!("{all}/entrypoint")).await.fault().0, 404);
    assert_eq!(edge.get(&format!("{all}/entrypoint/logs")).await.fault().0, 404);
}

#[tokio::test]
async fn d7_input_reaches_the_command_that_reads_and_no_ended_one() {
    let (edge, one) = session().await;
    let cmd = start(&edge, &one, "read x; echo got:$x; echo $x").await;
    let next = start(&edge, &one, "echo next").await;
    let shown = edge.get(&format!("{one}/command/{cmd}")).await.json();
    assert_eq!(shown, json!({ "id": cmd, "command": "read x; echo got:$x; echo $x" }));
    let input = |cmd: &str| format!("{one}/command/{cmd}/input");
    let early = edge.call("POST", &input(&next), r#"{"data":"x\n"}"#).await;
    assert_eq!(early.fault().0, 409, "its turn has not come");
    let given = edge.call("POST", &input(&cmd), r#"{"data":"hello\n"}"#).await;
    assert_eq!(given.status, StatusCode::NO_CONTENT);
    let logs = edge.get(&format!("{one}/command/{cmd}/logs")).await.json();
    assert_eq!(logs["stdout"], "got:$x\nhello\n", "input is not echoed");
    let logs = edge.get(&format!("{one}/command/{next}/logs")).await.json();
    assert_eq!(logs["stdout"], "next\n");
    let (status, code, _) = edge.call("POST", &input(&cmd), r#"{"data":"x"}"#).await.fault();
    assert_eq!((status, code.as_str()), (410, "COMMAND_ALREADY_COMPLETED"));
}

#[tokio::test]
async fn an_ended_shell_says_so() {
    let (edge, one) = session().await;
    let done = exec(&edge, &one, "echo bye; exit 4").await;
    assert_eq!((&done["exitCode"], &done["stdout"]), (&json!(4), &json!("bye\n")));
    let (status, code, _) =
        edge.call("POST", &format!("{one}/exec"), r#"{"command":"echo"}"#).await.fault();
    assert_eq!((status, code.as_str()), (410, "SESSION_ENDED"));
    assert_eq!(edge.get(&one).await.json()["commands"][0]["exitCode"], 4);
}

#[tokio::test]
async fn clients_below_0_167_get_the_marked_stream() {
    let (edge, one) = session().await;
    let command = json!({ "command": "echo out; echo err >&2; echo end" });
    let done = old(&edge, "POST", &format!("{one}/exec"), command).await.json();
    let marked = "\u{1}\u{1}\u{1}out\n\u{2}\u{2}\u{2}err\n\u{1}\u{1}\u{1}end\n";
    assert_eq!(done["output"], marked);
    let logs = format!("{one}/command/{}/logs", done["cmdId"].as_str().unwrap());
    let reply = old(&edge, "GET", &logs, json!({})).await;
    assert_eq!(reply.body, marked);
    assert!(reply.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    let new = edge.get(&logs).await.json();
    assert_eq!(
        new,
        json!({ "output": "out\nerr\nend\n", "stdout": "out\nend\n", "stderr": "err\n" })
    );
    let followed = edge.get(&format!("{logs}?follow=true")).await;
    assert_eq!(followed.body, marked, "over plain HTTP, too");
}

#[tokio::test]
async fn wrong_commands_are_refused_by_field() {
    let (edge, one) = session().await;
    for body in [
        r#"{"command":"a\u0000"}"#,
        r#"{"command":1}"#,
        "{}",
        r#"{"command":"x","runAsync":"yes"}"#,
        r#"{"command":"x","suppressInputEcho":1}"#,
    ] {
        assert_eq!(edge.call("POST", &format!("{one}/exec"), body).await.fault().0, 400, "{body}");
    }
    let (edge, one) = session().await;
    for _ in 0..256 {
        start(&edge, &one, "hang").await;
    }
    let body = r#"{"command":"hang","runAsync":true}"#;
    assert_eq!(edge.call("POST", &format!("{one}/exec"), body).await.fault().0, 429);
}

#[tokio::test]
async fn d8_a_log_is_the_same_before_during_and_after_its_command() {
    let site = Site::new().await;
    let sessions = site.path("session");
    site.edge.call("POST", &sessions, r#"{"sessionId":"one"}"#).await;
    let one = format!("{sessions}/one");
    let first = start(&site.edge, &one, "read x").await;
    let cmd = start(&site.edge, &one, "echo out; echo err >&2; read y; echo end").await;
    let logs = format!("session/one/command/{cmd}/logs?follow=true");
    let mut before = site.talk(&logs, &[]).await;
    let give = async |cmd: &str| {
        let uri = format!("{one}/command/{cmd}/input");
        let given = site.edge.call("POST", &uri, r#"{"data":"x\n"}"#).await;
        assert_eq!(given.status, StatusCode::NO_CONTENT);
    };
    give(&first).await;
    let mut during = site.talk(&logs, &[]).await;
    during.until("err").await;
    give(&cmd).await;
    let rest = during.rest().await;
    assert_eq!((rest.bytes.as_slice(), rest.code), (&b"\x01\x01\x01end\n"[..], 1000));
    let mut after = site.talk(&logs, &[]).await;
    let whole = b"\x01\x01\x01out\n\x02\x02\x02err\n\x01\x01\x01end\n";
    for talk in [&mut before, &mut after] {
        let heard = talk.rest().await;
        assert_eq!((heard.bytes.as_slice(), heard.code), (&whole[..], 1000));
    }
}

#[tokio::test]
async fn a_long_log_comes_in_large_frames_and_says_what_is_missing() {
    let site = Site::new().await;
    let sessions = site.path("session");
    site.edge.call("POST", &sessions, r#"{"sessionId":"one"}"#).await;
    // 16 MiB, of which the last 10 are kept.
    let cmd = start(&site.edge, &format!("{sessions}/one"), "flood 256").await;
    let mut talk = site.talk(&format!("session/one/command/{cmd}/logs?follow=true"), &[]).await;
    let heard = talk.rest().await;
    let mark = "\u{1}\u{1}\u{1}[6291456 bytes of output are no longer kept]\n";
    assert!(heard.bytes.starts_with(mark.as_bytes()), "{:?}", &heard.bytes[..80]);
    assert_eq!(heard.bytes.len(), mark.len() + (10 << 20));
    assert!(heard.frames <= 170, "{} frames", heard.frames);
}

#[tokio::test]
async fn followers_of_a_deleted_session_are_told_the_end() {
    let site = Site::new().await;
    let sessions = site.path("session");
    site.edge.call("POST", &sessions, r#"{"sessionId":"one"}"#).await;
    let one = format!("{sessions}/one");
    let cmd = start(&site.edge, &one, "echo a; hang").await;
    let mut talk = site.talk(&format!("session/one/command/{cmd}/logs?follow=true"), &[]).await;
    talk.until("a").await;
    assert_eq!(site.edge.call("DELETE", &one, "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(talk.rest().await.code, 1000);
}
