//! L2: after many lives, also with failures in between, the host has exactly what it had before.

use std::collections::BTreeSet;
use std::path::PathBuf;

use mayfly_core::Kind;
use mayfly_core::ports::runtime::Runtime as _;
use rustix::process::{Pid, Signal};

use crate::census;
use crate::harness::{Bench, rootless, rounds, within};

/// Ready namespaces of a bench.
const READY: usize = 2;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Census {
    descriptors: usize,
    processes: usize,
    namespaces: usize,
    groups: usize,
    loops: usize,
    mounts: usize,
    forkserver_mounts: usize,
    files: BTreeSet<String>,
    pool: BTreeSet<String>,
}

pub(crate) fn count(bench: &Bench) -> Census {
    let dir = bench.dir();
    bench.wait(bench.runtime().warmed(READY));
    // The watch on a sandbox that ended is let go of a moment later.
    let watched = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let links = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().contains("pidfd")).count()
    };
    let settled = || {
        // The process of all networks is watched like them.
        watched() == READY + 1
            && census::processes(dir).len() == READY
            && census::namespaces(dir).len() == census::namespaces_of(READY)
    };
    assert!(within(settled), "{:?}", census::processes(dir));
    let forkserver = bench.runtime().forkserver_pid().unwrap().to_string();
    let root = format!("/proc/{forkserver}/root");
    let pool = census::files(&PathBuf::from(format!("{root}{}/pool", dir.display())));
    Census {
        descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
        processes: census::processes(dir).len(),
        namespaces: census::namespaces(dir).len(),
        groups: census::groups(dir).len(),
        loops: census::loops(dir).len(),
        mounts: census::mounts("self", &dir.to_string_lossy()).len(),
        forkserver_mounts: census::mounts(&forkserver, &dir.to_string_lossy()).len(),
        files: census::files(dir),
        pool: pool.into_iter().map(|path| path.replace(&root, "")).collect(),
    }
}

fn kill(pid: i32) {
    let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

/// One life: made, used, ended in one of the ways that there are.
fn live_once(bench: &Bench, round: usize) {
    let sandbox = bench.sandbox();
    assert_eq!(sandbox.sh("echo x > /var/x; sleep 100 >/dev/null 2>&1 & echo on").text, "on\n");
    match round % 5 {
        0 => {
            sandbox.stop();
            sandbox.start().unwrap();
        }
        1 if !rootless() => bench.wait(bench.runtime().freeze(sandbox.id())).unwrap(),
        2 => {
            kill(sandbox.pid());
            let exit = bench.wait(bench.runtime().next_exit());
            assert_eq!(exit.id, sandbox.id());
        }
        _ => {}
    }
    bench.wait(bench.runtime().destroy(sandbox.id())).unwrap();
}

#[test]
fn l02_lives_leave_nothing() {
    let Some(bench) = Bench::open("L2") else { return };
    live_once(&bench, 0);
    let before = count(&bench);
    for round in 0..rounds(1000, 50) {
        live_once(&bench, round);
    }
    assert_eq!(count(&bench), before);
}

#[test]
fn l02_a_start_right_after_a_sudden_end_starts() {
    let Some(bench) = Bench::open("L2") else { return };
    let sandbox = bench.sandbox();
    for round in 0..rounds(500, 25) {
        let pid = sandbox.pid();
        kill(pid);
        // Before or after its end was noticed: whatever is acknowledged runs.
        assert!(within(|| !census::processes(bench.dir()).iter().any(|(alive, _)| *alive == pid)));
        sandbox.start().unwrap();
        assert_ne!(sandbox.pid(), pid, "round {round}");
        assert_eq!(sandbox.run(&["/bin/echo", "on"]).text, "on\n");
    }
}

#[test]
fn l02_a_create_for_an_unknown_user_is_refused_and_leaves_nothing() {
    let Some(bench) = Bench::open("L2") else { return };
    live_once(&bench, 3);
    let before = count(&bench);
    for (user, named) in [("nobody-here", "nobody-here"), ("root:no-group", "no-group")] {
        let mut spec = bench.spec();
        spec.user = user.to_owned();
        let refused = bench.wait(bench.runtime().create(&spec)).unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid, "{refused}");
        assert!(refused.message().contains(named), "{refused}");
        assert!(bench.wait(bench.runtime().list()).unwrap().is_empty(), "{user}");
    }
    let mut spec = bench.spec();
    spec.user = "4242".to_owned();
    let sandbox = bench.sandbox_of(spec);
    assert_eq!(sandbox.run(&["/usr/bin/id", "-u"]).text, "4242\n", "a number needs no account");
    bench.wait(bench.runtime().destroy(sandbox.id())).unwrap();
    assert_eq!(count(&bench), before);
}

#[test]
fn l02_failures_leave_nothing_either() {
    let Some(bench) = Bench::open("L2") else { return };
    live_once(&bench, 0);
    let before = count(&bench);
    for round in 0..rounds(300, 20) {
        match round % 4 {
            0 => kill(i32::try_from(bench.runtime().forkserver_pid().unwrap()).unwrap()),
            // Parked processes, before they became sandboxes.
            1 => {
                let parked = census::processes(bench.dir());
                for (pid, _) in &parked {
                    kill(*pid);
                }
                assert!(within(|| {
                    let alive = census::processes(bench.dir());
                    !parked.iter().any(|dead| alive.contains(dead))
                }));
            }
            2 => {
                let mut spec = bench.spec();
                spec.env.insert("LARGE".to_owned(), "x".repeat(20_000));
                let refused = bench.wait(bench.runtime().create(&spec)).unwrap_err();
                assert_eq!(refused.kind(), Kind::Invalid, "{refused}");
            }
            _ => {
                // In the middle of creates.
                let pid = i32::try_from(bench.runtime().forkserver_pid().unwrap()).unwrap();
                std::thread::scope(|scope| {
                    for _ in 0..4 {
                        scope.spawn(|| live_once(&bench, 3));
                    }
                    scope.spawn(move || kill(pid));
                });
            }
        }
        live_once(&bench, 3);
        assert!(bench.wait(bench.runtime().list()).unwrap().is_empty());
    }
    assert_eq!(count(&bench), before);
}
