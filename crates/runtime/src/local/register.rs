//! Word that servers leave of themselves on their host, and what is left there of those that nobody will start again.
//!
//! ```text
//! <register>/mayfly-<digest of the data directory's path>      its path, as named and as it is; locked while
//!                                                               the server lives
//! ```
//! A server that was killed leaves sandboxes, control groups, a network process and a loop device: the next server of
//! its data directory takes them over. Where that directory is gone, nobody does, and [`clear`] takes them away. An
//! entry that is locked belongs to a living server; one whose directory exists has a next server.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mayfly_core::ports::runtime::Leftover;
use mayfly_core::{Error, Kind, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use super::cgroup::Cgroups;
use super::ground::group_name;
use super::live::{ended, open_pidfd};

/// Tries to lock an entry that another looks at, [`PAUSE`] apart: 10 s, more than a look takes.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(20);
/// Entries that are looked at.
const MOST: usize = 10_000;
/// Longest entry, bytes.
const MAX_PATHS: u64 = 8192;
/// Longest wait for a killed process, milliseconds, and for the device to detach, in tries.
const KILL_PATIENCE: u64 = 5_000;
const DETACH_TRIES: u32 = 250;
/// Beginning of an entry's name; a control group has the same.
const PREFIX: &str = "mayfly-";

/// A living server's entry; it stays, unlocked, when the server ends.
#[derive(Debug)]
pub struct Entry {
    _locked: File,
    path: PathBuf,
}

impl Entry {
    /// Makes the entry of a data directory, which is there, and locks it. The register is made, for its owner alone.
    pub fn write(register: &Path, data_dir: &Path) -> Result<Self> {
        let path = register.join(group_name(data_dir)?);
        let whole = fs::canonicalize(data_dir).map_err(|error| cannot("find", data_dir, error))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(register)
            .map_err(|error| cannot("make", register, error))?;
        for _ in 0..TRIES {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(|error| cannot("write", &path, error))?;
            if !lock(&file) || !is_still(&file, &path) {
                std::thread::sleep(PAUSE);
                continue;
            }
            let both = [data_dir, &whole].map(|path| path.as_os_str().as_encoded_bytes());
            file.set_len(0)
                .and_then(|()| file.write_all(&both.join(&0)))
                .map_err(|error| cannot("write", &path, error))?;
            return Ok(Self { _locked: file, path });
        }
        Err(Error::conflict(format!("{} is locked by another server", path.display()))
            .with_hint("end that server, or wait until `mayfly gc` is done"))
    }

    /// Takes it away, for a server that leaves nothing on its host.
    pub fn erase(self) {
        let _ = fs::remove_file(&self.path);
        if let Some(register) = self.path.parent() {
            // Others may have theirs there.
            let _ = fs::remove_dir(register);
        }
    }
}

/// A server that nobody will start again, and what it left.
#[derive(Debug)]
pub struct Gone {
    /// Where its data directory was.
    pub data_dir: PathBuf,
    /// What was found; taken away unless it says why not.
    pub left: Vec<Leftover>,
}

/// Finds what servers left whose data directory is gone, and takes it away unless `dry`. Blocks.
///
/// Living servers, and those whose directory is there, are not touched, nor is anything that no entry names.
pub fn clear(register: &Path, dry: bool) -> Result<Vec<Gone>> {
    let entries = match fs::read_dir(register) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| cannot("read", register, error))?,
    };
    let mut found = Vec::new();
    for entry in entries.flatten().take(MOST) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) {
            continue;
        }
        let looked_at = is_gone(&entry.path());
        if let Some((_held, paths)) = looked_at.map_err(|e| cannot("read", &entry.path(), e))? {
            let left = clear_one(&name, &paths, dry)?;
            if !dry && left.iter().all(|one| one.kept.is_none()) {
                fs::remove_file(entry.path())
                    .map_err(|error| cannot("delete", &entry.path(), error))?;
            }
            found.push(Gone { data_dir: paths.whole, left });
        }
    }
    Ok(found)
}

/// Where a data directory was.
struct Paths {
    /// As the server was told.
    named: PathBuf,
    /// Without links.
    whole: PathBuf,
}

/// The data directory of an entry, and its lock; `None` while somebody has the lock or the directory is there.
fn is_gone(path: &Path) -> io::Result<Option<(File, Paths)>> {
    // Anything but a plain file of ours is somebody else's.
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path);
    let Ok(mut file) = opened else { return Ok(None) };
    let own = rustix::process::geteuid().as_raw();
    if !file.metadata().is_ok_and(|data| data.is_file() && data.uid() == own) || !lock(&file) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    io::Read::by_ref(&mut file).take(MAX_PATHS).read_to_end(&mut bytes)?;
    let mut paths = bytes.split(|byte| *byte == 0);
    let mut path_of = || {
        let bytes = paths.next().unwrap_or_default().to_vec();
        PathBuf::from(std::ffi::OsString::from_vec(bytes))
    };
    let found = Paths { named: path_of(), whole: path_of() };
    // What cannot be looked at may be there.
    let is_gone = |path: &Path| {
        let looked = fs::metadata(path);
        path.is_absolute() && looked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let both = is_gone(&found.named) && is_gone(&found.whole) && is_still(&file, path);
    Ok(both.then_some((file, found)))
}

