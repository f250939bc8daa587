//! E15: calls into a sandbox whose loader, shell, accounts and search path are hostile.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mayfly_core::file::Permissions;
use mayfly_core::ports::runtime::Runtime as _;
use mayfly_core::{Code, Kind};

use crate::harness::{Bench, Sandbox, rootless};

/// A complete program that makes the file `path` and ends with code 7: needs no loader and no library.
fn marker(path: &str) -> Vec<u8> {
    const BASE: u64 = 0x1000_0000;
    const HEAD: u64 = 64 + 56;
    let code: &[u8] = &[
        0xb8, 2, 0, 0, 0, // open(
        0x48, 0x8d, 0x3d, 24, 0, 0, 0, // path,
        0xbe, 0x41, 0, 0, 0, // create and write,
        0xba, 0xa4, 1, 0, 0, // 0644
        0x0f, 0x05, 0xb8, 60, 0, 0, 0, // ); exit(
        0xbf, 7, 0, 0, 0, // 7
        0x0f, 0x05, // )
    ];
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [BASE + HEAD, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    for half in [0_u16, 0, 64, 56, 1, 64, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let size = HEAD + code.len() as u64 + path.len() as u64 + 1;
    for word in [0, BASE, BASE, size, size, 4096] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf.extend(path.as_bytes());
    elf.push(0);
    elf
}

fn place(name: &str) -> PathBuf {
    PathBuf::from(format!("/tmp/mayfly-{name}-{}", std::process::id()))
}

/// Replaces the loader, the shell and a common program.
fn poison(sandbox: &Sandbox<'_>, path: &Path) {
    sandbox.put("/usr/local/evil", &marker(path.to_str().unwrap()));
    let ran = sandbox.python(
        "
import shutil
os.chmod('/usr/local/evil', 0o755)
for path in ('/bin/sh', '/lib64/ld-linux-x86-64.so.2', '/usr/bin/id', '/usr/local/sbin/ls'):
    real = os.path.realpath(path)
    shutil.copy('/usr/local/evil', real + '.new')
    os.rename(real + '.new', real)
print('poisoned')
",
    );
    assert!(ran.says("poisoned"), "{}", ran.text);
}

#[test]
fn e15_hostile_programs_run_inside_only() {
    if cfg!(not(target_arch = "x86_64")) {
        println!("SKIP E15: x86_64");
        return;
    }
    let Some(bench) = Bench::open("E15") else { return };
    let sandbox = bench.sandbox();
    let mark = place("mark");
    let inside = mark.to_str().unwrap();
    poison(&sandbox, &mark);
    for argv in [["/bin/sh", "-c"], ["id", "x"], ["ls", "/"], ["/usr/bin/python3", "-c"]] {
        let ended = sandbox.exec(&argv, |_| {}).unwrap();
        assert_eq!(ended.exit_code, 7, "{argv:?}");
        // It ran, and the mark is inside only.
        assert!(!mark.exists());
        if rootless() {
            // No program is left there that could tell or delete it.
            assert!(bench.folder(sandbox.id()).join("upper").join(&inside[1..]).exists());
            continue;
        }
        assert!(sandbox.get(inside).is_ok());
        let (id, files) = (sandbox.id(), sandbox.files());
        sandbox.wait(files.delete(id, inside, false)).unwrap();
    }
    if rootless() {
        return;
    }
    // File calls and looks at the sandbox run nothing of it, inside or outside.
    let (id, files) = (sandbox.id(), sandbox.files());
    sandbox.put("/tmp/a", b"needle");
    sandbox.wait(async {
        files.list(id, "/", 2).await.unwrap();
        files.find(id, "/etc", "root").await.unwrap();
        files.search(id, "/etc", "*.conf").await.unwrap();
        let changed = Permissions {
            owner: Some("daemon".to_owned()),
            group: Some("daemon".to_owned()),
            mode: Some(0o700),
        };
        files.set_permissions(id, "/tmp/a", &changed).await.unwrap();
        files.replace(id, &["/tmp/a".to_owned()], "needle", "pin").await.unwrap();
        files.rename(id, "/tmp/a", "/tmp/b").await.unwrap();
    });
    assert_eq!(sandbox.get("/tmp/b").unwrap(), b"pin");
    assert!(sandbox.get(inside).is_err());
    sandbox.stop();
    sandbox.start().unwrap();
    assert!(sandbox.get(inside).is_err());
    assert!(!mark.exists());
}

#[test]
fn e15_hostile_accounts_neither_hang_nor_leak() {
    let Some(bench) = Bench::open("E15") else { return };
    let traps = [
        "os.mkfifo(path)",
        "os.mkdir(path)",
        "os.symlink('/dev/zero', path)",
        "os.symlink('/proc/self/fd/0', path)",
        "os.symlink('../../../../../../etc/shadow', path)",
        "os.symlink('passwd', path)",
        "put(path, 'x'); os.truncate(path, 1 << 31)",
        "put(path, 'root:x:0:0::/tmp/../../..:/bin/sh\\n' * 100000)",
        "put(path, 'root:x:4294967295:99999999999::/proc/1/cwd:\\n')",
        "put(path, 'root:x:-1:0::/dev/null:/bin/sh\\n')",
    ];
    for trap in traps {
        let sandbox = bench.sandbox();
        let script = format!(
            "
for path in ('/etc/passwd', '/etc/group'):
    os.unlink(path)
    {trap}
print('set')
"
        );
        assert!(sandbox.python(&script).says("set"), "{trap}");
        // What was looked up before is forgotten with the stop.
        sandbox.stop();
        sandbox.start().unwrap();
        let before = Instant::now();
        let ran = sandbox.exec(&["/usr/bin/id", "-u"], |request| {
            request.cwd = Some("/".to_owned());
            request.timeout = Duration::from_secs(2);
        });
        let listed = sandbox.wait(sandbox.files().list(sandbox.id(), "/", 1));
        assert!(before.elapsed() < Duration::from_secs(2), "{trap}");
        // It works, or the user that cannot be found is named; never with an id that is not inside.
        match ran {
            Ok(ran) => assert!(ran.output == "0\n", "{trap}: {ran:?}"),
            Err(error) => assert!(error.kind() == Kind::Invalid, "{trap}: {error:?}"),
        }
        if let Err(error) = listed
            && !rootless()
        {
            assert_eq!(error.kind(), Kind::Invalid, "{trap}: {error:?}");
        }
        sandbox.wait(bench.runtime().destroy(sandbox.id())).unwrap();
    }
}

#[test]
fn e15_a_command_that_will_not_end_is_ended() {
    let Some(bench) = Bench::open("E15") else { return };
    let sandbox = bench.sandbox();
    let stubborn =
        "trap '' TERM INT HUP; (setsid sh -c 'trap \"\" TERM; while :; do sleep 9; done' &)
while :; do sleep 9; done";
    let before = Instant::now();
    let ran = sandbox.exec(&["/bin/sh", "-c", stubborn], |request| {
        request.timeout = Duration::from_millis(200);
    });
    assert_eq!(ran.unwrap_err().code(), Some(Code::ProcessExecutionTimeout));
    assert!(before.elapsed() < Duration::from_secs(3));
    let left = sandbox.sh("cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep");
    assert_eq!(left.text, "0\n");
}
