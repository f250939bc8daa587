//! schemathesis, a property-based tester that nobody here wrote, against the description of the API: no status that
//! the description does not name (so no 500), no body of another form, no endpoint that forgets to ask for a key.
//!
//! `MAYFLY_TEST_SCALE=full` tries a hundred times as much; `MAYFLY_TEST_SEED` repeats an earlier run.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::{Value, json};

use super::clients::{installed, sdks};
use super::server::{KEY, Server};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/mayfly.json");
const CHECKS: &str =
    "status_code_conformance,response_schema_conformance,content_type_conformance,ignored_auth";
/// Web sockets, which it does not speak.
const SOCKETS: &str = "socket.io|/connect$|create-connect|interpreter/execute";

/// Tries the operations whose paths match, with these values for parts of paths.
fn try_all(server: &Server, paths: &str, not: &str, values: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = String::from("[parameters]\n");
    for (name, value) in values {
        writeln!(settings, "\"path.{name}\" = \"{value}\"").unwrap();
    }
    std::fs::write(folder.path().join("schemathesis.toml"), settings).unwrap();
    let full = std::env::var("MAYFLY_TEST_SCALE").is_ok_and(|scale| scale == "full");
    let seed = std::env::var("MAYFLY_TEST_SEED").unwrap_or_else(|_| "1".to_owned());
    let origin = server.url().trim_end_matches("/api").to_owned();
    let mut command = Command::new(sdks().join("schemathesis/bin/schemathesis"));
    command.current_dir(folder.path()).env("HOME", folder.path()).env("NO_COLOR", "1");
    command.args(["run", DOCUMENT, "--url", &origin, "--checks", CHECKS, "--seed", &seed]);
    command.args(["--phases", "examples,coverage,fuzzing", "--no-shrink", "--continue-on-failure"]);
    command.args(["--max-examples", if full { "300" } else { "3" }, "--request-timeout", "60"]);
    command.args(["--header", &format!("Authorization: Bearer {KEY}")]);
    command.args(["--include-path-regex", paths, "--exclude-path-regex", not]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let (errors, log) = (String::from_utf8_lossy(&output.stderr), server.log());
    assert!(output.status.success(), "{said}\n{errors}\nserver:\n{log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// Makes a sandbox, and in it what parts of paths may name; its id.
fn sandbox(server: &Server) -> String {
    let made = server.call("POST", "/api/sandbox", &json!({}));
    let id = made["id"].as_str().unwrap().to_owned();
    let toolbox =
        |path: &str, body: Value| server.call("POST", &format!("/toolbox/{id}/{path}"), &body);
    toolbox("process/session", json!({ "sessionId": "s" }));
    toolbox("process/pty", json!({ "id": "t" }));
    toolbox("process/execute", json!({ "command": "git init -q /tmp/repo" }));
    id
}

#[test]
fn the_toolbox_answers_as_its_description_says() {
    if installed("schemathesis", "schemathesis/bin/schemathesis").is_none() {
        return;
    }
    let server = Server::start();
    let id = sandbox(&server);
    let values = [("sandbox", id.as_str()), ("session", "s"), ("terminal", "t"), ("process", "1")];
    try_all(&server, "^/toolbox/", SOCKETS, &values);
    let ran = json!({ "command": "echo alive" });
    let ran = server.call("POST", &format!("/toolbox/{id}/process/execute"), &ran);
    assert_eq!(ran["result"], "alive\n");
}

#[test]
fn the_control_plane_answers_as_its_description_says() {
    if installed("schemathesis", "schemathesis/bin/schemathesis").is_none() {
        return;
    }
    let server = Server::with(&[("MAYFLY_TENANTS_SANDBOXES", "20")]);
    // Keys come last, since its own may be among those that it deletes.
    try_all(&server, "^/(?!toolbox)", &format!("{SOCKETS}|api-keys"), &[]);
    try_all(&server, "api-keys", SOCKETS, &[]);
}
