//! What this host offers, layer by layer.
//!
//! A sandbox is made the ordinary way and looked at from outside, through what the kernel says of its
//! process 1; the rest are live probes of their own. Nothing is believed because it was asked for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mayfly_core::Result;
use mayfly_core::id::SandboxId;
use mayfly_core::limits::Resources;
use mayfly_core::network::NetworkPolicy;
use mayfly_core::ports::runtime::{Layer, LayerState, SandboxSpec};
use mayfly_core::snapshot::Source;
use uuid::Uuid;

use super::ground::CAPABILITIES;
use super::host::Host;
use super::live::Live;
use super::pool;
use super::storage::Storage;

/// Oldest kernel with everything that the full profile needs.
const KERNEL: (u32, u32) = (6, 1);
/// Kernel with quotas of constant cost.
const SIMPLE_QUOTAS: (u32, u32) = (6, 7);
const SEPARATE: [(&str, &str); 6] = [
    ("mount namespace", "mnt"),
    ("pid namespace", "pid"),
    ("network namespace", "net"),
    ("ipc namespace", "ipc"),
    ("uts namespace", "uts"),
    ("cgroup namespace", "cgroup"),
];

/// What an ordinary user cannot limit. Asking for such a limit is refused, so it is no layer that sandboxes
/// need.
const UNLIMITED: [&str; 4] = ["cpu limit", "memory limit", "disk quota", "freeze"];

/// Examines every layer of the profile in use.
pub(super) fn examine(host: &Host) -> Vec<Layer> {
    let mut layers = vec![kernel()];
    match &host.ground.storage {
        Storage::Pool(pool) => {
            layers.extend(host.ground.cgroups.report());
            layers.push(pool::probe::layer(Ok(pool)));
            layers.push(private_pool(host));
        }
        Storage::Folders(_) => layers.extend(UNLIMITED.iter().map(|name| unlimited(name))),
    }
    layers.push(host.network.layer());
    layers.extend(probe_sandbox(host));
    layers
}

fn layer(name: &str, state: LayerState, evidence: impl Into<String>, remedy: &str) -> Layer {
    Layer {
        name: name.to_owned(),
        state,
        required: true,
        evidence: evidence.into(),
        remedy: (state != LayerState::Holds).then(|| remedy.to_owned()),
    }
}

fn holds(condition: bool) -> LayerState {
    if condition { LayerState::Holds } else { LayerState::Absent }
}

fn kernel() -> Layer {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let state = match version {
        version if version >= SIMPLE_QUOTAS => LayerState::Holds,
        version if version >= KERNEL => LayerState::Weak,
        _ => LayerState::Absent,
    };
    let remedy = "use Linux 6.7 or newer; from 6.1 on disk limits use ordinary quota groups";
    layer("kernel", state, format!("Linux {}", release.trim()), remedy)
}

fn unlimited(name: &str) -> Layer {
    let evidence = "the profile `unprivileged` has no control groups and no pool";
    let remedy = "run the server as root; until then a sandbox may use what its user may";
    Layer { required: false, ..layer(name, LayerState::Absent, evidence, remedy) }
}

/// Ids on the pool's disk are those of images, so no other process may reach it by path.
fn private_pool(host: &Host) -> Layer {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = host
        .ground
        .sandboxes
        .parent()
        .unwrap_or_else(|| Path::new("/"))
        .to_string_lossy()
        .into_owned();
    let seen = table.lines().any(|line| line.split(' ').nth(4) == Some(path.as_str()));
    let evidence = if seen {
        "the pool is mounted in the host's namespace"
    } else {
        "the pool is mounted in the forkserver's namespace only"
    };
    layer("private pool", holds(!seen), evidence, "unmount it; the server mounts it for itself")
}

fn probe_sandbox(host: &Host) -> Vec<Layer> {
    let spec = SandboxSpec {
        id: SandboxId::from_uuid(Uuid::now_v7()),
        source: Source::Host { fingerprint: String::new() },
        resources: Resources::DEFAULT,
        user: "root".to_owned(),
        workdir: None,
        env: BTreeMap::new(),
        volumes: Vec::new(),
        network: NetworkPolicy { block_all: !host.network.is_here(), ..NetworkPolicy::default() },
    };
    let looked = host.create(&spec).and_then(|()| look(host, &spec));
    let removed = host.destroy(spec.id);
    match looked.and_then(|layers| removed.map(|()| layers)) {
        Ok(layers) => layers,
        Err(error) => {
            let remedy =
                error.hint().unwrap_or("look at the server's log for the cause").to_owned();
            vec![layer("sandbox", LayerState::Absent, error.message(), &remedy)]
        }
    }
}

