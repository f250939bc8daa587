//! A volume: files that outlive sandboxes and that several of them share, and where a sandbox mounts one.
//!
//! ```text
//! (insert) -> creating -> ready -> deleting -> deleted (final)
//!             creating -> deleting: it could not be made
//!             ready -> error: its files are gone     error -> deleting
//! ```
//!
//! A transient state has one effect, which may be repeated, so what a crash cut short is finished by it.

use std::fmt;

use crate::id::{OrganizationId, VolumeId};
use crate::sandbox::input;
use crate::time::Timestamp;
use crate::{Error, Result};

/// Most volumes that one sandbox mounts.
pub const MAX_MOUNTS: usize = 16;
/// Most bytes of a mount path, and of a path within a volume.
const MAX_PATH: usize = 1023;
/// Most bytes of one part of a path.
const MAX_PART: usize = 255;
/// Nothing is mounted on these or below: the kernel's own, and what every program needs.
const CLOSED: [&str; 16] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/sbin",
];
/// Nothing is mounted on these; below them it may be.
const SHUT: [&str; 3] = ["/", "/tmp", "/usr"];

/// Where a volume is in its life; words of the contract (Daytona contract, section 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VolumeState {
    /// Being made.
    Creating,
    /// May be mounted.
    Ready,
    /// Being deleted with its files.
    Deleting,
    /// Gone.
    Deleted,
    /// Broken; see the reason.
    Error,
}

impl VolumeState {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Creating, Self::Ready, Self::Deleting, Self::Deleted, Self::Error];

    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Error => "error",
        }
    }

    /// The state of that word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether something is being done to it that ends by itself.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Creating | Self::Deleting)
    }
}

impl fmt::Display for VolumeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Everything kept of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// Unique among the organization's volumes that are not deleted.
    pub name: String,
    /// Where it is.
    pub state: VolumeState,
    /// Most that it holds, GiB.
    pub size_gib: u32,
    /// Why it is in [`VolumeState::Error`].
    pub error_reason: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change of this record.
    pub updated_at: Timestamp,
    /// When a sandbox was last made with it.
    pub last_used_at: Option<Timestamp>,
}

impl Volume {
    /// Its limit in bytes.
    pub const fn bytes(&self) -> u64 {
        (self.size_gib as u64) << 30
    }

    /// The record in another state.
    #[must_use]
    pub fn moved(&self, state: VolumeState, now: Timestamp) -> Self {
        Self { state, updated_at: now, ..self.clone() }
    }

    /// Refuses to mount what is not ready.
    pub fn mountable(&self) -> Result<()> {
        if self.state == VolumeState::Ready {
            return Ok(());
        }
        let (name, state) = (&self.name, self.state);
        Err(Error::conflict(format!("volume {name} is {state}: only a ready one can be mounted")))
    }
}

/// Refuses names that no volume may have.
pub fn check_name(name: &str) -> Result<()> {
    input::name("name", name)?;
    if name.parse::<VolumeId>().is_ok() {
        return Err(Error::invalid("name must not look like an id"));
    }
    Ok(())
}

/// A volume in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which.
    pub volume: VolumeId,
    /// Where inside: absolute, without empty parts, `.` and `..`.
    pub path: String,
    /// Only this folder of the volume, made where it is missing: relative, as clean; `None` = the whole.
    pub subpath: Option<String>,
    /// Whether nothing in it can be changed, by root inside neither.
    pub read_only: bool,
}

/// A wish to mount a volume, as a caller says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedMount {
    /// Id or name.
    pub volume: String,
    /// Where inside.
    pub path: String,
    /// Folder within the volume; empty = the whole.
    pub subpath: Option<String>,
    /// Whether it cannot be changed there.
    pub read_only: bool,
}

impl WantedMount {
    /// The mount of this volume, paths in their clean form.
    pub fn of(&self, volume: VolumeId) -> Result<Mount> {
        let path = mount_path(&self.path)?;
        let subpath = self.subpath.as_deref().map(subpath).transpose()?.flatten();
        Ok(Mount { volume, path, subpath, read_only: self.read_only })
    }
}

/// Refuses what can be refused without looking anything up; the message names the field.
pub fn check_mounts(wanted: &[WantedMount]) -> Result<()> {
    if wanted.len() > MAX_MOUNTS {
        return Err(Error::invalid(format!("volumes must have at most {MAX_MOUNTS} entries")));
    }
    let mut paths: Vec<String> = Vec::new();
    for mount in wanted {
        if mount.volume.is_empty() {
            return Err(Error::invalid("volumeId must be the id or the name of a volume"));
        }
        let path = mount.of(VolumeId::from_uuid(uuid::Uuid::nil()))?.path;
        if let Some(other) = paths.iter().find(|other| within(&path, other) || within(other, &path))
        {
            return Err(Error::invalid(format!(
                "mountPath {path} and mountPath {other} lie on or in each other"
            )));
        }
        paths.push(path);
    }
    Ok(())
}

