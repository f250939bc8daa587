//! E7: a command holds its three standard descriptors, and process 1 nothing that can be taken.

use std::fs;

use mayfly_core::process::Wiring;

use crate::harness::{Bench, OPEN, Sandbox};
use crate::staying::{Staying, TERMINAL};

const ATTEMPT: &str = "
attempt('list', lambda: 'OK' if os.listdir('/proc/1/fd') else 'empty')
attempt('info', lambda: 'OK' if os.listdir('/proc/1/fdinfo') else 'empty')
def take():
    for number in range(64):
        target = call('pidfd_getfd', call('pidfd_open', 1, 0), number, 0)
        if target >= 0:
            return 'OK'
    return name(target)
attempt('take', take)
def logs():
    for number in range(64):
        try:
            os.listdir(f'/proc/1/fd/{number}/..')
            return 'OK'
        except OSError as error:
            last = error
    raise last
attempt('logs', logs)
";

fn descriptors(sandbox: &Sandbox<'_>) -> Vec<String> {
    let folder = fs::read_dir(format!("/proc/{}/fd", sandbox.pid())).unwrap();
    let link = |entry: fs::DirEntry| fs::read_link(entry.path()).unwrap().display().to_string();
    folder.map(|entry| link(entry.unwrap())).collect()
}

#[test]
fn e07_only_standard_descriptors_and_the_control_channel() {
    let Some(bench) = Bench::open("E7") else { return };
    let sandbox = bench.sandbox();
    let list = "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))";
    // The last number is the folder being listed.
    for _ in 0..3 {
        let ran = sandbox.run(&["/usr/bin/python3", "-I", "-c", list]);
        assert_eq!(ran.text, "[0, 1, 2, 3]\n");
    }
    let fed = sandbox.exec(&["/usr/bin/python3", "-I", "-c", list], |request| {
        request.stdin = bytes::Bytes::from_static(b"x");
    });
    assert_eq!(fed.unwrap().output, "[0, 1, 2, 3]\n");
    let ran = sandbox.python(ATTEMPT);
    for attempt in ["list", "info", "take", "logs"] {
        assert!(["EACCES", "EPERM"].contains(&ran.value(attempt)), "{attempt} {}", ran.text);
    }
    // Process 1 itself: the null device, its own event sources, its listener, the folder of logs and the
    // logs of what runs; nothing of the server.
    for link in descriptors(&sandbox) {
        let known = ["/null", "socket:[", "anon_inode:", "pipe:[", "/logs", "memory:", "/memfd:"];
        assert!(known.iter().any(|known| link.contains(known)), "{link}");
        assert!(!link.contains("pool.btrfs") && !link.contains("/run/"), "{link}");
    }
}

#[test]
fn e07_what_stays_has_its_streams_only() {
    let Some(bench) = Bench::open("E7") else { return };
    let sandbox = bench.sandbox();
    let staying = Staying { bench: &bench, id: sandbox.id() };
    let list = "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))";
    let argv = ["/usr/bin/python3", "-I", "-c", list];
    for wiring in [Wiring::Pipes, TERMINAL] {
        let said = staying.whole(staying.start(&argv, wiring)).text();
        assert_eq!(said.trim_end(), "[0, 1, 2, 3]", "{wiring:?}");
    }
    for shell in [&[][..], &["/bin/sh"][..]] {
        let shell = staying.start(shell, Wiring::Shell);
        let command = format!("/usr/bin/python3 -I -c \"{list}\" & wait");
        for _ in 0..2 {
            let said = staying.whole(staying.queue(shell, &command)).text();
            assert_eq!(said, "[0, 1, 2, 3]\n");
        }
        // Its own script and status are its own; nothing else of process 1 is there.
        let links = staying.whole(staying.queue(shell, "ls -l /proc/$$/fd")).text();
        for link in links.lines().filter_map(|line| line.split(" -> ").nth(1)) {
            assert!(link.starts_with("pipe:["), "{links}");
        }
    }
}

#[test]
fn e07_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened("E7", OPEN) else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    for attempt in ["list", "take", "logs"] {
        assert_eq!(ran.value(attempt), "OK", "{attempt}");
    }
}
