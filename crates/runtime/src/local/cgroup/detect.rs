//! Finds the mounted hierarchies and a place for our parent group in each.
//!
//! The place is the root of the mount, because it stays the same over restarts whatever session starts
//! the server; unless our own group was delegated to us (systemd's `Delegate=`), which is then the only
//! place that is ours. In v2 a group with processes cannot hand controllers down, so a server in a
//! delegated group moves itself into a child first; that child goes with the delegated group.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mayfly_core::{Error, Result};

use super::Controller;
use super::hierarchy::{Hierarchy, Version};

const WANTED: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];

/// A cgroup mount of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    version: Version,
    /// v1: names of its controllers.
    names: Vec<String>,
    /// The part of the hierarchy that is visible here.
    root: String,
    point: PathBuf,
}

/// What to do about a missing controller.
pub(super) fn remedy(controller: Controller) -> String {
    format!(
        "run as root with a writable cgroup file system that has the controller `{}` (in a container: \
         mount /sys/fs/cgroup read-write; under systemd: Delegate=yes)",
        controller.name()
    )
}

/// Usable hierarchies, and the controllers that could not be had with the reason.
pub(super) type Detected = (Vec<Hierarchy>, Vec<(Controller, String)>);

/// Looks at the mounts of this process.
pub(super) fn detect(name: &str) -> Result<Detected> {
    let read = |path: &str| {
        fs::read_to_string(path)
            .map_err(|error| Error::internal(format!("failed to read {path}"), error))
    };
    let mounts = read("/proc/self/mountinfo")?;
    Ok(choose(&mounts, &read("/proc/self/cgroup")?, name))
}

/// Deepest group below a mount that is looked into, and most groups that are looked at.
const DEPTH: u32 = 6;
const MOST: usize = 50_000;

/// The groups of this name in all hierarchies, wherever a server made them. Nothing is made.
pub(super) fn named(name: &str) -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| Error::internal("failed to read /proc/self/mountinfo", error))?;
    let mut found = Vec::new();
    for mount in parse_mounts(&mounts) {
        for path in below(&mount.point, name) {
            let controllers = needed_of_v1(&mount, &[]);
            // It may go at any moment.
            found.extend(Hierarchy::open(mount.version, controllers, path).ok());
        }
    }
    Ok(found)
}

/// Folders of this name below a mount; those of servers are not looked into.
fn below(point: &Path, name: &str) -> Vec<PathBuf> {
    let (mut found, mut seen) = (Vec::new(), 0);
    let mut waiting = vec![(point.to_owned(), 0)];
    while let Some((folder, depth)) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            seen += 1;
            if seen > MOST {
                return found;
            }
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name() == name {
                found.push(entry.path());
            } else if depth < DEPTH && !entry.file_name().to_string_lossy().starts_with("mayfly-") {
                waiting.push((entry.path(), depth + 1));
            }
        }
    }
    found
}

/// Decides from the text of `/proc/self/mountinfo` and `/proc/self/cgroup`.
pub(super) fn choose(mountinfo: &str, own: &str, name: &str) -> Detected {
    let mounts = parse_mounts(mountinfo);
    let mut found: Vec<Hierarchy> = Vec::new();
    let mut absent: Vec<(Controller, String)> = Vec::new();
    let v2 = mounts.iter().find(|mount| mount.version == Version::V2);
    if let Some(mount) = v2 {
        match open_v2(mount, own, name) {
            Ok((hierarchy, refused)) => {
                found.push(hierarchy);
                absent.extend(refused);
            }
            Err(error) => {
                let reason = format!("{}: {error}", mount.point.display());
                absent.extend(WANTED.map(|controller| (controller, reason.clone())));
            }
        }
    }
    for mount in mounts.iter().filter(|mount| mount.version == Version::V1) {
        let offered = needed_of_v1(mount, &found);
        if offered.is_empty() {
            continue;
        }
        match make_parent(mount, own, name)
            .and_then(|path| Hierarchy::open(Version::V1, offered.clone(), path))
        {
            Ok(hierarchy) => found.push(hierarchy),
            Err(error) => {
                let reason = format!("{}: {error}", mount.point.display());
                absent.extend(offered.into_iter().map(|controller| (controller, reason.clone())));
            }
        }
    }
    (found, absent)
}

/// Controllers of a v1 mount that nothing found so far offers. With v2 mounted, freezing and processor
/// time come from there, and each v1 hierarchy less saves a slow attach per sandbox.
fn needed_of_v1(mount: &Mounted, found: &[Hierarchy]) -> Vec<Controller> {
    let has_v2 = found.iter().any(|hierarchy| hierarchy.version == Version::V2);
    let mut wanted = WANTED.to_vec();
    if !has_v2 {
        wanted.extend([Controller::Freezer, Controller::Cpuacct]);
    }
    wanted.retain(|controller| {
        mount.names.iter().any(|name| name == controller.name())
            && !found.iter().any(|hierarchy| hierarchy.controllers.contains(controller))
    });
    wanted
}

