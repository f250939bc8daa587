//! From a clone of the forkserver to process 1 of a sandbox, in numbered steps.
//!
//! Until the last step the process is root of the host inside its own mount, pid, ipc, uts, network and
//! cgroup namespaces, which therefore belong to the initial user namespace: nothing that runs inside
//! later holds a capability over them. Only then does it join the sandbox's user namespace.

use std::ffi::{CStr, CString, OsStr};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::numbers;
use crate::protocol::{
    Create, Hello, MAX_PACKET, Overlay, Prepare, Reader, WEAK_CAPABILITIES, WEAK_LANDLOCK,
    WEAK_MASKS, WEAK_NETWORK, WEAK_NEW_PRIVILEGES, WEAK_RLIMITS, WEAK_SECCOMP, Writer,
};
use crate::sys;

/// A step that failed, in words, and why.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) stage: &'static str,
    pub(crate) error: io::Error,
}

impl Failure {
    /// As an answer of this kind.
    pub(crate) fn encode(&self, kind: u8) -> Vec<u8> {
        let number = self.error.raw_os_error().unwrap_or(0).cast_unsigned();
        Writer::new(kind).bytes(self.stage.as_bytes()).u32(number).finish()
    }
}

/// Names the step of an error.
pub(crate) trait Fault<T> {
    fn fault(self, stage: &'static str) -> Result<T, Failure>;
}

impl<T> Fault<T> for io::Result<T> {
    fn fault(self, stage: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure { stage, error })
    }
}

/// Bytes from a message as a path.
pub(crate) fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn text(bytes: &[u8]) -> Result<CString, Failure> {
    CString::new(bytes).map_err(io::Error::other).fault("path with a NUL byte")
}

/// Most read-only folders of one sandbox: the staging file system has this many places.
const PLACES: usize = 128;

/// Prepares, once, what every sandbox is built from: a private mount namespace and a staging file system
/// with places for layers, a folder of devices, a small `/sys` and masks.
pub(crate) fn stage(hello: &Hello) -> Result<(), Failure> {
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
    devices().fault("device nodes")?;
    set_umask(0o022);
    system_folder().fault("folder of system facts")?;
    fs::write("own/mask/file", b"").fault("mask")?;
    Ok(())
}

/// Modes must not depend on the umask that the server was started with.
fn set_umask(mask: usize) {
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
    sys::device(c"own/dev/tty", 5, 0)?;
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

/// Waits, inside new namespaces, for the request that makes a sandbox of this process. Never returns.
pub(crate) fn park(
    hello: &Hello,
    prepare: &Prepare,
    channel: OwnedFd,
    namespace: Option<OwnedFd>,
) -> ! {
    let Ok((channel, namespace)) = keep_only(channel, namespace) else { sys::exit(1) };
    // What the server's own parent ignored (a `nohup`) is not ignored inside. Commands reset SIGPIPE, which
    // this program itself must go on ignoring.
    for signal in (1..=64).filter(|signal| *signal != numbers::SIGPIPE) {
        let _ = sys::set_signal(signal, false);
    }
    let prepared = enter(hello, prepare);
    let mut buffer = vec![0_u8; MAX_PACKET];
    let Ok((length, mut descriptors)) = sys::receive(channel.as_fd(), &mut buffer) else {
        sys::exit(1)
    };
    if length == 0 || descriptors.len() != 2 {
        sys::exit(0);
    }
    drop(channel);
    let (Some(status), Some(listener)) = (descriptors.pop(), descriptors.pop()) else {
        sys::exit(1)
    };
    let request = Create::decode(&mut Reader::new(&buffer[1..length]));
    drop(buffer);
    let built = prepared.and_then(|()| {
        let create =
            request.ok_or_else(|| io::ErrorKind::InvalidData.into()).fault("create request")?;
        let inside = build(hello, &create, namespace, &listener)?;
        Ok((create, inside))
    });
    match built {
        Ok((create, inside)) => {
            let _ = sys::send(status.as_fd(), &[&[1]], &[]);
            drop(status);
            crate::supervisor::run(listener, inside, create.log_bytes)
        }
        Err(failure) => {
            let _ = sys::send(status.as_fd(), &[&failure.encode(0)], &[]);
            sys::exit(1)
        }
    }
}

/// Closes everything that was inherited but the two descriptors given, standard ones included.
fn keep_only(
    channel: OwnedFd,
    namespace: Option<OwnedFd>,
) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    let null = fs::File::options().read(true).write(true).open("/dev/null")?;
    // Beyond all three, so that none is overwritten before it has been copied.
    let given = namespace.as_ref().map_or(0, AsRawFd::as_raw_fd).max(channel.as_raw_fd());
    let highest = given.max(null.as_raw_fd());
    let (aside, beside) = (highest + 1, highest + 2);
    sys::place(channel.as_fd(), aside)?;
    if let Some(namespace) = &namespace {
        sys::place(namespace.as_fd(), beside)?;
    }
    let has_namespace = namespace.is_some();
    for standard in 0..3 {
        sys::place(null.as_fd(), standard)?;
    }
    for old in [Some(OwnedFd::from(null)), Some(channel), namespace].into_iter().flatten() {
        std::mem::forget(old);
    }
    let (aside, beside) = (sys::inherited(aside), sys::inherited(beside));
    sys::place(aside.as_fd(), 3)?;
    if has_namespace {
        sys::place(beside.as_fd(), 4)?;
    }
    std::mem::forget((aside, beside));
    sys::close_from(if has_namespace { 5 } else { 4 })?;
    Ok((sys::inherited(3), has_namespace.then(|| sys::inherited(4))))
}

