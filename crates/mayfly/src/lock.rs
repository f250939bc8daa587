//! One server per data directory: the lock, the takeover, and the private socket.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mayfly_core::{Error, Kind, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::config::Config;

/// Looks at a held lock this many times, [`PAUSE`] apart: 15 s, more than a server needs to drain.
const TRIES: u32 = 750;
const PAUSE: Duration = Duration::from_millis(20);
/// What a server is asked to see whether it answers, the beginning of its answer, and the longest wait for it.
const GREETING: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const ANSWER: &[u8; 12] = b"HTTP/1.1 200";
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// The exclusive right to a data directory, held until dropped.
#[derive(Debug)]
pub(crate) struct DataLock {
    file: File,
    socket: PathBuf,
}

impl DataLock {
    /// Makes the data directory where it is not there and takes its lock.
    ///
    /// A foreground server ends a background one and waits for it; anything else that holds the lock is
    /// [`Kind::Conflict`]. A background server gives up when another server answers on the socket.
    pub(crate) async fn take(config: &Config, background: bool) -> Result<Self> {
        make_folders(config)?;
        let path = config.run_dir().join("server.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| cannot("open", &path, error))?;
        let mut asked = None;
        for _ in 0..TRIES {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    sign(&mut file, background).map_err(|error| cannot("write", &path, error))?;
                    return Ok(Self { file, socket: config.socket() });
                }
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(cannot("lock", &path, error.into())),
            }
            let holder = holder(&mut file);
            match holder {
                Some((pid, false)) => return Err(taken(config, pid)),
                // Not there yet, or on its way out.
                Some((_, true)) if background && !answers(&config.socket()).await => {}
                Some((pid, true)) if background => return Err(taken(config, pid)),
                Some((pid, true)) if asked != Some(pid) => {
                    // It may end by itself meanwhile; then the lock is free on the next look.
                    let _ = kill_process(pid, Signal::TERM);
                    asked = Some(pid);
                }
                // Just locked and not signed yet, or asked to end.
                _ => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(Error::conflict(format!(
            "the lock {} is held by a server that does not end",
            path.display()
        ))
        .with_hint("end that server, or choose another --data-dir"))
    }

    /// The socket of the local command line, for the server's user alone.
    pub(crate) fn bind_socket(&self) -> Result<UnixListener> {
        self.bind_private(&self.socket)
    }

    /// Another socket in the folder of the lock, for the server's user and root alone.
    #[expect(clippy::unused_self, reason = "whoever holds the lock may replace what is there")]
    pub(crate) fn bind_private(&self, path: &Path) -> Result<UnixListener> {
        // Whatever is there is of an earlier server: this one holds the lock.
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(cannot("replace", path, error));
        }
        // Between bind and chmod nobody else can reach it: its folder has mode 0700.
        let listener = UnixListener::bind(path).map_err(|error| cannot("bind", path, error))?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|error| cannot("protect", path, error))?;
        Ok(listener)
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // The lock goes with the descriptor; a left-over socket is replaced by the next server.
        let _ = std::fs::remove_file(&self.socket);
        let _ = self.file.set_len(0);
    }
}

/// Makes the data directory and its `run` folder, both for their owner alone.
pub(crate) fn make_folders(config: &Config) -> Result<()> {
    private(&config.storage.data_dir)?;
    private(&config.run_dir())
}

/// Deletes the folder of the lock, once its data directory is empty but for it.
pub(crate) fn delete_folder(config: &Config) -> Result<()> {
    let folder = config.run_dir();
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(cannot("delete", &folder, error))
        }
        _ => Ok(()),
    }
}

