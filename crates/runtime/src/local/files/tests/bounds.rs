//! F11, F12: a full disk, a read-only one, an overlay, and many files; and what happens at the bounds.

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::*;

/// A file system that is mounted nowhere: only its descriptor leads to it.
fn mounted(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> OwnedFd {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for (key, value) in options {
        fsconfig_set_string(&fs, *key, *value).unwrap();
    }
    fsconfig_create(&fs).unwrap();
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).unwrap()
}

pub(super) async fn f11_a_full_disk_leaves_no_part_of_a_file() {
    let folder = mounted("tmpfs", &[("size", "1m"), ("mode", "755")], MountAttrFlags::empty());
    own(&folder);
    let home = on(folder, root_user(), TempDir::new().unwrap());
    home.put("/f", "before").await.unwrap();
    for path in ["/f", "/new"] {
        let full = home.put(path, vec![1; 4 << 20]).await.unwrap_err();
        assert_eq!(full.kind(), Kind::Limit);
        assert!(full.message().contains("disk"), "{}", full.message());
    }
    assert_eq!(home.get("/f").await.unwrap(), b"before");
    let left = home.files.list(home.id, "/", 1).await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    // A helper hears a moment later that a file was given up, and frees its space then.
    let mut tries = 0;
    while let Err(error) = home.put("/small", vec![1; 500 << 10]).await {
        tries += 1;
        assert!(tries < 200 && error.kind() == Kind::Limit, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub(super) async fn f10_a_read_only_mount_stays_as_it_is() {
    let folder = mounted("tmpfs", &[("mode", "777")], MountAttrFlags::MOUNT_ATTR_RDONLY);
    let home = on(folder, root_user(), TempDir::new().unwrap());
    assert_eq!(kind(home.put("/f", "x").await), Kind::Denied);
    assert_eq!(kind(home.files.make_folder(home.id, "/d/e", 0o755).await), Kind::Denied);
    assert!(home.files.list(home.id, "/", 1).await.unwrap().is_empty());
}

pub(super) async fn an_overlay_is_written_replaced_and_moved_in() {
    let place = TempDir::new().unwrap();
    for folder in ["lower/etc", "upper", "desk"] {
        std::fs::create_dir_all(place.path().join(folder)).unwrap();
    }
    std::fs::write(place.path().join("lower/etc/conf"), "lower").unwrap();
    for own in ["lower", "lower/etc", "lower/etc/conf", "upper"] {
        chown(place.path().join(own), Some(BASE), Some(BASE)).unwrap();
    }
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (lower, upper, work) = (path("lower"), path("upper"), path("desk"));
    let options = [("lowerdir", &*lower), ("upperdir", &*upper), ("workdir", &*work)];
    let folder = mounted("overlay", &options, MountAttrFlags::empty());
    let home = on(folder, root_user(), place);
    home.put("/etc/conf", "replaced").await.unwrap();
    home.put("/new/file", "n").await.unwrap();
    home.put("/new/file", "n2").await.unwrap();
    home.files.rename(home.id, "/new/file", "/etc/moved").await.unwrap();
    assert_eq!(home.get("/etc/conf").await.unwrap(), b"replaced");
    assert_eq!(home.get("/etc/moved").await.unwrap(), b"n2");
    let conf = home.place.path().join("lower/etc/conf");
    assert_eq!(std::fs::read_to_string(conf).unwrap(), "lower");
    assert_eq!(home.files.list(home.id, "/", 2).await.unwrap().len(), 4);
    home.files.delete(home.id, "/etc", true).await.unwrap();
    assert_eq!(home.files.list(home.id, "/", 2).await.unwrap().len(), 1);
}

pub(super) async fn f12_many_files_and_a_hostile_pattern_end_soon() {
    let folder = mounted("tmpfs", &[("mode", "755")], MountAttrFlags::empty());
    own(&folder);
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&folder));
    for at in 0..20_000 {
        std::fs::write(format!("{link}/{}{at}", "a".repeat(200)), "text\n").unwrap();
    }
    let home = on(folder, root_user(), TempDir::new().unwrap());
    let hostile = "*a".repeat(200) + "b";
    assert!(soon(home.files.search(home.id, "/", &hostile)).await.unwrap().is_empty());
    assert_eq!(soon(home.files.list(home.id, "/", 2)).await.unwrap().len(), 20_000);
    assert_eq!(kind(soon(home.files.find(home.id, "/", "text")).await), Kind::Limit);
    assert_eq!(kind(home.files.search(home.id, "/", &"x".repeat(2000)).await), Kind::Invalid);
    assert_eq!(kind(home.files.find(home.id, "/", "").await), Kind::Invalid);
}
