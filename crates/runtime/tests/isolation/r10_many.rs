//! R10: a hundred creates at once and hundreds of idle sandboxes: each is ready or refused, none half made.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use mayfly_core::ports::runtime::{Runtime as _, SandboxSpec};

use crate::census;
use crate::harness::{Bench, rootless, rounds, within};

fn create_at_once(bench: &Bench, specs: &[SandboxSpec]) -> usize {
    let next = AtomicUsize::new(0);
    let made = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..specs.len().min(100) {
            scope.spawn(|| {
                while let Some(spec) = specs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match bench.wait(bench.runtime().create(spec)) {
                        Ok(()) => drop(made.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => panic!("{error} {:?} {error:?}", error.hint()),
                    }
                }
            });
        }
    });
    made.into_inner()
}

#[test]
fn r10_a_hundred_creates_at_once_are_all_ready() {
    let Some(bench) = Bench::with("R10", |options| options.pool_bytes = Some(4 << 30)) else {
        return;
    };
    let wanted = rounds(500, 100);
    let specs: Vec<SandboxSpec> = (0..wanted).map(|_| bench.spec()).collect();
    assert_eq!(create_at_once(&bench, &specs), wanted);
    let listed = bench.wait(bench.runtime().list()).unwrap();
    assert_eq!(listed.len(), wanted);
    assert!(listed.iter().all(|seen| seen.running && !seen.frozen));
    // Each has its own process 1 and its own ids.
    let inspected: BTreeSet<(i32, u32)> =
        specs.iter().map(|spec| bench.runtime().inspect(spec.id).unwrap()).collect();
    assert_eq!(inspected.len(), wanted);
    let roots = inspected.iter().map(|(_, root)| root).collect::<BTreeSet<_>>().len();
    assert_eq!(roots, if rootless() { 1 } else { wanted });
    for spec in specs.iter().step_by(10) {
        let request = mayfly_core::process::ExecRequest {
            argv: vec!["/bin/hostname".to_owned()],
            title: String::new(),
            cwd: None,
            env: std::collections::BTreeMap::new(),
            stdin: bytes::Bytes::new(),
            timeout: crate::harness::COMMAND,
            max_output: 1 << 10,
        };
        let ran = bench.wait(bench.runtime().exec(spec.id, request)).unwrap();
        assert_eq!(ran.exit_code, 0);
    }
    std::thread::scope(|scope| {
        for part in specs.chunks(specs.len().div_ceil(16)) {
            let bench = &bench;
            scope.spawn(move || {
                for spec in part {
                    bench.wait(bench.runtime().destroy(spec.id)).unwrap();
                }
            });
        }
    });
    assert!(bench.wait(bench.runtime().list()).unwrap().is_empty());
    assert!(within(|| census::processes(bench.dir()).len() <= 2), "only parked ones are left");
}

#[test]
fn r10_two_hundred_commands_at_once_in_one_sandbox() {
    let Some(bench) = Bench::open("R10") else { return };
    let sandbox = bench.sandbox();
    std::thread::scope(|scope| {
        for number in 0..200 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                let script = format!("sleep 0.2; echo {number}");
                assert_eq!(sandbox.sh(&script).text, format!("{number}\n"));
            });
        }
    });
    let logs = bench.wait(bench.runtime().logs(sandbox.id())).unwrap();
    assert!((64..=264).contains(&logs.len()), "{}", logs.len());
    assert!(within(|| {
        let logs = bench.wait(bench.runtime().logs(sandbox.id())).unwrap();
        logs.iter().all(|log| log.exit_code == Some(0))
    }));
}

#[test]
fn r10_large_input_reaches_those_who_read_and_harms_nobody_else() {
    let Some(bench) = Bench::open("R10") else { return };
    let sandbox = bench.sandbox();
    let input = bytes::Bytes::from(vec![b'x'; 4 << 20]);
    let counted = sandbox.exec(&["/usr/bin/wc", "-c"], |request| request.stdin = input.clone());
    assert_eq!(&counted.unwrap().output[..], b"4194304\n");
    let echoed = sandbox.exec(&["/bin/cat"], |request| {
        request.stdin = input.clone();
        request.max_output = 8 << 20;
    });
    assert_eq!(echoed.unwrap().output, input, "input and output at once");
    let ignored = sandbox.exec(&["/bin/sh", "-c", "exec <&-; echo done"], |request| {
        request.stdin = input.slice(..1 << 20);
    });
    assert_eq!(&ignored.unwrap().output[..], b"done\n");
    let unread =
        sandbox.exec(&["/bin/sleep", "0.1"], |request| request.stdin = input.slice(..1 << 20));
    assert_eq!(unread.unwrap().exit_code, 0);
    let over =
        sandbox.exec(&["/bin/cat"], |request| request.stdin = vec![b'x'; (4 << 20) + 1].into());
    assert_eq!(over.unwrap_err().kind(), mayfly_core::Kind::Invalid);
}
