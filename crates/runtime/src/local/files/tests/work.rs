//! What the file API is for: reading, writing, listing, finding and changing files.

use std::os::unix::fs::{PermissionsExt, symlink};

use mayfly_core::Code;
use mayfly_core::file::{FileKind, Permissions};

use super::*;

pub(super) async fn a_file_written_is_read_back_byte_for_byte() {
    let home = home();
    for size in [0, 1, 4096, 256 << 10, (256 << 10) + 1, 3_000_000] {
        let bytes: Vec<u8> = (0..size).map(|at: usize| u8::try_from(at % 251).unwrap()).collect();
        let path = format!("new/parents/{size}.bin");
        let info = home.put(&path, bytes.clone()).await.unwrap();
        assert_eq!((info.size, info.mode, info.kind), (size as u64, 0o644, FileKind::File));
        assert_eq!((info.name, info.path), (format!("{size}.bin"), path.clone()));
        assert_eq!(home.get(&path).await.unwrap(), bytes);
        let meta = home.host(&format!("desk/{path}")).metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (BASE, BASE));
    }
    let parent = home.host("desk/new/parents").metadata().unwrap();
    assert_eq!((parent.uid(), parent.mode() & 0o7777), (BASE, 0o755));
}

pub(super) async fn pieces_of_any_size_arrive_in_order() {
    let home = home();
    let mut writer = home.files.write(home.id, "f").await.unwrap();
    let mut expected = Vec::new();
    for piece in 0..3000_u32 {
        let bytes = vec![u8::try_from(piece % 256).unwrap(); (piece % 700) as usize];
        expected.extend_from_slice(&bytes);
        writer.write(bytes.into()).await.unwrap();
    }
    assert!(!home.host("desk/f").exists(), "not before commit");
    writer.commit().await.unwrap();
    assert_eq!(home.get("f").await.unwrap(), expected);
}

pub(super) async fn replacing_keeps_the_mode_and_never_shows_half() {
    let home = home();
    home.put("f", "old").await.unwrap();
    std::fs::set_permissions(home.host("desk/f"), PermissionsExt::from_mode(0o4750)).unwrap();
    let mut old = home.files.read(home.id, "f").await.unwrap();
    let info = home.put("f", "newer").await.unwrap();
    assert_eq!((info.mode, info.size), (0o750, 5));
    assert_eq!(old.next().await.unwrap(), "old", "a reader keeps the file it opened");
    assert_eq!(home.get("f").await.unwrap(), b"newer");
    assert_eq!(std::fs::read_dir(home.host("desk")).unwrap().count(), 1, "no litter");
}

pub(super) async fn an_abandoned_upload_leaves_nothing() {
    let home = home();
    let mut writer = home.files.write(home.id, "f").await.unwrap();
    writer.write(vec![1; 1 << 20].into()).await.unwrap();
    drop(writer);
    home.put("other", "x").await.unwrap();
    let names = home.files.list(home.id, ".", 1).await.unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
}

pub(super) async fn lists_sorted_with_depth_and_names_of_owners() {
    let home = home();
    home.put("/etc/passwd", "root:x:0:0::/:/\nann:x:1000:1000::/:/\n").await.unwrap();
    home.put("/etc/group", "root:x:0:\nstaff:x:1000:\n").await.unwrap();
    for file in ["b/z", "b/a/deep", "b-c", "a"] {
        home.put(file, file).await.unwrap();
    }
    home.owned("desk/a", 1000);
    symlink("/nowhere", home.host("desk/link")).unwrap();
    let paths = |depth| {
        let home = &home;
        async move {
            let list = home.files.list(home.id, "/desk/", depth).await.unwrap();
            list.into_iter().map(|info| info.path).collect::<Vec<_>>()
        }
    };
    assert_eq!(paths(1).await, ["/desk/a", "/desk/b", "/desk/b-c", "/desk/link"]);
    let all = [
        "/desk/a",
        "/desk/b",
        "/desk/b/a",
        "/desk/b/a/deep",
        "/desk/b/z",
        "/desk/b-c",
        "/desk/link",
    ];
    assert_eq!(paths(9).await, all);
    let list = home.files.list(home.id, ".", 1).await.unwrap();
    assert_eq!((list[0].owner.as_str(), list[0].group.as_str()), ("ann", "staff"));
    assert_eq!((list[1].owner.as_str(), list[1].kind), ("root", FileKind::Folder));
    assert_eq!((list[3].owner.as_str(), list[3].kind), ("65534", FileKind::Link));
    home.put("/etc/passwd", "ben:x:1000:1000::/:/\n").await.unwrap();
    assert_eq!(home.files.info(home.id, "a").await.unwrap().owner, "ben");
    assert_eq!(kind(home.files.list(home.id, "a", 1).await), Kind::Invalid);
}

