//! N11, N12 and acceptance case 16: previews open what their token, cookie or link says, and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use mayfly_testkit::Fuse;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::{Edge, KEY};
use crate::http::{Limits, preview_paths, router, serve_tcp};

const SOON: Duration = Duration::from_secs(5);

/// A server with listeners; they end with the test.
struct House {
    edge: Edge,
    at: SocketAddr,
    paths: SocketAddr,
    _stop: watch::Sender<bool>,
}

impl House {
    async fn new() -> Self {
        Self::of(Edge::new().await).await
    }

    async fn of(edge: Edge) -> Self {
        let (stop, stopped) = watch::channel(false);
        let at = served(router(edge.app.clone()), stopped.clone()).await;
        let paths = served(preview_paths(edge.app.clone()), stopped).await;
        Self { edge, at, paths, _stop: stop }
    }

    /// Lets a service of the test listen on a port of a sandbox.
    fn listen(&self, sandbox: &str, port: u16, at: SocketAddr) {
        let runtime = self.edge.world.runtime(&Fuse::never());
        runtime.listen(sandbox.parse().unwrap(), port, at);
    }

    async fn token(&self, sandbox: &str, port: u16) -> String {
        let url = format!("/api/sandbox/{sandbox}/ports/{port}/preview-url");
        self.edge.get(&url).await.json()["token"].as_str().unwrap().to_owned()
    }

    /// Sends a request's head and reads to the end; all requests ask to close.
    async fn ask(&self, head: &str) -> String {
        exchange(self.at, &format!("{}\r\nConnection: close\r\n\r\n", head.trim_end())).await
    }

    /// A GET of `/` at a port with further headers; its status.
    async fn get(&self, sandbox: &str, port: u16, more: &str) -> u16 {
        let head = format!("GET / HTTP/1.1\r\nHost: {port}-{sandbox}.localhost:3457\r\n{more}");
        status(&self.ask(&head).await)
    }
}

async fn served(router: Router, stopped: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(serve_tcp(listener, router, Limits::default(), stopped));
    at
}

async fn exchange(at: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an answer").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("{answer}"))
}

fn header<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

