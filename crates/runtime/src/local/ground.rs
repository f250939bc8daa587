//! What sandboxes stand on, by profile: who clones them, where their files lie, what limits them.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mayfly_core::ports::runtime::Profile;
use mayfly_core::{Error, Kind, Result};
use mayfly_init::protocol::{Hello, MAX_PACKET};

use super::cgroup::Cgroups;
use super::folders::Folders;
use super::forkserver::{Forkserver, Stand, path_bytes};
use super::ids::Ids;
use super::options::Options;
use super::outer::Outer;
use super::pool::{self, Place, Pool};
use super::seccomp::{self, Architecture};
use super::storage::Storage;

/// Capabilities that sandboxes keep (platform contract, section 8): `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`,
/// `KILL`, `SETGID`, `SETUID`, `SETPCAP`, `NET_BIND_SERVICE`, `SYS_CHROOT`, `SETFCAP`.
pub(super) const CAPABILITIES: u64 =
    1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 31;

/// The choices of a profile, made once.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) forkserver: Arc<Forkserver>,
    pub(super) storage: Storage,
    pub(super) cgroups: Cgroups,
    pub(super) ids: Ids,
    /// The folder of sandboxes' folders, as the forkserver sees it.
    pub(super) sandboxes: PathBuf,
}

impl Ground {
    /// Makes ready what the profile asks for; what the host lacks is a refusal with the remedy.
    pub(super) fn prepare(options: &Options, profile: Profile, data: &fs::File) -> Result<Self> {
        let data_dir = &options.data_dir;
        let stage = private_folder(data_dir, "stage")?;
        let hello = hello(options, &stage, profile == Profile::Unprivileged)?;
        if profile == Profile::Full {
            let mount_point = private_folder(data_dir, "pool")?;
            let place = prepare_pool(options, data)?;
            let cgroups = Cgroups::detect(&group_name(data_dir)?)?;
            let (forkserver, root) =
                Forkserver::start(hello, Stand::Root(place, mount_point.clone()))?;
            let root =
                root.ok_or_else(|| Error::new(Kind::Internal, "the forkserver gave no pool"))?;
            return Ok(Self {
                forkserver: Arc::new(forkserver),
                storage: Storage::Pool(Box::new(Pool::open(root)?)),
                cgroups,
                ids: Ids::Ranges,
                sandboxes: mount_point.join("sandboxes"),
            });
        }
        let sandboxes = private_folder(data_dir, "sandboxes")?;
        let outer = Outer::of_caller()?;
        let ids = Ids::Shared { user: outer.first_uid };
        let forkserver = Arc::new(Forkserver::start(hello, Stand::User(outer))?.0);
        let folders = Folders::open(sandboxes.clone(), Arc::clone(&forkserver))?;
        Ok(Self {
            forkserver,
            storage: Storage::Folders(folders),
            cgroups: Cgroups::none("an ordinary user has no control groups of his own"),
            ids,
            sandboxes,
        })
    }
}

/// Makes a folder of the data directory that is closed to others.
pub(super) fn private_folder(data_dir: &Path, name: &str) -> Result<PathBuf> {
    let folder = data_dir.join(name);
    make_private(&folder).map(|()| folder)
}

fn hello(options: &Options, stage: &Path, rootless: bool) -> Result<Hello> {
    let architecture = Architecture::host().ok_or_else(|| {
        Error::new(Kind::Unavailable, "there is no system call list for this processor")
            .with_hint("x86_64 and aarch64 are supported")
    })?;
    let hello = Hello {
        stage: path_bytes(stage).to_vec(),
        filter: seccomp::to_bytes(&seccomp::compile(&seccomp::filter(architecture))),
        capabilities: CAPABILITIES & bounding_set(),
        allow_setuid: options.allow_setuid,
        rootless,
        weakened: options.weakened,
    };
    debug_assert!(hello.encode().len() < MAX_PACKET, "the filter fits one packet");
    Ok(hello)
}

/// Capabilities that this process may pass on; everything when the kernel does not say.
fn bounding_set() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(u64::MAX)
}

fn prepare_pool(options: &Options, data: &fs::File) -> Result<Place> {
    let place = pool::place(&options.data_dir)?;
    if let Place::File(file) = &place {
        pool::requirements()?;
        let size = match options.pool_bytes {
            Some(bytes) => bytes,
            None if file.exists() => 0,
            None => {
                let space = rustix::fs::fstatvfs(data).map_err(|error| {
                    Error::internal("free space could not be read", io::Error::from(error))
                })?;
                pool::loop_file::default_size(
                    space.f_bavail.saturating_mul(space.f_frsize),
                    options.reserve_bytes,
                )?
            }
        };
        pool::loop_file::ensure_file(file, size)?;
    }
    Ok(place)
}

pub(super) fn make_private(path: &Path) -> Result<()> {
    let failed = |error: io::Error| {
        Error::new(
            Kind::Unavailable,
            format!("{} cannot be used as a private folder: {error}", path.display()),
        )
        .with_hint("choose another data directory")
    };
    if !path.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// Names the parent group after the data directory, so that several servers do not share groups.
pub(super) fn group_name(data_dir: &Path) -> Result<String> {
    use sha2::Digest as _;
    let whole =
        fs::canonicalize(data_dir).map_err(|error| Error::internal("data directory", error))?;
    let digest = sha2::Sha256::digest(path_bytes(&whole));
    let short = digest.iter().take(6).fold(String::from("mayfly-"), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    });
    Ok(short)
}