pub(super) async fn makes_folders_with_their_mode_and_moves_without_replacing() {
    let home = home();
    home.files.make_folder(home.id, "x/y/../z", 0o1777).await.unwrap();
    assert!(home.host("desk/x/y").is_dir());
    assert_eq!(home.host("desk/x/z").metadata().unwrap().mode() & 0o7777, 0o1777);
    home.files.make_folder(home.id, "x/z", 0o700).await.unwrap();
    home.put("x/f", "1").await.unwrap();
    assert_eq!(kind(home.files.make_folder(home.id, "x/f", 0o755).await), Kind::Invalid);
    home.files.rename(home.id, "x/f", "x/g").await.unwrap();
    assert_eq!(home.get("x/g").await.unwrap(), b"1");
    home.put("x/f", "2").await.unwrap();
    for taken in ["x/g", "x/z", "x/z/"] {
        assert_eq!(kind(home.files.rename(home.id, "x/f", taken).await), Kind::Conflict);
    }
    let missing = home.files.rename(home.id, "none", "x/h").await.unwrap_err();
    assert_eq!(missing.code(), Some(Code::FileNotFound));
    assert!(missing.message().contains("none"));
    assert_eq!(kind(home.files.rename(home.id, "x", "x/z/in").await), Kind::Invalid);
}

pub(super) async fn deletes_files_and_whole_trees() {
    let home = home();
    home.put("t/a/b/c", "1").await.unwrap();
    home.put("t/d", "1").await.unwrap();
    assert_eq!(kind(home.files.delete(home.id, "t", false).await), Kind::Invalid);
    home.files.delete(home.id, "t/d", false).await.unwrap();
    home.files.delete(home.id, "t/", true).await.unwrap();
    assert!(!home.host("desk/t").exists());
    let gone = home.files.delete(home.id, "t", true).await.unwrap_err();
    assert_eq!(gone.code(), Some(Code::FileNotFound));
    for nothing in ["/", ".", "..", "/desk/.."] {
        assert_eq!(kind(home.files.delete(home.id, nothing, true).await), Kind::Invalid);
    }
}

pub(super) async fn finds_searches_and_replaces_text() {
    let home = home();
    home.put("s/a.txt", "one\ntwo needle\nthree").await.unwrap();
    home.put("s/in/b.txt", "needle needle\r\n").await.unwrap();
    home.put("s/in/c.bin", b"\0needle\n".to_vec()).await.unwrap();
    let found = home.files.find(home.id, "s", "needle").await.unwrap();
    let seen: Vec<_> =
        found.iter().map(|hit| (hit.file.as_str(), hit.line, hit.content.as_str())).collect();
    assert_eq!(seen, [("s/a.txt", 2, "two needle"), ("s/in/b.txt", 1, "needle needle")]);
    assert_eq!(home.files.find(home.id, "s/a.txt", "three").await.unwrap()[0].line, 3);
    let named = home.files.search(home.id, "/desk", "*.t?t").await.unwrap();
    assert_eq!(named, ["/desk/s/a.txt", "/desk/s/in/b.txt"]);

    home.owned("desk/s/a.txt", 7);
    std::fs::set_permissions(home.host("desk/s/a.txt"), PermissionsExt::from_mode(0o640)).unwrap();
    let files = ["s/a.txt", "s/none", "s", "s/in/b.txt"].map(String::from);
    let done = home.files.replace(home.id, &files, "needle", "pin").await.unwrap();
    let errors: Vec<bool> = done.iter().map(|one| one.error.is_some()).collect();
    assert_eq!(errors, [false, true, true, false]);
    assert_eq!(home.get("s/a.txt").await.unwrap(), b"one\ntwo pin\nthree");
    assert_eq!(home.get("s/in/b.txt").await.unwrap(), b"pin pin\r\n");
    let meta = home.host("desk/s/a.txt").metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (BASE + 7, BASE + 7, 0o640));
    assert!(!home.host("desk/s/none").exists());
}

