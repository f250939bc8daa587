//! C6: a limit that cannot be enforced now is refused and the old one kept.

use mayfly_core::Kind;
use mayfly_core::ports::runtime::Runtime as _;

use crate::harness::Bench;

#[test]
fn c06_less_memory_than_is_in_use_is_refused() {
    let Some(bench) = Bench::full("C6", "memory limit that could be lowered") else { return };
    let mut spec = bench.spec();
    spec.resources.memory_gib = 2;
    let sandbox = bench.sandbox_of(spec.clone());
    let ready = sandbox.sh(
        "python3 -c \"import time; held = b'x' * (1200 << 20); open('/var/held', 'w').close(); time.sleep(60)\" >/dev/null 2>&1 &
while ! [ -e /var/held ]; do sleep 0.02; done; echo held",
    );
    assert_eq!(ready.text, "held\n");
    let mut less = spec.resources;
    less.memory_gib = 1;
    let refused = bench.wait(bench.runtime().resize(sandbox.id(), less)).unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict, "{refused:?}");
    assert!(refused.message().contains("memory") && refused.hint().is_some(), "{refused:?}");
    let alive = sandbox.sh("grep -l held /proc/[0-9]*/cmdline | wc -l");
    assert_ne!(alive.text.trim(), "0", "nothing was killed for it");
    // What can be enforced passes, and holds at once.
    bench.wait(bench.runtime().resize(sandbox.id(), spec.resources)).unwrap();
}
