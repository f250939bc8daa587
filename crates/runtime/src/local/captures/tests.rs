//! A tree with everything that a sandbox can have, through the packed form and back.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::pack::pack;
use super::unpack::{Unpacker, below};
use mayfly_core::ports::captures::Exported;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use tar::EntryType as Kind;

fn open(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn packed(root: &Path) -> (Vec<u8>, Exported) {
    let mut sink: Vec<u8> = Vec::new();
    let packed = pack(open(root).as_fd(), "sandboxes/one", &mut sink).unwrap();
    sink.extend_from_slice(&[0; 1024]);
    (sink, packed)
}

fn unpacked(bytes: &[u8], to: &Path) -> std::io::Result<()> {
    let mut unpacker = Unpacker::new(open(to));
    let prefix = b"sandboxes/one";
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        let path = below(&path, prefix).expect("all names are below the prefix").to_vec();
        unpacker.member(&path, prefix, &mut entry)?;
    }
    unpacker.finish()
}

fn whiteout(path: &Path) -> bool {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::RUSR, 0).is_ok()
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    for path in [&from, &to] {
        fs::create_dir(path).unwrap();
    }
    let long = "n".repeat(200);
    let deep = from.join(&long).join("line\nend").join("ü");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "text").unwrap();
    fs::hard_link(deep.join("file"), from.join("second name")).unwrap();
    symlink("/etc/shadow", from.join("link")).unwrap();
    rustix::fs::mknodat(CWD, from.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let has_whiteout = whiteout(&from.join("deleted"));
    let sparse = File::create(from.join("sparse")).unwrap();
    sparse.write_all_at(b"middle", 1 << 30).unwrap();
    sparse.set_len(1 << 32).unwrap();
    drop(sparse);
    rustix::fs::setxattr(from.join("second name"), "user.a=b", b"\0\n", XattrFlags::empty())
        .unwrap();
    fs::set_permissions(from.join("second name"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(&from, fs::Permissions::from_mode(0o751)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();

    let (bytes, packed) = packed(&from);
    assert_eq!(packed.skipped, 1, "the socket");
    assert!(bytes.len() < 1 << 20, "holes take no room: {}", bytes.len());
    unpacked(&bytes, &to).unwrap();

    let back = to.join(&long).join("line\nend").join("ü").join("file");
    assert_eq!(fs::read_to_string(&back).unwrap(), "text");
    let (one, other) =
        (fs::metadata(&back).unwrap(), fs::metadata(to.join("second name")).unwrap());
    assert_eq!((one.ino(), one.mode() & 0o7777), (other.ino(), 0o4711));
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/shadow"));
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(&back, "user.a=b", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"\0\n");
    let sparse = File::open(to.join("sparse")).unwrap();
    let mut middle = [0; 6];
    sparse.read_exact_at(&mut middle, 1 << 30).unwrap();
    let facts = sparse.metadata().unwrap();
    assert_eq!((&middle, facts.len()), (b"middle", 1 << 32));
    assert!(facts.blocks() * 512 < 1 << 20, "its holes are holes again");
    for name in ["", &long, "link", "pipe", "sparse", "second name"] {
        let facts = |root: &Path| {
            let facts = fs::symlink_metadata(root.join(name)).unwrap();
            (facts.mode(), facts.uid(), facts.gid(), facts.mtime(), facts.mtime_nsec())
        };
        assert_eq!(facts(&to), facts(&from), "{name}");
    }
    assert_eq!(to.join("deleted").symlink_metadata().is_ok(), has_whiteout);
    assert!(!to.join("socket").exists());
}

#[test]
fn an_archive_that_leads_out_of_its_folder_is_refused() {
    let member = |kind, name: &[u8], link: &[u8]| {
        let mut bytes = Vec::new();
        let facts = super::member::Facts { mode: 0o755, ..Default::default() };
        super::member::begin(&mut bytes, kind, (name, link), &facts, (0, None)).unwrap();
        bytes
    };
    let root = member(Kind::Directory, b"sandboxes/one", b"");
    let out = member(Kind::Symlink, b"sandboxes/one/a", b"/");
    for bad in [
        member(Kind::Regular, b"sandboxes/one/../x", b""),
        member(Kind::Regular, b"sandboxes/one//x", b""),
        member(Kind::Regular, b"sandboxes/one/a/x", b""),
        member(Kind::Link, b"sandboxes/one/b", b"/etc/hostname"),
        member(Kind::Link, b"sandboxes/one/b", b"sandboxes/one/a/etc/hostname"),
        member(Kind::Block, b"sandboxes/one/disk", b""),
        member(Kind::Regular, b"sandboxes/one/a", b""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = [root.clone(), out.clone(), bad].concat();
        bytes.extend_from_slice(&[0; 1024]);
        assert!(unpacked(&bytes, folder.path()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the link");
    }
}

#[test]
fn a_cut_archive_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join("file"), vec![7; 5000]).unwrap();
    let (bytes, _) = packed(&from);
    let cut = bytes.len() - 4096;
    assert!(unpacked(&bytes[..cut], &to).is_err());
}
