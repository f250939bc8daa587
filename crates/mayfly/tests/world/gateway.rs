//! What a sandbox reaches of the server that keeps it: the gateway at `mayfly.internal`, and nothing else.

use serde_json::{Value, json};

use super::server::{KEY, Sandbox, Server};
use super::world::World;

/// Status and body of a request from inside, by a client that follows nothing.
fn asks(sandbox: &Sandbox<'_>, words: &str) -> (String, Value) {
    let line = format!("curl -s -m 5 -w '\\n%{{http_code}}' {words}");
    let (_, said) = sandbox.run(&line);
    let (body, status) = said.trim_end().rsplit_once('\n').unwrap_or(("", &said));
    (status.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn the_gateway_answers_every_sandbox_the_same_and_tells_nothing_of_others() {
    let (_world, server) = (World::enter(), Server::start());
    let other = server.sandbox(&json!({ "networkBlockAll": true }));
    let blocked = server.sandbox(&json!({ "networkBlockAll": true }));
    let public = server.sandbox(&json!({}));
    for sandbox in [&blocked, &public] {
        for path in [
            "/",
            "/health",
            "/metrics",
            "/api/sandbox",
            "/api/config",
            &format!("/api/sandbox/{}", other.id),
            &format!("/toolbox/{}/files?path=/", other.id),
            &format!("/toolbox/{}/files?path=/", sandbox.id),
        ] {
            // Neither a key of the API nor another name of the host changes what is served here.
            for with in [
                String::new(),
                format!("-H 'Authorization: Bearer {KEY}'"),
                format!("-H 'Host: {}'", server.address),
                format!(
                    "-H 'Host: 3000-{}.localhost' -H 'X-Mayfly-Sandbox: {}'",
                    other.id, other.id
                ),
            ] {
                let (status, body) =
                    asks(sandbox, &format!("{with} 'http://mayfly.internal{path}'"));
                assert_eq!(status, "404", "{with} {path}: {body}");
                assert_eq!(
                    body["message"], "mayfly.internal serves nothing at this path",
                    "{path}"
                );
                assert!(!body.to_string().contains(&other.id), "{path}: {body}");
            }
        }
        let address =
            sandbox.ok("getent hosts mayfly.internal").split(' ').next().unwrap().to_owned();
        for port in [22, 443, 2222, 3457, 3458, server.address.port()] {
            let (status, _) = asks(sandbox, &format!("http://{address}:{port}/health"));
            assert_eq!(status, "000", "port {port} of the gateway's address answers");
        }
    }
}
