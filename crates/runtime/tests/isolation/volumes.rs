//! Volumes under attack: G2 and E5 (read-only), E4 (devices and set-id programs), E9 (swapped names), E19 (what the
//! mount table tells), F10 (the file API), L1 (another server), R3 (limits).

use mayfly_core::Kind;
use mayfly_core::id::VolumeId;
use mayfly_core::ports::runtime::{Runtime as _, SandboxSpec};
use mayfly_core::volume::Mount;

use crate::harness::{Bench, OPEN, Sandbox, rounds};
use crate::outside::Bait;

const MIB: u64 = 1 << 20;

fn volume(bench: &Bench, bytes: u64) -> VolumeId {
    let id = VolumeId::from_uuid(uuid::Uuid::now_v7());
    bench.wait(bench.runtime().volumes().unwrap().create(id, bytes)).unwrap();
    id
}

fn mount(volume: VolumeId, path: &str) -> Mount {
    Mount { volume, path: path.to_owned(), subpath: None, read_only: false }
}

fn frozen(volume: VolumeId, path: &str) -> Mount {
    Mount { read_only: true, ..mount(volume, path) }
}

fn part(volume: VolumeId, path: &str, subpath: &str) -> Mount {
    Mount { subpath: Some(subpath.to_owned()), ..mount(volume, path) }
}

fn sandbox(bench: &Bench, volumes: Vec<Mount>) -> Sandbox<'_> {
    bench.sandbox_of(SandboxSpec { volumes, ..bench.spec() })
}

const CHANGES: &str = "
REMOUNT_BIND, BIND = 32 | 4096, 4096
attempt('remount', lambda: call('mount', b'none', b'/frozen', b'', REMOUNT_BIND, None))
attributes = struct.pack('QQQQ', 0, 1, 0, 0)
attempt('attributes', lambda: call('mount_setattr', -100, b'/frozen', 0, attributes, 32))
attempt('bind', lambda: call('mount', b'/frozen', b'/mnt', b'', BIND, None))
attempt('umount', lambda: call('umount2', b'/frozen', 2))
attempt('write', lambda: put('/frozen/new', 'x'))
attempt('append', lambda: touch('/frozen/kept'))
attempt('truncate', lambda: os.truncate('/frozen/kept', 0))
attempt('remove', lambda: os.unlink('/frozen/kept'))
attempt('folder', lambda: os.mkdir('/frozen/folder'))
attempt('rename', lambda: os.rename('/frozen/kept', '/frozen/moved'))
attempt('mode', lambda: os.chmod('/frozen/kept', 0o777))
attempt('owner', lambda: os.chown('/frozen/kept', 1, 1))
attempt('attribute', lambda: os.setxattr('/frozen/kept', 'user.x', b'x'))
attempt('cover', lambda: os.rename('/srv', '/frozen'))
";

#[test]
fn e05_a_read_only_volume_stays_read_only_for_root_inside() {
    let Some(bench) = Bench::full("E5", "volumes") else { return };
    let id = volume(&bench, 64 * MIB);
    let owner = sandbox(&bench, vec![mount(id, "/data")]);
    owner.put("/data/kept", b"kept");
    let reader = sandbox(&bench, vec![frozen(id, "/frozen")]);
    let ran = reader.python(CHANGES);
    assert_eq!(ran.text.lines().count(), 14, "{}", ran.text);
    assert!(!ran.text.contains("=OK"), "{}", ran.text);
    for verb in ["write", "truncate", "remove", "mode", "owner"] {
        assert_eq!(ran.value(verb), "EROFS", "{verb} in {}", ran.text);
    }
    // F10: nor through the file API, whose threads are the host's.
    let refused = bench.wait(async {
        let mut writer = reader.files().write(reader.id(), "/frozen/kept").await?;
        writer.write(bytes::Bytes::from_static(b"changed")).await?;
        writer.commit().await
    });
    assert!(refused.is_err(), "{refused:?}");
    let removed = bench.wait(reader.files().delete(reader.id(), "/frozen/kept", false));
    assert!(removed.is_err(), "{removed:?}");
    assert_eq!(owner.get("/data/kept").unwrap(), b"kept");
    assert_eq!(owner.sh("ls /data").text, "kept\n");
}

#[test]
fn e05_shows_on_a_weakened_sandbox_with_a_volume() {
    let Some(bench) = Bench::weakened_full("E5", OPEN) else { return };
    let id = volume(&bench, 64 * MIB);
    sandbox(&bench, vec![mount(id, "/data")]).put("/data/kept", b"kept");
    let ran = sandbox(&bench, vec![frozen(id, "/frozen")]).python(CHANGES);
    for verb in ["remount", "write", "folder"] {
        assert_eq!(ran.value(verb), "OK", "{verb} in {}", ran.text);
    }
}

