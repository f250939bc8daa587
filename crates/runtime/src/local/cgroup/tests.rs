//! Behaviour on the hierarchies of this host, which needs root, and on folders that stand in for them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::*;

/// Removes its groups also when a test panics.
struct Fixture {
    cgroups: Cgroups,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let removed = self.cgroups.remove_all();
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

/// The host's hierarchies, or `None` where the host has none to test on.
fn fixture(test: &str, v1_only: bool) -> Option<Fixture> {
    let name = format!("mayfly-test-{test}-{}", std::process::id());
    let cgroups = if v1_only {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let v1: Vec<&str> = mounts.lines().filter(|line| !line.contains(" cgroup2 ")).collect();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let (hierarchies, absent) = detect::choose(&v1.join("\n"), &own, &name);
        Cgroups { inner: Arc::new(Inner { hierarchies, used: true, absent }) }
    } else {
        Cgroups::detect(&name).unwrap()
    };
    let fixture = Fixture { cgroups };
    let missing = fixture.cgroups.group(0).set_limits(&LIMITS).unwrap_err();
    if missing.message().contains("is missing") {
        eprintln!("skipped: {missing}");
        return None;
    }
    Some(fixture)
}

const LIMITS: Limits = Limits { cpu_cores: 1, memory_bytes: 32 << 20, pids: 20 };

/// A shell that joins the group before it runs the script.
fn run(group: &Group, script: &str) -> Child {
    let mut files = group.v1_procs_paths();
    files.extend(group.v2_path().map(|path| path.join("cgroup.procs")));
    let joins: Vec<String> =
        files.iter().map(|file| format!("echo $$ > {}", file.display())).collect();
    Command::new("sh")
        .args(["-c", &format!("{} && {script}", joins.join(" && "))])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for a condition, at most 5 s.
fn eventually(condition: impl Fn() -> bool) -> bool {
    (0..500).any(|_| {
        let holds = condition();
        if !holds {
            sleep(Duration::from_millis(10));
        }
        holds
    })
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn limits_are_set_changed_and_read_back_without_descriptors() {
    let Some(fixture) = fixture("limits", false) else { return };
    let before = open_descriptors();
    let group = fixture.cgroups.prepare(7).unwrap();
    group.set_limits(&LIMITS).unwrap();
    group.set_limits(&Limits { memory_bytes: 64 << 20, ..LIMITS }).unwrap();
    group.set_limits(&LIMITS).unwrap();
    assert_eq!(open_descriptors(), before);
    let report = fixture.cgroups.report();
    assert_eq!(report.len(), 4);
    for layer in report {
        assert_eq!(layer.state, mayfly_core::ports::runtime::LayerState::Holds, "{layer:?}");
    }
    assert_eq!(fixture.cgroups.slots().unwrap(), [7], "the probe of the report is gone");
    group.remove().unwrap();
    group.remove().unwrap();
    assert!(fixture.cgroups.slots().unwrap().is_empty());
}

#[test]
fn a_process_over_its_memory_limit_is_killed_and_counted() {
    let Some(fixture) = fixture("memory", false) else { return };
    let group = fixture.cgroups.prepare(1).unwrap();
    group.set_limits(&LIMITS).unwrap();
    let mut child = run(&group, "x=$(head -c 100000000 /dev/zero | tr '\\0' a); sleep 100");
    assert!(eventually(|| group.oom_kills().unwrap() > 0));
    group.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_fork_bomb_stops_at_the_process_limit() {
    let Some(fixture) = fixture("pids", false) else { return };
    let group = fixture.cgroups.prepare(1).unwrap();
    group.set_limits(&LIMITS).unwrap();
    let mut child = run(&group, "for i in $(seq 60); do sleep 100 & done; wait");
    assert!(eventually(|| group.usage().unwrap().pids >= 18));
    assert!(group.procs().unwrap().len() <= 20);
    group.kill().unwrap();
    assert!(eventually(|| group.procs().unwrap().len() <= 1), "only the shell that we reap");
    child.wait().unwrap();
    group.remove().unwrap();
}

fn freeze_kill_and_usage(fixture: &Fixture) {
    let group = fixture.cgroups.prepare(3).unwrap();
    group.set_limits(&LIMITS).unwrap();
    let mut child = run(&group, "while :; do :; done");
    assert!(eventually(|| group.usage().unwrap().cpu_nanos > 1_000_000));
    assert!(!group.is_frozen().unwrap());
    group.freeze(true).unwrap();
    group.freeze(true).unwrap();
    assert!(group.is_frozen().unwrap());
    let still = group.usage().unwrap().cpu_nanos;
    sleep(Duration::from_millis(30));
    assert_eq!(group.usage().unwrap().cpu_nanos, still, "a frozen group uses no time");
    group.freeze(false).unwrap();
    assert!(eventually(|| group.usage().unwrap().cpu_nanos > still));
    let used = group.usage().unwrap();
    assert!(used.memory_bytes > 0 && used.pids == 1, "{used:?}");
    assert_eq!(fixture.cgroups.prepare(3).unwrap_err().kind(), Kind::Conflict, "in use");
    group.freeze(true).unwrap();
    group.kill().unwrap();
    child.wait().unwrap();
    group.remove().unwrap();
    group.kill().unwrap();
}

#[test]
fn a_group_freezes_thaws_counts_and_dies() {
    let Some(fixture) = fixture("freeze", false) else { return };
    freeze_kill_and_usage(&fixture);
}

#[test]
fn the_same_holds_where_only_v1_is_mounted() {
    let Some(fixture) = fixture("v1", true) else { return };
    assert!(fixture.cgroups.group(0).v2_path().is_none());
    freeze_kill_and_usage(&fixture);
}

#[test]
fn sweeping_removes_all_but_the_kept_with_their_processes() {
    let Some(fixture) = fixture("sweep", false) else { return };
    let groups: Vec<Group> = (1..=3).map(|slot| fixture.cgroups.prepare(slot).unwrap()).collect();
    let mut child = run(&groups[1], "exec sleep 100");
    assert!(eventually(|| groups[1].procs().unwrap().len() == 1));
    let reaper = std::thread::spawn(move || child.wait().unwrap());
    assert_eq!(fixture.cgroups.sweep(&[3]).unwrap(), [0_u32; 0]);
    assert_eq!(fixture.cgroups.slots().unwrap(), [3]);
    reaper.join().unwrap();
    let again = Cgroups::detect(
        fixture.cgroups.inner.hierarchies[0].path.file_name().unwrap().to_str().unwrap(),
    )
    .unwrap();
    assert_eq!(again.slots().unwrap(), [3], "a restarted server finds its groups");
    let join = groups[2].open_join().unwrap();
    assert_eq!(join.v1.len(), groups[2].v1_procs_paths().len());
    assert_eq!(join.v2.is_some(), groups[2].v2_path().is_some());
}

#[test]
fn a_group_that_does_not_end_is_named_and_the_others_go() {
    let Some(fixture) = fixture("stuck", false) else { return };
    for slot in 1..=2 {
        fixture.cgroups.prepare(slot).unwrap();
    }
    // A group inside holds it like a process that does not end.
    let held = fixture.cgroups.inner.hierarchies[0].path.join("1/held");
    fs::create_dir(&held).unwrap();
    assert_eq!(fixture.cgroups.sweep(&[]).unwrap(), [1]);
    assert_eq!(fixture.cgroups.slots().unwrap(), [1]);
    fs::remove_dir(&held).unwrap();
}

#[test]
fn a_missing_controller_is_a_refusal_that_names_it() {
    let absent = vec![(Controller::Cpu, "EROFS".to_owned())];
    let cgroups =
        Cgroups { inner: Arc::new(Inner { hierarchies: Vec::new(), used: true, absent }) };
    let error = cgroups.group(1).set_limits(&LIMITS).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains("`cpu`") && error.message().contains("EROFS"), "{error}");
    assert!(error.hint().unwrap().contains("cpu"));
    let report = cgroups.report();
    assert!(report.iter().all(|layer| layer.remedy.is_some() && layer.required), "{report:?}");
}

#[test]
fn names_that_could_leave_the_hierarchy_are_invalid() {
    for name in ["", "..", "a/b", "a b", &"x".repeat(65)] {
        assert_eq!(Cgroups::detect(name).unwrap_err().kind(), Kind::Invalid, "{name:?}");
    }
}

/// A folder with the files of a v2 group, which shows what is written.
fn stand_in(folder: &Path, current: &str) -> Group {
    let slot = folder.join("5");
    fs::create_dir(&slot).unwrap();
    for (file, text) in [
        ("cpu.max", ""),
        ("memory.max", ""),
        ("memory.swap.max", ""),
        ("memory.current", current),
        ("pids.max", ""),
    ] {
        fs::write(slot.join(file), text).unwrap();
    }
    let controllers = vec![Controller::Cpu, Controller::Memory, Controller::Pids];
    let hierarchy = Hierarchy::open(Version::V2, controllers, folder.to_owned()).unwrap();
    let inner = Inner { hierarchies: vec![hierarchy], used: true, absent: Vec::new() };
    Cgroups { inner: Arc::new(inner) }.group(5)
}

#[test]
fn v2_gets_its_own_files_and_no_swap() {
    let folder = tempfile::tempdir().unwrap();
    let group = stand_in(folder.path(), "1000\n");
    group.set_limits(&Limits { cpu_cores: 3, ..LIMITS }).unwrap();
    let read = |file: &str| fs::read_to_string(folder.path().join("5").join(file)).unwrap();
    assert_eq!(read("cpu.max"), "300000 100000");
    assert_eq!(read("memory.max"), "33554432");
    assert_eq!(read("memory.swap.max"), "0");
    assert_eq!(read("pids.max"), "20");
}

#[test]
fn v2_memory_in_use_is_never_undercut() {
    let folder = tempfile::tempdir().unwrap();
    let group = stand_in(folder.path(), "99999999\n");
    assert_eq!(group.set_limits(&LIMITS).unwrap_err().kind(), Kind::Conflict);
    let written = fs::read_to_string(folder.path().join("5/memory.max")).unwrap();
    assert_eq!(written, "", "nothing may be written");
}
