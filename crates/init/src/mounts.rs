//! The file systems of one sandbox: its layers, overlays, and the kernel's own behind masks.

use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use crate::failure::{Failure, Fault, path, text};
use crate::numbers;
use crate::protocol::{Create, Hello, Overlay, WEAK_MASKS, WEAK_NETWORK};
use crate::stage::{DEVICES, PLACES};
use crate::sys;

/// Brings a folder of the host to a numbered place, its ids shifted.
pub(crate) fn place(
    hello: &Hello,
    folder: &[u8],
    number: usize,
    namespace: Option<&OwnedFd>,
) -> Result<usize, Failure> {
    if number >= PLACES {
        return Err(io::Error::from(io::ErrorKind::InvalidInput)).fault("more layers than places");
    }
    // An ordinary user must take along what the host has mounted below; an overlay does not show it.
    let tree = sys::open_tree(&text(folder)?, hello.rootless).fault("layer")?;
    if let Some(namespace) = namespace.filter(|_| !hello.rootless) {
        sys::idmap(tree.as_fd(), namespace.as_fd()).fault("idmapped mount")?;
    }
    let target = text(number.to_string().as_bytes())?;
    sys::move_mount(tree.as_fd(), &target).fault("placing a layer")?;
    Ok(number)
}

/// Makes the writable folders of a sandbox where they are missing, and gives them to its root. The server
/// itself, an ordinary user, cannot: they are the id's of another. It may read and write the logs.
pub(crate) fn parts(create: &Create, root: u32) -> Result<(), Failure> {
    let uppers = create.overlays.iter().flat_map(|overlay| [&overlay.upper, &overlay.work]);
    for name in uppers {
        part(path(name), (root, root), 0o755).fault("writable folder")?;
    }
    part(Path::new("logs"), (root, 0), 0o2770).fault("folder of logs")
}

