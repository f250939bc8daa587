//! The server's master key and the first API key.

use std::fs::OpenOptions;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mayfly_core::ports::entropy::Entropy;
use mayfly_core::{Error, Kind, Result};
use sha2::{Digest, Sha256};

/// Shortest `MAYFLY_MASTER_KEY`.
const SHORTEST: usize = 32;

/// `MAYFLY_MASTER_KEY`, else the data directory's `master.key`, made at the first start.
pub(crate) fn master_key(data_dir: &Path, entropy: &dyn Entropy) -> Result<[u8; 32]> {
    if let Ok(text) = std::env::var("MAYFLY_MASTER_KEY") {
        if text.len() < SHORTEST {
            return Err(Error::invalid(format!(
                "MAYFLY_MASTER_KEY is shorter than {SHORTEST} characters"
            ))
            .with_hint("make one with: openssl rand -base64 32"));
        }
        return Ok(Sha256::digest(text.as_bytes()).into());
    }
    let path = data_dir.join("master.key");
    match std::fs::File::open(&path) {
        Ok(file) => {
            let mut text = String::new();
            file.take(1024).read_to_string(&mut text).map_err(|error| unusable(&path, error))?;
            let bytes = STANDARD.decode(text.trim()).map_err(|error| unusable(&path, error))?;
            bytes
                .try_into()
                .map_err(|_| Error::invalid(format!("{} does not hold 32 bytes", path.display())))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut key = [0; 32];
            entropy.fill(&mut key);
            write_private(&path, &line(&key))?;
            Ok(key)
        }
        Err(error) => Err(unusable(&path, error)),
    }
}

/// A master key as its file holds it.
pub(super) fn line(key: &[u8; 32]) -> String {
    format!("{}\n", STANDARD.encode(key))
}

/// Tells the operator the first key: on the terminal, else in a file, never in a log.
pub(crate) fn tell_first_key(data_dir: &Path, value: &str) -> Result<()> {
    let mut out = std::io::stdout();
    if out.is_terminal() {
        // Shown once; a terminal that is gone shows nothing, and `mayfly key create` makes another.
        let _ = writeln!(out, "first API key (shown once): {value}");
        return Ok(());
    }
    let path = data_dir.join("initial-key");
    write_private(&path, &format!("{value}\n"))?;
    tracing::info!(path = %path.display(), "wrote the first API key");
    Ok(())
}

/// Writes a new file that only its owner can read, whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("new");
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    write().map_err(|error| {
        Error::new(Kind::Unavailable, format!("cannot write {}: {error}", path.display()))
            .with_hint("check that the data directory is on a writable disk with free space")
            .with_source(error)
    })
}

fn unusable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Invalid, format!("cannot use {}: {error}", path.display()))
        .with_hint("restore it from a backup; a new key would end all signed URLs")
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::clock::HostEntropy;
    use super::*;

    #[test]
    fn the_master_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = master_key(folder.path(), &HostEntropy).unwrap();
        assert_eq!(master_key(folder.path(), &HostEntropy).unwrap(), first);
        let mode = folder.path().join("master.key").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(folder.path().join("master.key"), "c2hvcnQ=").unwrap();
        assert_eq!(master_key(folder.path(), &HostEntropy).unwrap_err().kind(), Kind::Invalid);
    }
}
