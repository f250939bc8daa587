//! The `host` source: the host's own programs under a clean root, without a copy of them.
//!
//! A sandbox's root is an overlay over a generated skeleton; its /usr is a second overlay over the live
//! /usr, below a layer of whiteouts that hides what not everybody on the host may read. (One overlay
//! cannot do both: it does not follow a mount of /usr inside a layer.) What is generated lies in
//! `host-<fingerprint>` folders, made under another name and renamed, so that they are whole or absent.

mod etc;
mod fingerprint;
mod hidden;
mod skeleton;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mayfly_core::{Error, Kind, Result};
use rustix::fs::{Mode, OFlags};

use super::users::Accounts;

const PREFIX: &str = "host-";
const UNFINISHED: &str = ".host-";

/// Layers of the `host` source as the host stands now; lists are topmost first, as overlayfs takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostImage {
    /// Changes when the host's packages, or what the skeleton is made from, change; 64 hex digits.
    pub fingerprint: String,
    /// Layers of the root; /usr is an empty folder in them.
    pub root_layers: Vec<PathBuf>,
    /// Layers of /usr, the last of them the live one.
    pub usr_layers: Vec<PathBuf>,
    /// Accounts of a sandbox in which nothing has run yet.
    pub accounts: Arc<Accounts>,
}

/// What is done to generated layers by whoever may do it.
pub trait Keeper {
    /// Whether root inside can write to folders of the host only where the layers have copies of them.
    fn copies_folders(&self) -> bool;
    /// Gives a finished folder to the owner that sandboxes' root is there.
    fn own(&self, folder: &Path) -> Result<()>;
    /// Deletes a folder, whoever owns what is in it.
    fn delete(&self, folder: &Path) -> Result<()>;
}

/// Layers that belong to who generates them.
#[derive(Clone, Copy, Debug)]
pub struct Generator;

impl Keeper for Generator {
    fn copies_folders(&self) -> bool {
        false
    }

    fn own(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn delete(&self, folder: &Path) -> Result<()> {
        fs::remove_dir_all(folder).map_err(|error| failed("delete", folder, error))
    }
}

impl HostImage {
    /// The layers for the host whose root is `root` (`/`, except in tests), generated where
    /// `layers_root` does not have them yet.
    ///
    /// `layers_root` must be closed to other users, because ids in the layers are those of an image.
    /// Safe to run at the same time as itself and to repeat after a crash.
    /// [`Kind::Unsupported`] where /bin and /lib are not links into /usr.
    pub fn prepare(layers_root: &Path, root: &Path, keeper: &dyn Keeper) -> Result<Self> {
        let fingerprint = Self::fingerprint(root)?;
        let folder = layers_root.join(format!("{PREFIX}{fingerprint}"));
        if !folder.is_dir() {
            generate(layers_root, root, &folder, keeper)?;
        }
        let usr = root.join("usr");
        let hidden = folder.join("hidden");
        let mut entries = fs::read_dir(&hidden).map_err(|error| failed("read", &hidden, error))?;
        let usr_layers = if entries.next().is_some() { vec![hidden, usr] } else { vec![usr] };
        let skeleton = folder.join("skeleton");
        let accounts = Arc::new(accounts(&skeleton)?);
        Ok(Self { fingerprint, root_layers: vec![skeleton], usr_layers, accounts })
    }

    /// The fingerprint of the host now, without generating anything; some milliseconds.
    pub fn fingerprint(root: &Path) -> Result<String> {
        fingerprint::fingerprint(root)
    }

    /// Deletes generated layers that are in no use, and what a crash left unfinished.
    ///
    /// `used` are the fingerprints of sandboxes that run, and the current one. Only for the one process
    /// that owns `layers_root`.
    pub fn sweep(layers_root: &Path, used: &BTreeSet<String>, keeper: &dyn Keeper) -> Result<()> {
        Self::old(layers_root, used)?.iter().try_for_each(|folder| keeper.delete(folder))
    }

    /// What [`HostImage::sweep`] would delete.
    pub fn old(layers_root: &Path, used: &BTreeSet<String>) -> Result<Vec<PathBuf>> {
        let own = unfinished_by(std::process::id());
        let mut found = Vec::new();
        let entries =
            fs::read_dir(layers_root).map_err(|error| failed("read", layers_root, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| failed("read", layers_root, error))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let old = name.strip_prefix(PREFIX).is_some_and(|print| !used.contains(print));
            let left = name.starts_with(UNFINISHED) && !name.starts_with(&own);
            if old || left {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

fn accounts(skeleton: &Path) -> Result<Accounts> {
    let read = |name: &str| {
        let path = skeleton.join("etc").join(name);
        fs::read(&path).map_err(|error| failed("read", &path, error))
    };
    Ok(Accounts::parse(&read("passwd")?, &read("group")?))
}

/// Makes both layers under a name of this process and moves them into place when they are on disk.
fn generate(layers_root: &Path, root: &Path, folder: &Path, keeper: &dyn Keeper) -> Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let unfinished = layers_root.join(format!("{}{count}", unfinished_by(std::process::id())));
    let filled =
        fill(root, &unfinished, keeper.copies_folders()).and_then(|()| keeper.own(&unfinished));
    let outcome = filled.and_then(|()| match fs::rename(&unfinished, folder) {
        // Another call was faster with the same content.
        Err(_) if folder.is_dir() => keeper.delete(&unfinished),
        outcome => outcome.map_err(|error| failed("rename", &unfinished, error)),
    });
    if outcome.is_err() {
        // What cannot be deleted now is swept later; the first error is the one that counts.
        let _ = keeper.delete(&unfinished);
    }
    outcome
}

fn fill(root: &Path, unfinished: &Path, folders: bool) -> Result<()> {
    make_folder(unfinished, 0o755)?;
    skeleton::generate(root, &unfinished.join("skeleton"))?;
    hidden::generate(&root.join("usr"), &unfinished.join("hidden"), folders)?;
    // A rename can reach the disk before what the files hold.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(unfinished, flags, Mode::empty())
        .and_then(rustix::fs::syncfs)
        .map_err(|error| failed("write back", unfinished, error.into()))
}

fn unfinished_by(process: u32) -> String {
    format!("{UNFINISHED}{process}-")
}

/// Makes a folder with exactly this mode, whatever the umask is.
fn make_folder(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir(path).map_err(|error| failed("make", path, error))?;
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| failed("set the mode of", path, error))
}

fn failed(verb: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("cannot {verb} `{}` for the host image", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(Kind::Unavailable, message).with_source(error).with_hint("free disk space")
        }
        _ => Error::internal(message, error),
    }
}

#[cfg(test)]
mod tests;
