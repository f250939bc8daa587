//! The wire of the git calls: bodies, answers, refusals, and what reaches the sandbox.

use axum::http::StatusCode;
use mayfly_core::process::ExecRequest;
use mayfly_testkit::Fuse;
use serde_json::{Value, json};

use super::{Edge, Reply};

/// A server whose sandbox's git says what a test wants.
struct Git {
    edge: Edge,
    id: String,
}

impl Git {
    async fn new() -> Self {
        let edge = Edge::new().await;
        let id = edge.sandbox().await;
        Self { edge, id }
    }

    /// The next run of git ends like this.
    fn says(&self, code: i32, output: &str, error: &str) {
        let end = format!("{code}\n{error}");
        let end = end.trim_end();
        let whole = format!("{output}{end} {}", end.len());
        self.edge.world.runtime(&Fuse::never()).answer(0, whole);
    }

    /// The runs that were answered.
    fn runs(&self) -> Vec<ExecRequest> {
        self.edge.world.runtime(&Fuse::never()).asked()
    }

    async fn call(&self, method: &str, rest: &str, body: &Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.edge.call(method, &format!("/toolbox/{}/git/{rest}", self.id), &body).await
    }

    async fn get(&self, rest: &str) -> Reply {
        self.call("GET", rest, &Value::Null).await
    }
}

#[tokio::test]
async fn the_status_is_in_camel_case_and_complete() {
    let git = Git::new().await;
    git.says(
        0,
        "# branch.head main\0# branch.upstream origin/main\0# branch.ab +1 -2\x002 R. N... 1 2 3 a b R100 new\0old\0? x y\0",
        "warning: of no interest",
    );
    let reply = git.get("status?path=repo").await;
    let expected = json!({
        "currentBranch": "main",
        "fileStatus": [
            { "name": "new", "extra": "old", "staging": "Renamed", "worktree": "Unmodified" },
            { "name": "x y", "extra": "", "staging": "Untracked", "worktree": "Untracked" },
        ],
        "ahead": 1, "behind": 2, "branchPublished": true, "detached": false,
        "upstream": "origin/main",
    });
    assert_eq!(reply.json(), expected);
    git.says(0, "# branch.head new\0", "");
    git.says(0, "", "");
    let reply = git.get("status?path=repo").await.json();
    assert_eq!((&reply["branchPublished"], &reply["ahead"]), (&json!(false), &json!(0)));
    assert!(reply.get("upstream").is_none());
    assert_eq!(git.get("status").await.fault().0, 400);
}

#[tokio::test]
async fn lists_and_hashes_have_the_contracts_form() {
    let git = Git::new().await;
    git.says(0, "a/b\nmain\n", "");
    git.says(0, "main\n", "");
    let branches = git.get("branches?path=r").await.json();
    assert_eq!(branches, json!({ "branches": ["a/b", "main"], "current": "main" }));
    git.says(0, "a\n", "");
    git.says(1, "", "");
    assert_eq!(git.get("branches?path=r").await.json(), json!({ "branches": ["a"] }));
    git.says(0, "remote.origin.url\nhttps://h/r\0", "");
    let remotes = json!({ "remotes": [{ "name": "origin", "url": "https://h/r" }] });
    assert_eq!(git.get("remotes?path=r").await.json(), remotes);
    git.says(0, "", "");
    git.says(0, "h\0A\0a@b\x001700000000\0one\n\ntwo\n\0", "");
    let commit = json!([{ "hash": "h", "author": "A", "email": "a@b", "message": "one\n\ntwo",
        "timestamp": "2023-11-14T22:13:20.000Z" }]);
    assert_eq!(git.get("history?path=r").await.json(), commit);
    git.says(1, "", "");
    assert_eq!(git.get("config?key=user.name").await.json(), json!({ "value": null }));
    git.says(0, "Ada\0", "");
    assert_eq!(
        git.get("config?key=user.name&scope=system").await.json(),
        json!({ "value": "Ada" })
    );
    for (code, answer) in [(1, ""), (0, ""), (0, "abc123\n")] {
        git.says(code, answer, "");
    }
    let body = json!({ "path": "r", "message": "m", "author": "A", "email": "e" });
    assert_eq!(git.call("POST", "commit", &body).await.json(), json!({ "hash": "abc123" }));
    let run = git.runs().into_iter().nth_back(1).unwrap();
    assert_eq!((run.env["GIT_COMMITTER_NAME"].as_str(), &run.stdin[..]), ("A", &b"m"[..]));
}

