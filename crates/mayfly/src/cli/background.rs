//! The background server that commands share when none is named: started by the first, left to idle out.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mayfly_core::{Error, Kind, Result};

use super::output::Output;
use crate::config::Config;
use crate::{exit_code, lock};

/// Looks for the new server this many times, [`PAUSE`] apart: 20 s.
const TRIES: u32 = 4000;
const PAUSE: Duration = Duration::from_millis(5);
/// A log that is longer begins anew with the next server.
const LOG: u64 = 10 << 20;
/// Bytes at the end of the log that are shown when the server does not start.
const SHOWN: usize = 2000;

/// Makes sure that a server answers on the data directory's socket.
///
/// Two commands at once may both start one: the lock lets only one of them live, and both use it.
pub(super) async fn ensure(config: &Config, file: Option<&Path>, output: &Output) -> Result<()> {
    let socket = config.socket();
    if lock::answers(&socket).await {
        return Ok(());
    }
    lock::make_folders(config)?;
    let _progress = output.waiting("starting the server");
    let mut child = start(config, file)?;
    let mut ended = None;
    for _ in 0..TRIES {
        if lock::answers(&socket).await {
            return Ok(());
        }
        if ended.is_none() {
            ended = child.try_wait().ok().flatten();
        }
        // The other one's server held the lock; it will answer. Any other end is final.
        if ended
            .is_some_and(|status| status.code() != Some(i32::from(exit_code::of(Kind::Conflict))))
        {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let log = log_path(config);
    let text = std::fs::read(&log).unwrap_or_default();
    let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(SHOWN)..]).into_owned();
    let why = tail.trim();
    let why = if why.is_empty() { "it said nothing" } else { why };
    Err(Error::new(Kind::Unavailable, format!("the background server does not start:\n{why}"))
        .with_hint(format!(
            "its log is {}; `mayfly doctor` shows what this host lacks",
            log.display()
        )))
}

fn start(config: &Config, file: Option<&Path>) -> Result<Child> {
    let failed = |error| Error::internal("cannot start the background server", error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(["serve", "--background", "--data-dir"]).arg(&config.storage.data_dir);
    if let Some(file) = file {
        command.arg("--config").arg(file);
    }
    let log = open_log(&log_path(config))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).current_dir("/");
    command.spawn().map_err(failed)
}

fn log_path(config: &Config) -> std::path::PathBuf {
    config.storage.data_dir.join("server.log")
}

fn open_log(path: &Path) -> Result<File> {
    let long = path.metadata().is_ok_and(|metadata| metadata.len() > LOG);
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    if long {
        options.write(true).truncate(true);
    } else {
        options.append(true);
    }
    options.open(path).map_err(|error| {
        Error::new(Kind::Unavailable, format!("cannot write {}: {error}", path.display()))
            .with_hint("check that the data directory is on a writable disk and belongs to you")
            .with_source(error)
    })
}