fn private(folder: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| cannot("make", folder, error))?;
    let metadata = folder.metadata().map_err(|error| cannot("look at", folder, error))?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own {
        return Err(Error::new(
            Kind::Denied,
            format!("the folder {} belongs to user {}", folder.display(), metadata.uid()),
        )
        .with_hint("run mayfly as that user, or choose another --data-dir"));
    }
    let others = metadata.mode() & 0o077;
    if others == 0 {
        return Ok(());
    }
    let empty = folder.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    if !empty {
        return Err(Error::new(
            Kind::Denied,
            format!("the folder {} is open to other users", folder.display()),
        )
        .with_hint(format!("run: chmod 700 {}", folder.display())));
    }
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))
        .map_err(|error| cannot("protect", folder, error))
}

/// Leaves the process id and kind in the lock file, for whoever finds it taken.
fn sign(file: &mut File, background: bool) -> std::io::Result<()> {
    let kind = if background { "background" } else { "serve" };
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{} {kind}\n", std::process::id()).as_bytes())
}

/// Process that holds the lock, and whether it is a background server.
fn holder(file: &mut File) -> Option<(Pid, bool)> {
    let mut text = String::new();
    file.rewind().ok()?;
    Read::by_ref(file).take(64).read_to_string(&mut text).ok()?;
    let (pid, kind) = text.strip_suffix('\n')?.split_once(' ')?;
    Some((Pid::from_raw(pid.parse().ok()?)?, kind == "background"))
}

/// Whether a server answers on the socket. That something accepts connections there is not enough: one that is
/// ending, or was killed and is not gone yet, does.
pub(crate) async fn answers(socket: &Path) -> bool {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await.ok()?;
        stream.write_all(GREETING).await.ok()?;
        let mut answer = [0; ANSWER.len()];
        stream.read_exact(&mut answer).await.ok()?;
        (answer == *ANSWER).then_some(())
    };
    matches!(tokio::time::timeout(ANSWER_TIME, ask).await, Ok(Some(())))
}

fn taken(config: &Config, pid: Pid) -> Error {
    Error::conflict(format!(
        "a server (process {}) uses the data directory {}",
        pid.as_raw_nonzero(),
        config.storage.data_dir.display()
    ))
    .with_hint("talk to that server, end it, or choose another --data-dir")
}

fn cannot(verb: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot {verb} {}: {error}", path.display()))
        .with_hint("check that the data directory is on a writable disk and belongs to you")
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn config(folder: &Path) -> Config {
        let overrides = Overrides { data_dir: Some(folder.join("data")), ..Overrides::default() };
        Config::load(&overrides).unwrap()
    }

    #[tokio::test]
    async fn a_second_server_is_refused_and_told_who_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let lock = DataLock::take(&config, false).await.unwrap();
        for background in [true, false] {
            let error = DataLock::take(&config, background).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Conflict);
            assert!(error.message().contains(&std::process::id().to_string()), "{error}");
        }
        drop(lock);
        DataLock::take(&config, false).await.unwrap();
    }

    #[tokio::test]
    async fn the_socket_is_private_and_goes_with_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let lock = DataLock::take(&config, true).await.unwrap();
        drop(lock.bind_socket().unwrap());
        let _listener = lock.bind_socket().unwrap();
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
        assert_eq!(mode(&config.socket()), 0o600);
        assert_eq!(mode(&config.run_dir()), 0o700);
        assert_eq!(mode(&config.storage.data_dir), 0o700);
        drop(lock);
        assert!(!config.socket().exists());
    }

    #[tokio::test]
    async fn a_server_that_accepts_but_says_nothing_does_not_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(!answers(&path).await);
        let listener = UnixListener::bind(&path).unwrap();
        let dying = async { drop(listener.accept().await.unwrap()) };
        assert!(!tokio::join!(answers(&path), dying).0, "it broke off");
        let healthy = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; GREETING.len()];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        };
        assert!(tokio::join!(answers(&path), healthy).0);
    }

    #[test]
    fn a_folder_in_use_that_others_can_open_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("open");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        private(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700, "an empty one is closed");
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        std::fs::write(path.join("x"), "x").unwrap();
        let error = private(&path).unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.hint().is_some_and(|hint| hint.contains("chmod 700")));
    }
}