/// A service that answers every connection with these bytes after one head, and tells what it read.
async fn scripted(answer: &'static str) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (told, heard) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let told = told.clone();
            tokio::spawn(async move {
                let mut read = Vec::new();
                let mut byte = [0; 1024];
                while !read.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut byte).await {
                        Ok(0) | Err(_) => return,
                        Ok(count) => read.extend_from_slice(&byte[..count]),
                    }
                }
                let _ = told.send(String::from_utf8_lossy(&read).into_owned()).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                // What comes after an upgrade is sent back.
                while let Ok(count) = stream.read(&mut byte).await {
                    if count == 0 || stream.write_all(&byte[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (at, heard)
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[tokio::test]
async fn n12_a_private_preview_opens_for_its_own_token_only() {
    let house = House::new().await;
    let (one, two) = (house.edge.sandbox().await, house.edge.sandbox().await);
    let (service, mut heard) = scripted(HELLO).await;
    for (sandbox, port) in [(&one, 3000), (&one, 4000), (&two, 3000)] {
        house.listen(sandbox, port, service);
    }
    let token = house.token(&one, 3000).await;
    let refused =
        house.ask(&format!("GET /x HTTP/1.1\r\nHost: 3000-{one}.localhost:3457\r\n")).await;
    let body: Value = serde_json::from_str(refused.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((status(&refused), &body["source"]), (401, &Value::from("DAYTONA_PROXY")));
    let of_header = |token: &str| format!("X-Daytona-Preview-Token: {token}\r\n");
    let of_cookie = |token: &str| format!("Cookie: mayfly-preview={token}\r\n");
    for (sandbox, port, expected) in [(&one, 3000, 200), (&one, 4000, 401), (&two, 3000, 401)] {
        assert_eq!(house.get(sandbox, port, &of_header(&token)).await, expected, "{port}");
        assert_eq!(house.get(sandbox, port, &of_cookie(&token)).await, expected, "{port}");
        let head = format!(
            "GET /?DAYTONA_SANDBOX_AUTH_KEY={token} HTTP/1.1\r\nHost: {port}-{sandbox}.localhost\r\n"
        );
        assert_eq!(status(&house.ask(&head).await), expected, "{port}");
    }
    // The API's key opens no preview, and is not told.
    assert_eq!(house.get(&one, 3000, &format!("Authorization: Bearer {KEY}\r\n")).await, 401);
    let both = format!("{}Authorization: Bearer {KEY}\r\n", of_header(&token));
    assert_eq!(house.get(&one, 3000, &both).await, 200);
    heard.close();
    while let Some(head) = heard.recv().await {
        assert!(!head.contains(&token) && !head.contains(KEY), "{head}");
    }
}

#[tokio::test]
async fn n12_a_browser_gets_a_cookie_that_other_sites_cannot_use() {
    let house = House::new().await;
    let one = house.edge.sandbox().await;
    let (service, _heard) = scripted(HELLO).await;
    house.listen(&one, 3000, service);
    let token = house.token(&one, 3000).await;
    let host = format!("3000-{one}.localhost:3457");
    let page = house
        .ask(&format!(
            "GET //a/b?x=1&DAYTONA_SANDBOX_AUTH_KEY={token}&y HTTP/1.1\r\nHost: {host}\r\nAccept: text/html,*/*\r\n"
        ))
        .await;
    assert_eq!(status(&page), 302);
    assert_eq!(header(&page, "location"), [format!("http://{host}//a/b?x=1&y")]);
    let cookie = header(&page, "set-cookie").join("");
    assert!(cookie.contains("HttpOnly") && !cookie.to_lowercase().contains("domain"), "{cookie}");
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let ask = async |more: &str| house.get(&one, 3000, &format!("{cookie}{more}")).await;
    assert_eq!(ask("").await, 200);
    assert_eq!(
        ask(&format!("Origin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n")).await,
        200
    );
    assert_eq!(ask("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n").await, 200);
    assert_eq!(ask("Origin: http://3000-other.localhost:3457\r\n").await, 401);
    assert_eq!(ask("Origin: null\r\n").await, 401);
    assert_eq!(ask("Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\n").await, 401);
    let socket = "Upgrade: websocket\r\nConnection: upgrade\r\nOrigin: http://evil\r\n";
    assert_eq!(ask(socket).await, 401);
    // Not a page: no detour, but the cookie.
    let direct = house
        .ask(&format!("GET /?DAYTONA_SANDBOX_AUTH_KEY={token} HTTP/1.1\r\nHost: {host}\r\n"))
        .await;
    assert_eq!((status(&direct), header(&direct, "set-cookie").len()), (200, 1));
}

#[tokio::test]
async fn n12_public_opens_previews_but_never_the_toolbox() {
    let house = House::new().await;
    let one = house.edge.sandbox().await;
    let (service, _heard) = scripted(HELLO).await;
    house.listen(&one, 3000, service);
    assert_eq!(house.get(&one, 3000, "").await, 401);
    house.edge.call("POST", &format!("/api/sandbox/{one}/public/true"), "").await;
    assert_eq!(house.get(&one, 3000, "").await, 200);
    let toolbox = async |more: &str, query: &str| {
        let head = format!("GET /work-dir{query} HTTP/1.1\r\nHost: 2280-{one}.localhost\r\n{more}");
        status(&house.ask(&head).await)
    };
    assert_eq!(toolbox("", "").await, 401);
    assert_eq!(toolbox(&format!("Authorization: Bearer {KEY}\r\n"), "").await, 401);
    for (port, expected) in [(2280, 200), (1, 200), (3000, 401)] {
        let token = house.token(&one, port).await;
        let header = format!("X-Daytona-Preview-Token: {token}\r\n");
        assert_eq!(toolbox(&header, "").await, expected, "{port}");
        assert_eq!(toolbox("", &format!("?DAYTONA_SANDBOX_AUTH_KEY={token}")).await, expected);
        assert_eq!(toolbox(&format!("Cookie: mayfly-preview={token}\r\n"), "").await, 401);
    }
    house.edge.call("POST", &format!("/api/sandbox/{one}/public/false"), "").await;
    assert_eq!(house.get(&one, 3000, "").await, 401);
}

#[tokio::test]
async fn case_16_older_clients_reach_the_toolbox_s_sockets_at_port_2280() {
    let house = House::new().await;
    let (one, two) = (house.edge.sandbox().await, house.edge.sandbox().await);
    let token = house.token(&one, 2280).await;
    let answer = async |sandbox: &str, more: &str| {
        let mut socket = TcpStream::connect(house.at).await.unwrap();
        let head = format!(
            "GET /process/pty/create-connect?id=p&cols=80&rows=24 HTTP/1.1\r\n\
             Host: 2280-{sandbox}.localhost:3457\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        status(&read_until(&mut socket, b"\r\n\r\n").await)
    };
    let header = format!("X-Daytona-Preview-Token: {token}\r\n");
    assert_eq!(answer(&one, &header).await, 101);
    assert_eq!(answer(&one, "").await, 401);
    assert_eq!(answer(&two, &header).await, 401, "of another sandbox");
}

#[tokio::test]
async fn case_16_a_signed_link_opens_one_port_for_its_time() {
    let house = House::new().await;
    let one = house.edge.sandbox().await;
    let (service, mut heard) = scripted(HELLO).await;
    house.listen(&one, 3000, service);
    house.listen(&one, 4000, service);
    let signed = async |life: u32| {
        let path =
            format!("/api/sandbox/{one}/ports/3000/signed-preview-url?expiresInSeconds={life}");
        house.edge.get(&path).await.json()
    };
    let link = signed(60).await;
    let token = link["token"].as_str().unwrap();
    assert_eq!(link["port"], 3000);
    assert_eq!(link["url"], format!("http://3000-{token}.localhost:3457"));
    assert_eq!(house.get(token, 3000, "").await, 200);
    let head = heard.recv().await.unwrap();
    assert!(!head.contains(token) && head.contains(&format!("3000-{one}.localhost")), "{head}");
    assert_eq!(house.get(token, 4000, "").await, 401);
    assert_eq!(house.get(token, 2280, "").await, 401);
    let longer = signed(600).await;
    let longer = longer["token"].as_str().unwrap();
    house.edge.world.clock.advance(Duration::from_secs(62));
    assert_eq!(house.get(token, 3000, "").await, 401, "after its time");
    assert_eq!(house.get(longer, 3000, "").await, 200);
    let end = |port: u16, token: &str| {
        format!("/api/sandbox/{one}/ports/{port}/signed-preview-url/{token}/expire")
    };
    assert_eq!(house.edge.call("POST", &end(4000, longer), "").await.status.as_u16(), 404);
    let other = signed(500).await;
    assert_eq!(house.edge.call("POST", &end(3000, longer), "").await.status.as_u16(), 200);
    assert_eq!(house.get(longer, 3000, "").await, 401, "ended early");
    assert_eq!(house.get(other["token"].as_str().unwrap(), 3000, "").await, 200, "another link");
    for bad in ["0", "2592001", "x", "-1"] {
        let path =
            format!("/api/sandbox/{one}/ports/3000/signed-preview-url?expiresInSeconds={bad}");
        assert_eq!(house.edge.get(&path).await.fault().0, 400, "{bad}");
    }
    let path = format!("/api/sandbox/{one}/ports/2280/signed-preview-url");
    assert_eq!(house.edge.get(&path).await.fault().0, 400, "no link opens the toolbox");
}

#[tokio::test]
async fn n11_only_the_named_sandbox_s_ports_are_reached_and_failures_say_why() {
    let house = House::new().await;
    let (one, two) = (house.edge.sandbox().await, house.edge.sandbox().await);
    let (service, _heard) = scripted(HELLO).await;
    house.listen(&two, 5000, service);
    let of =
        async |port: u16| format!("X-Daytona-Preview-Token: {}\r\n", house.token(&one, port).await);
    // Of another sandbox, of the server itself, of nobody.
    for port in [5000, house.at.port(), house.paths.port(), 9] {
        assert_eq!(house.get(&one, port, &of(port).await).await, 502, "{port}");
    }
    for port in ["0", "65536", "99999999999", "1x"] {
        let path = format!("/api/sandbox/{one}/ports/{port}/preview-url");
        assert_eq!(house.edge.get(&path).await.fault().0, 400, "{port}");
    }
    let bad = format!("GET / HTTP/1.1\r\nHost: 70000-{one}.localhost\r\n");
    assert_eq!(status(&house.ask(&bad).await), 400);
    let token = of(5000).await;
    house.edge.call("POST", &format!("/api/sandbox/{one}/stop"), "").await;
    assert_eq!(house.get(&one, 5000, &token).await, 409);
    house.edge.call("DELETE", &format!("/api/sandbox/{one}"), "").await;
    assert_eq!(house.get(&one, 5000, &token).await, 404);
    let unknown = "0192f0c1-2b3c-7def-8123-456789abcdef";
    assert_eq!(house.get(unknown, 5000, &token).await, 401);
}

#[tokio::test]
async fn n12_a_preview_s_host_never_reaches_the_api() {
    let house = House::new().await;
    let one = house.edge.sandbox().await;
    let (service, mut heard) = scripted(HELLO).await;
    house.listen(&one, 3000, service);
    let token = format!("X-Daytona-Preview-Token: {}\r\n", house.token(&one, 3000).await);
    let key = format!("Authorization: Bearer {KEY}\r\n");
    let host = format!("3000-{one}.localhost");
    let inside =
        house.ask(&format!("GET /api/sandbox HTTP/1.1\r\nHost: {host}\r\n{token}{key}")).await;
    assert!(inside.ends_with("hello"), "{inside}");
    assert!(heard.recv().await.unwrap().starts_with("GET /api/sandbox HTTP/1.1\r\n"));
    for head in [
        format!("GET /api/sandbox HTTP/1.1\r\nHost: {host}\r\nHost: localhost\r\n{token}{key}"),
        format!("GET /api/sandbox HTTP/1.1\r\nHost: localhost\r\nHost: {host}\r\n{token}{key}"),
        format!("GET http://{host}/api/sandbox HTTP/1.1\r\nHost: localhost\r\n{token}{key}"),
        format!("GET http://localhost/api/sandbox HTTP/1.1\r\nHost: {host}\r\n{token}{key}"),
    ] {
        assert_eq!(status(&house.ask(&head).await), 400, "{head}");
    }
    let elsewhere = format!("GET /api/sandbox HTTP/1.1\r\nHost: 3000-{one}.example.com\r\n{key}");
    assert_eq!(status(&house.ask(&elsewhere).await), 421);
    let absolute = format!("GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\n{token}");
    assert!(house.ask(&absolute).await.ends_with("hello"));
    assert!(heard.recv().await.unwrap().starts_with("GET /x HTTP/1.1\r\n"));
}

#[tokio::test]
async fn the_path_form_shows_the_same_without_cookies() {
    let house = House::new().await;
    let one = house.edge.sandbox().await;
    let (service, mut heard) = scripted(
        "HTTP/1.1 302 Found\r\nLocation: /next\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    house.listen(&one, 3000, service);
    let token = house.token(&one, 3000).await;
    let ask = async |path: &str, more: &str| {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:3458\r\n{more}Connection: close\r\n\r\n"
        );
        exchange(house.paths, &text).await
    };
    let path = format!("/{one}/3000");
    let answer = ask(
        &format!("{path}/a?b=1&DAYTONA_SANDBOX_AUTH_KEY={token}"),
        "Cookie: c=1\r\nAccept: text/html\r\n",
    )
    .await;
    assert_eq!(header(&answer, "location"), [format!("{path}/next")]);
    assert_eq!(header(&answer, "content-security-policy"), ["sandbox"]);
    assert!(header(&answer, "set-cookie").is_empty(), "{answer}");
    let head = heard.recv().await.unwrap();
    assert!(head.starts_with("GET /a?b=1 HTTP/1.1\r\n"), "{head}");
    assert!(
        !head.to_lowercase().contains("cookie")
            && head.contains(&format!("x-forwarded-prefix: {path}"))
    );
    for (path, more, expected) in [
        (format!("{path}/"), String::new(), 401),
        (format!("{path}/"), format!("Cookie: mayfly-preview={token}\r\n"), 401),
        (format!("/{one}/2280/work-dir?DAYTONA_SANDBOX_AUTH_KEY={token}"), String::new(), 400),
        ("/api/sandbox".to_owned(), format!("Authorization: Bearer {KEY}\r\n"), 404),
        ("/".to_owned(), String::new(), 404),
    ] {
        let answer = ask(&path, &more).await;
        assert_eq!(status(&answer), expected, "{path}");
        assert_eq!(header(&answer, "content-security-policy"), ["sandbox"]);
    }
}

#[tokio::test]
async fn case_16_a_protocol_that_is_changed_passes_bytes() {
    let house = House::new().await;
    let one = house.edge.sandbox().await;
    let (service, mut heard) = scripted(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: x\r\n\r\n",
    )
    .await;
    house.listen(&one, 3000, service);
    let token = house.token(&one, 3000).await;
    let host = format!("3000-{one}.localhost");
    let mut socket = TcpStream::connect(house.at).await.unwrap();
    let head = format!(
        "GET /ws?DAYTONA_SANDBOX_AUTH_KEY={token} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: y\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(socket.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert_eq!(header(&answer, "sec-websocket-accept"), ["x"]);
    let head = heard.recv().await.unwrap();
    assert!(
        head.starts_with("GET /ws HTTP/1.1\r\n") && head.contains("sec-websocket-key: y"),
        "{head}"
    );
    let bytes: Vec<u8> =
        (0..200_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let (mut reading, mut writing) = socket.into_split();
    let sent = bytes.clone();
    let sending = tokio::spawn(async move { writing.write_all(&sent).await.map(|()| writing) });
    let mut back = vec![0; bytes.len()];
    tokio::time::timeout(SOON, reading.read_exact(&mut back)).await.unwrap().unwrap();
    assert!(back == bytes, "what went in comes back");
    drop(sending.await.unwrap().unwrap());
    let without = format!("GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n");
    assert_eq!(status(&house.ask(&without).await), 401, "not without the token");
    let unasked =
        format!("GET /ws HTTP/1.1\r\nHost: {host}\r\nX-Daytona-Preview-Token: {token}\r\n");
    assert_eq!(status(&house.ask(&unasked).await), 502, "nobody asked for it");
}

#[tokio::test]
async fn bodies_stream_both_ways_byte_by_byte_and_connections_are_kept() {
    let house = House::new().await;
    let one = house.edge.sandbox().await;
    let echo = Router::new().fallback(async |request: Request| request.into_body());
    let (_stop, stopped) = watch::channel(false);
    house.listen(&one, 3000, served(echo, stopped).await);
    let token = house.token(&one, 3000).await;
    let mut stream = TcpStream::connect(house.at).await.unwrap();
    let head = format!(
        "POST /x HTTP/1.1\r\nHost: 3000-{one}.localhost\r\nX-Daytona-Preview-Token: {token}\r\n"
    );
    for round in 0..3 {
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\na\0b\r\n");
        stream.write_all(chunked.as_bytes()).await.unwrap();
        // The first piece comes back before the last was sent.
        read_until(&mut stream, b"3\r\na\0b\r\n").await;
        stream.write_all(b"1\r\nc\r\n0\r\n\r\n").await.unwrap();
        read_until(&mut stream, b"1\r\nc\r\n0\r\n\r\n").await;
        let sized = format!("{head}Content-Length: 4\r\n\r\n{round}\r\n!");
        stream.write_all(sized.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, format!("\r\n\r\n{round}\r\n!").as_bytes()).await;
        assert_eq!(header(&answer, "content-length"), ["4"]);
    }
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(end) {
            read.push(stream.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(SOON, reading).await.expect("the rest of the answer");
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn n12_one_request_stays_one_request() {
    let house = House::new().await;
    let one = house.edge.sandbox().await;
    let (service, mut heard) = scripted(HELLO).await;
    house.listen(&one, 3000, service);
    let token = house.token(&one, 3000).await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: 3000-{one}.localhost\r\nX-Daytona-Preview-Token: {token}\r\nConnection: close\r\n"
    );
    let hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    let both = format!(
        "{head}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        hidden.len() + 5
    );
    let _ = exchange(house.at, &both).await;
    if let Ok(Some(seen)) = tokio::time::timeout(Duration::from_millis(50), heard.recv()).await {
        assert!(!seen.contains("/hidden"), "{seen}");
        assert_eq!(
            seen.to_lowercase().matches("transfer-encoding").count()
                + seen.to_lowercase().matches("content-length").count(),
            1,
            "{seen}"
        );
    }
    for bad in [
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length: 3\r\nContent-Length: 30\r\n",
        "Content-Length: +3\r\n",
    ] {
        let answer = exchange(house.at, &format!("{head}{bad}\r\nabc{hidden}")).await;
        assert!(answer.is_empty() || status(&answer) == 400, "{bad}: {answer}");
    }
    let mut rest = Vec::new();
    heard.close();
    while let Some(seen) = heard.recv().await {
        rest.push(seen);
    }
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn ports_inside_are_listed() {
    let house = House::new().await;
    let one = house.edge.sandbox().await;
    let (service, _heard) = scripted(HELLO).await;
    house.listen(&one, 3000, service);
    let ports = house.edge.get(&format!("/toolbox/{one}/port")).await.json();
    assert_eq!(ports["ports"], serde_json::json!([3000]));
    for (port, expected) in [(3000, true), (3001, false)] {
        let answer = house.edge.get(&format!("/toolbox/{one}/port/{port}/in-use")).await.json();
        assert_eq!(answer["isInUse"], expected);
    }
    assert_eq!(house.edge.get(&format!("/toolbox/{one}/port/x/in-use")).await.fault().0, 400);
    let plain = house.edge.get(&format!("/toolbox/{one}/port/3000/connect")).await;
    assert_eq!(plain.fault().0, 400);
}
