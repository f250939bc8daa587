//! R11: floods, slow clients and oversized headers; the end of a server.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Edge, KEY};
use crate::http::{Limits, router, serve_tcp, serve_unix};

const SOON: Duration = Duration::from_secs(5);

struct Server {
    address: std::net::SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

async fn server(limits: Limits) -> Server {
    let edge = Edge::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(serve_tcp(listener, router(edge.app), limits, stopped));
    Server { address, stop, task }
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n")
}

/// Sends the text and reads until the server closes or has sent the mark.
async fn exchange(stream: &mut TcpStream, text: &str, mark: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    let read = async {
        let mut piece = [0; 4096];
        loop {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(more) => got.extend_from_slice(&piece[..more]),
            }
            if String::from_utf8_lossy(&got).contains(mark) {
                break;
            }
        }
    };
    timeout(SOON, read).await.expect("an answer or the end of the connection");
    String::from_utf8_lossy(&got).into_owned()
}

#[tokio::test]
async fn r11_slow_headers_lose_their_connection_and_others_are_served() {
    let limits =
        Limits { connections: 2, header_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = server(limits).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nHo").await.unwrap();
        slow.push(stream);
    }
    let mut good = TcpStream::connect(server.address).await.unwrap();
    let answer = exchange(&mut good, &request("/api/sandbox"), "nextCursor").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for stream in &mut slow {
        let mut rest = Vec::new();
        let ended = timeout(SOON, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a slow connection is still open");
    }
}

#[tokio::test]
async fn r11_oversized_headers_and_garbage_are_refused() {
    let server = server(Limits { header_bytes: 8 << 10, ..Limits::default() }).await;
    let long = format!("GET /health HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(20_000));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let answer = exchange(&mut stream, &long, "\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = format!("GET /health HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(500));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let answer = exchange(&mut stream, &many, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let answer = exchange(&mut stream, "\u{0}\u{1}\u{2}garbage\r\n\r\n", "\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert!(exchange(&mut stream, &request("/health"), "\"ok\"").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_refused_request_leaves_its_connection_for_the_next_one() {
    let server = server(Limits::default()).await;
    let body = "y".repeat(20_000);
    let key = format!("Authorization: Bearer {KEY}\r\n");
    for (line, key, status) in [
        ("POST /api/sandbox", "", "401"),
        ("POST /api/sandbox", "Authorization: Bearer wrong\r\n", "401"),
        ("POST /api/nothing", key.as_str(), "404"),
        ("POST /toolbox/nobody/process/execute", key.as_str(), "404"),
        ("PUT /health", key.as_str(), "405"),
        ("POST /api/secret", key.as_str(), "501"),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        for round in 0..2 {
            let head = format!("{line} HTTP/1.1\r\nHost: x\r\n{key}Content-Length: 20000\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            // The body comes when the refusal is decided already.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let answer = exchange(&mut stream, &body, "}").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line} {round}: {answer}");
        }
        let answer = exchange(&mut stream, &request("/health"), "\"ok\"").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{line}: {answer}");
    }
}

#[tokio::test]
async fn a_refusal_waits_neither_long_nor_for_much() {
    let server = server(Limits::default()).await;
    for length in [20_000, 1 << 30] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head =
            format!("POST /api/sandbox HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        let answer = exchange(&mut stream, &head, "}").await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{length}: {answer}");
    }
}

#[tokio::test]
async fn the_end_waits_for_requests_under_way_and_takes_no_new_ones() {
    let server = server(Limits::default()).await;
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    let half = request("/api/sandbox")
        .replace("GET", "POST")
        .replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\n{");
    busy.write_all(half.as_bytes()).await.unwrap();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    exchange(&mut idle, &request("/health"), "\"ok\"").await;
    server.stop.send(true).unwrap();
    let mut rest = Vec::new();
    timeout(SOON, idle.read_to_end(&mut rest))
        .await
        .expect("an idle connection ends at once")
        .unwrap();
    assert!(!server.task.is_finished());
    let answer = exchange(&mut busy, "}", "toolboxProxyUrl").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    timeout(SOON, server.task).await.expect("the server ends").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn the_drain_time_bounds_a_client_that_never_finishes() {
    let server = server(Limits { drain: Duration::from_millis(50), ..Limits::default() }).await;
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    let half = request("/api/sandbox")
        .replace("GET", "POST")
        .replace("\r\n\r\n", "\r\nContent-Length: 9\r\n\r\n{");
    busy.write_all(half.as_bytes()).await.unwrap();
    // An answer on another connection: by then the first one has been read as well.
    let mut other = TcpStream::connect(server.address).await.unwrap();
    exchange(&mut other, &request("/health"), "\"ok\"").await;
    server.stop.send(true).unwrap();
    timeout(SOON, server.task).await.expect("the server ends").unwrap();
}

#[tokio::test]
async fn the_unix_socket_needs_no_key_of_its_own_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let edge = Edge::new().await;
    let (stop, stopped) = watch::channel(false);
    let listener = UnixListener::bind(&path).unwrap();
    let task = tokio::spawn(serve_unix(listener, router(edge.app), Limits::default(), stopped));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream
        .write_all(b"GET /api/sandbox HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stop.send(true).unwrap();
    timeout(SOON, task).await.unwrap().unwrap();
}
