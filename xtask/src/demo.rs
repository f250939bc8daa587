//! The verb `demo`: the product's main job over its real HTTP API, each step with its time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::http::{Client, find};
use crate::server::{self, Server};
use crate::setup;
use crate::step::seconds;

/// Longest wait for a sandbox to reach a state.
const PATIENCE: Duration = Duration::from_secs(30);

/// Separates the parts of the uploaded body; the file does not contain it.
const BOUNDARY: &str = "mayfly-demo-boundary";

const PYTHON: &str = "\
import sys
squares = [n * n for n in range(10)]
print(f'Python {sys.version_info.major}.{sys.version_info.minor} says the squares sum up to {sum(squares)}')
";

/// Builds and starts a server, walks through its main job, and looks for what is left.
pub(crate) fn run() -> Result<()> {
    println!("mayfly demo: an isolated computer from start to end, over HTTP\n");
    setup::for_running()?;
    println!("  building the server (the first time takes minutes) ...");
    let start = Instant::now();
    let program = server::build("dev")?;
    println!("  built in {}\n", seconds(start.elapsed()));

    let server = timed("start the server", || {
        let server = Server::start(&program)?;
        let told = format!("http://{}, data in {}", server.client.address, server.data.display());
        Ok((server, told))
    })?;
    let walked = walk(&server.client);
    if walked.is_err() {
        delete_all(&server.client)?;
    }
    let stopped = timed("stop the server", || {
        server.stop()?;
        Ok(((), "no process, mount, device, control group or file is left".to_owned()))
    });
    let id = walked?;
    stopped?;
    println!(
        "\nThat was the whole life of sandbox {id}. `cargo run -- serve` starts a server to keep; README.md goes on from here."
    );
    Ok(())
}

/// A started sandbox.
fn make(client: &Client) -> Result<Value> {
    let made = client.json("POST", "/api/sandbox", &json!({ "labels": { "made-by": "demo" } }))?;
    wait_for(client, &text(&made, "id")?, "started")
}

/// The life of one sandbox; returns its id.
fn walk(client: &Client) -> Result<String> {
    timed("make the very first", || {
        let first = make(client)?;
        let id = text(&first, "id")?;
        client.json("DELETE", &format!("/api/sandbox/{id}"), &Value::Null)?;
        Ok(((), "once per set of packages the host's programs are looked through".to_owned()))
    })?;
    let sandbox = timed("make a sandbox", || {
        let sandbox = make(client)?;
        let told = text(&sandbox, "id")?;
        Ok((sandbox, told))
    })?;
    let id = text(&sandbox, "id")?;
    let toolbox = toolbox_path(&text(&sandbox, "toolboxProxyUrl")?, &id)?;

    timed("run a shell command", || {
        let command =
            "echo \"$(id -un) on $(hostname), $(ls -d /proc/[0-9]* | wc -l) processes in sight\"";
        let said = execute(client, &toolbox, "/process/execute", &json!({ "command": command }))?;
        Ok(((), said))
    })?;
    timed("run a Python program", || {
        let body = json!({ "code": PYTHON, "language": "python" });
        let said = execute(client, &toolbox, "/process/code-run", &body)?;
        ensure!(said.contains("285"), "the program answered `{said}`, expected a sum of 285");
        Ok(((), said))
    })?;
    let content: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
    timed("write a file", || {
        upload(client, &toolbox, "demo/data.bin", &content)?;
        Ok(((), format!("demo/data.bin, {} KiB", content.len() / 1024)))
    })?;
    timed("read it again", || {
        ensure!(
            download(client, &toolbox, "demo/data.bin")? == content,
            "the file came back changed"
        );
        Ok(((), "the same bytes".to_owned()))
    })?;
    timed("list the sandboxes", || {
        let page = client.json("GET", "/api/sandbox", &Value::Null)?;
        let items = page["items"].as_array().context("the list has no items")?;
        ensure!(items.iter().any(|item| item["id"] == *id), "the list lacks our sandbox");
        Ok(((), format!("{} there", items.len())))
    })?;
    timed("delete the sandbox", || {
        client.json("DELETE", &format!("/api/sandbox/{id}"), &Value::Null)?;
        wait_for(client, &id, "destroyed")?;
        Ok(((), "gone".to_owned()))
    })?;
    Ok(id)
}

/// Deletes whatever an unfinished walk left, so that the server can end with nothing behind it.
fn delete_all(client: &Client) -> Result<()> {
    let page = client.json("GET", "/api/sandbox", &Value::Null)?;
    for item in page["items"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let id = text(item, "id")?;
        client.json("DELETE", &format!("/api/sandbox/{id}"), &Value::Null)?;
        wait_for(client, &id, "destroyed")?;
    }
    Ok(())
}