const DEVICES: &str = "
print(f\"flags={os.statvfs('/data').f_flag & 6}\")
attempt('node', lambda: call('mknodat', -100, b'/data/null', 0o20666, (1 << 8) | 3))
attempt('open', lambda: touch('/data/null'))
attempt('other', lambda: touch('/dev/null'))
";

#[test]
fn e04_a_volume_gives_no_device_and_no_set_id_program() {
    let Some(bench) = Bench::full("E4", "volumes") else { return };
    let id = volume(&bench, 64 * MIB);
    let ran = sandbox(&bench, vec![mount(id, "/data")]).python(DEVICES);
    // ST_NOSUID and ST_NODEV.
    assert_eq!((ran.value("flags"), ran.value("node")), ("6", "EPERM"), "{}", ran.text);
    assert_eq!((ran.value("open"), ran.value("other")), ("ENOENT", "OK"));
    let Some(weak) = Bench::weakened_full("E4", OPEN) else { return };
    let id = volume(&weak, 64 * MIB);
    let ran = sandbox(&weak, vec![mount(id, "/data")]).python(DEVICES);
    // The node can be made there; that the mount knows no devices is what closes it.
    assert_eq!((ran.value("node"), ran.value("open")), ("OK", "EACCES"), "{}", ran.text);
}

#[test]
fn e09_links_on_the_way_to_a_mount_are_refused_and_touch_nothing() {
    let Some(bench) = Bench::full("E9", "volumes") else { return };
    let bait = Bait::new("volumes");
    let id = volume(&bench, 64 * MIB);
    let box_ = sandbox(&bench, vec![mount(id, "/srv/deep/mnt")]);
    box_.put("/srv/deep/mnt/kept", b"in the volume");
    box_.stop();
    let upper = bench.folder(box_.id()).join("upper/srv");
    let target = format!("../../../../../../..{}", bait.path().display());
    for (name, link) in
        [("deep", target.as_str()), ("deep", "/"), ("deep/mnt", &target), ("deep/mnt", "/proc")]
    {
        std::fs::remove_dir_all(upper.join("deep")).unwrap();
        std::fs::create_dir_all(upper.join(name).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(link, upper.join(name)).unwrap();
        let refused = box_.start().unwrap_err();
        assert_eq!(refused.kind(), Kind::Conflict, "{name} -> {link}: {refused}");
        assert!(refused.message().contains("mount path of a volume"), "{refused}");
        assert!(bait.changes().is_empty());
        let _ = std::fs::remove_file(upper.join(name));
        std::fs::create_dir_all(upper.join("deep")).unwrap();
    }
    box_.start().unwrap();
    assert_eq!(box_.sh("cat /srv/deep/mnt/kept").text, "in the volume");
}

#[test]
fn e09_a_subpath_that_another_sandbox_swaps_never_leaves_the_volume() {
    let Some(bench) = Bench::full("E9", "volumes") else { return };
    let bait = Bait::new("subpaths");
    let id = volume(&bench, 64 * MIB);
    let attacker = sandbox(&bench, vec![mount(id, "/data")]);
    for link in ["/", "..", "/proc/self/root", &format!("../../../..{}", bait.path().display())] {
        let set = attacker.sh(&format!("rm -rf /data/part; ln -s -- {link} /data/part"));
        assert_eq!(set.code, 0, "{}", set.text);
        let spec = SandboxSpec { volumes: vec![part(id, "/mnt", "part/below")], ..bench.spec() };
        let refused = bench.wait(bench.runtime().create(&spec)).unwrap_err();
        assert_eq!(refused.kind(), Kind::Conflict, "{link}: {refused}");
        assert!(refused.message().contains("subpath of a volume"), "{refused}");
    }
    attacker.sh("rm /data/part");
    attacker.swap("/data/part", "/");
    let victim = SandboxSpec { volumes: vec![part(id, "/mnt", "part")], ..bench.spec() };
    let (mut mounted, mut refused) = (0, 0);
    for _ in 0..rounds(1000, 60) {
        match bench.wait(bench.runtime().create(&victim)) {
            Ok(()) => {
                let seen = bench.adopted(victim.clone()).sh("ls /mnt");
                assert_eq!(seen.text, "kept\nsub\n");
                mounted += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), Kind::Conflict, "{error}");
                refused += 1;
            }
        }
        bench.wait(bench.runtime().destroy(victim.id)).unwrap();
    }
    assert!(mounted > 0 && refused > 0, "no race: {mounted} {refused}");
    assert!(bait.changes().is_empty());
}

#[test]
fn e19_the_mount_of_a_volume_tells_no_folder_of_the_host() {
    let Some(bench) = Bench::full("E19", "volumes") else { return };
    let id = volume(&bench, 64 * MIB);
    let table = sandbox(&bench, vec![part(id, "/data", "a/b")]).sh("cat /proc/self/mountinfo");
    let line = table.text.lines().find(|line| line.contains(" /data ")).unwrap().to_owned();
    assert!(line.contains(&format!("/volumes/{id}/a/b")), "{line}");
    assert!(!table.text.contains(bench.dir().to_str().unwrap()), "{}", table.text);
}

