//! F5, F8, F9: what is no plain file, odd names, and files that change while they are read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;

use mayfly_core::Code;
use mayfly_core::file::FileKind;
use rustix::fs::{CWD, FileType};

use super::*;

pub(super) async fn f5_pipes_sockets_and_devices_never_hang() {
    let home = home();
    let make = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, home.host(name), kind, Mode::from_raw_mode(0o666), device)
            .unwrap();
        home.owned(name, 0);
    };
    make("desk/pipe", FileType::Fifo, 0);
    make("desk/zero", FileType::CharacterDevice, rustix::fs::makedev(1, 5));
    let _socket = UnixListener::bind(home.host("desk/socket")).unwrap();
    for name in ["pipe", "zero", "socket"] {
        assert_eq!(kind(home.get(name).await), Kind::Invalid, "read {name}");
        assert_eq!(kind(soon(home.put(name, "x")).await), Kind::Invalid, "write {name}");
        assert_eq!(kind(soon(home.files.find(home.id, name, "x")).await), Kind::Invalid);
        let done = soon(home.files.replace(home.id, &[name.to_owned()], "x", "y")).await.unwrap();
        assert!(done[0].error.is_some());
        assert_eq!(home.files.info(home.id, name).await.unwrap().kind, FileKind::Special);
    }
    assert!(soon(home.files.find(home.id, "/", "x")).await.unwrap().is_empty());
    assert_eq!(soon(home.files.list(home.id, "/", 5)).await.unwrap().len(), 4);
    soon(home.files.delete(home.id, "/desk", true)).await.unwrap();
}

pub(super) async fn f5_a_pipe_as_passwd_is_passed_over() {
    let home = home();
    std::fs::create_dir(home.host("etc")).unwrap();
    let pipe = home.host("etc/passwd");
    rustix::fs::mknodat(CWD, pipe, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    assert_eq!(soon(home.put("f", "x")).await.unwrap().owner, "0");
}

pub(super) async fn f8_every_name_the_kernel_takes_makes_a_round_trip() {
    let home = home();
    let long = "n".repeat(255);
    for name in
        ["line\nbreak", "tab\t", " ", "-rf", "Case", "case", "ünïcödé", "a\\b", "*?[", &long]
    {
        home.put(name, name.as_bytes().to_vec()).await.unwrap();
        assert_eq!(home.get(name).await.unwrap(), name.as_bytes(), "{name:?}");
    }
    let listed = home.files.list(home.id, ".", 1).await.unwrap();
    assert_eq!(listed.len(), 10);
    assert!(listed.iter().any(|info| info.name == "line\nbreak"));
    std::fs::write(home.host("desk").join(OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
    let listed = home.files.list(home.id, ".", 1).await.unwrap();
    assert!(listed.iter().any(|info| info.name == "\u{fffd}\u{fffd}"));
}

pub(super) async fn f8_a_tree_deeper_than_any_path_is_listed_in_part_and_deleted() {
    let home = home();
    home.files.make_folder(home.id, "deep", 0o755).await.unwrap();
    let mut at = open_path(&home.host("desk/deep"));
    for _ in 0..10_000 {
        rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, "d", flags, Mode::empty()).unwrap();
        own(&at);
    }
    let listed = soon(home.files.list(home.id, "deep", u32::MAX)).await.unwrap();
    assert!((2000..2100).contains(&listed.len()), "{}", listed.len());
    assert!(soon(home.files.search(home.id, "deep", "x*")).await.unwrap().is_empty());
    soon(home.files.delete(home.id, "deep", true)).await.unwrap();
    assert!(!home.host("desk/deep").exists());
}

pub(super) async fn f9_a_file_that_grows_gives_its_first_size() {
    let home = home();
    home.put("f", vec![b'a'; 300_000]).await.unwrap();
    let mut reader = home.files.read(home.id, "f").await.unwrap();
    std::fs::write(home.host("desk/f"), vec![b'a'; 900_000]).unwrap();
    let mut length = 0;
    loop {
        let chunk = reader.next().await.unwrap();
        if chunk.is_empty() {
            break;
        }
        length += chunk.len();
    }
    assert_eq!((length as u64, reader.size()), (300_000, 300_000));
}

pub(super) async fn f9_a_file_that_shrinks_is_an_error_and_a_deleted_one_is_read_on() {
    let home = home();
    home.put("f", vec![b'a'; 600_000]).await.unwrap();
    let mut reader = home.files.read(home.id, "f").await.unwrap();
    reader.next().await.unwrap();
    std::fs::write(home.host("desk/f"), "short").unwrap();
    let error = reader.next().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::FileReadFailed));

    home.put("g", vec![b'a'; 600_000]).await.unwrap();
    let mut reader = home.files.read(home.id, "g").await.unwrap();
    home.files.delete(home.id, "g", false).await.unwrap();
    home.files.make_folder(home.id, "g", 0o755).await.unwrap();
    let mut length = 0;
    while length < 600_000 {
        length += reader.next().await.unwrap().len();
    }
    assert!(reader.next().await.unwrap().is_empty());
}

pub(super) async fn f9_a_folder_that_takes_the_name_meanwhile_wins() {
    let home = home();
    let mut writer = home.files.write(home.id, "f").await.unwrap();
    writer.write(vec![0; 1 << 20].into()).await.unwrap();
    home.files.make_folder(home.id, "f", 0o755).await.unwrap();
    assert_eq!(kind(writer.commit().await), Kind::Invalid);
    assert_eq!(home.files.list(home.id, ".", 2).await.unwrap().len(), 1, "no litter");
    assert_eq!(kind(home.put("f", "x").await), Kind::Invalid);
    assert_eq!(kind(home.get("f").await), Kind::Invalid);
}
