//! F10: file calls change nothing of /proc, /sys, /dev and other read-only mounts.

use std::fs;

use mayfly_core::file::Permissions;

use crate::harness::Bench;

#[test]
fn f10_kernel_folders_stay_as_they_are() {
    let Some(bench) = Bench::open("F10") else { return };
    let sandbox = bench.sandbox();
    let (id, files) = (sandbox.id(), sandbox.files());
    let settings = || {
        ["core_pattern", "randomize_va_space"]
            .map(|name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap())
    };
    let before = settings();
    let show = "ls -A /dev; ls -A /sys /sys/fs/cgroup; cat /proc/1/oom_score_adj; cat /dev/null";
    let inside = sandbox.sh(show).text;
    let change = Permissions { owner: Some("daemon".into()), group: None, mode: Some(0o777) };
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/1/oom_score_adj",
        "/proc/sysrq-trigger",
        "/proc/new",
        "/sys/new",
        "/sys/fs/cgroup/new",
        "/dev/new",
        "/dev/null",
        "/dev/stdout",
        "/proc/self/comm",
        "/proc/bus/new",
        "/proc/self/fd/1",
        "/proc/kallsyms",
    ] {
        let written = sandbox.wait(async {
            let mut writer = files.write(id, path).await?;
            writer.write(bytes::Bytes::from_static(b"|/bin/false")).await?;
            writer.commit().await
        });
        assert!(written.is_err(), "{path}");
        assert!(
            sandbox.wait(files.make_folder(id, &format!("{path}/x"), 0o755)).is_err(),
            "{path}"
        );
        assert!(sandbox.wait(files.delete(id, path, true)).is_err(), "{path}");
        assert!(sandbox.wait(files.rename(id, path, "/tmp/stolen")).is_err(), "{path}");
        assert!(sandbox.wait(files.rename(id, "/etc/hosts", path)).is_err(), "{path}");
        assert!(sandbox.wait(files.set_permissions(id, path, &change)).is_err(), "{path}");
    }
    for mount in ["/proc", "/sys", "/dev", "/usr", "/"] {
        assert!(sandbox.wait(files.rename(id, mount, "/tmp/stolen")).is_err(), "{mount}");
    }
    for mount in ["/proc", "/sys", "/dev"] {
        assert!(sandbox.wait(files.delete(id, mount, true)).is_err(), "{mount}");
    }
    assert_eq!(settings(), before);
    assert_eq!(sandbox.sh(show).text, inside);
    // The same calls work where they may.
    sandbox.put("/srv/new", b"new");
    sandbox.wait(files.set_permissions(id, "/srv/new", &change)).unwrap();
    assert_eq!(sandbox.sh("stat -c '%U %a' /srv/new").text, "daemon 777\n");
}