/// Takes a place in a volume, and tells how it ended.
const FILL: &str = "
import fcntl
def fill(path, size):
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        os.posix_fallocate(file, 0, size)
    finally:
        os.close(file)
attempt('full', lambda: fill('/data/full', 200 << 20))
attempt('fits', lambda: fill('/data/fits', 8 << 20))
attempt('own', lambda: fill('/var/own', 100 << 20))
def control(request, data):
    folder = os.open('/data', os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(folder, request, data)
    finally:
        os.close(folder)
# BTRFS_IOC_SUBVOL_CREATE, SYNC, FS_INFO, SPACE_INFO
attempt('subvolume', lambda: control(0x5000940e, bytearray(bytes(8) + b'free'.ljust(4088, b'\\0'))))
attempt('sync', lambda: control(0x9408, 0))
attempt('facts', lambda: control(0x8400941f, bytearray(1024)))
attempt('space', lambda: control(0xc0109414, bytearray(16)))
attempt('beyond', lambda: fill('/data/free/beyond', 100 << 20))
put('/data/one', 'x' * 100000)
one, two = os.open('/data/one', os.O_RDONLY), os.open('/data/two', os.O_CREAT | os.O_RDWR)
attempt('share', lambda: fcntl.ioctl(two, 0x40049409, one) and None)
";

#[test]
fn r03_a_volume_has_a_hard_limit_that_no_subvolume_escapes() {
    let Some(bench) = Bench::full("R3", "volumes") else { return };
    let (id, other) = (volume(&bench, 32 * MIB), volume(&bench, 32 * MIB));
    let ran = sandbox(&bench, vec![mount(id, "/data")]).python(FILL);
    assert!(matches!(ran.value("full"), "EDQUOT" | "ENOSPC"), "{}", ran.text);
    for fits in ["fits", "own", "share"] {
        assert_eq!(ran.value(fits), "OK", "{}", ran.text);
    }
    for closed in ["subvolume", "sync", "facts", "space"] {
        assert_eq!(ran.value(closed), "ENOTTY", "{closed} in {}", ran.text);
    }
    assert_eq!(ran.value("beyond"), "ENOENT", "{}", ran.text);
    let volumes = bench.runtime().volumes().unwrap();
    assert!(bench.wait(volumes.usage(id)).unwrap() <= 32 * MIB);
    let neighbour = sandbox(&bench, vec![mount(other, "/data")]);
    assert_eq!(neighbour.sh("head -c 20000000 /dev/zero > /data/x && echo ok").text, "ok\n");
}

#[test]
fn r03_shows_on_a_weakened_sandbox_with_a_volume() {
    let Some(bench) = Bench::weakened_full("R3", OPEN) else { return };
    let id = volume(&bench, 32 * MIB);
    let ran = sandbox(&bench, vec![mount(id, "/data")]).python(FILL);
    for open in ["subvolume", "facts", "beyond"] {
        assert_eq!(ran.value(open), "OK", "{open} in {}", ran.text);
    }
}

#[test]
fn g02_ids_in_a_volume_are_the_image_s_for_all_who_share_it() {
    let Some(bench) = Bench::full("G2", "volumes") else { return };
    let id = volume(&bench, 64 * MIB);
    let (one, two) =
        (sandbox(&bench, vec![mount(id, "/data")]), sandbox(&bench, vec![mount(id, "/data")]));
    assert_ne!(one.root_id(), two.root_id(), "each has ids of its own on the host");
    let made =
        one.sh("cd /data && echo x > mine && chown 1234:2345 mine && stat -c '%u %g' . mine");
    assert_eq!(made.text, "0 0\n1234 2345\n");
    assert_eq!(two.sh("stat -c '%u %g' /data/mine; cat /data/mine").text, "1234 2345\nx\n");
    let folder = bench.folder(one.id()).join("../../volumes").join(id.to_string());
    let found = std::fs::metadata(folder.join("mine")).unwrap();
    assert_eq!((std::os::unix::fs::MetadataExt::uid(&found)), 1234);
}

#[test]
fn l01_a_volume_stays_mounted_for_the_next_server_and_the_next_start() {
    let Some(mut bench) = Bench::full("L1", "volumes") else { return };
    let id = volume(&bench, 64 * MIB);
    let spec = SandboxSpec { volumes: vec![part(id, "/data", "part")], ..bench.spec() };
    bench.sandbox_of(spec.clone()).put("/data/kept", b"kept");
    bench.reopen();
    let adopted = bench.adopted(spec);
    assert_eq!(adopted.sh("cat /data/kept").text, "kept");
    assert_eq!(adopted.get("/data/kept").unwrap(), b"kept");
    adopted.stop();
    bench.wait(bench.runtime().volumes().unwrap().create(id, 64 * MIB)).unwrap();
    adopted.start().unwrap();
    assert_eq!(adopted.get("/data/kept").unwrap(), b"kept");
}
