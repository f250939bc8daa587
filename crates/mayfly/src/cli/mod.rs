//! The command line: one file per noun or verb; this one holds the root, its options and the end.

mod audit;
mod background;
mod backup;
mod copy;
mod df;
mod doctor;
mod exec;
mod gc;
mod key;
mod logs;
mod marked;
mod network;
mod org;
mod output;
mod port;
mod run;
mod sandbox;
mod serve;
mod shell;
mod ssh;
mod terminal;
mod uninstall;
mod volume;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use mayfly_core::{Error, Result};

use crate::client::{Client, Place};
use crate::config::{Config, Overrides};
use crate::exit_code;
use output::Output;

/// Isolated computers for agents.
#[derive(Debug, Parser)]
#[command(name = "mayfly", version, propagate_version = true, after_help = exit_code::HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
struct Globals {
    /// Print JSON; errors become one JSON line on standard error
    #[arg(long, global = true)]
    json: bool,
    /// Server to talk to; default: `MAYFLY_URL`, `DAYTONA_API_URL`, else the one of the data directory,
    /// which is started when it does not run
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// Organization to act in, by name or id; for the operator, on the server's own machine
    #[arg(long, global = true, value_name = "NAME")]
    org: Option<String>,
    /// Settings file, instead of the usual places
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the server's state
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Make a sandbox, run a command in it, print its output, remove the sandbox
    Run(run::Run),
    /// Make and use sandboxes
    #[command(subcommand)]
    Sandbox(sandbox::Sandbox),
    /// Make and delete volumes: files that sandboxes share and that outlive them
    #[command(subcommand)]
    Volume(volume::Volume),
    /// Make and delete API keys
    #[command(subcommand)]
    Key(key::Key),
    /// Make, limit and delete organizations
    #[command(subcommand)]
    Org(org::Org),
    /// Show who did what, and what was refused
    Audit(audit::Audit),
    /// Show which layers of isolation this host offers
    Doctor,
    /// Show what takes room: in the data directory, the pool and memory
    Df,
    /// Take away what nothing names: of this server, and of killed servers whose data directory is gone
    Gc(gc::Gc),
    /// Delete all sandboxes and the data directory
    Uninstall(uninstall::Uninstall),
    /// Write everything of the server into one file, while it runs
    Backup(backup::Backup),
    /// Make a data directory from a backup
    Restore(backup::Restore),
}

/// How a command that did not fail ends; the code is that of a program inside a sandbox, or 0.
type Ended = Result<u8>;

/// Runs the command line to its end.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let output = Output::new(cli.globals.json);
    let runs_a_command = matches!(
        cli.command,
        Command::Run(_)
            | Command::Sandbox(
                sandbox::Sandbox::Exec(_) | sandbox::Sandbox::Shell(_) | sandbox::Sandbox::Ssh(_)
            )
    );
    let code = dispatch(cli, &output).unwrap_or_else(|error| {
        output.error(&error);
        if runs_a_command { exit_code::NOT_THE_COMMAND } else { exit_code::of(error.kind()) }
    });
    ExitCode::from(code)
}

fn dispatch(cli: Cli, output: &Output) -> Ended {
    let session = Session { globals: cli.globals, output };
    match cli.command {
        Command::Serve(serve) => serve.run(&session),
        Command::Run(run) => block_on(run.run(&session)),
        Command::Sandbox(sandbox) => block_on(sandbox.run(&session)),
        Command::Volume(volume) => block_on(volume.run(&session)),
        Command::Key(key) => block_on(key.run(&session)),
        Command::Org(org) => block_on(org.run(&session)),
        Command::Audit(audit) => block_on(audit.run(&session)),
        Command::Doctor => block_on(doctor::run(&session)),
        Command::Df => block_on(df::run(&session)),
        Command::Gc(gc) => block_on(gc.run(&session)),
        Command::Backup(backup) => block_on(backup.run(&session)),
        Command::Restore(restore) => block_on(restore.run(&session)),
        Command::Uninstall(uninstall) => block_on(uninstall.run(&session)),
    }
}

/// Clients do one thing at a time.
fn block_on(work: impl Future<Output = Ended>) -> Ended {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("cannot start the event loop", error))?
        .block_on(work)
}

/// What every command needs: its options, its output, and a way to the server.
#[derive(Debug)]
struct Session<'a> {
    globals: Globals,
    output: &'a Output,
}

impl Session<'_> {
    /// The settings, with the flags of this command line.
    fn config(&self, listen: Option<String>) -> Result<Config> {
        let (file, data_dir) = (self.globals.config.clone(), self.globals.data_dir.clone());
        Config::load(&Overrides { file, listen, data_dir })
    }

    /// A client of the server that the options and the environment name; `None` = they name none.
    fn named(&self) -> Result<Option<Client>> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = self
            .globals
            .url
            .clone()
            .or_else(|| variable("MAYFLY_URL"))
            .or_else(|| variable("DAYTONA_API_URL"));
        let Some(url) = url else { return Ok(None) };
        let key = variable("MAYFLY_API_KEY").or_else(|| variable("DAYTONA_API_KEY"));
        Client::new(Place::of_url(&url, key)?).within(self.globals.org.clone()).map(Some)
    }

    /// The same, or of the data directory's own server, which is started where it does not run.
    async fn client(&self) -> Result<Client> {
        if let Some(client) = self.named()? {
            return Ok(client);
        }
        let config = self.config(None)?;
        background::ensure(&config, self.globals.config.as_deref(), self.output).await?;
        Client::new(Place::Socket(config.socket())).within(self.globals.org.clone())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_dashes_is_the_command_s_own() {
        let cli = Cli::try_parse_from(["mayfly", "run", "--json", "--", "ls", "--json", "-x"]);
        let Command::Run(run) = cli.unwrap().command else { panic!("not run") };
        assert_eq!(run.command(), ["ls", "--json", "-x"]);
    }
}