/// Steps that need no knowledge of the sandbox: control groups first, so that all memory is counted, then
/// the network and cgroup namespaces.
fn enter(hello: &Hello, prepare: &Prepare) -> Result<(), Failure> {
    for join in &prepare.joins {
        fs::write(path(join), b"0").fault("entering a control group")?;
    }
    own_templates()?;
    if hello.weakened & WEAK_NETWORK != 0 {
        return sys::unshare(numbers::CLONE_NEWCGROUP).fault("cgroup namespace");
    }
    sys::unshare(numbers::CLONE_NEWNET | numbers::CLONE_NEWCGROUP)
        .fault("network and cgroup namespaces")?;
    sys::loopback_up().fault("loopback device")
}

/// Lays an overlay over the templates, seen by this sandbox only. Their files are then the sandbox's own:
/// watches and locks on them reach no other sandbox. Without an upper folder nothing makes it writable.
fn own_templates() -> Result<(), Failure> {
    let flags = numbers::MS_RDONLY | numbers::MS_NOSUID | numbers::MS_NOEXEC;
    // A read-only overlay needs two layers; the second is empty.
    sys::mount(c"overlay", c"own", c"overlay", flags, c"lowerdir=own:root").fault("own templates")
}

/// What process 1 works with once its root is the sandbox's.
#[derive(Debug)]
pub(crate) struct Inside {
    /// Folder of logs, outside the sandbox's root.
    pub(crate) logs: OwnedFd,
    /// Number of the newest log from an earlier life, 0 when there is none.
    pub(crate) last_log: u64,
    /// Reads as empty, swallows what is written.
    pub(crate) null: OwnedFd,
}

fn build(
    hello: &Hello,
    create: &Create,
    namespace: Option<OwnedFd>,
    listener: &OwnedFd,
) -> Result<Inside, Failure> {
    // 1. The sandbox's own folder and its layers, ids shifted into its user namespace.
    let folder = place(&create.folder, 0, namespace.as_ref())?;
    let logs = fs::File::open("0/logs").fault("folder of logs")?;
    let last_log = newest_log().fault("folder of logs")?;
    // 2. Its file systems. The options name places relative to here, so that the mount table seen from
    //    inside tells nothing of the host.
    //    Overlayfs acts with the rights of who mounts it: files that it makes must belong to an id that
    //    the shifted folder knows, so they are made as the sandbox's root.
    let root = owner_of_folder()?;
    sys::create_files_as(root).fault("id of the sandbox's root")?;
    let mut next = folder + 1;
    for overlay in &create.overlays {
        next = mount_overlay(hello, overlay, next, namespace.as_ref())?;
    }
    // 3. The kernel's file systems.
    kernel_file_systems(hello, create, root)?;
    sys::create_files_as(0).fault("id of root")?;
    let null =
        fs::File::options().read(true).write(true).open("root/dev/null").fault("null device")?;
    // 4. Its root becomes the root; the host's tree goes.
    std::env::set_current_dir("root").fault("root folder")?;
    sys::pivot_here().fault("pivot_root")?;
    sys::detach(c".").fault("leaving the host's tree")?;
    std::env::set_current_dir("/").fault("root folder")?;
    // 5. Names and limits.
    sys::set_hostname(&create.hostname).fault("host name")?;
    let _ = sys::plain(numbers::SETSID, [0; 4]);
    set_umask(0o022);
    if hello.weakened & WEAK_RLIMITS == 0 {
        limits(create).fault("resource limits")?;
    }
    // 6. The listener is named as ours while the credentials are still the host's root.
    sys::listen(listener.as_fd()).fault("listening socket")?;
    // 7. Into the user namespace, and down to the capabilities that sandboxes keep.
    drop_rights(hello, namespace)?;
    Ok(Inside { logs: logs.into(), last_log, null: null.into() })
}

