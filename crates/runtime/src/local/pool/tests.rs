//! Behaviour of a real pool on a loop device; these need root.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use mayfly_core::id::SandboxId;
use mayfly_core::ports::runtime::DiskGuard;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use super::*;

const MIB: u64 = 1 << 20;

/// A mount that goes away with its value, also when a test panics.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// A pool of its own; fields go in this order: descriptors, mount, folder.
struct Fixture {
    pool: Pool,
    mounted: Mounted,
    folder: TempDir,
}

impl Fixture {
    /// The path of a sandbox's folder.
    fn path(&self, id: SandboxId) -> PathBuf {
        self.mounted.0.join("sandboxes").join(id.to_string())
    }
}

/// Whether the host can have a pool; says why not.
fn possible() -> bool {
    let missing = requirements().err();
    let root = rustix::process::geteuid().is_root();
    if let Some(error) = &missing {
        eprintln!("skipped: {error}");
    }
    root && missing.is_none()
}

fn fixture() -> Option<Fixture> {
    if !possible() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let Place::File(file) = place(folder.path()).unwrap() else {
        panic!("these tests run on a temporary folder that is not btrfs");
    };
    loop_file::ensure_file(&file, 512 * MIB).unwrap();
    let device = loop_file::attach(&file).unwrap();
    let target = folder.path().join("mnt");
    fs::create_dir(&target).unwrap();
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    let data = std::ffi::CString::new(MOUNT_DATA).unwrap();
    mount(&device.path, &target, "btrfs", flags, data.as_c_str()).unwrap();
    let mounted = Mounted(target);
    let root = File::open(&mounted.0).unwrap().into();
    Some(Fixture { pool: Pool::open(root).unwrap(), mounted, folder })
}

fn id(number: u128) -> SandboxId {
    SandboxId::from_uuid(uuid::Uuid::from_u128(number))
}

/// Writes until the disk refuses; gives the bytes written and the refusal.
fn fill(path: &Path, max: u64) -> (u64, Option<ErrorKind>) {
    let mut file = File::create(path).unwrap();
    let block = vec![7_u8; 256 << 10];
    let mut written = 0;
    while written < max {
        match file.write_all(&block) {
            Ok(()) => written += block.len() as u64,
            Err(error) => return (written, Some(error.kind())),
        }
    }
    (written, file.sync_all().err().map(|error| error.kind()))
}

#[test]
fn a_limit_holds_through_an_overlay_and_hurts_no_neighbour() {
    let Some(fixture) = fixture() else { return };
    fixture.pool.make_sandbox(id(1), 10 * MIB).unwrap();
    fixture.pool.make_sandbox(id(2), 40 * MIB).unwrap();
    let (lower, target) = (fixture.folder.path().join("lower"), fixture.folder.path().join("root"));
    fs::create_dir(&lower).unwrap();
    fs::create_dir(&target).unwrap();
    let own = fixture.path(id(1));
    let data = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        own.join("upper").display(),
        own.join("work").display()
    );
    let data = std::ffi::CString::new(data).unwrap();
    mount("overlay", &target, "overlay", MountFlags::empty(), data.as_c_str()).unwrap();
    let overlay = Mounted(target);
    let (written, refusal) = fill(&overlay.0.join("big"), 64 * MIB);
    assert_eq!(refusal, Some(ErrorKind::QuotaExceeded));
    assert!((8 * MIB..=10 * MIB).contains(&written), "{written}");
    let usage = fixture.pool.sandbox_usage(id(1)).unwrap();
    assert!((8 * MIB..=10 * MIB).contains(&usage), "{usage}");
    let (_, neighbour) = fill(&fixture.path(id(2)).join("upper/big"), 20 * MIB);
    assert_eq!(neighbour, None, "the neighbour has its own limit");
    fs::remove_file(overlay.0.join("big")).unwrap();
    rustix::fs::syncfs(fixture.pool.root()).unwrap();
    let (_, again) = fill(&overlay.0.join("again"), 5 * MIB);
    assert_eq!(again, None, "deleted files give their space back");
}

