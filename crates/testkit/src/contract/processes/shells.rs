//! Shells that run queued commands.

use bytes::Bytes;
use mayfly_core::process::{ShellCommand, Wiring};
use mayfly_core::{Code, Kind};

use super::{Host, Said, read, read_until};

pub(super) async fn run(host: &Host<'_>) {
    for argv in [&[][..], &["/bin/sh"][..]] {
        let shell = host.start(argv, Wiring::Shell).await;
        state(host, shell).await;
        streams(host, shell).await;
        input(host, shell).await;
        background(host, shell).await;
        end(host, shell).await;
    }
    let argv = ["/bin/sh"];
    let first = host.start(&argv, Wiring::Shell).await;
    let second = host.start(&argv, Wiring::Shell).await;
    host.run(first, "ONLY=first").await;
    assert_eq!(host.run(second, "echo \"<$ONLY>\"").await.text(), "<>\n", "shells are apart");
    kill(host, first).await;
    host.kill(second).await;
}

async fn state(host: &Host<'_>, shell: u64) {
    let seen = host.seen(shell).await.expect("what was started is listed");
    assert_eq!((seen.note.as_str(), seen.wiring), ("a note", Some(Wiring::Shell)));
    assert_eq!(host.run(shell, "echo \"$GIVEN\"; pwd").await.text(), "$(a) 'b'\n/\n");
    host.run(shell, "A=1; export B='two  words'; cd /tmp; f() { echo \"f $1\"; }").await;
    let said = host.run(shell, "echo $A \"$B\" $(pwd); f 2; printenv B").await;
    assert_eq!(said.text(), "1 two  words /tmp\nf 2\ntwo  words\n");
    assert_eq!(host.run(shell, "false").await.code, Some(1));
    assert_eq!(host.run(shell, "echo $?").await.text(), "1\n", "the last exit code is there");
    assert_eq!(host.run(shell, "(exit 77)").await.code, Some(77));
    // None of these ends the shell, or lets a command run past its end.
    for wrong in ["if then (", "echo 'open", "echo `", ". /no/such/file", "}", "echo )"] {
        let said = host.run(shell, wrong).await;
        assert_ne!(said.code, Some(0), "{wrong}: {said:?}");
    }
    let text =
        "cat <<'E'\na 'b' \"c\" $d `e` \\ \u{1} \u{7f} \u{e4}\nE\nfor i in 1 2; do\n echo $i\ndone";
    let said = host.run(shell, text).await;
    assert_eq!(said.text(), "a 'b' \"c\" $d `e` \\ \u{1} \u{7f} \u{e4}\n1\n2\n");
    let long = format!("echo {}; echo ${{#X}}", "y".repeat(300_000));
    let said = host.run(shell, &format!("X='{}'; {long}", "x'\\''".repeat(50_000))).await;
    assert_eq!(said.output.len(), 300_001 + 7, "long commands come whole");
    assert!(said.text().ends_with("y\n100000\n"), "quotes come as they are");
    for command in ["a\0b".to_owned(), "x".repeat((1 << 20) + 1)] {
        let command = ShellCommand { command, note: String::new() };
        let refused = host.processes.queue(host.sandbox, shell, command).await;
        assert_eq!(refused.expect_err("no shell could take it").kind(), Kind::Invalid);
    }
}

async fn streams(host: &Host<'_>, shell: u64) {
    let said = host
        .run(shell, "echo out; echo err >&2; echo out2; exit_code() { return 3; }; exit_code")
        .await;
    assert_eq!((said.text().as_str(), &said.error[..]), ("out\nout2\n", &b"err\n"[..]));
    assert_eq!(said.code, Some(3));
    let numbers = [
        host.queue(shell, "sleep 0.05; echo 1").await,
        host.queue(shell, "echo 2").await,
        host.queue(shell, "echo 3").await,
    ];
    assert!(numbers.is_sorted(), "numbers count up");
    let seen = host.seen(numbers[2]).await.expect("a queued command is listed");
    assert_eq!((seen.shell, seen.wiring, seen.note.as_str()), (Some(shell), None, "echo 3"));
    for (number, text) in numbers.into_iter().zip(["1\n", "2\n", "3\n"]) {
        assert_eq!(host.whole(number).await.text(), text, "output belongs to its command");
    }
    assert_eq!(host.seen(numbers[2]).await.and_then(|seen| seen.exit_code), Some(0));
    let descriptors = host.run(shell, "ls /proc/self/fd").await;
    assert_eq!(descriptors.text(), "0\n1\n2\n3\n", "nothing but the streams and the folder itself");
}

