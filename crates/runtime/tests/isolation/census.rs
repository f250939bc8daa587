//! What a data directory has on the host: to be compared before and after.
//!
//! Sandboxes of root are known by their control groups. Those of an ordinary user have none: they are
//! known as descendants of this process that live in a pid namespace of their own, whoever of their
//! parents died meanwhile.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sha2::Digest as _;

/// Name of the control groups of a data directory, as the runtime derives it.
pub(crate) fn group_name(dir: &Path) -> String {
    let whole = fs::canonicalize(dir).unwrap();
    let digest = sha2::Sha256::digest(whole.as_os_str().as_encoded_bytes());
    digest.iter().take(6).fold(String::from("mayfly-"), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// Makes orphans below this process come to it and not to the host's process 1, so that they are counted.
pub(crate) fn adopt_orphans() {
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).unwrap();
}

/// Processes of the sandboxes of a data directory: number and name. The dead that nobody has reaped yet are
/// none.
pub(crate) fn processes(dir: &Path) -> Vec<(i32, String)> {
    if !rustix::process::geteuid().is_root() {
        return alive(descendants().into_iter().filter(|pid| is_inside(*pid)));
    }
    let group = format!("/{}/", group_name(dir));
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    alive(numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).filter(
        |pid| {
            fs::read_to_string(format!("/proc/{pid}/cgroup"))
                .is_ok_and(|text| text.contains(&group))
        },
    ))
}

/// Children of this process and theirs.
fn descendants() -> Vec<i32> {
    let mut found = vec![rustix::process::getpid().as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    found
}

/// Whether a process has a second number, in a pid namespace of its own.
fn is_inside(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.is_some_and(|numbers| numbers.split_whitespace().count() > 1)
}

fn alive(pids: impl Iterator<Item = i32>) -> Vec<(i32, String)> {
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
    })
    .map(|pid| (pid, fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()))
    .collect()
}

/// Folders of control groups of a data directory, in every hierarchy.
pub(crate) fn groups(dir: &Path) -> BTreeSet<String> {
    let name = group_name(dir);
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let parents = hierarchies.chain([Path::new("/sys/fs/cgroup").to_path_buf()]);
    parents
        .filter_map(|parent| fs::read_dir(parent.join(&name)).ok())
        .flat_map(|folders| folders.flatten().filter(|entry| entry.path().is_dir()))
        .map(|entry| entry.path().display().to_string())
        .collect()
}

/// Loop devices over files of a folder.
pub(crate) fn loops(dir: &Path) -> BTreeSet<String> {
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    devices
        .filter(|device| {
            fs::read_to_string(device.path().join("loop/backing_file"))
                .is_ok_and(|file| Path::new(file.trim_end()).starts_with(dir))
        })
        .map(|device| device.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Mounts that a process sees, without the numbers that each mount is given anew.
pub(crate) fn mounts(pid: &str, below: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let mut found: Vec<String> = text
        .lines()
        .filter(|line| line.contains(below))
        .filter_map(|line| Some(line.split_once(' ')?.1.split_once(' ')?.1.to_owned()))
        .collect();
    found.sort();
    found
}

/// Namespaces that so many parked processes have; those of an ordinary user's forkserver live in the user
/// namespace of it.
pub(crate) fn namespaces_of(parked: usize) -> usize {
    6 * parked + usize::from(!rustix::process::geteuid().is_root())
}

/// Namespaces of the processes in the control groups of a data directory.
pub(crate) fn namespaces(dir: &Path) -> BTreeSet<String> {
    let own = spaces("self");
    processes(dir)
        .iter()
        .flat_map(|(pid, _)| spaces(&pid.to_string()))
        .filter(|space| !own.contains(space))
        .collect()
}

fn spaces(pid: &str) -> BTreeSet<String> {
    let Ok(links) = fs::read_dir(format!("/proc/{pid}/ns")) else { return BTreeSet::new() };
    let links = links.flatten().filter_map(|link| fs::read_link(link.path()).ok());
    links.map(|link| link.display().to_string()).collect()
}

/// Every path below a folder; links are not followed.
pub(crate) fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            found.insert(entry.path().display().to_string());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            }
        }
    }
    found
}
