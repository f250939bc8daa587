//! Output: from every offset, before, during and after, more than is kept, and to readers who do not read.

use std::time::Duration;

use bytes::Bytes;
use mayfly_core::Kind;
use mayfly_core::process::Wiring;

use super::{Host, Said, read, read_all, read_until};

/// Bytes that are kept at least, of one process.
const KEPT: u64 = 10 << 20;

pub(super) async fn run(host: &Host<'_>) {
    offsets(host).await;
    input_and_end(host).await;
    more_than_is_kept(host).await;
    nothing_lost(host).await;
    stalled(host).await;
}

async fn offsets(host: &Host<'_>) {
    let script =
        "read go; for i in 1 2 3 4 5; do echo out$i; echo error$i >&2; sleep 0.02; done; exit 4";
    let number = host.start(&["sh", "-c", script], Wiring::Pipes).await;
    let mut before = host.follow(number, 0).await;
    let nothing = before.now(100).await.expect("now");
    assert_eq!((nothing.pieces.len(), nothing.exit_code), (0, None), "now does not wait");
    // A wait that is given up loses nothing.
    assert!(tokio::time::timeout(Duration::from_millis(20), before.next(100)).await.is_err());
    let nothing = before.now(100).await.expect("now behind a wait that was given up");
    assert_eq!(nothing.pieces.len(), 0, "now does not wait for answers to earlier waits either");
    host.write(number, b"go\n").await;
    let mut said = Said::default();
    read_until(&mut *before, &mut said, "out1").await;
    let mut during = host.follow(number, 0).await;
    while !read(&mut *before, &mut said).await {}
    let seen_during = read_all(&mut *during).await;
    let after = host.whole(number).await;
    assert_eq!(said.text(), "out1\nout2\nout3\nout4\nout5\n");
    assert_eq!(String::from_utf8_lossy(&said.error), "error1\nerror2\nerror3\nerror4\nerror5\n");
    assert_eq!((said.code, said.from, said.missed), (Some(4), Some(0), 0));
    assert_eq!((&seen_during, &after), (&said, &said), "before, during and after give the same");
    for from in 0..=said.next {
        let rest = read_all(&mut *host.follow(number, from).await).await;
        let length = (rest.output.len() + rest.error.len()) as u64;
        assert_eq!((rest.from, length), (Some(from), said.next - from), "from every offset");
        assert!(said.output.ends_with(&rest.output) && said.error.ends_with(&rest.error));
    }
    let mut small = host.follow(number, 0).await;
    let mut pieces = Vec::new();
    loop {
        let output = small.next(3).await.expect("output");
        assert!(output.pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>() <= 3);
        pieces.extend(output.pieces.into_iter().flat_map(|piece| piece.bytes.to_vec()));
        if output.exit_code.is_some() {
            break;
        }
    }
    assert_eq!(pieces.len() as u64, said.next, "small pieces add up");
}

async fn input_and_end(host: &Host<'_>) {
    let number = host.start(&["cat"], Wiring::Pipes).await;
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    host.write(number, &bytes).await;
    host.write(number, b"").await;
    let said = host.whole(number).await;
    assert_eq!((said.output == bytes, said.code), (true, Some(0)), "bytes come back as they were");
    let error = host.processes.write(host.sandbox, number, Bytes::from_static(b"x")).await;
    assert_eq!(error.expect_err("it is over").kind(), Kind::Gone);
}

async fn more_than_is_kept(host: &Host<'_>) {
    let script = "head -c 15000000 /dev/zero | tr '\\0' x; echo error >&2; echo end";
    let number = host.start(&["sh", "-c", script], Wiring::Pipes).await;
    let mut tries = 0;
    while host.seen(number).await.is_some_and(|seen| seen.exit_code.is_none()) {
        tries += 1;
        assert!(tries < 4000, "nobody reads, and it ends all the same");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let said = host.whole(number).await;
    let total = 15_000_000 + 6 + 4;
    assert_eq!(said.next, total);
    let from = said.from.expect("something was read");
    assert!(from > 0 && total - from >= KEPT - (1 << 20), "the last of it is kept: {from}");
    assert!(said.output.ends_with(b"xxxend\n") && said.error == b"error\n");
    host.processes.forget(host.sandbox, number).await.expect("forget");
}

/// A reader that rests for a moment now and then keeps up, unless the machine itself does not let it: one of a few
/// must. Without anybody waiting for it a moment is enough to write more than is kept.
async fn nothing_lost(host: &Host<'_>) {
    let mut missed = Vec::new();
    while missed.len() < 3 {
        let script = "read go; head -c 209715200 /dev/zero; echo end";
        let number = host.start(&["sh", "-c", script], Wiring::Pipes).await;
        let mut follower = host.follow(number, 0).await;
        host.write(number, b"go\n").await;
        let (mut said, mut total, mut rest) = (Said::default(), 0, 0);
        loop {
            let ended = read(&mut *follower, &mut said).await;
            total += said.output.len() as u64;
            if ended {
                break;
            }
            said.output.clear();
            if said.next >= rest {
                rest = said.next + (15 << 20);
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        }
        assert_eq!((said.from, total + said.missed), (Some(0), 209_715_204), "gaps are told");
        host.processes.forget(host.sandbox, number).await.expect("forget");
        if said.missed == 0 {
            return;
        }
        missed.push(said.missed);
    }
    panic!("a reader that keeps up loses output: {missed:?} bytes");
}

async fn stalled(host: &Host<'_>) {
    let script = "echo begin; read go; head -c 60000000 /dev/zero | tr '\\0' x";
    let number = host.start(&["sh", "-c", script], Wiring::Pipes).await;
    let mut stalled = host.follow(number, 0).await;
    let mut said = Said::default();
    read_until(&mut *stalled, &mut said, "begin").await;
    host.write(number, b"go\n").await;
    // Not read from here on.
    let mut tries = 0;
    while host.seen(number).await.is_some_and(|seen| seen.exit_code.is_none()) {
        tries += 1;
        assert!(tries < 4000, "a reader who does not read holds nobody up for long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while !read(&mut *stalled, &mut said).await {}
    assert!(said.missed > 0, "what it did not read in time is gone");
    assert_eq!(said.next, 60_000_006);
    host.processes.forget(host.sandbox, number).await.expect("forget");
}
