//! `mayfly run -- CMD`: a sandbox for one command.

use clap::Args;
use hyper::Method;
use mayfly_core::Error;
use tokio::signal::unix::{SignalKind, signal};

use super::exec::{How, execute, quote, sandbox_path};
use super::sandbox::{Wish, make};
use super::{Ended, Session};
use crate::client::Client;
use crate::exit_code;

/// Make a sandbox, run a command in it, print its output, remove the sandbox
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    how: How,
    /// Leave the sandbox there
    #[arg(long)]
    keep: bool,
    /// Program and arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Run {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        // Before anything is made, so that an interrupt cannot leave it behind.
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
        let client = session.client().await?;
        let waiting = session.output.waiting("making a sandbox");
        let mut body = self.wish.body();
        if !self.keep {
            // Should this process be killed, stopping the idle sandbox deletes it.
            body["autoDeleteInterval"] = 0.into();
        }
        let id = make(&client, &body).await?;
        drop(waiting);
        let outcome = tokio::select! {
            outcome = self.execute(&client, &id, session) => outcome,
            _ = interrupt.recv() => Ok(exit_code::INTERRUPTED),
            _ = terminate.recv() => Ok(exit_code::INTERRUPTED),
        };
        if self.keep {
            session.output.note(&format!("kept sandbox {id}"));
            return outcome;
        }
        let removed = client.call(Method::DELETE, &sandbox_path(&id), None).await;
        // The command's own failure is what the caller asked about.
        outcome.and_then(|code| removed.map(|_| code))
    }

    async fn execute(&self, client: &Client, id: &str, session: &Session<'_>) -> Ended {
        super::sandbox::settle(client, id, "started").await?;
        let waiting = session.output.waiting("running");
        let outcome = execute(client, id, &quote(&self.command), &self.how).await;
        drop(waiting);
        outcome?.show(session.output)
    }

    /// The command line given.
    #[cfg(test)]
    pub(super) fn command(&self) -> &[String] {
        &self.command
    }
}

fn no_signals(error: std::io::Error) -> Error {
    Error::internal("cannot listen for signals", error)
}
