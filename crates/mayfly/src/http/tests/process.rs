//! Commands, programs and their logs.

use std::io::Write;
use std::process::{Command, Stdio};

use axum::http::StatusCode;
use serde_json::json;

use super::Edge;

#[tokio::test]
async fn the_environment_of_later_processes_is_changed_and_told() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let path = format!("/toolbox/{id}/env");
    let set = async |body: serde_json::Value| {
        let reply = edge.call("POST", &path, &body.to_string()).await;
        assert_eq!(reply.status, StatusCode::OK, "{body}: {reply:?}");
        reply.json()
    };
    assert_eq!(set(json!({})).await, json!({}));
    let odd = "a=b \"c\" $(d)\n\u{fc}";
    let first = json!({ "A": odd, "B": "secret:1", "C": "secret:2", "D": "" });
    assert_eq!(set(json!({ "set": first })).await, first);
    let next = json!({ "set": { "C": "secret:3", "A": "new" }, "unset": ["A", "Z"],
        "unsetValuePrefix": "secret:" });
    // Taken out first, then set.
    assert_eq!(set(next).await, json!({ "A": "new", "C": "secret:3", "D": "" }));
    assert_eq!(
        set(json!({ "set": null, "unset": null, "unsetValuePrefix": "" })).await,
        json!({ "A": "new", "C": "secret:3", "D": "" }),
        "no prefix is none"
    );
    let many: Vec<String> = (0..1025).map(|n| n.to_string()).collect();
    let much = "x".repeat(600 << 10);
    set(json!({ "set": { "MUCH": much } })).await;
    for (body, field) in [
        (json!({ "set": { "A=B": "x" } }), "set"),
        (json!({ "set": { "": "x" } }), "set"),
        (json!({ "set": { "A": "\0" } }), "set.A"),
        (json!({ "set": { "A": 1 } }), "set.A"),
        (json!({ "set": { "MORE": much } }), "env"),
        (json!({ "unset": "A" }), "unset"),
        (json!({ "unset": many }), "unset"),
        (json!({ "unsetValuePrefix": 1 }), "unsetValuePrefix"),
    ] {
        let reply = edge.call("POST", &path, &body.to_string()).await;
        assert_eq!(reply.fault().0, 400, "{field}");
        assert!(reply.fault().2.contains(field), "{field}: {reply:?}");
    }
    let rest = set(json!({ "unset": ["MUCH"] })).await;
    assert_eq!(rest, json!({ "A": "new", "C": "secret:3", "D": "" }));
}

#[tokio::test]
async fn a_command_runs_and_its_log_can_be_read_again() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let body = json!({ "command": "x", "envs": { "A": "b" }, "timeout": null, "cwd": null });
    let done =
        edge.call("POST", &format!("/toolbox/{id}/process/execute"), &body.to_string()).await;
    // The kit's runtime knows no shell; what counts here is the form.
    assert_eq!(done.json(), json!({ "exitCode": 127, "result": "not found\n" }));
    let logs = edge.get(&format!("/toolbox/{id}/process/logs")).await.json();
    let log = &logs["logs"][0];
    assert_eq!(
        (&log["command"], &log["exitCode"], &log["size"]),
        (&json!("x"), &json!(127), &json!(10))
    );
    let number = log["process"].as_u64().unwrap();
    let rest = edge.get(&format!("/toolbox/{id}/process/logs/{number}?offset=4")).await;
    assert_eq!(rest.body, "found\n");
    assert_eq!(edge.get(&format!("/toolbox/{id}/process/logs/x")).await.fault().0, 400);
    assert_eq!(edge.get(&format!("/toolbox/{id}/process/logs/99")).await.fault().0, 404);
    for body in
        [r#"{"command":1}"#, r#"{"command":"x","timeout":-1}"#, "{}", r#"{"command":"a\u0000"}"#]
    {
        let reply = edge.call("POST", &format!("/toolbox/{id}/process/execute"), body).await;
        assert_eq!(reply.fault().0, 400, "{body}");
    }
    let metrics = edge.get(&format!("/toolbox/{id}/system/metrics")).await.json();
    assert_eq!((&metrics["cpuCount"], &metrics["memTotal"]), (&json!(1), &json!(1_u64 << 30)));
    assert!(
        edge.get(&format!("/toolbox/{id}/work-dir")).await.json()["dir"]
            .as_str()
            .unwrap()
            .starts_with('/')
    );
}

#[tokio::test]
async fn programs_in_other_languages_are_refused_by_name() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let uri = format!("/toolbox/{id}/process/code-run");
    let (status, _, message) =
        edge.call("POST", &uri, r#"{"code":"","language":"ruby"}"#).await.fault();
    assert!(status == 400 && message.starts_with("language: `ruby`"), "{message}");
    let done = edge.call("POST", &uri, r#"{"code":"x","language":"python"}"#).await;
    assert_eq!(done.status, StatusCode::OK);
    assert_eq!(done.json()["artifacts"], json!({ "charts": [] }));
}

/// Runs a program as the sandbox's interpreter would, with these lines in the place of the chart code.
fn python(charts: &str, code: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut child = Command::new("python3")
        .arg("-c")
        .arg(include_str!("../code_run/bootstrap.py"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = format!("MARK {}\n{charts}{code}", charts.len());
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn a_python_program_sees_nothing_of_what_runs_it() {
    let code = "print(sorted(n for n in globals() if n[:2] != '__'), __name__)\nimport sys; print(sys.argv[1:], repr(sys.stdin.read()))";
    let (exit, out, err) = python("", code, &["a b", "ü"]);
    assert_eq!((exit, out.as_str(), err.as_str()), (Some(0), "[] __main__\n['a b', 'ü'] ''\n", ""));
    let (exit, _, err) = python("", "def f():\n  raise ValueError('boom')\nf()", &[]);
    assert_eq!(exit, Some(1));
    assert!(
        err.starts_with(
            "Traceback (most recent call last):\n  File \"<code>\", line 3, in <module>\n    f()\n"
        ),
        "{err}"
    );
    assert!(err.ends_with("ValueError: boom\n") && !err.contains("<string>"), "{err}");
    let (exit, _, err) = python("", "x = = 1", &[]);
    assert!(exit == Some(1) && err.contains("SyntaxError"), "{err}");
    assert_eq!(python("", "import sys; sys.exit(7)", &[]).0, Some(7));
}

#[test]
fn chart_code_runs_only_when_matplotlib_is_imported() {
    let charts = "def install(plt, mark):\n    print('installed', plt.__name__, mark.decode())\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("matplotlib")).unwrap();
    for file in ["__init__.py", "pyplot.py"] {
        std::fs::write(folder.path().join("matplotlib").join(file), "").unwrap();
    }
    let path = folder.path().display();
    let code = format!("import sys; sys.path.insert(0, {:?})\nprint('first')\n", path.to_string());
    assert_eq!(python(charts, &code, &[]).1, "first\n");
    let code = format!("{code}from matplotlib import pyplot as plt\nprint('last')");
    assert_eq!(python(charts, &code, &[]).1, "first\ninstalled matplotlib.pyplot MARK\nlast\n");
    let (exit, out, err) = python("def install(plt, mark): 1/0\n", &code, &[]);
    assert_eq!((exit, out.as_str()), (Some(0), "first\nlast\n"));
    assert!(err.contains("charts are not available"), "{err}");
}
