//! What every script of an attack can use: raw system calls by name, and one printed line per attempt.

/// `call(name, ...)` answers the result or minus the error number; `attempt` and `tried` print
/// `what=VERDICT`, where the verdict is `OK`, the name of an error, or what the attempt returned. `tried`
/// does so in a child, so that what succeeds does not change the script itself.
pub(crate) const PRELUDE: &str = r"
import ctypes, os, sys, errno, socket, struct, time, platform, subprocess, signal
NAMES = ('unshare clone mount umount2 mknodat ptrace process_vm_readv process_vm_writev bpf userfaultfd '
    'keyctl add_key request_key perf_event_open kexec_load init_module finit_module delete_module '
    'open_by_handle_at name_to_handle_at quotactl reboot personality settimeofday clock_settime '
    'clock_adjtime adjtimex setns swapon syslog fanotify_init pivot_root getpid sethostname '
    'renameat2').split()
NUMBERS = {
    'x86_64': [272, 56, 165, 166, 259, 101, 310, 311, 321, 323, 250, 248, 249, 298, 246, 175, 313, 176,
        304, 303, 179, 169, 135, 164, 227, 305, 159, 308, 167, 103, 300, 155, 39, 170, 316],
    'aarch64': [97, 220, 40, 39, 33, 117, 270, 271, 280, 282, 219, 217, 218, 241, 104, 105, 273, 106,
        265, 264, 60, 142, 92, 170, 112, 266, 171, 268, 224, 116, 262, 41, 172, 161, 276],
}[platform.machine()]
NR = dict(zip(NAMES, NUMBERS, strict=True))
NR.update(clone3=435, io_uring_setup=425, pidfd_open=434, pidfd_getfd=438, mount_setattr=442,
    fsopen=430, open_tree=428, move_mount=429)
NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
def call(number, *args):
    ctypes.set_errno(0)
    number = NR[number] if isinstance(number, str) else number
    raw = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    answer = _libc.syscall(ctypes.c_long(number), *raw)
    return -ctypes.get_errno() if answer == -1 else answer
def name(answer):
    return errno.errorcode.get(-answer, str(answer)) if answer < 0 else 'OK'
def attempt(what, do):
    try:
        answer = do()
        verdict = 'OK' if answer is None else name(answer) if isinstance(answer, int) else answer
    except OSError as error:
        verdict = errno.errorcode.get(error.errno, error.errno)
    print(f'{what}={verdict}', flush=True)
def tried(what, do):
    pid = os.fork()
    if pid == 0:
        attempt(what, do)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if status:
        print(f'{what}=status {status}', flush=True)
def touch(path):
    os.close(os.open(path, os.O_WRONLY))
def put(path, text):
    with open(path, 'w') as file:
        file.write(text)
def mount(source, target, kind, flags=0, data=None):
    os.makedirs(target, exist_ok=True)
    enc = lambda text: text.encode() if text else None
    return call('mount', enc(source), enc(target), enc(kind), flags, enc(data))
";
