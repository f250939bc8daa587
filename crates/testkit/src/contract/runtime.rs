//! The runtime's contract, with programs that every host has.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mayfly_core::id::SandboxId;
use mayfly_core::limits::Resources;
use mayfly_core::network::{NetworkPolicy, cidrs};
use mayfly_core::ports::runtime::{Observed, Profile, Runtime, SandboxSpec};
use mayfly_core::process::{ExecOutcome, ExecRequest};
use mayfly_core::{Code, Kind, Result};
use uuid::Uuid;

/// Runs the whole suite; leaves nothing behind when it passes.
///
/// # Panics
/// When a promise is broken.
pub async fn runtime_contract(runtime: &dyn Runtime) {
    let spec = spec(runtime).await;
    life(runtime, &spec).await;
    processes(runtime, &spec).await;
    networks(runtime, &spec).await;
    pauses_and_sizes(runtime, &spec).await;
    stops_and_starts(runtime, &spec).await;
    end(runtime, &spec).await;
}

/// A small sandbox of the host's programs.
///
/// # Panics
/// When the runtime has no host source.
pub async fn spec(runtime: &dyn Runtime) -> SandboxSpec {
    SandboxSpec {
        id: SandboxId::from_uuid(Uuid::now_v7()),
        source: runtime.host_source().await.expect("there is a host source"),
        resources: Resources { cpu: 1, memory_gib: 1, disk_gib: 1 },
        user: "root".to_owned(),
        workdir: None,
        network: NetworkPolicy { block_all: !runtime.has_network(), ..NetworkPolicy::default() },
        volumes: Vec::new(),
        env: BTreeMap::from([
            ("FROM_SPEC".to_owned(), "spec".to_owned()),
            ("FROM_BOTH".to_owned(), "spec".to_owned()),
        ]),
    }
}

async fn life(runtime: &dyn Runtime, spec: &SandboxSpec) {
    runtime.create(spec).await.expect("create makes a sandbox");
    runtime.create(spec).await.expect("create may be repeated");
    let seen = seen(runtime, spec.id).await.expect("what was created is listed");
    assert!(seen.running && !seen.frozen, "a created sandbox runs");
    let count = runtime.list().await.expect("list").iter().filter(|s| s.id == spec.id).count();
    assert_eq!(count, 1, "a repeated create makes no second one");
    let places = runtime.places(spec.id).await.expect("places");
    assert!(places.home.starts_with('/') && places.workdir.starts_with('/'), "{places:?}");
    runtime.usage(spec.id).await.expect("usage of a running sandbox");
    let wait = tokio::time::timeout(Duration::from_millis(20), runtime.next_exit());
    assert!(wait.await.is_err(), "nothing ended yet");
}

async fn processes(runtime: &dyn Runtime, spec: &SandboxSpec) {
    let out = run(runtime, spec, &["echo", "hi", "there"]).await.expect("echo");
    assert_eq!((out.exit_code, &out.output[..]), (0, &b"hi there\n"[..]));
    let log = runtime.logs(spec.id).await.expect("logs").pop().expect("a command leaves a log");
    assert_eq!((log.process, log.exit_code, log.size), (out.process, Some(0), 9));
    assert_eq!(log.title, "contract");
    let part = runtime.read_log(spec.id, out.process, 3, 5).await.expect("read_log");
    assert_eq!(&part[..], b"there", "a log can be read from any offset");

    let failed = run(runtime, spec, &["false"]).await.expect("false runs");
    assert_eq!(failed.exit_code, 1);
    assert_ne!(failed.process, out.process, "every command has its own log");
    for (name, value) in [("FROM_SPEC", "spec\n"), ("FROM_BOTH", "call\n"), ("ODD", "$(a) 'b'\n")] {
        let out = run(runtime, spec, &["printenv", name]).await.expect("printenv");
        assert_eq!(out.output, value.as_bytes(), "environment: spec, then call, byte-exact");
    }
    let late = run(runtime, spec, &["sleep", "60"]).await.expect_err("a time limit ends a command");
    assert_eq!(late.code(), Some(Code::ProcessExecutionTimeout));
}

async fn networks(runtime: &dyn Runtime, spec: &SandboxSpec) {
    let listed =
        NetworkPolicy { cidrs: cidrs("1.1.1.0/24").expect("a range"), ..NetworkPolicy::default() };
    let set = runtime.set_network(spec.id, &listed).await;
    if runtime.has_network() {
        set.expect("a running sandbox takes another policy");
    } else {
        let refused = set.expect_err("a host without a network takes no list");
        assert_eq!(refused.kind(), Kind::Unavailable);
        assert!(refused.message().contains("`network`"), "{refused}");
    }
    for _ in 0..2 {
        let blocked = NetworkPolicy::blocked();
        runtime.set_network(spec.id, &blocked).await.expect("blocking, also repeated");
    }
    runtime.set_network(spec.id, &spec.network).await.expect("as it was");
    let unknown = SandboxId::from_uuid(Uuid::now_v7());
    runtime.set_network(unknown, &spec.network).await.expect("nothing runs, nothing to change");
    let page = runtime.network_audit(spec.id, None, 10).await.expect("the audit of a sandbox");
    assert!(page.items.is_empty(), "it reached for nothing: {page:?}");
    let refused = runtime.network_audit(spec.id, Some("nonsense"), 10).await;
    assert_eq!(refused.expect_err("no cursor").kind(), Kind::Invalid);
}

