//! Terminals.

use bytes::Bytes;
use mayfly_core::Kind;
use mayfly_core::process::{Window, Wiring};

use super::{Host, Said, read_all, read_until};

const SIZE: Wiring = Wiring::Terminal(Window { columns: 91, rows: 27 });

/// Says when it is in the foreground for sure, and that it was interrupted; the quotes keep the echo apart.
const WAITS: &[u8] =
    b"sh -c 'trap \"echo cau\"\"ght; exit 33\" INT; echo be\"\"gun; while :; do sleep 0.01; done'\n";

pub(super) async fn run(host: &Host<'_>) {
    let terminal = host.start(&["/bin/sh", "-i"], SIZE).await;
    let mut follower = host.follow(terminal, 0).await;
    let mut said = Said::default();
    host.write(terminal, b"stty size; tty; echo t=$TERM\n").await;
    for text in ["echo t=$TERM", "27 91", "/dev/pts/", "t=xterm-256color"] {
        read_until(&mut *follower, &mut said, text).await;
    }
    assert!(said.error.is_empty(), "all output of a terminal is one stream");
    let window = Window { columns: 100, rows: 40 };
    host.processes.resize(host.sandbox, terminal, window).await.expect("resize");
    assert_eq!(
        host.seen(terminal).await.and_then(|seen| seen.wiring),
        Some(Wiring::Terminal(window))
    );
    host.write(terminal, b"stty size\n").await;
    read_until(&mut *follower, &mut said, "40 100").await;
    host.write(terminal, WAITS).await;
    read_until(&mut *follower, &mut said, "begun").await;
    host.write(terminal, b"\x03").await;
    read_until(&mut *follower, &mut said, "caught").await;
    host.write(terminal, b"echo code=$?\n").await;
    read_until(&mut *follower, &mut said, "code=33").await;
    host.write(terminal, b"exit 5\n").await;
    let rest = read_all(&mut *follower).await;
    assert_eq!(rest.code, Some(5));
    let whole = host.whole(terminal).await.output;
    assert_eq!(whole, [said.output, rest.output].concat(), "what was followed is what is kept");
    let gone = [
        host.processes.write(host.sandbox, terminal, Bytes::from_static(b"x")).await,
        host.processes.resize(host.sandbox, terminal, window).await,
    ];
    for answer in gone {
        assert_eq!(answer.expect_err("it is over").kind(), Kind::Gone);
    }
    host.processes.signal(host.sandbox, terminal, 15).await.expect("ended = signalled");
    login(host).await;
}

/// Without a program it is a login shell, which can be killed with all of it.
async fn login(host: &Host<'_>) {
    let terminal = host.start(&[], SIZE).await;
    let mut follower = host.follow(terminal, 0).await;
    let mut said = Said::default();
    host.write(terminal, b"echo \"<$0>\"\n").await;
    read_until(&mut *follower, &mut said, "<-").await;
    host.write(terminal, WAITS).await;
    read_until(&mut *follower, &mut said, "begun").await;
    host.processes.signal(host.sandbox, terminal, 2).await.expect("signal");
    read_until(&mut *follower, &mut said, "caught").await;
    host.kill(terminal).await;
    assert_eq!(read_all(&mut *follower).await.code, Some(137));
}