fn part(name: &Path, (user, group): (u32, u32), mode: u32) -> io::Result<()> {
    let folder = Path::new("0").join(name);
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(&folder)?;
    // The mode is the last thing set, so that a folder that has it is whole.
    if found.mode() & 0o7777 != mode || found.uid() != user {
        std::os::unix::fs::lchown(&folder, Some(user), Some(group))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Mounts one overlay; answers with the first place that is still free.
pub(crate) fn overlay(
    hello: &Hello,
    overlay: &Overlay,
    first: usize,
    namespace: Option<&OwnedFd>,
) -> Result<usize, Failure> {
    let mut next = first;
    let mut options = String::from("lowerdir=");
    for layer in &overlay.lower {
        place(hello, layer, next, namespace)?;
        let separator = if next == first { "" } else { ":" };
        let _ = write!(options, "{separator}{next}");
        next += 1;
    }
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // `volatile`: nothing is synced to disk by calls from inside; the server syncs when a sandbox stops.
    let _ = write!(
        options,
        ",upperdir=0/{},workdir=0/{},metacopy=off,index=off,volatile",
        name(&overlay.upper),
        name(&overlay.work)
    );
    // Some kernels take `off` for `follow`, which they do not allow with attributes of users.
    options.push_str(if hello.rootless {
        ",redirect_dir=nofollow,userxattr"
    } else {
        ",redirect_dir=off"
    });
    let set_id = if hello.allow_setuid { 0 } else { numbers::MS_NOSUID };
    forget_earlier_life(&overlay.work).fault("scratch folder of the overlay")?;
    let target = mount_point(&overlay.target)?;
    sys::mount(
        c"overlay",
        &target,
        c"overlay",
        numbers::MS_NODEV | set_id,
        &text(options.as_bytes())?,
    )
    .fault("overlay file system")?;
    Ok(next)
}

/// A volatile overlay leaves a mark that forbids mounting its folders again; removing it is how one says
/// that what was written is wanted all the same.
fn forget_earlier_life(work: &[u8]) -> io::Result<()> {
    match fs::remove_dir_all(Path::new("0").join(path(work)).join("work")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A folder in the new root to mount on. What an earlier life of the sandbox put there instead of a
/// folder (a link, a file) is removed first: nothing runs in the sandbox yet, so nobody can swap it back.
fn mount_point(name: &[u8]) -> Result<CString, Failure> {
    if name.is_empty() {
        return text(b"root");
    }
    let target = Path::new("root").join(path(name));
    match fs::symlink_metadata(&target) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            fs::remove_file(&target).fault("mount point")?;
            fs::create_dir(&target).fault("mount point")?;
        }
        Err(_) => fs::create_dir(&target).fault("mount point")?,
    }
    text(target.as_os_str().as_bytes())
}

/// Files of `/proc` that tell about the host or change it.
const MASKED_FILES: [&CStr; 16] = [
    c"root/proc/kcore",
    c"root/proc/keys",
    c"root/proc/key-users",
    c"root/proc/timer_list",
    c"root/proc/sched_debug",
    c"root/proc/sysrq-trigger",
    c"root/proc/kallsyms",
    c"root/proc/modules",
    c"root/proc/cmdline",
    c"root/proc/interrupts",
    c"root/proc/latency_stats",
    c"root/proc/kpagecount",
    c"root/proc/config.gz",
    c"root/proc/partitions",
    c"root/proc/diskstats",
    // The same for all sandboxes of a host, so they could tell that they share it.
    c"root/proc/sys/kernel/random/boot_id",
];
const MASKED_FOLDERS: [&CStr; 7] = [
    c"root/proc/acpi",
    c"root/proc/scsi",
    c"root/proc/asound",
    c"root/proc/fs",
    c"root/proc/irq",
    c"root/proc/bus",
    c"root/proc/driver",
];

pub(crate) fn kernel(hello: &Hello, create: &Create, base: u32) -> Result<(), Failure> {
    let quiet = numbers::MS_NOSUID | numbers::MS_NODEV | numbers::MS_NOEXEC;
    let (proc, sys_folder, dev) =
        (mount_point(b"proc")?, mount_point(b"sys")?, mount_point(b"dev")?);
    sys::mount(c"proc", &proc, c"proc", quiet, c"").fault("/proc")?;
    // Any port may be bound inside: the namespace is the sandbox's own. Through its own /proc, because in the
    // host's the kernel keeps one entry of this name per network namespace and searches them one by one.
    if hello.weakened & WEAK_NETWORK == 0 {
        fs::write("root/proc/sys/net/ipv4/ip_unprivileged_port_start", b"0").fault("port range")?;
    }
    if hello.weakened & WEAK_MASKS == 0 {
        let system = c"root/proc/sys";
        sys::mount(system, system, c"", numbers::MS_BIND, c"").fault("/proc/sys")?;
        let read_only = numbers::MS_BIND | numbers::MS_REMOUNT | numbers::MS_RDONLY | quiet;
        sys::mount(c"none", system, c"", read_only, c"").fault("read-only /proc/sys")?;
        // After it, or the mask below /proc/sys would lie under it.
        mask()?;
    }
    sys::mount(c"own/sys", &sys_folder, c"", numbers::MS_BIND, c"").fault("/sys")?;
    sys::mount(c"own/dev", &dev, c"", numbers::MS_BIND, c"").fault("/dev")?;
    if hello.rootless {
        devices()?;
    }
    let terminals = format!("newinstance,ptmxmode=0666,mode=0620,gid={}", base + 5);
    sys::mount(
        c"devpts",
        c"root/dev/pts",
        c"devpts",
        numbers::MS_NOSUID | numbers::MS_NOEXEC,
        &text(terminals.as_bytes())?,
    )
    .fault("/dev/pts")?;
    let memory =
        format!("mode=1777,uid={base},gid={base},size={},nr_inodes=65536", create.shm_bytes);
    sys::mount(c"shm", c"root/dev/shm", c"tmpfs", quiet, &text(memory.as_bytes())?)
        .fault("/dev/shm")
}

fn devices() -> Result<(), Failure> {
    for name in DEVICES {
        let (device, place) =
            (text(format!("/dev/{name}").as_bytes())?, format!("root/dev/{name}"));
        sys::mount(&device, &text(place.as_bytes())?, c"", numbers::MS_BIND, c"")
            .fault("device of the host")?;
    }
    Ok(())
}

fn mask() -> Result<(), Failure> {
    let covers = [
        (MASKED_FILES.as_slice(), c"own/mask/file"),
        (MASKED_FOLDERS.as_slice(), c"own/mask/empty"),
    ];
    for (targets, cover) in covers {
        for target in targets {
            match sys::mount(cover, target, c"", numbers::MS_BIND, c"") {
                // Not every kernel has every one of them.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.fault("mask in /proc")?,
            }
        }
    }
    Ok(())
}
