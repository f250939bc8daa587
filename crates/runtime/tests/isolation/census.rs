//! What a data directory has on the host: to be compared before and after.

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

/// Processes in the control groups of a data directory: number and name. The dead that nobody has reaped
/// yet are none.
pub(crate) fn processes(dir: &Path) -> Vec<(i32, String)> {
    let group = format!("/{}/", group_name(dir));
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    numbers
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cgroup"))
                .is_ok_and(|text| text.contains(&group))
        })
        .filter(|pid| {
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