/// Makes or finds our parent group of a v2 hierarchy and hands the controllers down to its children.
fn open_v2(
    mount: &Mounted,
    own: &str,
    name: &str,
) -> io::Result<(Hierarchy, Vec<(Controller, String)>)> {
    let path = make_parent(mount, own, name)?;
    let base = path.parent().unwrap_or(&mount.point).to_owned();
    let offered = fs::read_to_string(base.join("cgroup.controllers"))?;
    let mut enabled = Vec::new();
    let mut refused = Vec::new();
    for controller in WANTED {
        if !offered.split_whitespace().any(|word| word == controller.name()) {
            continue;
        }
        match hand_down(&base, name, controller).and_then(|()| hand_down_once(&path, controller)) {
            Ok(()) => enabled.push(controller),
            Err(error) => refused
                .push((controller, format!("{}/cgroup.subtree_control: {error}", base.display()))),
        }
    }
    Ok((Hierarchy::open(Version::V2, enabled, path)?, refused))
}

fn hand_down(base: &Path, name: &str, controller: Controller) -> io::Result<()> {
    match hand_down_once(base, controller) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let aside = base.join(format!("{name}-server"));
            make_group(&aside)?;
            fs::write(aside.join("cgroup.procs"), "0")?;
            hand_down_once(base, controller)
        }
        result => result,
    }
}

fn hand_down_once(group: &Path, controller: Controller) -> io::Result<()> {
    fs::write(group.join("cgroup.subtree_control"), format!("+{}", controller.name()))
}

/// Makes our parent group in the first place that allows it.
fn make_parent(mount: &Mounted, own: &str, name: &str) -> io::Result<PathBuf> {
    let own = own_group(mount, own);
    let delegated = own.as_deref().filter(|path| is_delegated(path));
    let places = [delegated, Some(mount.point.as_path()), own.as_deref()];
    let mut first = None;
    for place in places.into_iter().flatten() {
        let path = place.join(name);
        match make_group(&path) {
            Ok(()) => return Ok(path),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
}

fn make_group(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn is_delegated(path: &Path) -> bool {
    ["trusted.delegate", "user.delegate"].iter().any(|name| {
        let mut value = [0_u8; 8];
        rustix::fs::getxattr(path, *name, &mut value).is_ok_and(|size| value[..size] == *b"1")
    })
}

/// Folder of the group that this process is in, as seen through the mount.
fn own_group(mount: &Mounted, own: &str) -> Option<PathBuf> {
    let line = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        let same = match mount.version {
            Version::V2 => names.is_empty(),
            Version::V1 => names.split(',').any(|name| mount.names.iter().any(|own| own == name)),
        };
        same.then_some(path)
    })?;
    let below = Path::new(line).strip_prefix(&mount.root).ok()?;
    Some(mount.point.join(below))
}

fn parse_mounts(mountinfo: &str) -> Vec<Mounted> {
    mountinfo.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<Mounted> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let version = match *right.first()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let names = match version {
        Version::V1 => right.get(2)?.split(',').map(str::to_owned).collect(),
        Version::V2 => Vec::new(),
    };
    Some(Mounted {
        version,
        names,
        root: (*left.get(3)?).to_owned(),
        point: PathBuf::from(left.get(4)?.replace("\\040", " ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_mounts_are_told_apart() {
        let mounts = parse_mounts(HYBRID);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[0].names, ["rw", "cpu", "cpuacct"]);
        assert_eq!(mounts[3].version, Version::V2);
        assert_eq!(mounts[3].point, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn own_group_is_seen_through_the_mounts_root() {
        let mounts = parse_mounts(HYBRID);
        let own = "4:memory:/docker/abc/job\n1:cpu,cpuacct:/a\n0::/\n";
        let seen = |index: usize| own_group(&mounts[index], own);
        assert_eq!(seen(0).as_deref(), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/a")));
        assert_eq!(seen(1).as_deref(), Some(Path::new("/sys/fs/cgroup/memory/job")));
        assert_eq!(seen(2), None, "not in /proc/self/cgroup");
        assert_eq!(seen(3).as_deref(), Some(Path::new("/sys/fs/cgroup/unified/")));
        let outside = own_group(&mounts[1], "4:memory:/elsewhere\n");
        assert_eq!(outside, None, "a group that the mount does not show");
    }

    #[test]
    fn v1_gives_only_what_v2_does_not() {
        let mounts = parse_mounts(HYBRID);
        assert_eq!(needed_of_v1(&mounts[0], &[]), [Controller::Cpu, Controller::Cpuacct]);
        let v2 =
            |controllers| Hierarchy::open(Version::V2, controllers, PathBuf::from("/")).unwrap();
        assert_eq!(needed_of_v1(&mounts[0], &[v2(vec![])]), [Controller::Cpu]);
        assert!(needed_of_v1(&mounts[0], &[v2(vec![Controller::Cpu])]).is_empty());
        assert!(needed_of_v1(&mounts[2], &[]).is_empty());
    }
}
