//! `mayfly uninstall`: everything of a data directory goes.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;
use mayfly_core::{Error, Result};
use serde_json::json;

use super::{Ended, Session};
use crate::exit_code;
use crate::wiring;

/// Delete all sandboxes and the data directory
#[derive(Debug, Args)]
pub(super) struct Uninstall {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Uninstall {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        let config = session.config(None)?;
        let data = config.storage.data_dir.display().to_string();
        if !self.yes {
            confirm(&data)?;
        }
        let waiting = session.output.waiting(format!("removing {data}"));
        let removed = wiring::uninstall(&config).await?;
        drop(waiting);
        let value = json!({
            "dataDir": data,
            "sandboxes": removed.sandboxes,
            "left": removed.left,
        });
        session.output.show(&value, || {
            let mut text = format!("{data} removed; sandboxes: {}\n", removed.sandboxes);
            if !removed.left.is_empty() {
                let left = removed.left.join(", ");
                text = format!("{text}left there, since mayfly did not make it: {left}\n");
            }
            text
        })?;
        Ok(exit_code::SUCCESS)
    }
}

fn confirm(data: &str) -> Result<()> {
    let refused = |why: &str| {
        Err(Error::invalid(format!("nothing was removed: {why}"))
            .with_hint("repeat with --yes to remove it without a question"))
    };
    let (input, mut shown) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() {
        return refused("there is no terminal to ask on");
    }
    // A terminal that is gone answers nothing, and nothing is no.
    let _ = write!(shown, "This deletes {data} and every sandbox in it, for good. Type yes: ");
    let _ = shown.flush();
    let mut answer = String::new();
    let _ = input.lock().read_line(&mut answer);
    if answer.trim() == "yes" { Ok(()) } else { refused("the answer was not yes") }
}
