//! What a preview adds to a request: the same small service asked on loopback, and inside a sandbox through its
//! preview, in turns.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::measure::Times;

/// Answers every request with 1 KiB, as fast as the interpreter can, and says where it listens.
pub(crate) const SERVICE: &str = r"
import socket, threading
door = socket.create_server(('127.0.0.1', 0))
print(door.getsockname()[1], flush=True)
answer = b'HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n' + b'x' * 1024
def serve(client):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while client.recv(65536):
        client.sendall(answer)
while True:
    threading.Thread(target=serve, args=(door.accept()[0],), daemon=True).start()
";

/// Bytes of a body.
const BODY: usize = 1024;

/// A visitor with one connection that it keeps.
struct Visitor {
    stream: BufReader<TcpStream>,
    request: String,
}

impl Visitor {
    fn connect(address: &str, request: String) -> Self {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_nodelay(true).expect("an open socket");
        Self { stream: BufReader::new(stream), request }
    }

    fn ask(&mut self, times: &mut Times) {
        let began = Instant::now();
        self.stream.get_mut().write_all(self.request.as_bytes()).expect("a request is sent");
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("an answer");
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        while line.trim() != "" {
            line.clear();
            self.stream.read_line(&mut line).expect("headers");
        }
        let mut body = [0; BODY];
        self.stream.read_exact(&mut body).expect("a body");
        times.add(began.elapsed());
    }
}

/// Times of both ways: direct, and through the preview of a service on this port inside.
pub(crate) fn compare(address: &str, (host, token): (&str, &str), n: usize) -> (Times, Times) {
    let mut service = Command::new("/usr/bin/python3")
        .args(["-I", "-c", SERVICE])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut port = String::new();
    let output = service.stdout.take().expect("its output is a pipe");
    BufReader::new(output).read_line(&mut port).expect("it says where it listens");
    let plain = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned();
    let mut direct = Visitor::connect(&format!("127.0.0.1:{}", port.trim()), plain);
    let named =
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Daytona-Preview-Token: {token}\r\n\r\n");
    let mut preview = Visitor::connect(address, named);
    let mut times = (Times::default(), Times::default());
    for round in 0..n + n / 10 {
        if round == n / 10 {
            // What came before only warmed both up.
            times = (Times::default(), Times::default());
        }
        direct.ask(&mut times.0);
        preview.ask(&mut times.1);
    }
    let _ = service.kill();
    let _ = service.wait();
    times
}
