//! E1: no process of a sandbox holds a capability over the host, and set-id programs gain nothing.

use std::fs;

use mayfly_init::protocol::{WEAK_CAPABILITIES, WEAK_NEW_PRIVILEGES, WEAK_USER};

use crate::harness::{Bench, Sandbox};

/// What platform contract, section 8, lets sandboxes keep; all act on their own ids and files only.
const KEPT: u64 =
    1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 31;

fn sets(status: &str) -> Vec<(String, u64)> {
    status
        .lines()
        .filter_map(|line| line.strip_prefix("Cap")?.split_once(":\t"))
        .map(|(name, mask)| (name.to_owned(), u64::from_str_radix(mask, 16).unwrap()))
        .collect()
}

fn set_id_program(sandbox: &Sandbox<'_>) -> String {
    // A copy of `id` that is set-user-id root, run by an ordinary user.
    let ran = sandbox.sh("cp /usr/bin/id /usr/local/bin/rid && chmod 4755 /usr/local/bin/rid");
    assert_eq!(ran.code, 0, "{}", ran.text);
    let script = "os.setgroups([]); os.setgid(1000); os.setuid(1000)
os.execv('/usr/local/bin/rid', ['rid'])";
    sandbox.python(script).text
}

#[test]
fn e01_no_process_holds_a_capability_over_the_host() {
    let Some(bench) = Bench::open("E1") else { return };
    let sandbox = bench.sandbox();
    let inside = sandbox.sh("cat /proc/self/status; echo; cat /proc/1/status");
    let outside = fs::read_to_string(format!("/proc/{}/status", sandbox.pid())).unwrap();
    for status in [&inside.text, &outside] {
        let found = sets(status);
        assert!(found.len() >= 5, "{status}");
        for (name, mask) in found {
            assert_eq!(mask & !KEPT, 0, "{name} {mask:x}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        assert!(status.contains("Seccomp:\t2"), "{status}");
    }
    // Nothing is handed down from how the server was started.
    assert!(inside.text.contains("SigIgn:\t0000000000000000"), "{}", inside.text);
    // Root inside is nobody outside, and its capabilities belong to a user namespace of its own.
    assert!(sandbox.root_id() >= 65_536);
    let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    assert_ne!(space(&sandbox.pid().to_string()), space("self"));
    let text = set_id_program(&sandbox);
    assert!(text.contains("uid=1000") && !text.contains("euid=0"), "{text}");
}

#[test]
fn e01_shows_on_a_weakened_sandbox() {
    let weak = WEAK_USER | WEAK_CAPABILITIES | WEAK_NEW_PRIVILEGES;
    let Some(bench) = Bench::weakened("E1", weak) else { return };
    let sandbox = bench.sandbox();
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.pid())).unwrap();
    assert!(sets(&status).iter().any(|(_, mask)| mask & !KEPT != 0), "{status}");
    // Where set-id programs are allowed, the copy of `id` is root.
    let Some(bench) = Bench::with("E1", |options| options.allow_setuid = true) else { return };
    let text = set_id_program(&bench.sandbox());
    assert!(text.contains("euid=0"), "{text}");
}
