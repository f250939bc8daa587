//! Sessions: one shell each, whose variables, functions and folder persist from command to command.
//!
//! Nothing of them is kept here: the runtime's list of processes and their notes are all there is, so a later
//! server finds every session with its commands.

use std::collections::BTreeMap;

use bytes::Bytes;
use mayfly_core::ports::processes::{Follower, Processes};
use mayfly_core::process::{Process, ShellCommand, StartRequest, Wiring};
use mayfly_core::{Code, Error, Kind, Result};

use crate::note::{Note, check_id};
use crate::reach::Reach;

/// Most sessions of one sandbox.
const MOST_SESSIONS: usize = 128;
/// Most commands of one session that have not ended.
const MOST_QUEUED: usize = 256;
/// Word of the path that belongs to the image's own program.
const ENTRYPOINT: &str = "entrypoint";

/// A shell and what it was asked to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShellSession {
    /// As its maker named it.
    pub id: String,
    /// Commands whose output is kept, oldest first.
    pub commands: Vec<SessionCommand>,
    /// Number of the shell.
    shell: u64,
    /// Whether the shell is over.
    ended: bool,
}

/// A command of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCommand {
    /// A UUID.
    pub id: String,
    /// What was asked to run; the end of a very long one is left out.
    pub text: String,
    /// `None` while it waits or runs.
    pub exit_code: Option<i32>,
    /// Its number among the sandbox's processes, for [`Shells::follow`].
    pub number: u64,
}

/// Sessions of one started sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Shells<'a>(pub(crate) &'a Reach);

impl Shells<'_> {
    /// Starts a shell. [`Kind::Conflict`] when the id belongs to a living one, [`Kind::Limit`] when there are 128;
    /// an ended one of that id is forgotten.
    pub async fn create(&self, id: &str) -> Result<()> {
        check_id("sessionId", id)?;
        if id == ENTRYPOINT {
            return Err(Error::invalid("sessionId: `entrypoint` names the image's own program"));
        }
        let _lone = self.0.live.naming.lock().await;
        let all = self.all().await?;
        if let Some(old) = all.iter().find(|session| session.id == id) {
            if !old.ended {
                return Err(Error::conflict(format!("session {id} exists already"))
                    .with_hint("choose another id, or delete that session"));
            }
            self.remove(old).await?;
        }
        if all.iter().filter(|session| !session.ended).count() >= MOST_SESSIONS {
            return Err(Error::new(
                Kind::Limit,
                format!("the sandbox has {MOST_SESSIONS} sessions, which is the most"),
            )
            .with_hint("delete one"));
        }
        let request = StartRequest {
            argv: Vec::new(),
            note: Note::Session { id: id.to_owned() }.text()?,
            cwd: None,
            env: self.0.environment(BTreeMap::new()),
            wiring: Wiring::Shell,
        };
        self.port().start(self.0.id(), request).await.map(drop)
    }

    /// All sessions, oldest first.
    pub async fn all(&self) -> Result<Vec<ShellSession>> {
        Ok(sessions(&self.port().list(self.0.id()).await?))
    }

    /// One session. [`Kind::NotFound`] when there is none of that id.
    pub async fn get(&self, id: &str) -> Result<ShellSession> {
        let missing = || Error::not_found(format!("session {} not found", shown(id)));
        self.all().await?.into_iter().find(|session| session.id == id).ok_or_else(missing)
    }

    /// Ends a session with all its processes and forgets its output.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let session = self.get(id).await?;
        gone_is_fine(self.port().kill(self.0.id(), session.shell).await)?;
        self.remove(&session).await
    }

    async fn remove(&self, session: &ShellSession) -> Result<()> {
        let (port, sandbox) = (self.port(), self.0.id());
        for command in &session.commands {
            gone_is_fine(port.forget(sandbox, command.number).await)?;
        }
        gone_is_fine(port.forget(sandbox, session.shell).await)
    }

    /// Queues a command; it runs when those before it ended, whether or not anybody waits.
    /// [`Code::SessionEnded`] after the shell's end, [`Kind::Limit`] when 256 have not ended.
    pub async fn run(&self, id: &str, command: String) -> Result<SessionCommand> {
        let session = self.get(id).await?;
        if session.ended {
            return Err(ended(id));
        }
        if session.commands.iter().filter(|one| one.exit_code.is_none()).count() >= MOST_QUEUED {
            return Err(Error::new(
                Kind::Limit,
                format!("session {id} has {MOST_QUEUED} commands that have not ended"),
            ));
        }
        let (cmd, text) = (self.0.house.entropy.uuid().to_string(), command.clone());
        let note = Note::Command { id: cmd.clone(), text: text.clone() }.text()?;
        let queued = ShellCommand { command, note };
        // Before it is queued, so that no idle timer comes in between.
        self.0.live.commands.may_run();
        let number = match self.port().queue(self.0.id(), session.shell, queued).await {
            Err(error) if error.kind() == Kind::Gone => return Err(ended(id)),
            other => other?,
        };
        Ok(SessionCommand { id: cmd, text, exit_code: None, number })
    }

    /// One command of a session.
    pub async fn command(&self, id: &str, command: &str) -> Result<SessionCommand> {
        let session = self.get(id).await?;
        session.commands.into_iter().find(|one| one.id == command).ok_or_else(|| {
            let (command, id) = (shown(command), shown(id));
            Error::not_found(format!("session {id} has no command {command}"))
        })
    }

    /// Gives a running command input. [`Code::CommandAlreadyCompleted`] after its end.
    pub async fn write(&self, id: &str, command: &str, input: Bytes) -> Result<()> {
        let command = self.command(id, command).await?;
        let completed = || {
            Error::new(Kind::Gone, format!("command {} has ended already", command.id))
                .with_code(Code::CommandAlreadyCompleted)
        };
        if command.exit_code.is_some() {
            return Err(completed());
        }
        if input.is_empty() {
            return Ok(());
        }
        match self.port().write(self.0.id(), command.number, input).await {
            Err(error) if error.kind() == Kind::Gone => Err(completed()),
            other => other,
        }
    }

    /// Output of a process from its oldest kept byte on.
    pub async fn follow(&self, number: u64) -> Result<Box<dyn Follower>> {
        self.port().follow(self.0.id(), number, 0).await
    }

    fn port(&self) -> &dyn Processes {
        self.0.house.runtime.processes()
    }
}

/// Sorts the sandbox's processes by the session they belong to.
fn sessions(processes: &[Process]) -> Vec<ShellSession> {
    let mut all: Vec<ShellSession> = Vec::new();
    for process in processes {
        match Note::of(process) {
            Some(Note::Session { id }) => all.push(ShellSession {
                id,
                commands: Vec::new(),
                shell: process.number,
                ended: process.exit_code.is_some(),
            }),
            Some(Note::Command { id, text }) => {
                let session = all.iter_mut().find(|one| Some(one.shell) == process.shell);
                if let Some(session) = session {
                    let (exit_code, number) = (process.exit_code, process.number);
                    session.commands.push(SessionCommand { id, text, exit_code, number });
                }
            }
            _ => {}
        }
    }
    all
}

fn ended(id: &str) -> Error {
    Error::new(Kind::Gone, format!("the shell of session {} has ended", shown(id)))
        .with_code(Code::SessionEnded)
        .with_hint("make a new session")
}

/// The beginning of an id that a caller made up.
pub(crate) fn shown(id: &str) -> String {
    id.chars().take(128).collect()
}

/// Forgetting races with the runtime, which forgets the oldest by itself.
pub(crate) fn gone_is_fine(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Gone) => Ok(()),
        other => other,
    }
}
