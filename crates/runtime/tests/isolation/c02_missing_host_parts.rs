//! C1, C2, C6, C7: hosts without a controller, a device or a program refuse with its name; hosts with a
//! reduced bounding set run.
//!
//! Each case runs this program again in a mount namespace of its own, where the part is hidden.

use std::path::Path;

use mayfly_core::Kind;
use mayfly_core::ports::runtime::{LayerState, Runtime as _};
use mayfly_runtime::local::{LocalRuntime, Options};

use crate::harness::Bench;
use crate::outside::{is_inner, passes_apart};

/// Whether this is the inner run. The outer one starts it behind `script`, in which `$1` is an empty folder,
/// and demands that it passes.
fn inside(test: &str, script: &str) -> bool {
    if is_inner() {
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        println!("SKIP {test}: root");
        return false;
    }
    let empty = tempfile::tempdir().unwrap();
    let whole = format!("set -e\nfolder=\"$1\"\nshift\n{script}\nexec \"$@\"");
    passes_apart(test, &whole, vec![empty.path().into()]);
    false
}

/// Opens a runtime that must be refused; checks that no half a pool is left.
fn refusal() -> mayfly_core::Error {
    let folder = tempfile::tempdir().unwrap();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut options = Options::new(folder.path());
    options.pool_bytes = Some(512 << 20);
    let error = tokio.block_on(LocalRuntime::open(options)).expect_err("a part is missing");
    for left in ["pool.btrfs", "pool.new"] {
        assert!(!folder.path().join(left).exists(), "{left}");
    }
    error
}

#[test]
fn c01_a_missing_cgroup_controller_is_named() {
    let pids = Path::new("/sys/fs/cgroup/pids");
    if !pids.exists() {
        return println!(
            "SKIP C1: no version 1 hierarchy of its own for `pids` that could be hidden"
        );
    }
    let test = "c02_missing_host_parts::c01_a_missing_cgroup_controller_is_named";
    if !inside(test, "umount /sys/fs/cgroup/pids") {
        return;
    }
    let Some(bench) = Bench::open("C1") else { return };
    let refused = bench.wait(bench.runtime().create(&bench.spec())).unwrap_err();
    // C6: a limit that cannot be enforced is refused, not ignored.
    assert_eq!(refused.kind(), Kind::Unavailable, "{refused:?}");
    assert!(refused.message().contains("`pids`"), "{refused}");
    assert!(refused.hint().is_some());
    assert!(bench.wait(bench.runtime().list()).unwrap().is_empty(), "nothing half made");
    let doctor = bench.wait(bench.runtime().doctor());
    let line = doctor.iter().find(|line| line.name.contains("pids")).unwrap();
    assert!(line.required && line.state == LayerState::Absent && line.remedy.is_some(), "{line:?}");
}

#[test]
fn c02_a_missing_formatter_is_named() {
    let test = "c02_missing_host_parts::c02_a_missing_formatter_is_named";
    let hide = "for place in /usr/sbin /sbin /usr/local/sbin; do
    if [ -e $place/mkfs.btrfs ]; then mount --bind \"$folder\" $place; fi
done";
    if !inside(test, hide) {
        return;
    }
    let refused = refusal();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(refused.message().contains("mkfs.btrfs"), "{refused}");
    assert!(refused.hint().is_some_and(|hint| hint.contains("btrfs-progs")), "{refused:?}");
}

#[test]
fn c02_a_broken_formatter_leaves_no_half_pool() {
    let test = "c02_missing_host_parts::c02_a_broken_formatter_leaves_no_half_pool";
    let replace = "for place in /usr/sbin /sbin /usr/local/sbin; do
    if [ -e $place/mkfs.btrfs ]; then mount --bind /bin/false $place/mkfs.btrfs; fi
done";
    if inside(test, replace) {
        let refused = refusal();
        assert!(refused.message().contains("mkfs.btrfs"), "{refused}");
    }
}

#[test]
fn c01_missing_loop_devices_are_named() {
    let test = "c02_missing_host_parts::c01_missing_loop_devices_are_named";
    let hide = "cp -a /dev/null /dev/zero /dev/urandom /dev/random \"$folder\"
mount --bind \"$folder\" /dev";
    if inside(test, hide) {
        let refused = refusal();
        assert_eq!(refused.kind(), Kind::Unavailable);
        assert!(refused.message().contains("/dev/loop-control"), "{refused}");
        assert!(refused.hint().is_some());
    }
}

#[test]
fn c07_a_reduced_bounding_set_is_enough() {
    let test = "c02_missing_host_parts::c07_a_reduced_bounding_set_is_enough";
    let reduce = "set -- setpriv --bounding-set -sys_resource,-sys_time,-mac_admin --inh-caps -sys_resource,-sys_time,-mac_admin \"$@\"";
    if !inside(test, reduce) {
        return;
    }
    let Some(bench) = Bench::open("C7") else { return };
    let sandbox = bench.sandbox();
    let status = sandbox.sh("grep CapBnd /proc/self/status; id -u");
    assert!(status.says("0"), "{}", status.text);
    sandbox.stop();
    sandbox.start().unwrap();
    let doctor = bench.wait(bench.runtime().doctor());
    for line in doctor.iter().filter(|line| line.required) {
        assert_eq!(line.state, LayerState::Holds, "{line:?}");
    }
}

#[test]
fn c07_ordinary_users_are_told_what_is_missing() {
    let test = "c02_missing_host_parts::c07_ordinary_users_are_told_what_is_missing";
    // The program itself may lie in a folder that is closed to them, so it is started first.
    if !inside(test, "chmod 777 \"$folder\"") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(folder.path(), Some(65_534), None).unwrap();
    rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65_534)).unwrap();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = tokio.block_on(LocalRuntime::open(Options::new(folder.path()))).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(refused.message().contains("/etc/subuid"), "{refused:?}");
    assert!(refused.hint().is_some_and(|hint| hint.contains("as root")), "{refused:?}");
}

#[test]
fn c07_what_this_host_is_comes_with_the_report() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let has = |kind: &str| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status.lines().find(|line| line.starts_with("CapBnd")).unwrap();
    println!(
        "host: cgroup v1 {}, cgroup v2 {}, root {}, /dev/kvm {}, {bounding}",
        has("cgroup"),
        has("cgroup2"),
        rustix::process::geteuid().is_root(),
        Path::new("/dev/kvm").exists()
    );
    assert!(has("cgroup") || has("cgroup2"), "no control groups are mounted");
}
