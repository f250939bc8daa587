//! A data directory from a backup.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mayfly_core::id::{SandboxId, VolumeId};
use mayfly_core::ports::store::Store as _;
use mayfly_core::volume::VolumeState;
use mayfly_core::{Error, Kind, Result};
use mayfly_runtime::local::captures::{Unpacker, below};

use super::clock::HostClock;
use super::{LocalRuntime, SqliteStore, runtime_options, secrets};
use crate::config::Config;
use crate::http::backup::{FIRST, LAST, MASTER, RECORDS, SANDBOXES, VOLUMES};
use crate::lock::DataLock;

/// There while a restore is under way; a server refuses to start beside it.
pub(crate) const UNFINISHED: &str = "restore-unfinished";
/// Where the records wait until everything else is there.
const WAITING: &str = "state.db.restored";
/// Most bytes of the small members.
const SMALL: u64 = 64 << 10;
/// Room beyond its limit that a sandbox's files may take while they are put back.
const SLACK: u64 = 256 << 20;

/// What was put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Sandboxes whose files were in the backup.
    pub(crate) sandboxes: usize,
    /// Volumes, likewise.
    pub(crate) volumes: usize,
}

/// Makes the data directory from a backup; it must be empty or not there. One that broke off is begun anew by
/// repeating it.
pub(crate) async fn restore(config: &Config, from: &Path) -> Result<Restored> {
    let data = &config.storage.data_dir;
    let file = File::open(from).map_err(|error| unreadable(from, error))?;
    if data.join(UNFINISHED).exists() {
        super::uninstall(config).await?;
    }
    if config.database().exists() {
        return Err(Error::conflict(format!("{} holds a server's state already", data.display()))
            .with_hint("restore into another --data-dir, or remove it with `mayfly uninstall`"));
    }
    let _lock = DataLock::take(config, false).await?;
    let mark = data.join(UNFINISHED);
    File::create(&mark).map_err(|error| unwritable(&mark, error))?;
    let mut options = runtime_options(config)?;
    options.namespaces = 0;
    let runtime = LocalRuntime::open(options).await?;
    let target = data.clone();
    let from = from.to_owned();
    let (runtime, restored) = tokio::task::spawn_blocking(move || {
        let restored = unpack(file, &target, &runtime).map_err(|error| match error {
            Trouble::Ours(error) => error,
            Trouble::Io(error) => unreadable(&from, error),
        });
        (runtime, restored)
    })
    .await
    .map_err(|error| Error::internal("the restore broke off", error))?;
    let restored = restored?;
    drop(runtime);
    let (waiting, records) = (data.join(WAITING), config.database());
    fs::rename(&waiting, &records).map_err(|error| unwritable(&records, error))?;
    fs::remove_file(&mark).map_err(|error| unwritable(&mark, error))?;
    Ok(restored)
}

/// Refuses a data directory whose restore did not end.
pub(crate) fn check(config: &Config) -> Result<()> {
    if !config.storage.data_dir.join(UNFINISHED).exists() {
        return Ok(());
    }
    let data = config.storage.data_dir.display();
    // No conflict: a client that started this server would wait for another one to answer.
    Err(Error::new(Kind::Unavailable, format!("a restore into {data} did not end"))
        .with_hint("repeat `mayfly restore FILE`, or remove what is there with `mayfly uninstall`"))
}