/// Prints one step's name, time and outcome.
fn timed<T>(name: &str, work: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
    let start = Instant::now();
    let done = work();
    let told = match &done {
        Ok((_, told)) => told.clone(),
        Err(error) => format!("FAILED: {error:#}"),
    };
    println!("  {name:<22}{:>9.1} ms   {told}", start.elapsed().as_secs_f64() * 1000.0);
    done.map(|(value, _)| value).with_context(|| name.to_owned())
}

/// Asks for the sandbox until it is in a state; a deleted one that is no longer known counts as destroyed.
fn wait_for(client: &Client, id: &str, wanted: &str) -> Result<Value> {
    let start = Instant::now();
    let path = format!("/api/sandbox/{id}");
    while start.elapsed() < PATIENCE {
        let answer = client.call("GET", &path)?;
        let is_gone = answer.status == 404;
        if is_gone && wanted == "destroyed" {
            return Ok(Value::Null);
        }
        let sandbox: Value = serde_json::from_slice(&answer.body)
            .with_context(|| format!("GET {path} answered {} without JSON", answer.status))?;
        match sandbox["state"].as_str() {
            Some(state) if state == wanted => return Ok(sandbox),
            Some("error") | None => bail!("the sandbox did not become {wanted}: {sandbox}"),
            Some(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    bail!("the sandbox did not become {wanted} within {PATIENCE:?}")
}

fn execute(client: &Client, toolbox: &str, call: &str, body: &Value) -> Result<String> {
    let ended = client.json("POST", &format!("{toolbox}{call}"), body)?;
    let said = text(&ended, "result")?.trim().to_owned();
    ensure!(ended["exitCode"] == 0, "exit code {}: {said}", ended["exitCode"]);
    Ok(said)
}

fn upload(client: &Client, toolbox: &str, path: &str, content: &[u8]) -> Result<()> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"files[0].path\"\r\n\r\n{path}\r\n\
         --{BOUNDARY}\r\nContent-Disposition: form-data; name=\"files[0].file\"; filename=\"{path}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let body = [head.as_bytes(), content, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat();
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let answer = client.send("POST", &format!("{toolbox}/files/bulk-upload"), &kind, &body)?;
    let said = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status == 200, "the upload answered {}: {said}", answer.status);
    Ok(())
}

fn download(client: &Client, toolbox: &str, path: &str) -> Result<Vec<u8>> {
    let body = json!({ "paths": [path] }).to_string();
    let call = format!("{toolbox}/files/bulk-download");
    let answer = client.send("POST", &call, "application/json", body.as_bytes())?;
    ensure!(answer.status == 200, "the download answered {}", answer.status);
    one_part(&answer.body)
}

/// Content of the only part of a multipart body.
fn one_part(body: &[u8]) -> Result<Vec<u8>> {
    let start = find(body, b"\r\n\r\n").context("the download has no part")? + 4;
    let boundary_end = find(body, b"\r\n").context("the download has no boundary")?;
    let closing = [b"\r\n", &body[..boundary_end], b"--"].concat();
    let length = find(&body[start..], &closing).context("the download has no end")?;
    ensure!(find(&body[..start], b"name=\"file\"").is_some(), "{}", String::from_utf8_lossy(body));
    Ok(body[start..start + length].to_vec())
}

/// Path of the toolbox from its URL, with the sandbox's id.
fn toolbox_path(url: &str, id: &str) -> Result<String> {
    let rest = url.split_once("://").with_context(|| format!("`{url}` is no URL"))?.1;
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    Ok(format!("/{path}/{id}"))
}

fn text(value: &Value, key: &str) -> Result<String> {
    let found = value[key].as_str().with_context(|| format!("no text `{key}` in {value}"))?;
    Ok(found.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_cut_out_exactly() {
        let body = b"--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\r\nx\r\n\r\n--B--\r\n";
        assert_eq!(one_part(body).expect("one part"), b"\r\nx\r\n");
        let error = b"--B\r\nContent-Disposition: form-data; name=\"error\"\r\n\r\n{}\r\n--B--\r\n";
        assert!(one_part(error).is_err());
    }

    #[test]
    fn the_toolbox_is_found_by_its_url() {
        assert_eq!(toolbox_path("http://h:1/toolbox", "x").expect("a URL"), "/toolbox/x");
        assert!(toolbox_path("toolbox", "x").is_err());
    }
}