fn clear_one(name: &str, paths: &Paths, dry: bool) -> Result<Vec<Leftover>> {
    if let Some(device) = device_of(&paths.whole.join("pool.btrfs"), false) {
        // Only its path is gone: its disk is mounted elsewhere, or hidden.
        let kept =
            Some("its pool file still has its name, where this command does not see it".into());
        return Ok(vec![Leftover { kind: "device", name: device, kept }]);
    }
    let file = paths.whole.join("pool.btrfs");
    // Looked for first: it goes with the last sandbox.
    let device = device_of(&file, true);
    let mut left = processes(&paths.named, dry)?;
    left.extend(groups(name, dry)?);
    left.extend(device.map(|name| detached(name, &file, dry)));
    Ok(left)
}

/// Network processes: they name the folder of their audit.
fn processes(data_dir: &Path, dry: bool) -> Result<Vec<Leftover>> {
    let audit = data_dir.join("audit");
    let mut found = Vec::new();
    let all = fs::read_dir("/proc").map_err(|error| cannot("read", Path::new("/proc"), error))?;
    for pid in all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let Some(pidfd) = open_pidfd(pid) else { continue };
        if !is_network_process(pid, &audit) {
            continue;
        }
        let mut kept = None;
        if !dry {
            let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
            if !ended(&pidfd, KILL_PATIENCE) {
                kept = Some("it did not end within 5 s of its kill".to_owned());
            }
        }
        found.push(Leftover { kind: "process", name: format!("{pid} (network)"), kept });
    }
    Ok(found)
}

fn is_network_process(pid: i32, audit: &Path) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    program.as_os_str().as_encoded_bytes().starts_with(b"/memfd:mayfly-net")
        && arguments.split(|byte| *byte == 0).nth(2) == Some(audit.as_os_str().as_encoded_bytes())
}

/// Control groups with all processes in them: sandboxes, and those that waited to become one.
fn groups(name: &str, dry: bool) -> Result<Vec<Leftover>> {
    let groups = Cgroups::of_other(name)?;
    if !groups.are_there() {
        return Ok(Vec::new());
    }
    let mut found: Vec<Leftover> = groups
        .slots()?
        .into_iter()
        .map(|slot| Leftover { kind: "sandbox", name: format!("{name}/{slot}"), kept: None })
        .collect();
    found.push(Leftover { kind: "group", name: name.to_owned(), kept: None });
    if !dry && let Err(error) = groups.remove_all() {
        for one in &mut found {
            one.kept = Some(error.message().to_owned());
        }
    }
    Ok(found)
}

/// The pool's device, which detaches by itself some time after the last sandbox is gone.
fn detached(name: String, file: &Path, dry: bool) -> Leftover {
    let mut kept = None;
    if !dry {
        let mut tries = DETACH_TRIES;
        while device_of(file, true).is_some() && tries > 0 {
            std::thread::sleep(PAUSE);
            tries -= 1;
        }
        if tries == 0 {
            kept = Some("something still uses it".to_owned());
        }
    }
    Leftover { kind: "device", name, kept }
}

/// The loop device with this file behind it, by the kernel's word: deleted, or under its name.
fn device_of(file: &Path, deleted: bool) -> Option<String> {
    let mut wanted = file.as_os_str().as_encoded_bytes().to_vec();
    if deleted {
        wanted.extend_from_slice(b" (deleted)");
    }
    let devices = fs::read_dir("/sys/block").ok()?;
    devices.flatten().find_map(|entry| {
        let text = fs::read(entry.path().join("loop/backing_file")).ok()?;
        let is_it = text.strip_suffix(b"\n").unwrap_or(&text) == wanted;
        is_it.then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

fn lock(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Whether the path still names this file: another may have deleted it before it was locked.
fn is_still(file: &File, path: &Path) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

fn cannot(verb: &str, path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot {verb} {}: {error}", path.display()))
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_living_servers_and_of_folders_that_exist_are_no_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let register = folder.path().join("register");
        let there = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (living, ended, lost) = (there("living"), there("ended"), there("lost"));
        let _entry = Entry::write(&register, &living).unwrap();
        for path in [&ended, &lost] {
            drop(Entry::write(&register, path).unwrap());
        }
        let lost_whole = fs::canonicalize(&lost).unwrap();
        fs::remove_dir(&living).unwrap();
        fs::remove_dir(&lost).unwrap();
        let count = || fs::read_dir(&register).unwrap().count();
        for dry in [true, false] {
            assert_eq!(count(), 3);
            let found = clear(&register, dry).unwrap();
            let dirs: Vec<_> = found.iter().map(|gone| gone.data_dir.clone()).collect();
            assert_eq!(dirs, std::slice::from_ref(&lost_whole), "dry: {dry}");
        }
        assert_eq!(count(), 2);
    }

    #[test]
    fn an_entry_is_one_server_s_and_goes_with_its_register() {
        let folder = tempfile::tempdir().unwrap();
        let (register, data) = (folder.path().join("register"), folder.path().join("data"));
        fs::create_dir(&data).unwrap();
        let entry = Entry::write(&register, &data).unwrap();
        let path = entry.path.clone();
        assert!(!lock(&File::open(&path).unwrap()), "it is held");
        drop(entry);
        Entry::write(&register, &data).unwrap().erase();
        assert!(!register.exists());
    }

    #[test]
    fn what_is_no_entry_of_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mayfly-x"), "relative/path").unwrap();
        fs::write(folder.path().join("other"), "/nowhere/at/all").unwrap();
        std::os::unix::fs::symlink("/nowhere", folder.path().join("mayfly-y")).unwrap();
        assert!(clear(folder.path(), false).unwrap().is_empty());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
