//! What every sandbox is built from, prepared once by the forkserver.

use std::fs;
use std::io;
use std::path::Path;

use crate::failure::{Failure, Fault, path, text};
use crate::numbers;
use crate::protocol::Hello;
use crate::sys;

/// Most read-only folders of one sandbox: the staging file system has this many places.
pub(crate) const PLACES: usize = 128;

/// Prepares, once, what every sandbox is built from: a private mount namespace and a staging file system
/// with places for layers, a folder of devices, a small `/sys` and masks.
pub(crate) fn prepare(hello: &Hello) -> Result<(), Failure> {
    sys::unshare(numbers::CLONE_NEWNS).fault("mount namespace of the forkserver")?;
    sys::mount(c"none", c"/", c"", numbers::MS_REC | numbers::MS_PRIVATE, c"")
        .fault("private mounts")?;
    let target = text(&hello.stage)?;
    // Devices must work here, so the file system is not mounted nodev; only the forkserver sees it.
    sys::mount(c"mayfly", &target, c"tmpfs", numbers::MS_NOSUID, c"mode=0700,size=4m")
        .fault("staging file system")?;
    std::env::set_current_dir(path(&hello.stage)).fault("staging folder")?;
    set_umask(0o022);
    for place in 0..PLACES {
        fs::create_dir(format!("{place}")).fault("staging places")?;
    }
    for folder in
        ["root", "own", "own/dev", "own/dev/pts", "own/dev/shm", "own/mask", "own/mask/empty"]
    {
        fs::create_dir(folder).fault("staging folders")?;
    }
    set_umask(0);
    if hello.rootless {
        device_places().fault("places of devices")?;
        share_counters().fault("shares of the kernel's counters")?;
    } else {
        devices().fault("device nodes")?;
    }
    links_of_devices().fault("links to devices")?;
    set_umask(0o022);
    system_folder().fault("folder of system facts")?;
    fs::write("own/mask/file", b"").fault("mask")?;
    Ok(())
}

/// Modes must not depend on the umask that the server was started with.
pub(crate) fn set_umask(mask: usize) {
    let _ = sys::plain(numbers::UMASK, [mask, 0, 0, 0]);
}

fn devices() -> io::Result<()> {
    for (name, minor) in [
        (c"own/dev/null", 3),
        (c"own/dev/zero", 5),
        (c"own/dev/full", 7),
        (c"own/dev/random", 8),
        (c"own/dev/urandom", 9),
    ] {
        sys::device(name, 1, minor)?;
    }
    sys::device(c"own/dev/tty", 5, 0)
}

/// Devices of every sandbox, below `/dev`.
pub(crate) const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// An ordinary user makes no device nodes: files of those names, on which each sandbox mounts the host's.
fn device_places() -> io::Result<()> {
    DEVICES.iter().try_for_each(|name| fs::write(format!("own/dev/{name}"), b""))
}

/// Share of one sandbox of what the kernel lets the server's user have.
const SHARE: u64 = 4;

/// File watches count for the server's user, whoever of the sandboxes has them. The limits per user within
/// this user namespace, where each sandbox counts as a user of its own, keep one from having them all.
fn share_counters() -> io::Result<()> {
    for name in ["instances", "watches"] {
        let most = fs::read_to_string(format!("/proc/sys/fs/inotify/max_user_{name}"))?;
        let most: u64 = most.trim().parse().map_err(io::Error::other)?;
        let share = (most / SHARE).max(1).to_string();
        fs::write(format!("/proc/sys/user/max_inotify_{name}"), share)?;
    }
    Ok(())
}

fn links_of_devices() -> io::Result<()> {
    for (target, name) in [
        ("pts/ptmx", "own/dev/ptmx"),
        ("/proc/self/fd", "own/dev/fd"),
        ("/proc/self/fd/0", "own/dev/stdin"),
        ("/proc/self/fd/1", "own/dev/stdout"),
        ("/proc/self/fd/2", "own/dev/stderr"),
    ] {
        std::os::unix::fs::symlink(target, name)?;
    }
    Ok(())
}

/// Copies the few facts that programs look for below `/sys`; the real one tells serials, addresses and
/// devices of the host (isolation contract, E19).
fn system_folder() -> io::Result<()> {
    for name in [
        "devices/system/cpu/online",
        "devices/system/cpu/possible",
        "devices/system/cpu/present",
        "kernel/mm/transparent_hugepage/enabled",
        "kernel/mm/transparent_hugepage/hpage_pmd_size",
    ] {
        let copy = Path::new("own/sys").join(name);
        if let Some(folder) = copy.parent() {
            fs::create_dir_all(folder)?;
        }
        if let Ok(content) = fs::read(Path::new("/sys").join(name)) {
            fs::write(copy, content)?;
        }
    }
    fs::create_dir_all("own/sys/fs/cgroup")
}
