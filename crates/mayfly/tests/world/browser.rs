//! A real browser, Chromium, on what a sandbox serves and on its toolbox.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::server::{Sandbox, Server};
use super::world::{World, eventually, source};

const CHROMIUM: &str = "/usr/bin/chromium-headless-shell";
/// What a page that works has seen, but for what the toolbox adds.
const SEEN: &str = "data:42\ncookie:flavour=plain\ncookie inside:flavour=plain\nopen:\n\
                    got:over a socket\n";

/// A browser without a past.
struct Browser(tempfile::TempDir);

impl Browser {
    /// Nothing where there is none, after saying so.
    fn new() -> Option<Self> {
        if Path::new(CHROMIUM).exists() {
            return Some(Self(tempfile::tempdir().unwrap()));
        }
        println!("SKIP browser: {CHROMIUM} is missing; run cargo xtask setup");
        None
    }

    /// The document behind a URL once its page has done all it does.
    fn document(&self, url: &str) -> String {
        let mut command = Command::new(CHROMIUM);
        command.env_clear().env("HOME", self.0.path()).env("PATH", "/usr/bin:/bin");
        // As root it has no sandbox of its own, and it opens nothing but the pages of these tests.
        command.args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]);
        command.arg(format!("--user-data-dir={}", self.0.path().join("profile").display()));
        let output = command.arg(url).output().unwrap();
        let document = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !document.is_empty(), "{url}: {errors}");
        document
    }

    /// What the page noted.
    fn seen(&self, url: &str) -> String {
        let document = self.document(url);
        let text = document
            .split_once("<pre id=\"seen\">")
            .and_then(|(_, text)| text.split_once("</pre>"));
        text.unwrap_or_else(|| panic!("{url}: {document}")).0.to_owned()
    }
}

/// A sandbox that serves the page on port 3000.
fn site(server: &Server) -> Sandbox<'_> {
    let sandbox = server.sandbox(&json!({ "networkBlockAll": true }));
    sandbox.put("/tmp/page.py", &std::fs::read(source("inside/page.py")).unwrap());
    sandbox.ok("setsid python3 /tmp/page.py </dev/null >/tmp/page.log 2>&1 &");
    eventually("the page is served", || {
        sandbox.run("curl -sf http://127.0.0.1:3000/data.json").0 == 0
    });
    sandbox
}

/// The URL and the token of one port's preview.
fn preview(sandbox: &Sandbox<'_>, port: u16) -> (String, String) {
    let answer = sandbox.control("GET", &format!("ports/{port}/preview-url"));
    let text = |field: &str| answer[field].as_str().unwrap().to_owned();
    (text("url"), text("token"))
}

#[test]
fn a_browser_shows_a_preview_with_all_its_parts_to_who_has_a_token() {
    let Some(browser) = Browser::new() else { return };
    let _world = World::enter();
    let server = Server::start();
    let sandbox = site(&server);
    let (url, token) = preview(&sandbox, 3000);
    let refusal = browser.document(&url);
    assert!(refusal.contains("UNAUTHORIZED") && !refusal.contains("seen"), "{refusal}");
    let wrong = browser.document(&format!("{url}/?DAYTONA_SANDBOX_AUTH_KEY={token}x"));
    assert!(wrong.contains("UNAUTHORIZED"), "{wrong}");
    // Its later requests carry no token: they live on a cookie, which neither the page nor the service sees.
    assert_eq!(browser.seen(&format!("{url}/?DAYTONA_SANDBOX_AUTH_KEY={token}")), SEEN);
    // Where previews need no token, the first browser's refusal shows that it was the token that mattered.
    sandbox.control("POST", "public/true");
    assert_eq!(Browser::new().unwrap().seen(&url), SEEN);
}

#[test]
fn a_browser_shows_a_signed_link_until_it_is_ended() {
    let Some(browser) = Browser::new() else { return };
    let _world = World::enter();
    let server = Server::start();
    let sandbox = site(&server);
    let link = sandbox.control("GET", "ports/3000/signed-preview-url?expiresInSeconds=600");
    let url = link["url"].as_str().unwrap();
    assert_eq!(browser.seen(url), SEEN);
    let token = link["token"].as_str().unwrap();
    sandbox.control("POST", &format!("ports/3000/signed-preview-url/{token}/expire"));
    let refusal = browser.document(url);
    assert!(refusal.contains("UNAUTHORIZED"), "{refusal}");
}

/// Browsers cannot set headers on a WebSocket: the token is in the query, the version is a subprotocol.
#[test]
fn a_page_opens_a_terminal_in_the_sandbox_whose_token_it_has() {
    let Some(browser) = Browser::new() else { return };
    let _world = World::enter();
    let server = Server::start();
    let (sandbox, other) = (site(&server), server.sandbox(&json!({})));
    sandbox.control("POST", "public/true");
    let (page, _) = preview(&sandbox, 3000);
    let seen = |target: &str, token: &str| {
        let socket = format!(
            "ws://{}/toolbox/{target}/process/pty/create-connect?id=box&cols=80&rows=24",
            server.address
        );
        let protocol = "X-Daytona-SDK-Version~0.218.0";
        browser.seen(&format!("{page}/#{socket}&DAYTONA_SANDBOX_AUTH_KEY={token}|{protocol}"))
    };
    let (_, token) = preview(&sandbox, 1);
    let mine = seen(&sandbox.id, &token);
    let told = mine.strip_prefix(SEEN).unwrap_or_else(|| panic!("{mine}"));
    assert!(told.starts_with("open:X-Daytona-SDK-Version~0.218.0\n"), "{told}");
    assert!(told.contains("\"status\":\"connected\"") && told.contains("answer-42"), "{told}");
    // No other sandbox, and no token of a port that is a service's.
    assert_eq!(seen(&other.id, &token), format!("{SEEN}refused\n"));
    let (_, of_port) = preview(&sandbox, 3000);
    assert_eq!(seen(&sandbox.id, &of_port), format!("{SEEN}refused\n"));
}