fn look(host: &Host, spec: &SandboxSpec) -> Result<Vec<Layer>> {
    let live = host.registry.started(spec.id)?;
    let status = fs::read_to_string(format!("/proc/{}/status", live.pid)).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    let mut layers: Vec<Layer> =
        SEPARATE.iter().map(|(name, kind)| separate(&live, name, kind)).collect();
    let map = fs::read_to_string(format!("/proc/{}/uid_map", live.pid)).unwrap_or_default();
    let own = rustix::process::geteuid().as_raw().to_string();
    let mapped: Vec<&str> = map.split_whitespace().collect();
    layers.push(layer(
        "user namespace",
        holds(
            mapped.first() == Some(&"0")
                && mapped.get(1).is_some_and(|id| *id != "0" && *id != own),
        ),
        format!(
            "inside ids {} are host ids {} to the number of {}",
            part(&mapped, 0),
            part(&mapped, 1),
            part(&mapped, 2)
        ),
        "allow user namespaces: sysctl user.max_user_namespaces",
    ));
    layers.push(layer(
        "system call filter",
        holds(field("Seccomp") == "2"),
        format!("Seccomp: {}", field("Seccomp")),
        "use a kernel with CONFIG_SECCOMP_FILTER",
    ));
    layers.push(layer(
        "no_new_privs",
        holds(field("NoNewPrivs") == "1"),
        format!("NoNewPrivs: {}", field("NoNewPrivs")),
        "set isolation.allow_setuid = false",
    ));
    let bounding = u64::from_str_radix(&field("CapBnd"), 16).unwrap_or(u64::MAX);
    layers.push(layer(
        "capabilities",
        holds(bounding & !CAPABILITIES == 0),
        format!("bounding set {bounding:#x}"),
        "report this: capabilities beyond the list were kept",
    ));
    layers.push(layer(
        "Landlock",
        holds(landlock_is_on()),
        "process 1 restricted itself; it would not have started otherwise",
        "boot with lsm=landlock,...; the kernel needs CONFIG_SECURITY_LANDLOCK",
    ));
    if !host.ground.cgroups.used() {
        layers.extend(carried_limits(live.pid));
        return Ok(layers);
    }
    let pids = live.group.procs().unwrap_or_default();
    layers.push(layer(
        "control group",
        holds(pids.contains(&live.pid)),
        format!("process 1 is in its group with {} processes", pids.len()),
        "mount the cgroup file systems",
    ));
    Ok(layers)
}

/// Limits that processes carry themselves, and sizes of file systems in memory.
fn carried_limits(pid: i32) -> [Layer; 2] {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let hard = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("?").to_owned()
    };
    let names = ["Max processes", "Max open files", "Max file size", "Max core file size"];
    let bounded = names.iter().all(|name| hard(name).parse::<u64>().is_ok());
    let evidence: Vec<String> = names.iter().map(|name| format!("{name} {}", hard(name))).collect();
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let shared = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/dev/shm"));
    let size = shared.and_then(|line| line.split("size=").nth(1)?.split([',', ' ']).next());
    [
        layer(
            "resource limits",
            holds(bounded),
            evidence.join(", "),
            "report this: process 1 does not carry its limits",
        ),
        layer(
            "tmpfs sizes",
            holds(size.is_some()),
            format!("/dev/shm has {}", size.unwrap_or("no limit")),
            "report this: a file system in memory has no limit",
        ),
    ]
}

fn part<'a>(parts: &[&'a str], index: usize) -> &'a str {
    parts.get(index).copied().unwrap_or("?")
}

fn separate(live: &Live, name: &str, kind: &str) -> Layer {
    let link = |pid: &str| {
        fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap_or_else(|_| PathBuf::from("?"))
    };
    let (inside, host) = (link(&live.pid.to_string()), link("self"));
    let evidence = format!("inside {}, host {}", inside.display(), host.display());
    layer(
        name,
        holds(inside != host && inside.as_os_str() != "?"),
        evidence,
        "use a kernel with all namespaces",
    )
}

/// Process 1 refuses to run without Landlock, so a running one is the proof, unless the list of security
/// modules is readable and says otherwise.
fn landlock_is_on() -> bool {
    fs::read_to_string("/sys/kernel/security/lsm")
        .map_or(true, |modules| modules.contains("landlock"))
}
