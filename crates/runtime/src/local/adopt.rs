//! Finding the sandboxes again that an earlier server left running.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mayfly_core::id::SandboxId;

use super::cgroup::Cgroups;
use super::ids::{Ids, identify};
use super::init::{Greeting, Sockets, greet};
use super::live::Live;
use super::storage::Storage;

/// Longest wait for the language of one adopted process 1, milliseconds.
const ADOPTION_PATIENCE: i64 = 200;
/// Tries while the queue of a process 1 is full of connections that its dead server made, and the pause
/// between them: 200 ms.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(5);

/// Finds running sandboxes by their sockets. A socket that nobody answers on is removed: its sandbox is
/// stopped. One that is answered but does not fit is ended, since nothing is known of it; whoever is no
/// sandbox of this server at all is left alone.
pub(super) fn adopt(
    sockets: &Sockets,
    storage: &Storage,
    cgroups: &Cgroups,
    ids: Ids,
) -> Vec<Live> {
    let mut adopted = Vec::new();
    for id in sockets.ids() {
        let found = connect(sockets, id).and_then(|socket| {
            let (pid, pidfd, slot) = identify(&socket, ids)?;
            let slot = slot?;
            let spec = storage.spec(id).ok();
            // Only another language is refused: a frozen or busy one answers late, one with as many clients as
            // it can have not at all, and the kernel's word on who listens is enough.
            let frozen = cgroups.group(slot).is_frozen().unwrap_or(false);
            let greeting =
                if frozen { Greeting::Silent } else { greet(&socket, ADOPTION_PATIENCE) };
            match spec {
                Some(spec) if greeting != Greeting::Foreign => {
                    let (place, process) = ((slot, ids), (pid, pidfd.into()));
                    let live = Live::new((id, spec), place, cgroups.group(slot), process, None);
                    note(&live, greeting);
                    Some(live)
                }
                _ => {
                    let _ =
                        rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
                    None
                }
            }
        });
        if let Some(live) = found {
            adopted.push(live);
        } else {
            sockets.remove(id);
            storage.end_logs(id);
        }
    }
    adopted
}

/// Notes of a process 1 that it speaks an older version than is spoken here: its sandbox runs on, and can only be
/// stopped.
pub(super) fn note(live: &Live, greeting: Greeting) {
    if let Greeting::Outdated(version) = greeting {
        tracing::warn!(sandbox = %live.id, version, "an older server started it; stop it and start it again");
        let _ = live.outdated.set(version);
    }
}

fn connect(sockets: &Sockets, id: SandboxId) -> Option<OwnedFd> {
    for _ in 0..TRIES {
        match sockets.connect(id) {
            Ok(socket) => return Some(socket),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(_) => return None,
        }
    }
    None
}