#[tokio::test]
async fn verbs_answer_with_the_contracts_status() {
    let git = Git::new().await;
    for (method, rest, body, status) in [
        ("POST", "init", json!({ "path": "r", "bare": true, "initial_branch": "m" }), 201),
        ("POST", "clone", json!({ "path": "r", "url": "https://h/r", "depth": 0 }), 200),
        ("POST", "add", json!({ "path": "r", "files": ["."] }), 200),
        ("POST", "checkout", json!({ "path": "r", "branch": "b" }), 200),
        ("POST", "reset", json!({ "path": "r", "mode": null, "files": null }), 200),
        ("POST", "restore", json!({ "path": "r", "files": ["a"] }), 200),
        ("POST", "branches", json!({ "path": "r", "name": "b" }), 201),
        ("DELETE", "branches", json!({ "path": "r", "name": "b" }), 204),
        ("POST", "config", json!({ "key": "a.b", "value": "c" }), 200),
    ] {
        git.says(0, "", "");
        let reply = git.call(method, rest, &body).await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (status, 0), "{rest}: {reply:?}");
    }
    for _ in 0..3 {
        git.says(0, "store\0", "");
    }
    let body = json!({ "username": "u", "password": "p" });
    assert_eq!(git.call("POST", "credentials", &body).await.status, StatusCode::OK);
    let body = json!({ "name": "n", "email": "e", "scope": "local", "path": "r" });
    git.says(0, "", "");
    assert_eq!(git.call("POST", "config/user", &body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn failures_have_their_codes() {
    let git = Git::new().await;
    for (said, status, code) in [
        ("fatal: not a git repository", 404, "GIT_REPO_NOT_FOUND"),
        ("fatal: Authentication failed for 'x'", 401, "GIT_AUTH_FAILED"),
        ("fatal: invalid reference: x", 404, "GIT_BRANCH_NOT_FOUND"),
        ("fatal: a branch named 'x' already exists", 409, "GIT_BRANCH_EXISTS"),
        ("! [rejected] x (fetch first)", 409, "GIT_PUSH_REJECTED"),
        ("error: would be overwritten by checkout", 409, "GIT_DIRTY_WORKTREE"),
        ("CONFLICT (content): x", 409, "GIT_MERGE_CONFLICT"),
        ("! [remote rejected] x", 422, "GIT_REMOTE_REJECTED"),
        ("fatal: unable to access 'x'", 502, "GIT_TRANSPORT_FAILED"),
        ("fatal: no one knows", 400, "BAD_REQUEST"),
    ] {
        git.says(128, "", said);
        let fault = git.call("POST", "checkout", &json!({ "path": "r", "branch": "b" })).await;
        assert_eq!(fault.json()["source"], "DAYTONA_DAEMON");
        let (found, word, message) = fault.fault();
        assert_eq!((found, word.as_str()), (status, code), "{said}");
        assert!(message.contains(said), "{message}");
    }
    // Without git in the image; with a shell that talks nonsense.
    git.edge.world.runtime(&Fuse::never()).answer(127, "");
    let (status, code, message) = git.get("status?path=r").await.fault();
    assert!(status == 501 && code == "NOT_IMPLEMENTED" && message.contains("git"), "{message}");
    git.edge.world.runtime(&Fuse::never()).answer(0, "what?");
    assert_eq!(git.get("status?path=r").await.fault().0, 400);
}

#[tokio::test]
async fn passwords_travel_by_environment_only_and_for_one_host() {
    let git = Git::new().await;
    git.says(0, "", "");
    let url = "https://someone:in%2Furl@Example.org:8443/r.git";
    git.call("POST", "clone", &json!({ "path": "r", "url": url, "password": "" })).await;
    git.says(0, "", "");
    let body = json!({ "path": "r", "url": "https://h/r", "username": "u", "password": "beside" });
    git.call("POST", "clone", &body).await;
    git.says(0, "main\n", "");
    git.says(0, "https://h/r\n", "");
    git.says(0, "", "");
    let body = json!({ "path": "r", "username": "u", "password": "beside" });
    assert_eq!(git.call("POST", "push", &body).await.status, StatusCode::OK);
    git.says(0, "", "");
    let body = json!({ "path": "r", "url": "ssh://h/r", "username": "u", "password": "beside" });
    git.call("POST", "clone", &body).await;
    let runs = git.runs();
    for run in &runs {
        let shown = format!("{:?} {} {:?}", run.argv, run.title, run.stdin);
        assert!(
            !shown.contains("beside") && !shown.contains("in%2Furl") && !shown.contains("in/url")
        );
    }
    let lent = |run: &ExecRequest| {
        let get = |key: &str| run.env.get(key).cloned().unwrap_or_default();
        (get("MAYFLY_GIT_PLACE"), get("MAYFLY_GIT_USER"), get("MAYFLY_GIT_PASSWORD"))
    };
    let of = |place: &str, user: &str, word: &str| (place.into(), user.into(), word.into());
    assert_eq!(lent(&runs[0]), of("https://example.org:8443", "someone", "in/url"));
    assert!(runs[0].argv.iter().any(|argument| argument == "https://Example.org:8443/r.git"));
    assert_eq!(lent(&runs[1]), of("https://h", "u", "beside"));
    assert_eq!(lent(&runs[4]), of("https://h", "u", "beside"));
    // Neither the questions before a push nor ssh learn it.
    for run in [&runs[2], &runs[3], &runs[5]] {
        assert_eq!(lent(run), of("", "", ""));
    }
}

#[tokio::test]
async fn what_is_no_argument_is_refused_by_field_before_anything_runs() {
    let git = Git::new().await;
    for (method, rest, body, field) in [
        ("POST", "clone", json!({ "path": "r", "url": "--upload-pack=id" }), "url"),
        ("POST", "clone", json!({ "path": "r", "url": "ext::sh -c id" }), "url"),
        ("POST", "clone", json!({ "path": "", "url": "/r" }), "path"),
        ("POST", "clone", json!({ "path": "r", "url": "/r", "branch": "-b" }), "branch"),
        ("POST", "clone", json!({ "path": "r", "url": "/r", "depth": -1 }), "depth"),
        ("POST", "clone", json!({ "path": "r", "url": "/r", "password": "a\nb" }), "password"),
        ("POST", "init", json!({ "path": "r", "initial_branch": "a b" }), "initial_branch"),
        ("POST", "add", json!({ "path": "r", "files": [] }), "files"),
        ("POST", "add", json!({ "path": "r", "files": ["a\u{0}b"] }), "files"),
        (
            "POST",
            "commit",
            json!({ "path": "r", "message": " ", "author": "a", "email": "e" }),
            "message",
        ),
        (
            "POST",
            "commit",
            json!({ "path": "r", "message": "m", "author": "a\nb", "email": "e" }),
            "author",
        ),
        ("POST", "push", json!({ "path": "r", "remote": "-r", "branch": "b" }), "remote"),
        ("POST", "pull", json!({ "path": "r", "branch": "--rebase" }), "branch"),
        ("POST", "reset", json!({ "path": "r", "mode": "harder" }), "mode"),
        ("POST", "reset", json!({ "path": "r", "target": "--hard" }), "target"),
        ("POST", "restore", json!({ "path": "r", "files": ["a"], "source": "-s" }), "source"),
        ("POST", "branches", json!({ "path": "r", "name": "--list" }), "name"),
        ("DELETE", "branches", json!({ "path": "r", "name": "a..b" }), "name"),
        ("POST", "remotes", json!({ "path": "r", "name": "o", "url": "https://u:p@h/r" }), "url"),
        ("POST", "config", json!({ "key": "--global", "value": "x" }), "key"),
        ("POST", "config", json!({ "key": "a.b", "value": "x", "scope": "local" }), "path"),
        ("POST", "config", json!({ "key": "a.b", "value": "x", "scope": "mine" }), "scope"),
        (
            "POST",
            "credentials",
            json!({ "username": "u", "password": "p", "host": "h/\nx" }),
            "host",
        ),
        (
            "POST",
            "credentials",
            json!({ "username": "u", "password": "p", "protocol": "ssh" }),
            "protocol",
        ),
    ] {
        let (status, _, message) = git.call(method, rest, &body).await.fault();
        assert!(status == 400 && message.starts_with(field), "{rest}: {status} {message}");
    }
    let logs = git.edge.get(&format!("/toolbox/{}/process/logs", git.id)).await.json();
    assert_eq!(logs["logs"], json!([]));
}