pub(super) async fn owner_group_and_mode_change_with_mapped_ids() {
    let home = home();
    home.put("/etc/passwd", "ann:x:1000:1000::/:/\n").await.unwrap();
    home.put("f", "x").await.unwrap();
    let set = |owner: &str, group: &str, mode| {
        let change = Permissions {
            owner: (!owner.is_empty()).then(|| owner.to_owned()),
            group: (!group.is_empty()).then(|| group.to_owned()),
            mode,
        };
        let home = &home;
        async move { home.files.set_permissions(home.id, "f", &change).await }
    };
    set("ann", "50", Some(0o4711)).await.unwrap();
    let meta = home.host("desk/f").metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid()), (BASE + 1000, BASE + 50));
    assert_eq!(meta.mode() & 0o7777, 0o4711);
    for (owner, group, mode) in [("ghost", "", None), ("", "65536", None), ("", "", Some(0o10000))]
    {
        assert_eq!(kind(set(owner, group, mode).await), Kind::Invalid);
    }
    assert_eq!(home.host("desk/f").metadata().unwrap().uid(), BASE + 1000);
}

pub(super) async fn an_ordinary_user_has_only_its_own_rights() {
    let home = home_of(plain_user());
    home.put("mine", "1").await.unwrap();
    assert_eq!(home.host("desk/mine").metadata().unwrap().uid(), BASE + 1000);
    std::fs::write(home.host("desk/secret"), "s").unwrap();
    home.owned("desk/secret", 0);
    std::fs::set_permissions(home.host("desk/secret"), PermissionsExt::from_mode(0o600)).unwrap();
    for denied in [
        home.get("secret").await.unwrap_err(),
        home.put("secret", "x").await.unwrap_err(),
        home.files
            .set_permissions(
                home.id,
                "mine",
                &Permissions { owner: Some("0".into()), ..Permissions::default() },
            )
            .await
            .unwrap_err(),
    ] {
        assert_eq!((denied.kind(), denied.code()), (Kind::Denied, Some(Code::FileAccessDenied)));
    }
    home.owned("", 0);
    assert_eq!(kind(home.files.make_folder(home.id, "/new", 0o755).await), Kind::Denied);
}

pub(super) async fn root_inside_has_no_power_over_what_is_the_hosts() {
    let home = home();
    std::fs::create_dir(home.host("hosts")).unwrap();
    std::fs::write(home.host("hosts/secret"), "s").unwrap();
    std::fs::set_permissions(home.host("hosts/secret"), PermissionsExt::from_mode(0o600)).unwrap();
    chown(home.host("hosts/secret"), Some(0), Some(0)).unwrap();
    let change = Permissions { mode: Some(0o666), ..Permissions::default() };
    assert_eq!(kind(home.get("/hosts/secret").await), Kind::Denied);
    assert_eq!(kind(home.put("/hosts/new", "x").await), Kind::Denied);
    assert_eq!(kind(home.put("/hosts/secret", "x").await), Kind::Denied);
    assert_eq!(kind(home.files.delete(home.id, "/hosts/secret", false).await), Kind::Denied);
    assert_eq!(kind(home.files.delete(home.id, "/hosts", true).await), Kind::Denied);
    let changed = home.files.set_permissions(home.id, "/hosts/secret", &change).await;
    assert_eq!(kind(changed), Kind::Denied);
    // While over its own it has power whatever the mode says.
    home.put("own", "x").await.unwrap();
    home.owned("desk/own", 1000);
    std::fs::set_permissions(home.host("desk/own"), PermissionsExt::from_mode(0o0)).unwrap();
    assert_eq!(home.get("own").await.unwrap(), b"x");
}
