//! `mayfly sandbox ssh`: the OpenSSH client, with a fresh token and the gateway's key.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use hyper::Method;
use mayfly_core::{Error, Kind, Result};
use serde_json::Value;

use super::exec::{find, sandbox_path};
use super::output::cell;
use super::{Ended, Session};
use crate::client::encode;

/// Minutes that the token is good for; it is taken back when the client ends.
const LIFE: u32 = 24 * 60;
/// The name that the client knows the gateway by.
const NAME: &str = "sandbox";

/// Open a shell in a sandbox, or run a command, with the OpenSSH client
#[derive(Debug, Args)]
pub(super) struct Ssh {
    /// Name or id
    sandbox: String,
    /// Options of the client, and the command after its own `--`; without one, a shell
    #[arg(last = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Ssh {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        let client = session.client().await?;
        let id = find(&client, &self.sandbox).await?;
        let path = format!("{}/ssh-access", sandbox_path(&id));
        let access =
            client.call(Method::POST, &format!("{path}?expiresInMinutes={LIFE}"), None).await?;
        let code = match Folder::make(&access) {
            Ok(folder) => folder.connect(&self.command),
            Err(error) => Err(error),
        };
        let token = encode(&cell(&access["token"]));
        let taken = client.call(Method::DELETE, &format!("{path}?token={token}"), None).await;
        let code = code?;
        taken?;
        Ok(code)
    }
}

/// A private folder with the client's settings, so that the token stands in no list of processes.
struct Folder(PathBuf);

impl Folder {
    fn make(access: &Value) -> Result<Self> {
        let name = format!("mayfly-ssh-{}-{}", std::process::id(), cell(&access["id"]));
        let folder = std::env::temp_dir().join(name);
        let failed = |error| Error::internal(format!("cannot make {}", folder.display()), error);
        std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        let folder = Self(folder);
        let known = folder.0.join("known_hosts");
        folder.write("known_hosts", &format!("{NAME} {}\n", cell(&access["hostKey"])))?;
        folder.write("config", &settings(access, &known))?;
        Ok(folder)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.0.join(name);
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Error::internal(format!("cannot write {}", path.display()), error))
    }

    /// Runs the client to its end; its exit code.
    fn connect(&self, command: &[String]) -> Ended {
        let mut client = Command::new("ssh");
        client.arg("-F").arg(self.0.join("config")).arg(NAME).args(command);
        let ended = client.status().map_err(|error| {
            Error::new(Kind::Unavailable, format!("the OpenSSH client cannot be run: {error}"))
                .with_hint("install it (Debian: openssh-client), or connect with what POST ssh-access answers")
                .with_source(error)
        })?;
        Ok(ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn settings(access: &Value, known_hosts: &Path) -> String {
    let mut text = format!("Host {NAME}\n");
    for (name, value) in [
        ("HostName", cell(&access["host"])),
        ("Port", cell(&access["port"])),
        ("User", cell(&access["token"])),
        ("HostKeyAlias", NAME.to_owned()),
        ("UserKnownHostsFile", format!("\"{}\"", known_hosts.display())),
        ("GlobalKnownHostsFile", "/dev/null".to_owned()),
        ("StrictHostKeyChecking", "yes".to_owned()),
        ("IdentityAgent", "none".to_owned()),
        ("IdentityFile", "none".to_owned()),
        ("ForwardAgent", "no".to_owned()),
        ("LogLevel", "ERROR".to_owned()),
        ("SendEnv", "LANG LC_* COLORTERM".to_owned()),
    ] {
        let _ = writeln!(text, "  {name} {value}");
    }
    text
}
