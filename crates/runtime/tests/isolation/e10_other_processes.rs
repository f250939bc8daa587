//! E10: no new namespaces, and no way into processes outside.

use crate::harness::{Bench, OPEN, rootless};
use crate::outside::{Victim, unprotected};

const NAMESPACES: &str = "
tried('user', lambda: call('unshare', NEWUSER))
tried('user and mount', lambda: call('unshare', NEWUSER | NEWNS) or mount('none', '/mnt/t', 'tmpfs'))
tried('mount', lambda: call('unshare', NEWNS))
tried('pid', lambda: call('unshare', NEWPID))
tried('net', lambda: call('unshare', NEWUSER | NEWNET))
tried('join', lambda: call('setns', os.open('/proc/self/ns/user', os.O_RDONLY), 0))
tried('join ipc', lambda: call('setns', os.open('/proc/self/ns/ipc', os.O_RDONLY), 0))
";

fn reach(pid: &str) -> String {
    format!(
        "
SEIZE = 0x4206
pid = {pid}
tried('signal', lambda: os.kill(pid, 0))
tried('ptrace', lambda: call('ptrace', SEIZE, pid, None, None))
buffer = ctypes.create_string_buffer(8)
local = struct.pack('PN', ctypes.addressof(buffer), 8)
far = struct.pack('PN', 1, 8)
tried('read', lambda: call('process_vm_readv', pid, local, 1, far, 1, 0))
tried('write', lambda: call('process_vm_writev', pid, local, 1, far, 1, 0))
tried('pidfd', lambda: call('pidfd_open', pid, 0))
tried('steal', lambda: call('pidfd_getfd', call('pidfd_open', pid, 0), 0, 0))
attempt('proc', lambda: os.close(os.open(f'/proc/{{pid}}/mem', os.O_RDWR)))
"
    )
}

#[test]
fn e10_no_new_namespaces() {
    let Some(bench) = Bench::open("E10") else { return };
    let ran = bench.sandbox().python(NAMESPACES);
    assert_eq!(ran.text.lines().count(), 7, "{}", ran.text);
    for line in ran.text.lines() {
        assert!(line.ends_with("=EPERM"), "{line}");
    }
}

#[test]
fn e10_namespaces_show_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened("E10", OPEN) else { return };
    let ran = bench.sandbox().python(NAMESPACES);
    for verb in ["user", "user and mount", "mount", "pid", "net", "join ipc"] {
        // An ordinary user is nobody in yet another user namespace, and makes no folder to mount on.
        if rootless() && verb == "user and mount" {
            continue;
        }
        assert_eq!(ran.value(verb), "OK", "{verb} in {}", ran.text);
    }
}

#[test]
fn e10_processes_outside_cannot_be_reached() {
    let Some(bench) = Bench::open("E10") else { return };
    let mut victim = Victim::start();
    let attack = reach(&victim.pid().to_string());
    let sandbox = bench.sandbox();
    let ran = sandbox.python(&attack);
    for verb in ["signal", "ptrace", "read", "write", "pidfd"] {
        assert_eq!(ran.value(verb), "ESRCH", "{verb}");
    }
    assert_eq!((ran.value("steal"), ran.value("proc")), ("EBADF", "ENOENT"));
    assert!(victim.is_alive());
    // The same from where nothing is in the way; only the address is wrong.
    let ran = unprotected(&attack);
    for verb in ["signal", "ptrace", "pidfd", "steal", "proc"] {
        assert_eq!(ran.value(verb), "OK", "{verb}");
    }
    assert_eq!((ran.value("read"), ran.value("write")), ("EFAULT", "EFAULT"));
}

#[test]
fn e10_process_1_cannot_be_entered() {
    let Some(bench) = Bench::open("E10") else { return };
    let ran = bench.sandbox().python(&reach("1"));
    for verb in ["ptrace", "read", "write", "steal"] {
        assert_eq!(ran.value(verb), "EPERM", "{verb}");
    }
    assert_eq!(ran.value("proc"), "EACCES");
    let Some(bench) = Bench::weakened("E10", OPEN) else { return };
    let ran = bench.sandbox().python(&reach("1"));
    for verb in ["ptrace", "steal", "proc"] {
        assert_eq!(ran.value(verb), "OK", "{verb}");
    }
}
