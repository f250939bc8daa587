//! C5: on a host that runs sandboxes every required layer holds, each line with what a live probe saw.

use std::collections::BTreeSet;

use mayfly_core::ports::runtime::{LayerState, Runtime as _};

use crate::harness::{Bench, rootless};

#[test]
fn c05_every_required_layer_holds_here() {
    let Some(bench) = Bench::open("C5") else { return };
    let before = bench.wait(bench.runtime().list()).unwrap();
    let doctor = bench.wait(bench.runtime().doctor());
    for line in &doctor {
        assert!(!line.evidence.is_empty(), "{line:?}");
        assert_eq!(line.remedy.is_some(), line.state != LayerState::Holds, "{line:?}");
        assert!(!line.required || line.state == LayerState::Holds, "{line:?}");
    }
    let names: BTreeSet<&str> = doctor.iter().map(|line| line.name.as_str()).collect();
    assert_eq!(names.len(), doctor.len(), "every layer once: {names:?}");
    for name in ["user namespace", "network namespace", "system call filter", "Landlock"] {
        assert!(names.contains(name), "{name} is missing in {names:?}");
    }
    let limits: &[&str] = if rootless() {
        &["resource limits", "tmpfs sizes", "memory limit", "cpu limit", "quota"]
    } else {
        &["pids", "memory", "cpu", "quota"]
    };
    for part in limits {
        assert!(names.iter().any(|name| name.contains(part)), "{part} is missing in {names:?}");
    }
    assert_eq!(bench.wait(bench.runtime().list()).unwrap(), before, "probes leave nothing");
}
