//! E6: the program that runs sandboxes, and the host's own programs, cannot be overwritten from inside.

use std::fs;
use std::os::fd::AsFd;

use rustix::fs::{SealFlags, fcntl_get_seals};
use sha2::Digest as _;

use crate::harness::{Bench, OPEN, Sandbox, rootless};

const ATTEMPT: &str = "
for path in ('/proc/1/exe', '/proc/1/mem', '/proc/1/task/1/mem'):
    attempt(f'read {path}', lambda: os.close(os.open(path, os.O_RDONLY)))
    attempt(f'write {path}', lambda: touch(path))
";

/// Waits beside a command for the moment in which a process is our program, and keeps its file.
const HUNTER: &str = "
deadline = time.monotonic() + 5
verdict = 'missed'
while verdict == 'missed' and time.monotonic() < deadline:
    for pid in os.listdir('/proc'):
        if not pid.isdigit() or pid in ('1', str(os.getpid())):
            continue
        try:
            if 'mayfly-init' not in os.readlink(f'/proc/{pid}/exe'):
                continue
            kept = os.open(f'/proc/{pid}/exe', os.O_RDONLY)
        except OSError:
            continue
        verdict = 'caught'
        break
print(f'hunt={verdict}')
if verdict == 'caught':
    time.sleep(0.02)
    def overwrite():
        file = os.open(f'/proc/self/fd/{kept}', os.O_RDWR)
        os.write(file, b'owned')
    attempt('overwrite', overwrite)
    attempt('truncate', lambda: os.truncate(f'/proc/self/fd/{kept}', 0))
";

fn program(sandbox: &Sandbox<'_>) -> Vec<u8> {
    let bytes = fs::read(format!("/proc/{}/exe", sandbox.pid())).unwrap();
    sha2::Sha256::digest(bytes).to_vec()
}

#[test]
fn e06_the_runtime_cannot_be_overwritten() {
    let Some(bench) = Bench::open("E6") else { return };
    let sandbox = bench.sandbox();
    let before = program(&sandbox);
    let ran = sandbox.python(ATTEMPT);
    for line in ran.text.lines() {
        assert!(line.ends_with("=EACCES"), "{line}");
    }
    // Commands that are our own program, as in CVE-2019-5736, while a neighbour tries to catch one.
    let script = format!("{}\n{HUNTER}", crate::prelude::PRELUDE);
    sandbox.put("/tmp/hunter.py", script.as_bytes());
    let started = sandbox.sh("python3 /tmp/hunter.py > /tmp/hunt 2>&1 &");
    assert_eq!(started.code, 0);
    let mut said = String::new();
    for _ in 0..400 {
        let ended = sandbox.exec(&["/proc/self/exe", "x"], |_| {}).unwrap();
        assert_eq!(ended.exit_code, 2);
        said = String::from_utf8(sandbox.get("/tmp/hunt").unwrap_or_default()).unwrap();
        if said.contains("truncate=") {
            break;
        }
    }
    // Caught or missed, it stays what it was.
    assert!(!said.contains("=OK"), "{said}");
    assert_eq!(program(&sandbox), before);
    let exe = fs::File::open(format!("/proc/{}/exe", sandbox.pid())).unwrap();
    let seals = fcntl_get_seals(exe.as_fd()).unwrap();
    assert!(
        seals.contains(SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
    );
}

#[test]
fn e06_host_programs_change_inside_only() {
    let Some(bench) = Bench::open("E6") else { return };
    let sandbox = bench.sandbox();
    let before = fs::read("/usr/bin/true").unwrap();
    let ran = sandbox.sh("printf '#!/bin/sh\\necho changed\\n' > /usr/bin/true; /usr/bin/true");
    if rootless() {
        // Programs of the host belong to nobody inside, so not even a copy of them can be changed in place.
        assert!(ran.text.contains("Permission denied"), "{}", ran.text);
    } else {
        // The write took place, in the sandbox's own layer.
        assert_eq!(ran.text, "changed\n");
    }
    assert!(fs::read("/usr/bin/true").unwrap() == before);
    assert_eq!(bench.sandbox().run(&["/usr/bin/true"]).text, "");
}

#[test]
fn e06_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened("E6", OPEN) else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    assert_eq!(ran.value("read /proc/1/exe"), "OK");
    assert_eq!(ran.value("write /proc/1/mem"), "OK");
}