#[test]
fn inodes_are_bounded_by_the_same_limit() {
    let Some(fixture) = fixture() else { return };
    fixture.pool.make_sandbox(id(1), 2 * MIB).unwrap();
    let upper = fixture.path(id(1)).join("upper");
    let refused = (0..20_000).find_map(|n| File::create(upper.join(n.to_string())).err());
    assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::QuotaExceeded));
}

#[test]
fn a_resize_counts_at_once() {
    let Some(fixture) = fixture() else { return };
    fixture.pool.make_sandbox(id(1), 4 * MIB).unwrap();
    let file = fixture.path(id(1)).join("upper/big");
    assert_eq!(fill(&file, 16 * MIB).1, Some(ErrorKind::QuotaExceeded));
    fixture.pool.resize_sandbox(id(1), 64 * MIB).unwrap();
    assert_eq!(fill(&file, 16 * MIB).1, None);
    let missing = fixture.pool.resize_sandbox(id(9), MIB).unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
}

#[test]
fn a_half_made_folder_is_completed_with_its_limit() {
    let Some(fixture) = fixture() else { return };
    let parent = fixture.pool.sandboxes.as_fd();
    btrfs::create_subvolume(parent, &id(1).to_string(), None).unwrap();
    fixture.pool.make_sandbox(id(1), 4 * MIB).unwrap();
    let folder = fixture.pool.make_sandbox(id(1), 4 * MIB).unwrap();
    for part in Part::ALL {
        folder.part(part).unwrap();
        let mode = fs::metadata(fixture.path(id(1)).join(part.name())).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, if part == Part::Logs { 0o700 } else { 0o755 });
    }
    let (_, refusal) = fill(&fixture.path(id(1)).join("upper/big"), 16 * MIB);
    assert_eq!(refusal, Some(ErrorKind::QuotaExceeded));
}

#[test]
fn a_fork_shares_the_files_and_then_goes_its_own_way() {
    let Some(fixture) = fixture() else { return };
    fixture.pool.make_sandbox(id(1), 32 * MIB).unwrap();
    fs::write(fixture.path(id(1)).join("upper/file"), "one").unwrap();
    fixture.pool.fork_sandbox(id(1), id(2), 4 * MIB).unwrap();
    fs::write(fixture.path(id(1)).join("upper/file"), "changed").unwrap();
    let copy = fixture.path(id(2)).join("upper");
    assert_eq!(fs::read_to_string(copy.join("file")).unwrap(), "one");
    assert_eq!(fill(&copy.join("big"), 16 * MIB).1, Some(ErrorKind::QuotaExceeded));
    fixture.pool.remove_sandbox(id(1)).unwrap();
    assert_eq!(fs::read_to_string(copy.join("file")).unwrap(), "one");
    assert_eq!(fixture.pool.sandboxes().unwrap(), [id(2)]);
}

