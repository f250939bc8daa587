//! Settings files: which are read, and whom they may belong to.

use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mayfly_core::{Error, Kind, Result};

/// Longest settings file.
const MOST: u64 = 1 << 20;

/// The files to read, weakest first, with their text. A file that was asked for must exist.
pub(super) fn read(asked: Option<&Path>) -> Result<Vec<(PathBuf, String)>> {
    if let Some(path) = asked {
        let text = read_one(path)?.ok_or_else(|| {
            Error::not_found(format!("the settings file {} does not exist", path.display()))
        })?;
        return Ok(vec![(path.to_owned(), text)]);
    }
    let mut found = Vec::new();
    for path in usual() {
        if let Some(text) = read_one(&path)? {
            found.push((path, text));
        }
    }
    Ok(found)
}

/// /var/lib/mayfly for root, else the XDG data directory.
pub(super) fn default_data_dir() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/mayfly"));
    }
    xdg("XDG_DATA_HOME", ".local/share").map(|folder| folder.join("mayfly")).ok_or_else(|| {
        Error::invalid("there is no folder for data: HOME and XDG_DATA_HOME are not set")
            .with_hint("name one with --data-dir or storage.data_dir")
    })
}

/// The working directory is never among them: whoever can write there must not configure the server.
fn usual() -> Vec<PathBuf> {
    let system = PathBuf::from("/etc/mayfly/mayfly.toml");
    let own = xdg("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("mayfly/mayfly.toml"));
    std::iter::once(system).chain(own).collect()
}

fn xdg(name: &str, below_home: &str) -> Option<PathBuf> {
    let named = std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| {
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute())?;
        Some(home.join(below_home))
    })
}

fn read_one(path: &Path) -> Result<Option<String>> {
    let failed = |error| {
        Error::new(Kind::Unavailable, format!("cannot read the settings file {}", path.display()))
            .with_source(error)
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    check(path, metadata.uid(), metadata.mode())?;
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// A file that others can change would let them choose, for one, to switch isolation off.
fn check(path: &Path, owner: u32, mode: u32) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    if owner != own && owner != 0 {
        return Err(Error::new(
            Kind::Denied,
            format!("the settings file {} belongs to user {owner}", path.display()),
        )
        .with_hint("it must belong to root or to the user who runs mayfly"));
    }
    if mode & 0o022 != 0 {
        return Err(Error::new(
            Kind::Denied,
            format!("the settings file {} can be written by others", path.display()),
        )
        .with_hint(format!("run: chmod go-w {}", path.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_can_write_or_own_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mayfly.toml");
        std::fs::write(&path, "[log]\nlevel = \"warn\"\n").unwrap();
        for (mode, allowed) in [(0o600, true), (0o644, true), (0o664, false), (0o602, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let outcome = read(Some(&path));
            assert_eq!(outcome.is_ok(), allowed, "{mode:o}");
            if let Err(error) = outcome {
                assert_eq!(error.kind(), Kind::Denied);
                assert!(error.hint().is_some_and(|hint| hint.starts_with("run: chmod go-w ")));
            }
        }
        let own = rustix::process::geteuid().as_raw();
        assert!(check(&path, 0, 0o644).is_ok());
        assert!(check(&path, own, 0o644).is_ok());
        assert_eq!(check(&path, own + 1, 0o644).unwrap_err().kind(), Kind::Denied);
    }

    #[test]
    fn a_file_that_was_asked_for_must_exist() {
        let error = read(Some("/nowhere/mayfly.toml".as_ref())).unwrap_err();
        assert!(error.message().contains("/nowhere/mayfly.toml"));
    }
}
