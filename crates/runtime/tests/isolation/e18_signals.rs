//! E18: signals stay inside, and nothing is signalled by a number that changed hands.

use std::time::Duration;

use crate::harness::Bench;
use crate::outside::{Victim, unprotected};

fn attack(pids: &[u32]) -> String {
    format!(
        "
for pid in {pids:?}:
    attempt(f'kill {{pid}}', lambda: os.kill(pid, 9))
    attempt(f'group {{pid}}', lambda: os.kill(-pid, 9))
    attempt(f'thread {{pid}}', lambda: signal.pidfd_send_signal(os.pidfd_open(pid), 9))
"
    )
}

#[test]
fn e18_signals_stay_inside() {
    let Some(bench) = Bench::open("E18") else { return };
    let (sandbox, neighbour) = (bench.sandbox(), bench.sandbox());
    let mut victim = Victim::start();
    let forkserver = bench.runtime().forkserver_pid().unwrap();
    let neighbour_pid = u32::try_from(neighbour.pid()).unwrap();
    let pids = [victim.pid(), forkserver, neighbour_pid, std::process::id()];
    let ran = sandbox.python(&attack(&pids));
    assert_eq!(ran.text.lines().count(), 12);
    for line in ran.text.lines() {
        assert!(line.ends_with("=ESRCH"), "{line}");
    }
    // Everybody that can be seen, and process 1 by name.
    for script in ["kill -9 -1", "kill -STOP 1; kill -9 1; kill -TERM 1; kill -STOP -1"] {
        let _ = sandbox.exec(&["/bin/sh", "-c", script], |request| {
            request.timeout = Duration::from_secs(1);
        });
    }
    assert!(victim.is_alive());
    assert_eq!(neighbour.sh("echo alive").text, "alive\n");
    assert_eq!(sandbox.sh("echo alive").text, "alive\n");
    // The same from where nothing is in the way.
    assert_eq!(
        unprotected(&attack(&[victim.pid()])).value(&format!("kill {}", victim.pid())),
        "OK"
    );
    assert!(victim.has_ended());
}

#[test]
fn e18_a_killed_command_takes_no_stranger_along() {
    let Some(bench) = Bench::open("E18") else { return };
    let sandbox = bench.sandbox();
    let started = sandbox.sh("setsid sleep 60 > /dev/null 2>&1 & echo $!");
    let stranger = started.text.trim().to_owned();
    for _ in 0..5 {
        // Many short lives, so that numbers move on, and an end by force in the middle of them.
        let churn = "while :; do /bin/true; done";
        let ran = sandbox.exec(&["/bin/sh", "-c", churn], |request| {
            request.timeout = Duration::from_millis(40);
        });
        assert!(ran.is_err());
    }
    assert_eq!(sandbox.sh(&format!("kill -0 {stranger} && echo alive")).text, "alive\n");
}
