//! Events in raw frames: who is let in, what is told and in which order, and when a listener is let go.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::KEY;
use super::site::{Site, Talk};
use crate::http::app::Options;

const PATH: &str = "/api/socket.io/?source=test&sdkVersion=0.226.1&EIO=4&transport=websocket";

impl Talk {
    /// The next packet: its digits, and the JSON behind them.
    async fn packet(&mut self) -> (String, Value) {
        let message = self.next().await.expect("a packet");
        let text = message.to_text().unwrap();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (kind, rest) = text.split_at(digits);
        (kind.to_owned(), serde_json::from_str(rest).unwrap_or(Value::Null))
    }

    /// The next event, pings answered meanwhile.
    async fn event(&mut self) -> (String, Value) {
        loop {
            match self.packet().await {
                (kind, _) if kind == "2" => self.send("3").await,
                (kind, body) => {
                    assert_eq!(kind, "42", "{body}");
                    return (body[0].as_str().unwrap().to_owned(), body[1].clone());
                }
            }
        }
    }
}

/// How a conversation ends: the code and reason of the last frame.
async fn ended(talk: &mut Talk) -> (u16, String) {
    while let Some(message) = talk.next().await {
        if let Message::Close(Some(frame)) = message {
            return (frame.code.into(), frame.reason.to_string());
        }
    }
    (0, String::new())
}

impl Site {
    async fn listen(&self, key: &str) -> Talk {
        let mut talk = self.open(PATH, None, &[]).await.expect("an upgrade without a header");
        let (kind, hello) = talk.packet().await;
        assert_eq!(kind, "0");
        assert!(hello["sid"].is_string() && hello["upgrades"] == json!([]), "{hello}");
        assert_eq!(hello["maxPayload"], 1_000_000);
        talk.send(&format!("40{}", json!({ "token": key }))).await;
        let (kind, welcome) = talk.packet().await;
        assert!(kind == "40" && welcome["sid"].is_string(), "{kind} {welcome}");
        talk
    }
}