#[test]
fn many_sandboxes_leave_nothing() {
    let Some(fixture) = fixture() else { return };
    let groups = || fs::read_dir(&fixture.pool.counters).unwrap().count();
    let before = groups();
    for number in 0..1000 {
        fixture.pool.make_sandbox(id(number), 10 * MIB).unwrap();
    }
    assert_eq!(fixture.pool.sandboxes().unwrap().len(), 1000);
    assert!(groups() >= before + 1000);
    for number in 0..1000 {
        fixture.pool.remove_sandbox(id(number)).unwrap();
        fixture.pool.remove_sandbox(id(number)).unwrap();
    }
    assert!(fixture.pool.sandboxes().unwrap().is_empty());
    // The kernel drops the trees in the background, after the commit.
    for _ in 0..200 {
        fixture.pool.reclaim().unwrap();
        if groups() == before {
            return;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("{} quota groups are left", groups() - before);
}

#[test]
fn reclaiming_never_takes_the_limit_of_a_living_sandbox() {
    let Some(fixture) = fixture() else { return };
    let parent = fixture.pool.sandboxes.as_fd();
    for number in 0..50 {
        fixture.pool.make_sandbox(id(number), 4 * MIB).unwrap();
        let open = subvolume::open(parent, &id(number).to_string()).unwrap();
        let tree = btrfs::subvolume_id(&open).unwrap();
        assert!(btrfs::subvolume_lives(fixture.pool.root(), tree).unwrap());
        let none =
            subvolume::drop_dead_groups(fixture.pool.root(), &fixture.pool.counters, &[tree]);
        assert_eq!(none, 0, "a new subvolume counts 0 bytes for a moment");
    }
    fixture.pool.reclaim().unwrap();
    let (_, refusal) = fill(&fixture.path(id(49)).join("upper/big"), 16 * MIB);
    assert_eq!(refusal, Some(ErrorKind::QuotaExceeded));
    let open = subvolume::open(parent, &id(49).to_string()).unwrap();
    let tree = btrfs::subvolume_id(&open).unwrap();
    drop(open);
    fixture.pool.remove_sandbox(id(49)).unwrap();
    assert!(!btrfs::subvolume_lives(fixture.pool.root(), tree).unwrap());
}

/// Text as logs and sources have it, different in every line.
fn text(lines: usize) -> String {
    (0..lines).fold(String::new(), |text, line| {
        text + &format!("{line:08} 2026-01-31T12:00:00Z GET /api/sandbox/{} 200 ok\n", line * 7919)
    })
}

#[test]
fn an_archived_sandbox_takes_a_third_of_its_room_and_keeps_every_byte() {
    let Some(fixture) = fixture() else { return };
    fixture.pool.make_sandbox(id(1), 200 * MIB).unwrap();
    let upper = fixture.path(id(1)).join("upper");
    let text = text(400_000);
    fs::create_dir_all(upper.join("a/b")).unwrap();
    for name in ["log", "a/log", "a/b/log"] {
        fs::write(upper.join(name), &text).unwrap();
    }
    let random: Vec<u8> = (0..250_000_u64)
        .flat_map(|n| (n ^ 0x5bf0_3635).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect();
    fs::write(upper.join("random"), &random).unwrap();
    let sparse = File::create(upper.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", upper.join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        upper.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let whole = || {
        for name in ["log", "a/log", "a/b/log"] {
            assert_eq!(fs::read_to_string(upper.join(name)).unwrap(), text, "{name}");
        }
        assert_eq!(fs::read(upper.join("random")).unwrap(), random);
        assert_eq!(fs::metadata(upper.join("sparse")).unwrap().len(), 1 << 40);
    };
    rustix::fs::syncfs(fixture.pool.root()).unwrap();
    let before = fixture.pool.sandbox_usage(id(1)).unwrap();
    assert!(before > 3 * text.len() as u64, "{before}");
    // Cut off at any moment every file is whole.
    for milliseconds in [0, 1, 5, 20] {
        let cut =
            fixture.pool.compress_sandbox(id(1), Duration::from_millis(milliseconds)).unwrap();
        assert!(milliseconds > 0 || cut == Compressed { files: 0, cut_short: true }, "{cut:?}");
        whole();
    }
    let done = fixture.pool.compress_sandbox(id(1), Duration::from_mins(1)).unwrap();
    assert!(!done.cut_short && done.files >= 4, "{done:?}");
    let after = fixture.pool.sandbox_usage(id(1)).unwrap();
    println!("{} MiB became {} MiB", before / MIB, after / MIB);
    assert!(after * 3 < before, "{before} became {after}");
    whole();
    // What is written later counts as it is.
    fs::write(upper.join("later"), &text).unwrap();
    rustix::fs::syncfs(fixture.pool.root()).unwrap();
    let later = fixture.pool.sandbox_usage(id(1)).unwrap();
    assert!(later - after > text.len() as u64 * 9 / 10, "{after} became {later}");
}

#[test]
fn a_full_sandbox_is_archived_too() {
    let Some(fixture) = fixture() else { return };
    fixture.pool.make_sandbox(id(1), 8 * MIB).unwrap();
    let file = fixture.path(id(1)).join("upper/full");
    let (written, refusal) = fill(&file, 64 * MIB);
    assert_eq!(refusal, Some(ErrorKind::QuotaExceeded));
    fixture.pool.compress_sandbox(id(1), Duration::from_mins(1)).unwrap();
    let kept = fs::read(&file).unwrap();
    assert!(kept.len() as u64 >= written && kept.iter().all(|byte| *byte == 7));
    assert!(fixture.pool.compress_sandbox(id(9), Duration::ZERO).is_err(), "there is none");
}

#[test]
fn a_volume_has_its_size_and_mode_and_is_guarded_like_a_sandbox() {
    let Some(fixture) = fixture() else { return };
    let pool = &fixture.pool;
    let volume = mayfly_core::id::VolumeId::from_uuid(uuid::Uuid::from_u128(7));
    let parent = pool.volumes.as_fd();
    // Left half made by a crash.
    btrfs::create_subvolume(parent, &volume.to_string(), None).unwrap();
    assert_eq!(pool.volume_size(volume).unwrap(), None);
    for _ in 0..2 {
        pool.make_volume(volume, 300 * MIB).unwrap();
    }
    assert_eq!(pool.volume_size(volume).unwrap(), Some(300 * MIB));
    let path = fixture.mounted.0.join("volumes").join(volume.to_string());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o777);
    let at = |percent: u64| Headroom { pool_size: 100, pool_free: 100 - percent, host_free: 0 };
    let limit = || subvolume::limit(pool, pool.open_volume(volume).unwrap().as_fd()).unwrap();
    assert_eq!(limit(), Some(300 * MIB));
    pool.guard(at(95), &[]).unwrap();
    assert!(limit().is_some_and(|limit| limit < 80 * MIB), "{:?}", limit());
    pool.guard(at(50), &[]).unwrap();
    assert_eq!(limit(), Some(300 * MIB));
    for _ in 0..2 {
        pool.remove_volume(volume).unwrap();
    }
    assert_eq!(pool.volume_usage(volume).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn opening_again_finds_the_same_pool() {
    let Some(fixture) = fixture() else { return };
    fixture.pool.make_sandbox(id(1), 10 * MIB).unwrap();
    let again = Pool::open(File::open(&fixture.mounted.0).unwrap().into()).unwrap();
    assert_eq!(again.sandboxes().unwrap(), [id(1)]);
    assert_eq!(again.quota_mode(), fixture.pool.quota_mode());
    let headroom =
        Headroom::measure(again.root(), File::open(fixture.folder.path()).unwrap()).unwrap();
    assert!(headroom.pool_size >= 400 * MIB && headroom.pool_free > 300 * MIB, "{headroom:?}");
    headroom.admit(Reserve::default()).unwrap();
    let Place::File(file) = place(fixture.folder.path()).unwrap() else {
        panic!("an existing pool file is kept");
    };
    assert!(loop_file::attach(&file).unwrap().reused, "the mount keeps the device");
}

#[test]
fn a_nearly_full_pool_lowers_limits_and_restores_them_when_there_is_room() {
    let Some(fixture) = fixture() else { return };
    let pool = &fixture.pool;
    let at = |percent: u64| Headroom { pool_size: 100, pool_free: 100 - percent, host_free: 0 };
    let full = [(id(1), 300 * MIB), (id(2), 300 * MIB)];
    pool.make_sandbox(id(1), 300 * MIB).unwrap();
    let upper = fixture.path(id(1)).join("upper");
    assert_eq!(fill(&upper.join("first"), 20 * MIB).1, None);
    assert_eq!(pool.guard(at(89), &full).unwrap(), []);

    // The second has no folder: it was deleted meanwhile.
    let lowered = pool.guard(at(90), &full).unwrap();
    let [changed] = lowered[..] else { panic!("{lowered:?}") };
    assert!(changed.id == id(1) && changed.lowered, "{changed:?}");
    assert!((84 * MIB..86 * MIB).contains(&changed.limit), "{changed:?}");
    let (written, refusal) = fill(&upper.join("second"), 200 * MIB);
    assert_eq!(refusal, Some(ErrorKind::QuotaExceeded));
    assert!((60 * MIB..=64 * MIB).contains(&written), "{written}");
    assert_eq!(pool.guard(at(95), &full).unwrap(), [], "what is used up is not given again");
    assert_eq!(pool.guard(at(85), &full).unwrap(), [], "there is no room yet");

    // Another server, later: the limit itself tells that it was lowered.
    let again = Pool::open(File::open(&fixture.mounted.0).unwrap().into()).unwrap();
    let restored = again.guard(at(79), &full).unwrap();
    assert_eq!(restored, [DiskGuard { id: id(1), limit: 300 * MIB, lowered: false }]);
    assert_eq!(fill(&upper.join("third"), 100 * MIB).1, None);
    assert_eq!(again.guard(at(79), &full).unwrap(), []);
}

#[test]
fn the_probe_overruns_a_quota_and_leaves_nothing() {
    use mayfly_core::ports::runtime::LayerState;
    let absent = unavailable("no pool").with_hint("make one");
    let layer = probe::layer(Err(&absent));
    assert_eq!((layer.state, layer.remedy.as_deref()), (LayerState::Absent, Some("make one")));
    let Some(fixture) = fixture() else { return };
    let layer = probe::layer(Ok(&fixture.pool));
    assert_eq!(layer.state, LayerState::Holds, "{layer:?}");
    let mut left: Vec<_> =
        fs::read_dir(&fixture.mounted.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["captures", "layers", "sandboxes", "volumes"]);
}

#[test]
fn a_folder_that_is_not_btrfs_is_refused() {
    let root = File::open("/proc").unwrap();
    assert_eq!(Pool::open(root.into()).unwrap_err().kind(), Kind::Unavailable);
}

#[test]
fn a_pool_file_is_made_whole_or_not_at_all() {
    if !possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pool.btrfs");
    assert_eq!(loop_file::ensure_file(&file, MIB).unwrap_err().kind(), Kind::Invalid);
    fs::write(folder.path().join("pool.new"), "left by a crash").unwrap();
    loop_file::ensure_file(&file, 512 * MIB).unwrap();
    loop_file::ensure_file(&file, 300 * MIB).unwrap();
    let found = fs::metadata(&file).unwrap();
    assert_eq!(found.len(), 512 * MIB, "an existing pool keeps its size");
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert!(!folder.path().join("pool.new").exists());
    fs::write(&file, "something else").unwrap();
    let foreign = loop_file::ensure_file(&file, 512 * MIB).unwrap_err();
    assert_eq!(foreign.kind(), Kind::Conflict, "{foreign}");
}

#[test]
fn a_loop_device_is_found_again_and_detaches_itself() {
    if !possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pool.btrfs");
    loop_file::ensure_file(&file, 512 * MIB).unwrap();
    let first = loop_file::attach(&file).unwrap();
    let second = loop_file::attach(&file).unwrap();
    assert_eq!((&first.path, first.reused, second.reused), (&second.path, false, true));
    let number = first.path.file_name().unwrap().to_owned();
    drop((first, second));
    let shown = Path::new("/sys/block").join(number).join("loop/backing_file");
    let detached = (0..100).any(|_| {
        let ours = fs::read_to_string(&shown)
            .is_ok_and(|text| text.contains(folder.path().to_str().unwrap()));
        if ours {
            sleep(Duration::from_millis(20));
        }
        !ours
    });
    assert!(detached);
}

#[test]
fn the_default_size_leaves_the_reserve_and_refuses_tiny_disks() {
    let size = |free: u64, reserve: u64| loop_file::default_size(free, reserve);
    assert_eq!(size(40 << 30, 1 << 30).unwrap(), 20 << 30);
    assert_eq!(size(4 << 40, 1 << 30).unwrap(), 100 << 30);
    assert_eq!(size(10 << 30, 9 << 30).unwrap(), 1 << 30);
    let refused = size(1 << 30, 1 << 30).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(refused.hint().is_some());
}