/// Brings a folder of the host to a numbered place, its ids shifted.
fn place(folder: &[u8], number: usize, namespace: Option<&OwnedFd>) -> Result<usize, Failure> {
    if number >= PLACES {
        return Err(io::Error::from(io::ErrorKind::InvalidInput)).fault("more layers than places");
    }
    let tree = sys::open_tree(&text(folder)?).fault("layer")?;
    if let Some(namespace) = namespace {
        sys::idmap(tree.as_fd(), namespace.as_fd()).fault("idmapped mount")?;
    }
    let target = text(number.to_string().as_bytes())?;
    sys::move_mount(tree.as_fd(), &target).fault("placing a layer")?;
    Ok(number)
}

fn newest_log() -> io::Result<u64> {
    let mut newest = 0;
    for entry in fs::read_dir("0/logs")? {
        if let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok())
        {
            newest = newest.max(number);
        }
    }
    Ok(newest)
}

fn mount_overlay(
    hello: &Hello,
    overlay: &Overlay,
    first: usize,
    namespace: Option<&OwnedFd>,
) -> Result<usize, Failure> {
    let mut next = first;
    let mut options = String::from("lowerdir=");
    for layer in &overlay.lower {
        place(layer, next, namespace)?;
        let separator = if next == first { "" } else { ":" };
        let _ = write!(options, "{separator}{next}");
        next += 1;
    }
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // `volatile`: nothing is synced to disk by calls from inside; the server syncs when a sandbox stops.
    let _ = write!(
        options,
        ",upperdir=0/{},workdir=0/{},redirect_dir=off,metacopy=off,index=off,volatile",
        name(&overlay.upper),
        name(&overlay.work)
    );
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

fn kernel_file_systems(hello: &Hello, create: &Create, base: u32) -> Result<(), Failure> {
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

/// Host id of inside id 0, as the shifted folder shows it.
fn owner_of_folder() -> Result<u32, Failure> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("0").map(|folder| folder.uid()).fault("sandbox folder")
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

fn limits(create: &Create) -> io::Result<()> {
    const CORE: usize = 4;
    const NOFILE: usize = 7;
    const MEMLOCK: usize = 8;
    sys::limit(CORE, 0)?;
    sys::limit(MEMLOCK, 64 << 10)?;
    sys::limit(NOFILE, create.open_files)
}

fn drop_rights(hello: &Hello, namespace: Option<OwnedFd>) -> Result<(), Failure> {
    const PR_SET_DUMPABLE: usize = 4;
    const PR_CAPBSET_DROP: usize = 24;
    const PR_SET_NO_NEW_PRIVS: usize = 38;
    const HIGHEST_CAPABILITY: usize = 63;
    let load = |wanted: bool| -> Result<(), Failure> {
        if wanted && hello.weakened & WEAK_SECCOMP == 0 {
            sys::load_filter(&hello.filter).fault("system call filter")?;
        }
        Ok(())
    };
    if let Some(namespace) = namespace {
        sys::join(namespace.as_fd(), numbers::CLONE_NEWUSER).fault("joining the user namespace")?;
        sys::become_user(0, 0, &[]).fault("root of the user namespace")?;
    }
    if hello.weakened & WEAK_CAPABILITIES == 0 {
        for capability in 0..=HIGHEST_CAPABILITY {
            // Unknown ones beyond the kernel's last answer EINVAL: there is nothing to drop.
            if hello.capabilities & (1 << capability) == 0
                && let Err(error) = sys::prctl(PR_CAPBSET_DROP, capability)
                && error.raw_os_error() != Some(22)
            {
                return Err(error).fault("capability bounding set");
            }
        }
    }
    let locked = !hello.allow_setuid && hello.weakened & WEAK_NEW_PRIVILEGES == 0;
    if locked {
        sys::prctl(PR_SET_NO_NEW_PRIVS, 1).fault("no_new_privs")?;
    }
    if hello.weakened & WEAK_LANDLOCK == 0 {
        landlock()?;
    }
    // Without no_new_privs the filter needs CAP_SYS_ADMIN, which the next step drops.
    load(!locked)?;
    if hello.weakened & WEAK_CAPABILITIES == 0 {
        sys::set_capabilities(hello.capabilities).fault("capabilities")?;
    }
    sys::prctl(PR_SET_DUMPABLE, 0).fault("not dumpable")?;
    load(locked)
}

/// No device nodes anywhere, no abstract sockets or signals to the outside; as a side effect of any
/// ruleset the kernel refuses changes of the mount table.
fn landlock() -> Result<(), Failure> {
    const MAKE_CHAR: u64 = 1 << 6;
    const MAKE_BLOCK: u64 = 1 << 11;
    const REFER: u64 = 1 << 13;
    const ABSTRACT_SOCKETS_AND_SIGNALS: u64 = 3;
    let version = sys::landlock_version().fault("Landlock")?;
    let root = fs::File::open("/").fault("root folder")?;
    let scopes = (version >= 6).then_some(ABSTRACT_SOCKETS_AND_SIGNALS);
    sys::landlock(MAKE_CHAR | MAKE_BLOCK | REFER, scopes, REFER, root.as_fd()).fault("Landlock")
}
