//! C1: every layer that the kernel does not give stops the start with its name, the reason and a remedy.
//!
//! A system call filter on the test's own thread, inherited by all that it starts, plays a kernel without
//! the layer. That the same start succeeds without the filter is shown by every other test.

use std::collections::BTreeMap;

use mayfly_core::Kind;
use mayfly_core::network::NetworkPolicy;
use mayfly_core::ports::runtime::{LayerState, Runtime as _, SandboxSpec};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::harness::{Bench, only_full};

pub(crate) const ENOSYS: u32 = 38;
pub(crate) const EPERM: u32 = 1;
#[cfg(target_arch = "x86_64")]
pub(crate) mod number {
    pub(crate) const CLONE: i64 = 56;
    pub(crate) const PIVOT_ROOT: i64 = 155;
    pub(crate) const UNSHARE: i64 = 272;
    pub(crate) const SECCOMP: i64 = 317;
    pub(crate) const BPF: i64 = 321;
}
#[cfg(target_arch = "aarch64")]
pub(crate) mod number {
    pub(crate) const CLONE: i64 = 220;
    pub(crate) const PIVOT_ROOT: i64 = 41;
    pub(crate) const UNSHARE: i64 = 97;
    pub(crate) const SECCOMP: i64 = 277;
    pub(crate) const BPF: i64 = 280;
}
pub(crate) const OPEN_TREE: i64 = 428;
const MOUNT_SETATTR: i64 = 442;
pub(crate) const LANDLOCK_CREATE: i64 = 444;
pub(crate) const NEW_USER: u64 = 0x1000_0000;
pub(crate) const NEW_NETWORK: u64 = 0x4000_0000;

/// Refuses one system call to this thread and all that it starts from now on; with a flag, only calls
/// whose first argument has it.
pub(crate) fn refuse(call: i64, flag: Option<u64>, error: u32) {
    let rules = flag.map_or_else(Vec::new, |flag| {
        let has = SeccompCmpOp::MaskedEq(flag);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, has, flag).unwrap();
        vec![SeccompRule::new(vec![condition]).unwrap()]
    });
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(error),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// Starts a sandbox on such a kernel and judges the refusal.
fn refused_without(layer: &str, call: i64, flag: Option<u64>, error: u32) {
    if !only_full(
        "C1",
        "way to play such a kernel and still map ids; root does it for him in c01_of_users",
    ) {
        return;
    }
    refuse(call, flag, error);
    let Some(bench) = Bench::open("C1") else { return };
    judge(&bench, layer, error);
}

/// A create is refused with the layer, the reason and a remedy, and the doctor says the same.
pub(crate) fn judge(bench: &Bench, layer: &str, error: u32) {
    // A kernel without namespaces has no network for them either, which would be told first.
    let spec = SandboxSpec { network: NetworkPolicy::blocked(), ..bench.spec() };
    let refused = bench.wait(bench.runtime().create(&spec)).expect_err(layer);
    assert_eq!(refused.kind(), Kind::Unavailable, "{refused:?}");
    assert!(refused.message().contains(layer), "names the layer: {refused}");
    let reason = std::io::Error::from_raw_os_error(error.cast_signed()).to_string();
    assert!(refused.message().contains(&reason), "gives the reason: {refused}");
    assert!(refused.hint().is_some(), "{refused:?}");
    assert!(bench.wait(bench.runtime().list()).unwrap().is_empty(), "nothing half made");
    let doctor = bench.wait(bench.runtime().doctor());
    let missing: Vec<_> =
        doctor.iter().filter(|line| line.required && line.state != LayerState::Holds).collect();
    assert!(
        missing.iter().any(|line| line.evidence.contains(layer) && line.remedy.is_some()),
        "the doctor tells it too: {missing:?}"
    );
}

#[test]
fn c01_user_namespaces() {
    refused_without("user namespace", number::CLONE, Some(NEW_USER), EPERM);
}

#[test]
fn c01_network_and_cgroup_namespaces() {
    refused_without("network and cgroup namespaces", number::UNSHARE, Some(NEW_NETWORK), EPERM);
}

#[test]
fn c01_the_system_call_filter() {
    refused_without("system call filter", number::SECCOMP, None, ENOSYS);
}

#[test]
fn c01_landlock() {
    refused_without("Landlock", LANDLOCK_CREATE, None, ENOSYS);
}

#[test]
fn c01_idmapped_mounts() {
    refused_without("idmapped mount", MOUNT_SETATTR, None, ENOSYS);
}

#[test]
fn c01_mounts_by_descriptor() {
    refused_without("layer", OPEN_TREE, None, ENOSYS);
}

#[test]
fn c01_pivot_root() {
    refused_without("pivot_root", number::PIVOT_ROOT, None, EPERM);
}
