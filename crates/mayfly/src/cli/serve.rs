//! `mayfly serve`: the server, in the foreground or started by a client.

use clap::Args;
use mayfly_core::{Error, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Ended, Session};
use crate::config::DEFAULTS;
use crate::exit_code;
use crate::wiring::{self, ServeOptions};

/// Run the server
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Address and port to listen on, instead of server.listen
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Answer without a key; loopback addresses only
    #[arg(long)]
    dev: bool,
    /// Print all settings with their defaults and meanings, and end
    #[arg(long)]
    print_config: bool,
    /// Serve only the private socket and leave when idle; clients start it like this
    #[arg(long, hide = true, conflicts_with_all = ["listen", "dev"])]
    background: bool,
}

impl Serve {
    pub(super) fn run(self, session: &Session<'_>) -> Ended {
        if self.print_config {
            session.output.print(DEFAULTS)?;
            return Ok(exit_code::SUCCESS);
        }
        let config = session.config(self.listen)?;
        if self.dev && !config.server.listen.ip().is_loopback() {
            return Err(Error::invalid(format!(
                "serve --dev answers without a key, so it cannot listen on {}",
                config.server.listen
            ))
            .with_hint("listen on 127.0.0.1, or leave --dev out"));
        }
        if self.background {
            // Its terminal and its caller's process group may go away before it does.
            let _ = rustix::process::setsid();
        }
        raise_open_files();
        let options = ServeOptions { dev: self.dev, background: self.background };
        event_loop()?.block_on(wiring::serve(config, options))?;
        Ok(exit_code::SUCCESS)
    }
}

/// Thousands of connections need more descriptors than the usual soft limit; the hard one is the host's word.
fn raise_open_files() {
    let limits = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits });
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays");
    }
}

fn event_loop() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("cannot start the event loop", error))
}
