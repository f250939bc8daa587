//! From a clone of the forkserver to process 1 of a sandbox, in numbered steps.
//!
//! Until the last step the process is root of the forkserver's user namespace (the host's, or an ordinary
//! user's own) inside its own mount, pid, ipc, uts, network and
//! cgroup namespaces, which therefore belong to that user namespace: nothing that runs inside
//! later holds a capability over them. Only then does it join the sandbox's user namespace.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use crate::failure::{Failure, Fault, path};
use crate::mounts;
use crate::numbers;
use crate::protocol::{Create, Hello, Prepare, Reader, WEAK_NETWORK, WEAK_RLIMITS, kept};
use crate::rights;
use crate::stage::set_umask;
use crate::sys;
use crate::volumes;

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
    // The server waits for it, to take charge of the network namespace. Why it failed is told to who wants
    // the sandbox.
    let _ = sys::send(channel.as_fd(), &[&[u8::from(prepared.is_ok())]], &[]);
    let room = sys::room();
    let Ok((length, mut descriptors)) = sys::receive(channel.as_fd(), room.packet) else {
        sys::exit(1)
    };
    if length == 0 || descriptors.len() != 2 {
        sys::exit(0);
    }
    drop(channel);
    let (Some(status), Some(listener)) = (descriptors.pop(), descriptors.pop()) else {
        sys::exit(1)
    };
    let request = Create::decode(&mut Reader::new(&room.packet[1..length]));
    let built = prepared.and_then(|()| {
        let create =
            request.ok_or_else(|| io::ErrorKind::InvalidData.into()).fault("create request")?;
        // Without a user namespace inside ids are the forkserver's own.
        let root = namespace.as_ref().map_or(0, |_| prepare.id_base);
        let inside = build(hello, &create, (namespace, root), &listener)?;
        Ok((create, inside))
    });
    match built {
        Ok((create, inside)) => {
            let heard = sys::send(status.as_fd(), &[&[1]], &[]);
            // Its server died meanwhile, and the next one may have looked before there was anybody to find.
            // Without control groups nothing else would ever end what nobody knows of.
            if hello.rootless && heard.is_err() {
                sys::exit(1);
            }
            drop(status);
            crate::supervisor::run(listener, inside, create.log_bytes, room)
        }
        Err(failure) => {
            let _ = sys::send(status.as_fd(), &[&failure.encode(0)], &[]);
            sys::exit(1)
        }
    }
}

/// Closes everything that was inherited but the two descriptors given, standard ones included.
pub(crate) fn keep_only(
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
    /// What an earlier life left there.
    pub(crate) found: Found,
    /// Reads as empty, swallows what is written.
    pub(crate) null: OwnedFd,
}

fn build(
    hello: &Hello,
    create: &Create,
    (namespace, root): (Option<OwnedFd>, u32),
    listener: &OwnedFd,
) -> Result<Inside, Failure> {
    // 1. The sandbox's own folder and its layers, ids shifted into its user namespace.
    let folder = mounts::place(hello, &create.folder, 0, namespace.as_ref())?;
    if hello.rootless {
        mounts::parts(create, root)?;
    }
    let logs = fs::File::open("0/logs").fault("folder of logs")?;
    let found = found().fault("folder of logs")?;
    // 2. Its file systems. The options name places relative to here, so that the mount table seen from
    //    inside tells nothing of the host.
    //    Overlayfs acts with the rights of who mounts it: files that it makes must belong to an id that
    //    the shifted folder knows, so they are made as the sandbox's root.
    sys::create_files_as(root).fault("id of the sandbox's root")?;
    let mut next = folder + 1;
    for overlay in &create.overlays {
        next = mounts::overlay(hello, overlay, next, namespace.as_ref())?;
    }
    // 3. The kernel's file systems.
    mounts::kernel(hello, create, root)?;
    sys::create_files_as(0).fault("id of root")?;
    //    Shared folders last, so that they may lie in any of the others.
    for volume in &create.volumes {
        volumes::mount(volume, namespace.as_ref())?;
    }
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
        rights::limit(create).fault("resource limits")?;
    }
    // 6. The listener is named as ours while the credentials are still the host's root.
    sys::listen(listener.as_fd()).fault("listening socket")?;
    // 7. Into the user namespace, and down to the capabilities that sandboxes keep.
    rights::drop(hello, namespace)?;
    Ok(Inside { logs: logs.into(), found, null: null.into() })
}

/// What is in the folder of logs.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Highest number, 0 when there is none.
    pub(crate) newest: u64,
    /// Logs of commands, in order.
    pub(crate) logs: Vec<u64>,
    /// Kept output of processes that stayed, with its size.
    pub(crate) kept: BTreeMap<u64, u64>,
}

fn found() -> io::Result<Found> {
    let mut found = Found::default();
    for entry in fs::read_dir("0/logs")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Ok(number) = name.parse::<u64>() {
            found.logs.push(number);
            found.newest = found.newest.max(number);
        } else if let Some(number) = kept::number(name) {
            found.kept.insert(number, entry.metadata()?.blocks() * 512);
            found.newest = found.newest.max(number);
        }
    }
    found.logs.sort_unstable();
    Ok(found)
}