#[tokio::test]
async fn changes_of_state_are_told_in_order_to_their_own_organization() {
    let site = Site::new().await;
    let acme = site.edge.tenant("acme", &["admin"]).await;
    let (mut own, mut other) = (site.listen(KEY).await, site.listen(&acme).await);
    let edge = &site.edge;
    edge.call("POST", "/api/sandbox", r#"{"name":"box"}"#).await;
    for verb in ["stop", "start"] {
        edge.call("POST", &format!("/api/sandbox/box/{verb}"), "").await;
    }
    edge.call("DELETE", "/api/sandbox/box", "").await;
    let (name, made) = own.event().await;
    assert_eq!(
        (name.as_str(), &made["name"], &made["state"]),
        ("sandbox.created", &json!("box"), &json!("creating"))
    );
    let steps =
        ["started", "stopping", "stopped", "starting", "started", "destroying", "destroyed"];
    let mut before = json!("creating");
    for step in steps {
        let (name, body) = own.event().await;
        assert_eq!(name, "sandbox.state.updated");
        assert_eq!((&body["oldState"], &body["newState"]), (&before, &json!(step)));
        let sandbox = &body["sandbox"];
        assert_eq!((&sandbox["state"], &sandbox["id"]), (&json!(step), &made["id"]));
        for field in ["organizationId", "user", "env", "labels", "cpu", "toolboxProxyUrl", "target"]
        {
            assert!(!sandbox[field].is_null(), "{field} in {sandbox}");
        }
        before = json!(step);
    }
    let theirs = edge.call_as(&acme, "POST", "/api/sandbox", "{}").await.json();
    let (_, heard) = other.event().await;
    assert_eq!(heard["id"], theirs["id"], "nothing of the others was heard before");
    own.leave().await;
    other.send("41").await;
    assert_eq!(ended(&mut other).await.0, 1000, "a client that leaves is let go");
}

#[tokio::test]
async fn a_bad_key_is_told_so_and_let_go() {
    let site = Site::new().await;
    for connect in [r#"40{"token":"wrong"}"#, "40", r#"40{"token":7}"#] {
        let mut talk = site.open(PATH, None, &[]).await.ok().unwrap();
        talk.packet().await;
        talk.send(connect).await;
        let (kind, body) = talk.packet().await;
        assert_eq!(
            (kind.as_str(), body),
            ("44", json!({ "message": "Unauthorized" })),
            "{connect}"
        );
        assert_eq!(ended(&mut talk).await.0, 1008);
    }
    let mut talk = site.open(PATH, None, &[]).await.ok().unwrap();
    talk.packet().await;
    talk.send(r#"40/admin,{"token":"x"}"#).await;
    let refused = talk.next().await.unwrap();
    assert_eq!(refused.to_text().unwrap(), r#"44/admin,{"message":"Invalid namespace"}"#);
    talk.send("nonsense").await;
    ended(&mut talk).await;
    // Guesses are counted by address, as anywhere.
    let mut refused = false;
    for _ in 0..100 {
        match site.open(PATH, None, &[]).await {
            Ok(mut talk) => {
                talk.packet().await;
                talk.send(r#"40{"token":"guess"}"#).await;
                talk.packet().await;
            }
            Err(status) => {
                assert_eq!(status, 429);
                refused = true;
                break;
            }
        }
    }
    assert!(refused);
}

#[tokio::test]
async fn other_transports_are_400() {
    let site = Site::new().await;
    for (method, path) in [
        ("GET", "/api/socket.io/?EIO=4&transport=polling"),
        ("GET", "/api/socket.io/?EIO=4"),
        ("GET", "/api/socket.io/?EIO=3&transport=websocket"),
        ("GET", PATH),
        ("GET", "/api/socket.io?EIO=4&transport=websocket"),
        ("POST", "/api/socket.io/?EIO=4&transport=polling&sid=x"),
        ("POST", "/api/socket.io?EIO=4&transport=polling&sid=x"),
    ] {
        assert_eq!(site.edge.call(method, path, "").await.fault().0, 400, "{method} {path}");
    }
}

#[tokio::test]
async fn a_listener_that_answers_no_ping_is_let_go_and_one_that_does_stays() {
    let options = Options { event_ping: Duration::from_millis(50), ..Options::default() };
    let site = Site::with(options).await;
    let (mut lively, mut silent) = (site.listen(KEY).await, site.listen(KEY).await);
    let heard = tokio::spawn(async move {
        let mut pings = 0;
        while let Some(message) = silent.next().await {
            match message {
                Message::Text(text) => pings += usize::from(text.as_str() == "2"),
                Message::Close(Some(frame)) => {
                    assert_eq!(u16::from(frame.code), 1008);
                    return pings;
                }
                _ => {}
            }
        }
        panic!("it was cut off without a word");
    });
    for _ in 0..10 {
        assert_eq!(lively.packet().await.0, "2");
        lively.send("3").await;
    }
    assert!(heard.await.unwrap() >= 1);
    site.edge.call("POST", "/api/sandbox", "{}").await;
    assert_eq!(lively.event().await.0, "sandbox.created");
}

#[tokio::test]
async fn a_listener_whose_key_is_revoked_is_let_go() {
    let options = Options { websocket_look: Duration::from_millis(20), ..Options::default() };
    let site = Site::with(options).await;
    let made = site.edge.call("POST", "/api/api-keys", r#"{"name":"ci","permissions":[]}"#).await;
    let made = made.json();
    let mut talk = site.listen(made["value"].as_str().unwrap()).await;
    site.edge.call("DELETE", "/api/api-keys/ci", "").await;
    assert_eq!(ended(&mut talk).await, (1008, "unknown API key".to_owned()));
}

#[tokio::test]
async fn an_organization_has_a_bounded_number_of_listeners() {
    let site = Site::with(Options { listeners: 3, ..Options::default() }).await;
    let acme = site.edge.tenant("acme", &["admin"]).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(site.listen(KEY).await);
    }
    let mut talk = site.open(PATH, None, &[]).await.ok().unwrap();
    talk.packet().await;
    talk.send(&format!("40{}", json!({ "token": KEY }))).await;
    let (kind, body) = talk.packet().await;
    assert!(kind == "44" && body["message"].as_str().unwrap().contains('3'), "{kind} {body}");
    site.listen(&acme).await.leave().await;
    all.pop().unwrap().leave().await;
    // Room comes back, if not at once.
    for _ in 0..200 {
        let mut talk = site.open(PATH, None, &[]).await.ok().unwrap();
        talk.packet().await;
        talk.send(&format!("40{}", json!({ "token": KEY }))).await;
        if talk.packet().await.0 == "40" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no room came back");
}

#[tokio::test]
async fn a_slow_listener_is_let_go_and_holds_nobody_up() {
    let site = Site::new().await;
    let slow = site.listen(KEY).await;
    let mut quick = site.listen(KEY).await;
    // Large ones, so that what the connection itself holds is soon full.
    let label = "x".repeat(60_000);
    let labels = json!({ "labels": { "l": label } }).to_string();
    site.edge.call("PUT", &format!("/api/sandbox/{}/labels", site.id), &labels).await;
    let rounds = 350;
    for _ in 0..rounds {
        for verb in ["stop", "start"] {
            site.edge.call("POST", &format!("/api/sandbox/{}/{verb}", site.id), "").await;
        }
        for _ in 0..4 {
            quick.event().await;
        }
    }
    let mut slow = slow;
    let mut heard = 0;
    while let Some(message) = slow.next().await {
        match message {
            Message::Text(text) => heard += usize::from(text.starts_with("42")),
            Message::Close(Some(frame)) => {
                assert!(frame.reason.contains("too slow"), "{}", frame.reason);
                break;
            }
            _ => {}
        }
    }
    assert!(heard < 4 * rounds, "it missed nothing, so this proves nothing");
}