async fn pauses_and_sizes(runtime: &dyn Runtime, spec: &SandboxSpec) {
    if runtime.profile() != Profile::Full {
        let refused = runtime.freeze(spec.id).await.expect_err("pausing needs a freezer");
        assert_eq!(refused.kind(), Kind::Unsupported);
    }
    for _ in (0..2).filter(|_| runtime.profile() == Profile::Full) {
        runtime.freeze(spec.id).await.expect("freeze, also repeated");
        let seen = seen(runtime, spec.id).await.expect("a frozen sandbox is listed");
        assert!(seen.running && seen.frozen, "{seen:?}");
    }
    for _ in (0..2).filter(|_| runtime.profile() == Profile::Full) {
        runtime.thaw(spec.id).await.expect("thaw, also repeated");
        assert!(!seen(runtime, spec.id).await.expect("listed").frozen);
    }
    let larger = Resources { cpu: 1, memory_gib: 1, disk_gib: 2 };
    for _ in 0..2 {
        runtime.resize(spec.id, larger).await.expect("resize, also repeated");
    }
    assert_eq!(run(runtime, spec, &["echo", "on"]).await.expect("runs on").exit_code, 0);
}

async fn stops_and_starts(runtime: &dyn Runtime, spec: &SandboxSpec) {
    let path = "/tmp-contract.txt";
    let mut file = runtime.files().write(spec.id, path).await.expect("write");
    file.write(Bytes::from_static(b"kept")).await.expect("write bytes");
    file.commit().await.expect("commit");
    for _ in 0..2 {
        runtime.stop(spec.id, Duration::from_millis(200)).await.expect("stop, also repeated");
        let seen = seen(runtime, spec.id).await.expect("a stopped sandbox is listed");
        assert!(!seen.running && !seen.frozen, "{seen:?}");
    }
    assert!(run(runtime, spec, &["echo"]).await.is_err(), "nothing runs in a stopped sandbox");
    for _ in 0..2 {
        runtime.archive(spec.id).await.expect("archive, also repeated");
    }
    for _ in 0..2 {
        runtime.start(spec).await.expect("start, also repeated");
        assert!(seen(runtime, spec.id).await.expect("listed").running);
    }
    let mut file = runtime.files().read(spec.id, path).await.expect("files survive a stop");
    assert_eq!(file.size(), 4);
    assert_eq!(&file.next().await.expect("bytes")[..], b"kept");
    drop(file);
    if runtime.profile() == Profile::Full {
        runtime.freeze(spec.id).await.expect("freeze");
    }
    runtime.stop(spec.id, Duration::ZERO).await.expect("a frozen sandbox can be stopped");
    assert!(!seen(runtime, spec.id).await.expect("listed").running);
    let wait = tokio::time::timeout(Duration::from_millis(20), runtime.next_exit());
    assert!(wait.await.is_err(), "an end that was asked for is not reported");
}

async fn end(runtime: &dyn Runtime, spec: &SandboxSpec) {
    runtime.start(spec).await.expect("start");
    for _ in 0..3 {
        runtime.destroy(spec.id).await.expect("destroy, also when it is gone");
        assert!(seen(runtime, spec.id).await.is_none(), "what was destroyed is gone");
    }
    assert!(run(runtime, spec, &["echo"]).await.is_err(), "nothing runs in a destroyed sandbox");
    let both = tokio::join!(runtime.create(spec), runtime.create(spec));
    assert!(both.0.is_ok() && both.1.is_ok(), "create may be repeated at once: {both:?}");
    let both = tokio::join!(runtime.destroy(spec.id), runtime.destroy(spec.id));
    assert!(both.0.is_ok() && both.1.is_ok(), "destroy may be repeated at once: {both:?}");
    assert!(seen(runtime, spec.id).await.is_none());
}

async fn seen(runtime: &dyn Runtime, id: SandboxId) -> Option<Observed> {
    runtime.list().await.expect("list").into_iter().find(|seen| seen.id == id)
}

async fn run(runtime: &dyn Runtime, spec: &SandboxSpec, argv: &[&str]) -> Result<ExecOutcome> {
    let request = ExecRequest {
        argv: argv.iter().map(ToString::to_string).collect(),
        title: "contract".to_owned(),
        cwd: None,
        env: BTreeMap::from([
            ("FROM_BOTH".to_owned(), "call".to_owned()),
            ("ODD".to_owned(), "$(a) 'b'".to_owned()),
        ]),
        stdin: Bytes::new(),
        timeout: if argv[0] == "sleep" {
            Duration::from_millis(40)
        } else {
            Duration::from_secs(20)
        },
        max_output: 1 << 20,
    };
    runtime.exec(spec.id, request).await
}