enum Trouble {
    Ours(Error),
    Io(io::Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Whose files are being put back.
#[derive(Clone, Copy)]
enum Owner {
    Sandbox(SandboxId),
    Volume(VolumeId),
}

struct Filling {
    owner: Owner,
    prefix: String,
    unpacker: Unpacker,
}

/// Limits of all sandboxes and volumes in the records, bytes.
#[derive(Default)]
struct Sizes {
    sandboxes: HashMap<SandboxId, u64>,
    volumes: HashMap<VolumeId, u64>,
}

impl Sizes {
    fn of(&self, owner: Owner) -> Option<u64> {
        match owner {
            Owner::Sandbox(id) => self.sandboxes.get(&id).copied(),
            Owner::Volume(id) => self.volumes.get(&id).copied(),
        }
    }
}

fn unpack(
    file: File,
    data: &Path,
    runtime: &LocalRuntime,
) -> std::result::Result<Restored, Trouble> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(file)?);
    let mut entries = archive.entries()?;
    let mut first = entries.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
    if first.path_bytes() != FIRST.0.as_bytes() {
        return Err(broken("something else than a backup of mayfly").into());
    }
    let head = text(&mut first)?;
    // Version 1 had no volumes.
    let version: Option<u32> = head.lines().next().and_then(|version| version.parse().ok());
    if !version.is_some_and(|version| (1..=FIRST.1).contains(&version)) {
        return Err(Error::unsupported("a backup of a newer program")
            .with_hint("restore it with the version of mayfly that made it, or a newer one")
            .into());
    }
    let (mut sizes, mut count, mut filling) =
        (Sizes::default(), Restored { sandboxes: 0, volumes: 0 }, None::<Filling>);
    for entry in entries {
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        if let Some(now) = &mut filling
            && let Some(rest) = below(&path, now.prefix.as_bytes())
        {
            let (rest, prefix) = (rest.to_vec(), now.prefix.clone());
            now.unpacker.member(&rest, prefix.as_bytes(), &mut entry)?;
            continue;
        }
        if let Some(done) = filling.take() {
            finish(done, &sizes, runtime, &mut count)?;
        }
        match path.as_slice() {
            name if name == RECORDS.as_bytes() => {
                private(&data.join(WAITING), &mut entry)?;
                sizes = limits(&data.join(WAITING))?;
            }
            name if name == MASTER.as_bytes() => {
                let mut key = [0; 32];
                entry.read_exact(&mut key)?;
                private(&data.join(MASTER), &mut secrets::line(&key).as_bytes())?;
            }
            name if name == LAST.as_bytes() => {
                return ended(&text(&mut entry)?, count);
            }
            name => {
                let mut next = begin(name, &sizes, runtime)?;
                let prefix = next.prefix.clone();
                next.unpacker.member(b"", prefix.as_bytes(), &mut entry)?;
                filling = Some(next);
            }
        }
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

fn ended(last: &str, count: Restored) -> std::result::Result<Restored, Trouble> {
    let said = last.lines().next().and_then(|number| number.parse().ok());
    if said != Some(count.sandboxes + count.volumes) {
        return Err(broken("fewer sandboxes and volumes than it says").into());
    }
    Ok(count)
}

fn begin(
    name: &[u8],
    sizes: &Sizes,
    runtime: &LocalRuntime,
) -> std::result::Result<Filling, Trouble> {
    let named =
        |folder: &str| below(name, folder.as_bytes()).and_then(|id| std::str::from_utf8(id).ok());
    let sandbox = named(SANDBOXES).and_then(|id| id.parse().ok()).map(Owner::Sandbox);
    let volume = || named(VOLUMES).and_then(|id| id.parse().ok()).map(Owner::Volume);
    let owner = sandbox.or_else(volume).ok_or_else(|| broken("a name that no backup has"))?;
    let room = sizes.of(owner).unwrap_or(0).saturating_add(SLACK);
    let (folder, prefix) = match owner {
        Owner::Sandbox(id) => (runtime.empty_folder(id, room)?, format!("{SANDBOXES}/{id}")),
        Owner::Volume(id) => (runtime.empty_volume(id, room)?, format!("{VOLUMES}/{id}")),
    };
    Ok(Filling { owner, prefix, unpacker: Unpacker::new(folder) })
}

fn finish(
    done: Filling,
    sizes: &Sizes,
    runtime: &LocalRuntime,
    count: &mut Restored,
) -> std::result::Result<(), Trouble> {
    done.unpacker.finish()?;
    match done.owner {
        Owner::Sandbox(_) => count.sandboxes += 1,
        Owner::Volume(_) => count.volumes += 1,
    }
    match (done.owner, sizes.of(done.owner)) {
        (Owner::Sandbox(id), Some(size)) => Ok(runtime.limit_folder(id, size)?),
        (Owner::Volume(id), Some(size)) => Ok(runtime.limit_volume(id, size)?),
        // Deleted or made while the backup was; the records do not know it, so the first start clears it away.
        (_, None) => Ok(()),
    }
}

fn limits(records: &Path) -> Result<Sizes> {
    let store = SqliteStore::open(records, &HostClock::new()?)?;
    let living = tokio::runtime::Handle::current().block_on(store.living())?;
    let volumes = tokio::runtime::Handle::current().block_on(store.volumes())?;
    let volumes = volumes.iter().filter(|volume| volume.state != VolumeState::Deleted);
    Ok(Sizes {
        sandboxes: living.iter().map(|one| (one.id, one.resources.disk_bytes())).collect(),
        volumes: volumes.map(|volume| (volume.id, volume.bytes())).collect(),
    })
}

fn private(path: &Path, from: &mut impl Read) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(from, &mut file)?;
    file.flush()?;
    file.sync_all()
}

fn text(entry: &mut impl Read) -> io::Result<String> {
    let mut text = String::new();
    entry.take(SMALL).read_to_string(&mut text)?;
    Ok(text)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is {what}"))
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    let what = if error.kind() == io::ErrorKind::UnexpectedEof {
        "it ends too early".to_owned()
    } else {
        error.to_string()
    };
    Error::new(Kind::Invalid, format!("{} cannot be restored: {what}", path.display()))
        .with_hint("name a whole file that `mayfly backup` wrote; what was put back so far is removed by the next restore or by `mayfly uninstall`")
        .with_source(error)
}

fn unwritable(path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot write {}: {error}", path.display()))
        .with_hint("check that the data directory is on a writable disk and belongs to you")
        .with_source(error)
}
