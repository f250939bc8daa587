//! The server's own log, on standard error.

use std::io::IsTerminal;

use mayfly_core::{Error, Result};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts the log; once per process, later calls change nothing.
pub(crate) fn start(log: &Log) -> Result<()> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| {
        Error::invalid(format!("log.level `{}` is not a filter: {error}", log.level))
            .with_hint("use error, warn, info, debug, trace, or `info,mayfly_runtime=debug`")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A test may start several servers in one process; the first one's log serves all.
    let _ = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}
