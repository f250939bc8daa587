//! TCP connections of a sandbox, end to end.

use std::io::{Read as _, Write as _};

use crate::world::{TIME, World, echo, eventually};

#[test]
fn a_public_policy_reaches_the_internet_over_both_families() {
    let mut world = World::new();
    world.serve(7, echo);
    let sandbox = world.sandbox("mode public");
    for to in ["1.1.1.1:7", "93.184.216.34:7", "[2606:4700::1111]:7", "[64:ff9b::101:101]:7"] {
        assert!(sandbox.reaches(to), "{to}");
    }
    eventually("all are closed", || world.statistics(&sandbox).connections == 0);
    let counters = world.statistics(&sandbox);
    assert_eq!((counters.up, counters.down, counters.allowed, counters.denied), (16, 16, 4, 0));
}

#[test]
fn both_ends_inside_go_by_reno() {
    let mut world = World::new();
    world.serve(7, echo);
    let sandbox = world.sandbox("mode public");
    for to in ["1.1.1.1:7", "[2606:4700::1]:7"] {
        let _open = sandbox.connect(to).unwrap();
        let list = || std::process::Command::new("ss").arg("-tinHO").output().unwrap().stdout;
        let sockets = String::from_utf8(sandbox.inside(list)).unwrap();
        assert!(sockets.lines().count() > 0, "{to}");
        for socket in sockets.lines().filter(|line| line.starts_with("ESTAB")) {
            assert!(socket.contains(" reno "), "{to}: {socket}");
        }
    }
}

#[test]
fn a_blocked_sandbox_reaches_nothing() {
    let mut world = World::new();
    world.serve(7, echo);
    let sandbox = world.sandbox("mode block");
    for to in ["1.1.1.1:7", "[2606:4700::1111]:7", "10.0.0.2:7", "203.0.113.1:7"] {
        assert!(!sandbox.reaches(to), "{to}");
    }
    let counters = world.statistics(&sandbox);
    assert_eq!((counters.up, counters.allowed, counters.denied), (0, 0, 4));
}

#[test]
fn half_a_close_is_passed_on_and_every_byte_with_it() {
    const LENGTH: usize = 100 * 1024 * 1024;
    let mut world = World::new();
    // Answers only after the end: what was received, summed.
    world.serve(9, |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let sandbox = world.sandbox("mode public");
    let mut stream = sandbox.connect("1.1.1.1:9").unwrap();
    let sent: Vec<u8> = (0..LENGTH).map(|at| (at * 31 + at / 4099).to_le_bytes()[0]).collect();
    stream.write_all(&sent).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    eventually("both are counted", || {
        let counters = world.statistics(&sandbox);
        (counters.up, counters.down) == (LENGTH as u64, LENGTH as u64)
    });
}

#[test]
fn a_slow_reader_holds_the_sender_back_in_bounded_memory() {
    const LENGTH: usize = 64 * 1024 * 1024;
    let mut world = World::new();
    world.serve(9, |mut stream| {
        let chunk = vec![b'x'; 1024 * 1024];
        for _ in 0..LENGTH / chunk.len() {
            stream.write_all(&chunk).unwrap();
        }
    });
    let sandbox = world.sandbox("mode public");
    let before = resident(world.pid());
    let mut streams: Vec<_> = (0..8).map(|_| sandbox.connect("1.1.1.1:9").unwrap()).collect();
    let mut moved = 0;
    eventually("the relay stands still", || {
        let former = std::mem::replace(&mut moved, world.statistics(&sandbox).down);
        std::thread::sleep(std::time::Duration::from_millis(50));
        moved > 0 && former == moved
    });
    assert!(moved < 8 * LENGTH as u64 / 2, "{moved} bytes went on with nobody reading");
    assert!(resident(world.pid()) - before < 8 * 1024, "KiB");
    let mut all = Vec::new();
    streams[0].read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), LENGTH);
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_refused_destination_and_a_denied_one_end_in_a_reset() {
    let mut world = World::new();
    let sandbox = world.sandbox("mode public");
    for to in ["1.1.1.1:7", "127.0.0.1:7", "169.254.169.254:80"] {
        assert!(!sandbox.reaches(to), "{to}");
    }
    eventually("both are recorded", || world.audit(&sandbox).len() == 3);
    let lines: Vec<String> = world.audit(&sandbox).iter().map(ToString::to_string).collect();
    assert!(
        lines.iter().any(|line| line.contains("tcp 1.1.1.1 7 - unreachable 0 0 1")),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.contains("169.254.169.254 80 - metadata")), "{lines:?}");
}

#[test]
fn connections_of_one_sandbox_are_bounded() {
    let mut world = World::new();
    world.serve(7, echo);
    let (few, other) = (world.sandbox("mode public\nconnections 2"), world.sandbox("mode public"));
    let held = [few.connect("1.1.1.1:7").unwrap(), few.connect("1.1.1.2:7").unwrap()];
    eventually("both are open", || world.statistics(&few).connections == 2);
    assert!(!few.reaches("1.1.1.1:7") && other.reaches("1.1.1.1:7"));
    drop(held);
    eventually("both are gone", || world.statistics(&few).connections == 0);
    assert!(few.reaches("1.1.1.1:7"));
}

#[test]
fn connections_leave_no_descriptor_behind() {
    const COUNT: usize = 10_000;
    let mut world = World::new();
    world.serve(7, echo);
    let sandbox = world.sandbox("mode public");
    assert!(sandbox.reaches("1.1.1.1:7"));
    eventually("it is closed", || world.statistics(&sandbox).connections == 0);
    let before = world.settled_descriptors();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                for index in 0..COUNT / 4 {
                    let (high, low) = (1 + index / 250, 1 + index % 250);
                    assert!(sandbox.reaches(&format!("1.{}.{high}.{low}:7", part + 1)));
                }
            });
        }
    });
    eventually("all are closed", || world.statistics(&sandbox).connections == 0);
    assert_eq!(world.statistics(&sandbox).allowed, COUNT as u64 + 1);
    // Pipes are kept for later, a bounded number of them.
    assert!(world.descriptors() <= before + 2 * 64, "{} of {before}", world.descriptors());
}

#[test]
fn a_connection_that_ends_on_one_side_ends_on_the_other() {
    let mut world = World::new();
    world.serve(7, echo);
    world.serve(9, drop);
    let sandbox = world.sandbox("mode public");
    let mut stream = sandbox.connect("1.1.1.1:9").unwrap();
    stream.set_read_timeout(Some(TIME)).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "the server has ended");
    drop(stream);
    drop(sandbox.connect("1.1.1.1:7").unwrap());
    eventually("both are closed", || world.statistics(&sandbox).connections == 0);
}
