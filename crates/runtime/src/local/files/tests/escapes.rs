//! F1, F2, F4, F10: names and links that point out of the sandbox.

use std::os::unix::fs::symlink;

use mayfly_core::Code;
use mayfly_core::file::Permissions;

use super::*;

pub(super) async fn f1_dots_and_odd_spellings_stay_in_the_root() {
    let home = home();
    home.put("/file", "inside").await.unwrap();
    for path in ["../file", "../../../../file", "/../file", "//file", "/desk/../../file"] {
        assert_eq!(home.get(path).await.unwrap(), b"inside", "{path}");
    }
    for path in [
        "../outside/file",
        "%2e%2e/outside/file",
        "..\\outside\\file",
        "/proc/self/root/etc/passwd",
    ] {
        let error = home.get(path).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::FileNotFound), "{path}");
    }
    for path in ["", "a\0b", &"x".repeat(256), &"a/".repeat(2100)] {
        let error = home.get(path).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::InvalidFilePath));
    }
    home.put("../../outside/file", "x").await.unwrap();
    assert!(home.host("outside/file").exists());
    home.outside_is_untouched();
}

pub(super) async fn f2_links_and_chains_lead_nowhere_but_inside() {
    let home = home();
    let away = home.outside("file");
    symlink(&away, home.host("desk/absolute")).unwrap();
    symlink("../../outside/file", home.host("desk/relative")).unwrap();
    symlink("relative", home.host("desk/chain")).unwrap();
    symlink("/desk/chain", home.host("desk/chain2")).unwrap();
    symlink("../../outside", home.host("desk/folder")).unwrap();
    for path in ["absolute", "relative", "chain", "chain2", "folder/file"] {
        let error = home.get(path).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::FileNotFound), "{path}");
        let change = Permissions { mode: Some(0o777), ..Permissions::default() };
        assert!(home.files.set_permissions(home.id, path, &change).await.is_err());
    }
    // Written through: resolved inside the root, where it then exists; the links stay links.
    for path in ["absolute", "chain2"] {
        home.put(path, "inside").await.unwrap();
        assert_eq!(home.get(path).await.unwrap(), b"inside");
        assert!(home.host("desk").join(path).symlink_metadata().unwrap().is_symlink());
    }
    assert_eq!(std::fs::read(home.host("outside/file")).unwrap(), b"inside");
    for link in ["absolute", "folder"] {
        home.files.delete(home.id, link, true).await.unwrap();
    }
    assert!(home.host("outside/file").exists(), "a deleted link leaves its target");
    home.outside_is_untouched();
}

pub(super) async fn f2_a_circle_of_links_is_refused() {
    let home = home();
    symlink("b", home.host("desk/a")).unwrap();
    symlink("a", home.host("desk/b")).unwrap();
    for error in [
        home.get("a").await.unwrap_err(),
        home.put("a", "x").await.unwrap_err(),
        home.put("a/f", "x").await.unwrap_err(),
    ] {
        assert_eq!(error.code(), Some(Code::InvalidFilePath));
    }
}

pub(super) async fn f4_writing_to_a_hard_link_leaves_the_other_name_alone() {
    let home = home();
    std::fs::hard_link(home.outside("file"), home.host("desk/hard")).unwrap();
    home.put("hard", "new").await.unwrap();
    assert_eq!(home.get("hard").await.unwrap(), b"new");
    let files = ["hard".to_owned()];
    home.files.replace(home.id, &files, "new", "newer").await.unwrap();
    home.outside_is_untouched();
}

/// The host's own root stands in for a sandbox's: its /proc, /sys and /dev are the real ones.
pub(super) async fn f10_kernel_folders_are_left_alone() {
    let home = on(open_path(Path::new("/")), root_user(), TempDir::new().unwrap());
    let name = format!("mayfly-test-{}", std::process::id());
    for folder in ["/proc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts"] {
        let path = format!("{folder}/{name}");
        assert!(home.put(&path, "x").await.is_err(), "{path}");
        assert!(home.files.make_folder(home.id, &path, 0o755).await.is_err(), "{path}");
        assert!(!Path::new(&path).exists());
    }
    let mode = std::fs::metadata("/proc/version").unwrap().mode();
    let change = Permissions { mode: Some(0o400), ..Permissions::default() };
    for path in ["/proc/version", "/dev/null", "/proc/sys/kernel/hostname"] {
        assert_eq!(kind(home.files.set_permissions(home.id, path, &change).await), Kind::Invalid);
        assert_eq!(kind(home.get(path).await), Kind::Invalid, "{path}");
    }
    assert_eq!(std::fs::metadata("/proc/version").unwrap().mode(), mode);
    for magic in ["/proc/self/root/tmp", "/proc/self/cwd", "/proc/self/fd/0"] {
        assert!(home.files.list(home.id, magic, 1).await.is_err(), "{magic}");
    }
    if Path::new("/dev/shm")
        .metadata()
        .is_ok_and(|shm| shm.dev() != Path::new("/dev").metadata().unwrap().dev())
    {
        let path = format!("/dev/shm/{name}");
        home.put(&path, "x").await.unwrap();
        home.files.delete(home.id, &path, false).await.unwrap();
    }
}