fn mount_path(path: &str) -> Result<String> {
    let refused = |why: &str| {
        let shown: String = path.chars().take(MAX_PART).collect();
        Error::invalid(format!("mountPath `{shown}` {why}"))
    };
    let inner = path.strip_prefix('/').ok_or_else(|| refused("must be absolute"))?;
    let clean = format!("/{}", clean(inner).map_err(refused)?);
    if SHUT.contains(&clean.as_str()) || CLOSED.iter().any(|closed| within(&clean, closed)) {
        return Err(refused("belongs to the system: choose another such as /data"));
    }
    Ok(clean)
}

fn subpath(path: &str) -> Result<Option<String>> {
    let refused = |why: &str| {
        let shown: String = path.chars().take(MAX_PART).collect();
        Error::invalid(format!("subpath `{shown}` {why}"))
    };
    if path.starts_with('/') {
        return Err(refused("must be relative to the volume"));
    }
    Ok(Some(clean(path).map_err(refused)?).filter(|path| !path.is_empty()))
}

/// A path without empty parts and `.`, or why it is none.
fn clean(path: &str) -> Result<String, &'static str> {
    if path.len() > MAX_PATH {
        return Err("is too long: expected at most 1023 bytes");
    }
    if path.contains('\0') {
        return Err("must not hold NUL");
    }
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err("must not hold `..`");
    }
    if parts.iter().any(|part| part.len() > MAX_PART) {
        return Err("has a part that is too long: expected at most 255 bytes");
    }
    Ok(parts.join("/"))
}

/// Whether a path is a folder or lies below it.
fn within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(path: &str, subpath: Option<&str>) -> WantedMount {
        WantedMount {
            volume: "data".to_owned(),
            path: path.to_owned(),
            subpath: subpath.map(str::to_owned),
            read_only: false,
        }
    }

    fn id() -> VolumeId {
        VolumeId::from_uuid(uuid::Uuid::from_u128(7))
    }

    #[test]
    fn paths_are_kept_in_their_clean_form() {
        for (given, kept) in [
            ("/data", "/data"),
            ("//data//x/./y/", "/data/x/y"),
            ("/usr/local/share", "/usr/local/share"),
            ("/etcetera", "/etcetera"),
            ("/tmp/x", "/tmp/x"),
            ("/home/me/ü b", "/home/me/ü b"),
        ] {
            assert_eq!(wanted(given, None).of(id()).unwrap().path, kept, "{given}");
        }
        for (given, kept) in
            [("a/b", Some("a/b")), ("./a//b/", Some("a/b")), ("", None), (".", None)]
        {
            let mount = wanted("/data", Some(given)).of(id()).unwrap();
            assert_eq!(mount.subpath.as_deref(), kept, "{given}");
        }
    }

    #[test]
    fn paths_that_cannot_be_are_refused_and_named() {
        let long = format!("/{}", "x".repeat(256));
        let many = "/x".repeat(600);
        for path in [
            "data",
            "",
            "/",
            "//",
            "/.",
            "/tmp",
            "/usr",
            "/a/../etc",
            "/..",
            "/proc",
            "/proc/1",
            "/sys/x",
            "/dev/shm",
            "/etc",
            "/etc/x",
            "/usr/bin/x",
            "/bin",
            "/lib64",
            "/a\0b",
            &long,
            &many,
        ] {
            let error = wanted(path, None).of(id()).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::Invalid, "{path:?}");
            assert!(error.message().starts_with("mountPath `"), "{error}");
        }
        for subpath in ["..", "a/../b", "/a", "a\0"] {
            let error = wanted("/data", Some(subpath)).of(id()).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::Invalid, "{subpath:?}");
            assert!(error.message().starts_with("subpath `"), "{error}");
        }
    }

    #[test]
    fn mounts_on_or_in_each_other_are_refused() {
        let two = |one, other| check_mounts(&[wanted(one, None), wanted(other, None)]);
        two("/a", "/b").unwrap();
        two("/a/b", "/a/bc").unwrap();
        for (one, other) in [("/a", "/a"), ("/a", "/a/"), ("/a", "/a/b"), ("/a/b/c", "/a")] {
            assert_eq!(two(one, other).unwrap_err().kind(), crate::Kind::Invalid, "{one} {other}");
        }
        let many: Vec<_> = (0..=MAX_MOUNTS).map(|n| wanted(&format!("/m{n}"), None)).collect();
        check_mounts(&many[1..]).unwrap();
        assert!(check_mounts(&many).is_err());
        let nameless = WantedMount { volume: String::new(), ..wanted("/a", None) };
        assert!(check_mounts(&[nameless]).unwrap_err().message().contains("volumeId"));
    }

    #[test]
    fn only_a_ready_volume_is_mounted() {
        for state in VolumeState::ALL {
            assert_eq!(VolumeState::parse(state.as_str()), Some(state));
            let volume = Volume {
                id: id(),
                organization: OrganizationId::from_uuid(uuid::Uuid::nil()),
                name: "data".to_owned(),
                state,
                size_gib: 1,
                error_reason: None,
                created_at: Timestamp(0),
                updated_at: Timestamp(0),
                last_used_at: None,
            };
            assert_eq!(volume.mountable().is_ok(), state == VolumeState::Ready, "{state}");
        }
    }

    #[test]
    fn a_name_is_no_id() {
        check_name("my data/1").unwrap();
        for name in ["", "a\nb", "0192f0c1-2b3c-7def-8123-456789abcdef"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
