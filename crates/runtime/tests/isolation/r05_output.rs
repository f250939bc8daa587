//! R5: endless output costs bounded memory, is cut with a mark, and a slow or absent reader blocks nobody.

use std::fs;
use std::pin::pin;
use std::time::Duration;

use mayfly_core::Code;
use mayfly_core::ports::runtime::Runtime as _;
use mayfly_core::process::ExecRequest;

use crate::harness::{Bench, Sandbox, within};

const LOG: u64 = 10 << 20;

/// Resident memory of a process, bytes.
fn resident(pid: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

fn request(script: &str) -> ExecRequest {
    ExecRequest {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        title: script.to_owned(),
        cwd: None,
        env: std::collections::BTreeMap::new(),
        stdin: bytes::Bytes::new(),
        timeout: Duration::from_secs(20),
        max_output: 1 << 20,
    }
}

fn log_size(bench: &Bench, sandbox: &Sandbox<'_>, title: &str) -> (u64, u64, Option<i32>) {
    let logs = bench.wait(bench.runtime().logs(sandbox.id())).unwrap();
    let log = logs.iter().rfind(|log| log.title == title).unwrap();
    (log.process, log.size, log.exit_code)
}

/// The mark of a cut log, in the file that only the pool's mount shows.
fn is_cut(bench: &Bench, sandbox: &Sandbox<'_>, process: u64) -> bool {
    let log = bench.folder(sandbox.id()).join(format!("logs/{process}"));
    fs::read(log).unwrap()[24] == 1
}

#[test]
fn r05_a_hundred_megabytes_are_cut_with_a_mark_in_flat_memory() {
    let Some(bench) = Bench::open("R5") else { return };
    let sandbox = bench.sandbox();
    sandbox.run(&["/bin/true"]);
    let before = (resident("self"), resident(&sandbox.pid().to_string()));
    let script = "head -c 104857600 /dev/zero | tr '\\0' x";
    let outcome = bench.wait(bench.runtime().exec(sandbox.id(), request(script))).unwrap();
    let after = (resident("self"), resident(&sandbox.pid().to_string()));
    assert_eq!(outcome.exit_code, 0);
    assert!(outcome.truncated);
    let text = String::from_utf8_lossy(&outcome.output);
    assert!(text[..1 << 20].bytes().all(|byte| byte == b'x'));
    assert!(text[1 << 20..].contains("output cut after 1048576 bytes"), "{}", &text[1 << 20..]);
    assert!(after.0 < before.0 + (16 << 20), "server: {before:?} {after:?}");
    assert!(after.1 < before.1 + (2 << 20), "process 1: {before:?} {after:?}");
    assert!(within(|| log_size(&bench, &sandbox, script).2 == Some(0)), "its end is in the log");
    let (process, size, _) = log_size(&bench, &sandbox, script);
    assert_eq!((process, size), (outcome.process, LOG), "the log keeps 10 MiB");
    assert!(is_cut(&bench, &sandbox, process), "a cut log is marked");
    let small = bench.wait(bench.runtime().exec(sandbox.id(), request("echo x"))).unwrap();
    assert_eq!(log_size(&bench, &sandbox, "echo x").1, 2);
    assert!(!is_cut(&bench, &sandbox, small.process), "a whole log is not");
}

#[test]
fn r05_an_endless_command_ends_at_its_time_limit() {
    let Some(bench) = Bench::open("R5") else { return };
    let sandbox = bench.sandbox();
    let mut endless = request("yes");
    endless.timeout = Duration::from_millis(400);
    let error = bench.wait(bench.runtime().exec(sandbox.id(), endless)).unwrap_err();
    assert_eq!(error.code(), Some(Code::ProcessExecutionTimeout), "{error}");
    let left = sandbox.sh("for p in /proc/[0-9]*; do cat $p/comm; done 2>/dev/null");
    assert!(!left.says("yes"), "{}", left.text);
    assert!(resident(&sandbox.pid().to_string()) < 8 << 20);
}

#[test]
fn r05_a_slow_reader_holds_up_only_its_own_command() {
    let Some(bench) = Bench::open("R5") else { return };
    let sandbox = bench.sandbox();
    let script = "head -c 30000000 /dev/zero | tr '\\0' x; echo end";
    bench.wait(async {
        let mut ask = request(script);
        ask.max_output = 64 << 20;
        let mut slow = pin!(bench.runtime().exec(sandbox.id(), ask));
        let early = tokio::time::timeout(Duration::from_millis(20), &mut slow).await;
        assert!(early.is_err(), "nobody has read enough of it");
        // Not polled from here on: nothing is read.
        for _ in 0..20 {
            let other = bench.runtime().exec(sandbox.id(), request("echo other")).await.unwrap();
            assert_eq!(&other.output[..], b"other\n");
        }
        let held = resident(&sandbox.pid().to_string());
        assert!(held < 8 << 20, "process 1 holds {held} bytes");
        let whole = slow.await.unwrap();
        assert_eq!(whole.output.len(), 30_000_004, "nothing is lost");
        assert!(whole.output.ends_with(b"xend\n") && !whole.truncated);
    });
}

#[test]
fn r05_the_last_bytes_of_much_output_arrive() {
    let Some(bench) = Bench::open("R5") else { return };
    let sandbox = bench.sandbox();
    bench.wait(async {
        // The end fits what lies between command and reader, so the command is gone before it is read.
        let mut ask = request("head -c 3000000 /dev/zero; sleep 0.2; head -c 250000 /dev/zero");
        ask.max_output = 64 << 20;
        let mut slow = pin!(bench.runtime().exec(sandbox.id(), ask));
        assert!(tokio::time::timeout(Duration::from_millis(150), &mut slow).await.is_err());
        // On a busy machine less was read and the command still waits: then this ends all the same.
        let alone = "i=0; while [ $(ls -d /proc/[0-9]* | wc -l) -gt 4 ] && [ $((i += 1)) -lt 100 ]; do :; done";
        bench.runtime().exec(sandbox.id(), request(alone)).await.unwrap();
        assert_eq!(slow.await.unwrap().output.len(), 3_250_000);
    });
}

#[test]
fn r05_a_reader_that_leaves_stops_neither_command_nor_log() {
    let Some(bench) = Bench::open("R5") else { return };
    let sandbox = bench.sandbox();
    let script = "head -c 3000000 /dev/zero | tr '\\0' x; sleep 0.1; echo end > /tmp/end";
    bench.wait(async {
        let left = bench.runtime().exec(sandbox.id(), request(script));
        assert!(tokio::time::timeout(Duration::from_millis(10), left).await.is_err());
    });
    assert!(within(|| sandbox.get("/tmp/end").is_ok()), "the command goes on to its end");
    assert!(within(|| log_size(&bench, &sandbox, script).2 == Some(0)), "its end is in the log");
    let (process, size, _) = log_size(&bench, &sandbox, script);
    assert_eq!(size, 3_000_000);
    let tail = bench.wait(bench.runtime().read_log(sandbox.id(), process, 2_999_990, 100)).unwrap();
    assert_eq!(&tail[..], b"xxxxxxxxxx");
}

#[test]
fn r05_a_flooding_daemon_leaves_turns_to_others() {
    let Some(bench) = Bench::open("R5") else { return };
    let sandbox = bench.sandbox();
    // The shell ends at once; what it left writes to the same pipe for ever.
    assert_eq!(sandbox.sh("yes & yes &").code, 0);
    for _ in 0..20 {
        assert_eq!(sandbox.run(&["/bin/echo", "on"]).text, "on\n");
    }
    assert!(resident(&sandbox.pid().to_string()) < 8 << 20);
}
