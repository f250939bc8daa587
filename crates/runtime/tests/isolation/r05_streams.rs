//! R5 for what stays: floods of terminals and sessions cost bounded memory and disk, with and without readers.

use std::fs;
use std::time::Duration;

use mayfly_core::process::Wiring;

use crate::harness::{Bench, Sandbox, within};
use crate::staying::{Said, Staying, TERMINAL};

/// Resident memory of process 1, bytes.
fn resident(sandbox: &Sandbox<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

#[test]
fn r05_floods_without_readers_go_on_in_flat_memory() {
    let Some(bench) = Bench::open("R5") else { return };
    let sandbox = bench.sandbox();
    let staying = Staying { bench: &bench, id: sandbox.id() };
    let shell = staying.start(&[], Wiring::Shell);
    let flood = "head -c 60000000 /dev/zero | tr '\\0' x";
    let before = resident(&sandbox);
    let numbers = [
        staying.start(&["sh", "-c", &format!("stty raw; {flood}")], TERMINAL),
        staying.queue(shell, &format!("{flood}; {flood} >&2; echo end")),
        staying.start(&["sh", "-c", flood], Wiring::Pipes),
    ];
    for number in numbers {
        assert_eq!(staying.code(number), 0);
        let said = staying.whole(number);
        assert!(said.total >= 60_000_000, "{}", said.total);
    }
    let held = resident(&sandbox).saturating_sub(before);
    assert!(held < 2 << 20, "process 1 holds {held} bytes more");
    let folder = bench.folder(sandbox.id()).join("logs");
    let size: u64 = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            std::os::unix::fs::MetadataExt::blocks(&entry.unwrap().metadata().unwrap()) * 512
        })
        .sum();
    assert!(size < 36 << 20, "three rings of 10 MiB take {size} bytes");
}

#[test]
fn r05_a_reader_that_stops_reading_holds_up_nobody() {
    let Some(bench) = Bench::open("R5") else { return };
    let sandbox = bench.sandbox();
    let staying = Staying { bench: &bench, id: sandbox.id() };
    let shell = staying.start(&[], Wiring::Shell);
    let flood = "echo begin; head -c 60000000 /dev/zero | tr '\\0' x";
    let number = staying.queue(shell, flood);
    let mut stalled = staying.follow(number);
    let mut said = Said::default();
    staying.read(&mut *stalled, &mut said);
    let next = staying.queue(shell, "echo next");
    // Meanwhile others are served.
    for _ in 0..20 {
        assert_eq!(sandbox.run(&["/bin/echo", "on"]).text, "on\n");
    }
    assert_eq!(staying.code(number), 0);
    assert_eq!(staying.whole(next).text(), "next\n");
    assert!(resident(&sandbox) < 8 << 20);
    while said.code.is_none() {
        staying.read(&mut *stalled, &mut said);
    }
    assert_eq!(said.total, 60_000_006, "it reads what is left, to the end");
}

#[test]
fn r05_an_endless_background_leaves_a_session_usable() {
    let Some(bench) = Bench::open("R5") else { return };
    let sandbox = bench.sandbox();
    let staying = Staying { bench: &bench, id: sandbox.id() };
    let shell = staying.start(&[], Wiring::Shell);
    staying.queue(shell, "yes & yes >&2 &");
    for number in 0..10 {
        let number = staying.queue(shell, &format!("echo round {number}"));
        assert_eq!(staying.code(number), 0);
    }
    staying.kill(shell);
    assert!(within(|| !sandbox.sh("cat /proc/[0-9]*/comm").says("yes")), "all of it is gone");
}

#[test]
fn r05_input_that_nobody_reads_is_bounded() {
    let Some(bench) = Bench::open("R5") else { return };
    let sandbox = bench.sandbox();
    let staying = Staying { bench: &bench, id: sandbox.id() };
    let number = staying.start(&["sleep", "600"], Wiring::Pipes);
    let before = resident(&sandbox);
    let piece = "x".repeat(200 << 10);
    let mut taken = 0;
    // Not waited for longer than it takes to see that it is not taken.
    while taken < 100
        && bench
            .wait(async {
                let input = bytes::Bytes::copy_from_slice(piece.as_bytes());
                let writing = staying.processes().write(staying.id, number, input);
                tokio::time::timeout(Duration::from_millis(300), writing).await
            })
            .is_ok_and(|written| written.is_ok())
    {
        taken += 1;
    }
    assert!((1..=3).contains(&taken), "{taken} pieces were taken");
    assert!(resident(&sandbox) < before + (2 << 20));
    staying.kill(number);
}
