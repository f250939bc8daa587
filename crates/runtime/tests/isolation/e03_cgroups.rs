//! E3: control groups cannot be mounted, left or given higher limits.

use std::fs;
use std::path::Path;

use crate::harness::{Bench, OPEN, Sandbox, rootless};

const ATTEMPT: &str = "
for kind, data in (('cgroup', 'memory'), ('cgroup', 'pids'), ('cgroup', 'cpu'), ('cgroup2', None)):
    place = f'/mnt/{kind}-{data}'
    attempt(f'mount {kind} {data}', lambda: mount(kind, place, kind, 0, data))
    for file, content in (('memory.limit_in_bytes', '-1'), ('pids.max', 'max'), ('memory.max', 'max'),
        ('cpu.max', 'max'), ('cpu.cfs_quota_us', '-1')):
        if os.path.exists(f'{place}/{file}'):
            attempt(f'raise {file}', lambda: put(f'{place}/{file}', content))
    attempt(f'move {kind} {data}', lambda: put(f'{place}/../cgroup.procs', '0'))
    attempt(f'agent {kind} {data}', lambda: put(f'{place}/release_agent', '/tmp/agent'))
for path in ('/sys/fs/cgroup/memory/memory.limit_in_bytes', '/sys/fs/cgroup/pids.max'):
    attempt(path, lambda: put(path, 'max'))
attempt('sys', lambda: os.mkdir('/sys/fs/cgroup/x'))
";

/// The limits of process 1's groups, in every hierarchy, as the host sees them.
fn limits(sandbox: &Sandbox<'_>) -> Vec<(String, String)> {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", sandbox.pid())).unwrap();
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap(), fields.next().unwrap());
        let roots = ["", controllers, "unified"].map(|root| Path::new("/sys/fs/cgroup").join(root));
        for root in roots {
            for file in ["memory.limit_in_bytes", "memory.max", "pids.max", "cpu.max"] {
                let file = root.join(&path[1..]).join(file);
                if path != "/"
                    && let Ok(limit) = fs::read_to_string(&file)
                {
                    found.push((file.display().to_string(), limit));
                }
            }
        }
    }
    found
}

#[test]
fn e03_groups_and_limits_stay_as_they_are() {
    let Some(bench) = Bench::open("E3") else { return };
    let sandbox = bench.sandbox();
    let before = limits(&sandbox);
    assert!(!before.is_empty(), "no limit found");
    let ran = sandbox.python(ATTEMPT);
    assert!(!ran.text.lines().any(|line| line.starts_with("mount") && line.ends_with("=OK")));
    assert!(!ran.text.contains("raise"), "{}", ran.text);
    for line in ran.text.lines().filter(|line| line.contains("/sys/") || line.starts_with("sys")) {
        assert!(!line.ends_with("=OK"), "{line}");
    }
    assert_eq!(limits(&sandbox), before);
    // Nothing of the path on the host shows inside.
    assert!(!sandbox.sh("cat /proc/self/cgroup /proc/1/cgroup").text.contains("mayfly"));
}

#[test]
fn e03_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened("E3", OPEN) else { return };
    let sandbox = bench.sandbox();
    let before = limits(&sandbox);
    let ran = sandbox.python(ATTEMPT);
    assert!(ran.text.lines().any(|line| line.starts_with("mount") && line.ends_with("=OK")));
    if rootless() {
        return;
    }
    assert!(ran.text.lines().any(|line| line.starts_with("raise") && line.ends_with("=OK")));
    assert_ne!(limits(&sandbox), before, "{}", ran.text);
}
