//! The generated root: links into /usr, a clean /etc, and empty folders for the rest.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mayfly_core::{Error, Kind, Result};

use super::{etc, failed, make_folder};

/// Names at the root that are links into /usr where the host has them.
const LINKS: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Empty folders and their modes, parents first. Nothing of the host's /opt, /home, /root and /var.
const FOLDERS: [(&str, u32); 25] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/lib/misc", 0o755),
    ("var/local", 0o755),
    ("var/log", 0o755),
    ("var/mail", 0o755),
    ("var/opt", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
    ("var/backups", 0o755),
];

/// Writes the layer to `target`, which must not exist.
pub(super) fn generate(root: &Path, target: &Path) -> Result<()> {
    make_folder(target, 0o755)?;
    for (name, mode) in FOLDERS {
        make_folder(&target.join(name), mode)?;
    }
    let own = [("var/run", PathBuf::from("/run")), ("var/lock", PathBuf::from("/run/lock"))];
    for (name, to) in links(root)?.into_iter().chain(own) {
        let link = target.join(name);
        symlink(to, &link).map_err(|error| failed("make", &link, error))?;
    }
    etc::generate(root, &target.join("etc"))
}

/// The host's links into /usr and where they go.
pub(super) fn links(root: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut links = Vec::new();
    for name in LINKS {
        let path = root.join(name);
        match fs::read_link(&path) {
            Ok(to) => links.push((name, to)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let what =
                    format!("`{}` is a folder of its own, not a link into /usr", path.display());
                return Err(Error::new(Kind::Unsupported, what)
                    .with_hint("the `host` source needs a distribution with a merged /usr"));
            }
            Err(error) => return Err(failed("read", &path, error)),
        }
    }
    Ok(links)
}
