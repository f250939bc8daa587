//! Sets of namespaces made ahead: each becomes a sandbox, none is thrown away.

use mayfly_core::ports::runtime::Runtime as _;

use crate::harness::{Bench, rootless};

/// As many as a full shelf of the default configuration holds, and some more.
const SETS: usize = 72;

#[test]
fn every_prepared_set_of_namespaces_becomes_a_sandbox() {
    let Some(bench) = Bench::with("namespaces", |options| options.namespaces = SETS) else {
        return;
    };
    bench.wait(bench.runtime().warmed(SETS));
    let mut sandboxes = Vec::new();
    for wanted in 0..SETS {
        let sandbox = bench.sandbox();
        if rootless() {
            // All have the same ids, so a gap does not show.
            sandboxes.push(sandbox);
            continue;
        }
        // Sets are taken in the order of their slots; one that failed would leave a gap.
        let slot = (sandbox.root_id() - 0x2000_0000) / 65_536;
        assert_eq!(usize::try_from(slot).unwrap(), wanted, "a set was thrown away");
        sandboxes.push(sandbox);
    }
    assert_eq!(bench.wait(bench.runtime().list()).unwrap().len(), SETS);
}
