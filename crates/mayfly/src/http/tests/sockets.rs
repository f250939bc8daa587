//! Who may open a WebSocket, how many, and how long.

use std::time::Duration;

use axum::http::StatusCode;
use mayfly_core::id::SandboxId;
use serde_json::json;

use super::KEY;
use super::site::Site;
use crate::http::app::Options;
use crate::http::preview_token::token;

const VERSION: &str = "X-Daytona-SDK-Version~0.218.0";

impl Site {
    /// The query by which browsers come in, for a sandbox and port.
    fn query(&self, id: &str, port: u16) -> String {
        let id: SandboxId = id.parse().unwrap();
        format!("DAYTONA_SANDBOX_AUTH_KEY={}", token(&self.edge.app.master, id, port))
    }
}

#[tokio::test]
async fn d16_a_browser_comes_in_by_the_preview_token_of_its_own_sandbox() {
    let site = Site::new().await;
    let other = site.edge.sandbox().await;
    let path = site.path("pty/create-connect?id=p&");
    for (id, port, good) in
        [(&site.id, 1, true), (&site.id, 2280, true), (&site.id, 3000, false), (&other, 1, false)]
    {
        let path =
            format!("{path}{}", site.query(id, port)).replace("id=p", &format!("id=p{port}"));
        let opened = site.open(&path, None, &[VERSION, "X-Daytona-Pty-Exit-Control"]).await;
        match opened {
            Ok(mut talk) => {
                assert!(good, "{id} {port}");
                assert_eq!(talk.protocol.as_deref(), Some("X-Daytona-Pty-Exit-Control"));
                assert_eq!(talk.json().await["status"], "connected");
            }
            Err(status) => assert_eq!((status, good), (401, false), "{id} {port}"),
        }
    }
    let path = site.path(&format!("interpreter/execute?{}", site.query(&site.id, 1)));
    let talk = site.open(&path, None, &[VERSION]).await.ok().unwrap();
    assert_eq!(talk.protocol.as_deref(), Some(VERSION), "exactly one is echoed");
    let talk = site.talk("interpreter/execute", &[]).await;
    assert_eq!(talk.protocol, None, "none is echoed where none was offered");
    assert_eq!(site.open(&site.path("interpreter/execute"), None, &[]).await.err(), Some(401));
    let wrong = site.open(&site.path("interpreter/execute"), Some("Bearer x"), &[]).await;
    assert_eq!(wrong.err(), Some(401));
    // The token opens nothing but WebSockets.
    let rest = format!("/toolbox/{}/process/pty?{}", site.id, site.query(&site.id, 1));
    assert_eq!(site.edge.bare(axum::http::Method::GET, &rest).await.status, 401);
}

#[tokio::test]
async fn s8_an_open_socket_whose_key_is_revoked_is_closed() {
    let look = Duration::from_millis(20);
    let site = Site::with(Options { websocket_look: look, ..Options::default() }).await;
    let body = json!({ "name": "ci", "permissions": ["write:sandboxes"] });
    let made = site.edge.call("POST", "/api/api-keys", &body.to_string()).await.json();
    let key = format!("Bearer {}", made["value"].as_str().unwrap());
    let path = site.path("pty/create-connect?id=p");
    let mut talk = site.open(&path, Some(&key), &[]).await.ok().unwrap();
    assert_eq!(talk.json().await["status"], "connected");
    let mut other = site.talk("pty/p/connect", &[]).await;
    assert_eq!(other.json().await["status"], "connected");
    talk.send("echo on\n").await;
    talk.until("on\r\n$ ").await;
    let gone = site.edge.call("DELETE", "/api/api-keys/ci", "").await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    let heard = talk.rest().await;
    assert_eq!((heard.code, heard.reason.as_str()), (1008, "unknown API key"));
    other.send("echo still here\n").await;
    other.until("still here\r\n").await;
}

#[tokio::test]
async fn r11_more_sockets_than_there_may_be_are_refused_and_the_server_lives() {
    let options = Options { websockets: 40, websockets_per_key: 25, ..Options::default() };
    let site = Site::with(options).await;
    let mut open = Vec::new();
    let key = format!("Bearer {KEY}");
    let path = site.path("interpreter/execute");
    for number in 0..60 {
        match site.open(&path, Some(&key), &[]).await {
            Ok(talk) => open.push(talk),
            Err(status) => assert_eq!((status, number >= 25), (429, true), "{number}"),
        }
    }
    assert_eq!((open.len(), site.edge.app.sockets.open()), (25, 25));
    let tokened = format!("{path}?{}", site.query(&site.id, 1));
    for number in 0..20 {
        match site.open(&tokened, None, &[]).await {
            Ok(talk) => open.push(talk),
            Err(status) => assert_eq!((status, number >= 15), (429, true), "{number}"),
        }
    }
    assert_eq!(open.len(), 40);
    assert_eq!(site.edge.get("/api/sandbox").await.status, StatusCode::OK);
    for talk in open.drain(..) {
        talk.leave().await;
    }
    while site.edge.app.sockets.open() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(site.open(&path, Some(&key), &[]).await.is_ok(), "room comes back");
}

#[tokio::test]
async fn the_end_of_the_server_is_told() {
    let site = Site::new().await;
    let mut talk = site.talk("pty/create-connect?id=p", &[]).await;
    talk.json().await;
    site.stop();
    site.edge.app.sockets.end(Duration::from_secs(5)).await;
    assert_eq!(talk.rest().await.code, 1001);
    assert_eq!(site.edge.app.sockets.open(), 0);
}

#[tokio::test]
async fn l9_an_open_socket_is_use_of_its_sandbox() {
    let site = Site::new().await;
    let quiet = site.edge.sandbox().await;
    let mut talk = site.talk("pty/create-connect?id=p", &[]).await;
    talk.json().await;
    assert_eq!(site.edge.app.idle(), Duration::ZERO, "and of a background server");
    stopped(&site, &quiet).await;
    let shown = site.edge.get(&format!("/api/sandbox/{}", site.id)).await.json();
    assert_eq!(shown["state"], "started", "though the timers have looked");
    talk.leave().await;
    stopped(&site, &site.id).await;
}

/// Lets the sandbox's time pass until its timer has stopped it.
async fn stopped(site: &Site, id: &str) {
    for _ in 0..1000 {
        site.edge.world.clock.advance(Duration::from_mins(5));
        if site.edge.get(&format!("/api/sandbox/{id}")).await.json()["state"] == "stopped" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{id} was not stopped");
}
