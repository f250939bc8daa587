//! E9: names that set-up and commands rely on, replaced by links before a start or during commands.

use std::path::Path;
use std::process::Command;

use crate::harness::{Bench, OPEN, rootless, rounds};
use crate::outside::Bait;

/// What a hostile snapshot or an earlier life can leave where the runtime mounts.
const TRAPS: [&str; 4] = ["proc", "sys", "dev", "usr"];

/// Puts a link, a file or a pipe there. What is inside belongs to the sandbox's root: only who is root where
/// those ids are mapped can do it.
fn set_trap(upper: &Path, name: &str, round: usize, target: &Path) {
    let make = match round {
        0 | 1 => "ln -s -- \"$3\" \"$2\"",
        2 => "echo 'a file' > \"$2\"",
        _ => "mkfifo -m 400 -- \"$2\"",
    };
    let script = format!("cd \"$1\" && rm -rf -- \"$2\" && {make}");
    let mut command = if rootless() {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--map-auto", "/bin/sh"]);
        command
    } else {
        Command::new("/bin/sh")
    };
    let set =
        command.args(["-c", &script, "sh"]).arg(upper).arg(name).arg(target).output().unwrap();
    assert!(set.status.success(), "{set:?}");
}

#[test]
fn e09_links_where_set_up_mounts_are_not_followed() {
    let Some(bench) = Bench::open("E9") else { return };
    let bait = Bait::new("mounts");
    let sandbox = bench.sandbox();
    sandbox.stop();
    let upper = bench.folder(sandbox.id()).join("upper");
    assert!(upper.join("../logs").is_dir(), "{}", upper.display());
    for (round, target) in
        [bait.path().to_owned(), "../../../..".into(), "/".into(), "proc".into()].iter().enumerate()
    {
        for name in TRAPS {
            set_trap(&upper, name, round, target);
        }
        sandbox.start().unwrap();
        let ran = sandbox
            .sh("stat -f -c %T /proc /sys /usr; stat -c %F /proc /sys /dev /usr | uniq; id -u");
        assert_eq!(ran.text, "proc\noverlayfs\noverlayfs\ndirectory\n0\n", "round {round}");
        sandbox.stop();
        assert!(bait.changes().is_empty());
    }
}

#[test]
fn e09_masks_and_devices_cannot_be_replaced() {
    const ATTEMPT: &str = "
for path in ('/dev/null', '/dev/ptmx', '/proc/kallsyms', '/proc/bus', '/proc/sys', '/proc', '/dev', '/usr'):
    attempt(f'remove {path}', lambda: os.rmdir(path) if path in ('/proc', '/dev', '/usr') else os.unlink(path))
    attempt(f'rename {path}', lambda: os.rename(path, '/tmp/moved'))
    attempt(f'cover {path}', lambda: os.rename('/etc/hostname', path))
attempt('console', lambda: os.symlink('/etc/passwd', '/dev/console'))
attempt('umount', lambda: call('umount2', b'/proc/kallsyms', 2))
with open('/proc/kallsyms') as file:
    print('read=' + ('masked' if not file.read(10) else 'shown'))
";
    let Some(bench) = Bench::open("E9") else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    assert!(!ran.text.contains("=OK"), "{}", ran.text);
    assert_eq!(ran.value("read"), "masked");
    let Some(bench) = Bench::weakened("E9", OPEN & !mayfly_init::protocol::WEAK_MASKS) else {
        return;
    };
    let ran = bench.sandbox().python(ATTEMPT);
    assert_eq!((ran.value("umount"), ran.value("read")), ("OK", "shown"), "{}", ran.text);
}

#[test]
fn e09_a_working_folder_swapped_during_commands_stays_inside() {
    let Some(bench) = Bench::open("E9") else { return };
    let bait = Bait::new("race");
    let sandbox = bench.sandbox();
    sandbox.swap("/tmp/work", &format!("/../../../..{}", bait.path().display()));
    let (mut entered, mut refused) = (0, 0);
    for _ in 0..rounds(10_000, 300) {
        let ran = sandbox.exec(&["/bin/sh", "-c", "echo x > escaped"], |request| {
            request.cwd = Some("/tmp/work".to_owned());
        });
        match ran {
            Ok(_) => entered += 1,
            // The link points to what does not exist inside.
            Err(_) => refused += 1,
        }
    }
    assert!(entered > 0 && refused > 0, "no race: {entered} {refused}");
    assert!(bait.changes().is_empty());
}
