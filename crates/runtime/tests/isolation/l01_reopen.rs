//! L1: sandboxes live on when their server goes, and the next one finds them as they were.
//!
//! Kills at random moments are in the test program `crash` beside this one.

use std::time::Duration;

use mayfly_core::id::SandboxId;
use mayfly_core::ports::runtime::{Observed, Runtime as _};

use crate::harness::{Bench, rootless, within};

fn seen(bench: &Bench, id: SandboxId) -> Option<Observed> {
    bench.wait(bench.runtime().list()).unwrap().into_iter().find(|seen| seen.id == id)
}

fn exec(bench: &Bench, id: SandboxId, script: &str) -> String {
    let request = mayfly_core::process::ExecRequest {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        title: script.to_owned(),
        cwd: None,
        env: std::collections::BTreeMap::new(),
        stdin: bytes::Bytes::new(),
        timeout: crate::harness::COMMAND,
        max_output: 1 << 20,
    };
    let ran = bench.wait(bench.runtime().exec(id, request)).unwrap();
    String::from_utf8_lossy(&ran.output).into_owned()
}

#[test]
fn l01_a_new_server_finds_processes_files_and_logs() {
    let Some(mut bench) = Bench::open("L1") else { return };
    let mut spec = bench.spec();
    spec.env.insert("KEPT".to_owned(), "yes".to_owned());
    let (id, stopped, frozen) = (spec.id, bench.spec().id, bench.spec().id);
    bench.sandbox_of(spec);
    for other in [stopped, frozen] {
        let mut spec = bench.spec();
        spec.id = other;
        bench.sandbox_of(spec);
    }
    let counter = "(while :; do date +%N > /var/tick; sleep 0.01; done) >/dev/null 2>&1 & echo $!";
    let pid = exec(&bench, id, counter);
    exec(&bench, id, "echo kept > /var/file; echo said");
    bench.wait(bench.runtime().stop(stopped, Duration::ZERO)).unwrap();
    if !rootless() {
        bench.wait(bench.runtime().freeze(frozen)).unwrap();
    }
    let before = bench.runtime().inspect(id).unwrap();
    bench.reopen();
    assert_eq!(bench.runtime().inspect(id), Some(before), "the same process 1");
    assert_eq!(bench.wait(bench.runtime().list()).unwrap().len(), 3);
    assert!(seen(&bench, id).is_some_and(|seen| seen.running && !seen.frozen));
    assert!(seen(&bench, stopped).is_some_and(|seen| !seen.running));
    assert!(seen(&bench, frozen).is_some_and(|seen| seen.running && seen.frozen != rootless()));
    assert_eq!(exec(&bench, id, &format!("kill -0 {} && echo alive", pid.trim())), "alive\n");
    let tick = exec(&bench, id, "cat /var/tick");
    assert!(within(|| exec(&bench, id, "cat /var/tick") != tick), "its processes run on");
    assert_eq!(exec(&bench, id, "cat /var/file; echo $KEPT"), "kept\nyes\n");
    let logs = bench.wait(bench.runtime().logs(id)).unwrap();
    let log = logs.iter().find(|log| log.title.ends_with("echo said")).unwrap();
    assert_eq!(log.exit_code, Some(0));
    let text = bench.wait(bench.runtime().read_log(id, log.process, 0, 100)).unwrap();
    assert_eq!(&text[..], b"said\n");
    if !rootless() {
        bench.wait(bench.runtime().thaw(frozen)).unwrap();
    }
    assert_eq!(exec(&bench, frozen, "echo on"), "on\n");
}

#[test]
fn l01_output_while_no_server_runs_is_kept() {
    let Some(mut bench) = Bench::open("L1") else { return };
    let spec = bench.spec();
    let id = spec.id;
    bench.sandbox_of(spec);
    let script = "sleep 0.2; echo first; sleep 0.5; echo second";
    bench.wait(async {
        let request = mayfly_core::process::ExecRequest {
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            title: script.to_owned(),
            cwd: None,
            env: std::collections::BTreeMap::new(),
            stdin: bytes::Bytes::new(),
            timeout: crate::harness::COMMAND,
            max_output: 1 << 20,
        };
        let left = bench.runtime().exec(id, request);
        assert!(tokio::time::timeout(Duration::from_millis(40), left).await.is_err());
    });
    bench.reopen();
    let ended = || {
        let logs = bench.wait(bench.runtime().logs(id)).unwrap();
        logs.iter().any(|log| log.title == script && log.exit_code == Some(0))
    };
    assert!(within(ended), "its end is in the log");
    let text = bench.wait(bench.runtime().read_log(id, 1, 0, 100)).unwrap();
    assert_eq!(&text[..], b"first\nsecond\n");
}

#[test]
fn l01_commands_cut_off_with_their_sandbox_are_over() {
    let Some(mut bench) = Bench::open("L1") else { return };
    let kill = |pid| {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    };
    for way in ["stop", "kill", "kill without a server"] {
        let spec = bench.spec();
        let id = spec.id;
        bench.sandbox_of(spec);
        // The shell ends, and with it the call; a second command is left by its caller.
        bench.wait(async {
            let request = mayfly_core::process::ExecRequest {
                argv: ["/bin/sh", "-c", "echo begun; sleep 100"].map(str::to_owned).to_vec(),
                title: "long".to_owned(),
                cwd: None,
                env: std::collections::BTreeMap::new(),
                stdin: bytes::Bytes::new(),
                timeout: crate::harness::COMMAND,
                max_output: 1 << 20,
            };
            let left = bench.runtime().exec(id, request);
            assert!(tokio::time::timeout(Duration::from_millis(40), left).await.is_err());
        });
        let code = || {
            let logs = bench.wait(bench.runtime().logs(id)).unwrap();
            logs.iter().find(|log| log.title == "long").unwrap().exit_code
        };
        assert!(within(|| code().is_none() && seen(&bench, id).is_some()), "it runs");
        let pid = bench.runtime().inspect(id).unwrap().0;
        match way {
            "stop" => bench.wait(bench.runtime().stop(id, Duration::ZERO)).unwrap(),
            "kill" => {
                kill(pid);
                assert_eq!(bench.wait(bench.runtime().next_exit()).id, id);
            }
            _ => bench.reopen_after(|| kill(pid)),
        }
        let logs = bench.wait(bench.runtime().logs(id)).unwrap();
        let log = logs.iter().find(|log| log.title == "long").unwrap();
        assert_eq!((log.exit_code, log.size), (Some(137), 6), "{way}");
    }
}

#[test]
fn l01_a_sandbox_too_busy_to_answer_is_found_all_the_same() {
    let Some(mut bench) = Bench::with("L1", |options| options.ceilings.pids = 500) else { return };
    let spec = bench.spec();
    let id = spec.id;
    bench.sandbox_of(spec);
    // Three hundred busy processes share one core with process 1; they begin all at once.
    exec(
        &bench,
        id,
        "python3 -c \"import os
waits, starts = os.pipe()
for _ in range(300):
    if os.fork() == 0:
        os.close(starts)
        os.read(waits, 1)
        while True: pass\" >/dev/null 2>&1",
    );
    let before = bench.runtime().inspect(id).unwrap();
    bench.reopen();
    assert_eq!(bench.runtime().inspect(id), Some(before));
}