async fn input(host: &Host<'_>, shell: u64) {
    let reads = host.queue(shell, "read x; echo \"got $x\"").await;
    let waits = host.queue(shell, "read y; echo \"then $y\"").await;
    let early = host.processes.write(host.sandbox, waits, Bytes::from_static(b"no\n")).await;
    assert_eq!(early.expect_err("its turn has not come").kind(), Kind::Conflict);
    host.write(reads, b"one\nnever read\n").await;
    assert_eq!(host.whole(reads).await.text(), "got one\n");
    let late = host.processes.write(host.sandbox, reads, Bytes::from_static(b"no\n")).await;
    assert_eq!(late.expect_err("it is over").kind(), Kind::Gone);
    // It has begun when it says so to nobody but itself.
    let mut tries = 0;
    while let Err(error) =
        host.processes.write(host.sandbox, waits, Bytes::from_static(b"two\n")).await
    {
        assert_eq!(error.kind(), Kind::Conflict);
        tries += 1;
        assert!(tries < 1000, "its turn comes");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(host.whole(waits).await.text(), "then two\n", "input that was not read is gone");
}

async fn background(host: &Host<'_>, shell: u64) {
    let first = host.queue(shell, "(sleep 0.1; echo late) & echo now").await;
    let mut follower = host.follow(first, 0).await;
    let mut said = Said::default();
    while !read(&mut *follower, &mut said).await {}
    assert_eq!(said.text(), "now\n", "it is over when the shell is");
    // What comes between commands is kept with the one before.
    let mut tries = 0;
    while host.whole(first).await.text() != "now\nlate\n" {
        tries += 1;
        assert!(tries < 500, "{:?}", host.whole(first).await);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(host.run(shell, "wait; echo done").await.text(), "done\n");
}

async fn end(host: &Host<'_>, shell: u64) {
    let left = host.queue(shell, "sleep 0.02; exit 3").await;
    let unrun = host.queue(shell, "echo never").await;
    let said = (host.whole(left).await, host.whole(unrun).await);
    assert_eq!((said.0.code, said.1.code), (Some(3), Some(3)), "{said:?}");
    assert_eq!(said.1.text(), "", "what waited does not run");
    assert_eq!(host.whole(shell).await.code, Some(3));
    let command = ShellCommand { command: "true".to_owned(), note: String::new() };
    let gone = host.processes.queue(host.sandbox, shell, command).await.expect_err("it is over");
    assert_eq!((gone.kind(), gone.code()), (Kind::Gone, Some(Code::SessionEnded)));
    host.processes.kill(host.sandbox, shell).await.expect("ended = killed");
    for number in [left, unrun, shell] {
        host.processes.forget(host.sandbox, number).await.expect("an ended one is forgotten");
        assert!(host.seen(number).await.is_none());
    }
}

async fn kill(host: &Host<'_>, shell: u64) {
    let script = "setsid sh -c 'sleep 601 & echo begun; sleep 602' & wait";
    let running = host.queue(shell, script).await;
    let waiting = host.queue(shell, "echo never").await;
    let mut said = Said::default();
    read_until(&mut *host.follow(running, 0).await, &mut said, "begun").await;
    let error = host.processes.forget(host.sandbox, running).await.expect_err("it runs");
    assert_eq!(error.kind(), Kind::Conflict);
    host.kill(waiting).await;
    assert_eq!(host.whole(waiting).await.code, Some(137), "what waits can be killed alone");
    host.kill(shell).await;
    assert_eq!(host.whole(running).await.code, Some(137));
    assert_eq!(host.seen(shell).await.and_then(|seen| seen.exit_code), Some(137));
    let look = host.start(&["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"], Wiring::Pipes);
    let seen = host.whole(look.await).await.text();
    assert!(!seen.contains("sleep 60"), "grandchildren in sessions of their own die, too: {seen}");
}
