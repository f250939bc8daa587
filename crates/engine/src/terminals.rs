//! Terminals: a shell each, which goes on while clients come and leave.
//!
//! A lazy terminal is held by a process that only waits, until somebody connects: so it is known to a later
//! server, and ends with the sandbox, like all others.

use std::collections::BTreeMap;

use bytes::Bytes;
use mayfly_core::ports::processes::{Follower, Processes};
use mayfly_core::process::{Process, StartRequest, Window, Wiring};
use mayfly_core::time::Timestamp;
use mayfly_core::{Code, Error, Kind, Result};

use crate::note::{Note, TerminalNote, check_id};
use crate::reach::Reach;
use crate::shells::{gone_is_fine, shown};

/// Most terminals of one sandbox.
const MOST: usize = 128;
/// Most columns and rows.
const WIDEST: u16 = 10_000;
/// What holds the place of a terminal until somebody connects.
const WAIT: [&str; 3] = ["/bin/sh", "-c", "read -r _"];

/// A terminal to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTerminal {
    /// Unique among the sandbox's living terminals.
    pub id: String,
    /// `None` = the work dir.
    pub cwd: Option<String>,
    /// Added to the sandbox's environment.
    pub envs: BTreeMap<String, String>,
    /// Size.
    pub window: Window,
    /// Start when somebody connects.
    pub lazy: bool,
}

/// A terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// As its maker named it.
    pub id: String,
    /// Whether its shell runs.
    pub active: bool,
    /// Where its shell started.
    pub cwd: String,
    /// What its maker added to the environment.
    pub envs: BTreeMap<String, String>,
    /// Size now.
    pub window: Window,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether it was to start when somebody connects.
    pub lazy: bool,
    /// Exit code of its shell.
    pub exit_code: Option<i32>,
    number: u64,
    waiting: bool,
}

/// Terminals of one started sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Terminals<'a>(pub(crate) &'a Reach);

impl Terminals<'_> {
    /// Makes a terminal. [`Kind::Conflict`] when the id belongs to a living one, [`Kind::Limit`] at 128;
    /// an ended one of that id is forgotten.
    pub async fn create(&self, wanted: NewTerminal) -> Result<Terminal> {
        check_id("id", &wanted.id)?;
        check(wanted.window)?;
        let _lone = self.0.live.naming.lock().await;
        let all = self.all().await?;
        if let Some(old) = all.iter().find(|one| one.id == wanted.id) {
            if old.exit_code.is_none() {
                return Err(Error::conflict(format!("terminal {} exists already", wanted.id))
                    .with_hint("choose another id, connect to that one, or delete it"));
            }
            gone_is_fine(self.port().forget(self.0.id(), old.number).await)?;
        }
        if all.iter().filter(|one| one.exit_code.is_none()).count() >= MOST {
            let message = format!("the sandbox has {MOST} terminals, which is the most");
            return Err(Error::new(Kind::Limit, message).with_hint("delete one"));
        }
        let cwd = match wanted.cwd {
            Some(cwd) => cwd,
            None => self.0.places().await?.workdir,
        };
        let note = TerminalNote {
            id: wanted.id,
            cwd,
            envs: wanted.envs,
            columns: wanted.window.columns,
            rows: wanted.window.rows,
            created: self.0.house.now().wall.0,
            lazy: wanted.lazy,
            waiting: wanted.lazy,
        };
        self.start(note).await
    }

    /// All terminals, oldest first.
    pub async fn all(&self) -> Result<Vec<Terminal>> {
        Ok(terminals(&self.port().list(self.0.id()).await?))
    }

    /// One terminal. [`Kind::NotFound`] when there is none of that id.
    pub async fn get(&self, id: &str) -> Result<Terminal> {
        let missing = || Error::not_found(format!("terminal {} not found", shown(id)));
        self.all().await?.into_iter().find(|one| one.id == id).ok_or_else(missing)
    }

    /// A terminal to connect to; starts one that waited for it.
    pub async fn attach(&self, id: &str) -> Result<Terminal> {
        let found = self.get(id).await?;
        if !found.waiting {
            return Ok(found);
        }
        let _lone = self.0.live.naming.lock().await;
        let found = self.get(id).await?;
        if !found.waiting {
            return Ok(found);
        }
        let place = found.number;
        let started = self.start(note(found, false)).await?;
        self.remove(place).await?;
        Ok(started)
    }

    /// Changes the size. [`Kind::Gone`] after its end.
    pub async fn resize(&self, id: &str, window: Window) -> Result<Terminal> {
        check(window)?;
        let found = self.get(id).await?;
        let over = || Error::new(Kind::Gone, format!("terminal {} has ended", shown(id)));
        if found.exit_code.is_some() {
            return Err(over().with_code(Code::SessionEnded));
        }
        if found.waiting {
            let _lone = self.0.live.naming.lock().await;
            let found = self.get(id).await?;
            if found.waiting {
                let place = found.number;
                let resized = self.start(note(Terminal { window, ..found }, true)).await?;
                self.remove(place).await?;
                return Ok(resized);
            }
        }
        match self.port().resize(self.0.id(), found.number, window).await {
            Err(error) if error.kind() == Kind::Gone => Err(over().with_code(Code::SessionEnded)),
            other => other.map(|()| Terminal { window, ..found }),
        }
    }

    /// Ends a terminal with all its processes and forgets it.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let found = self.get(id).await?;
        self.remove(found.number).await
    }

    /// Types. [`Kind::Gone`] after its end.
    pub async fn write(&self, terminal: &Terminal, input: Bytes) -> Result<()> {
        if input.is_empty() {
            return Ok(());
        }
        self.port().write(self.0.id(), terminal.number, input).await
    }

    /// What it shows, from the oldest kept byte on.
    pub async fn follow(&self, terminal: &Terminal) -> Result<Box<dyn Follower>> {
        self.port().follow(self.0.id(), terminal.number, 0).await
    }

    async fn start(&self, note: TerminalNote) -> Result<Terminal> {
        let window = Window { columns: note.columns, rows: note.rows };
        let (argv, wiring) = if note.waiting {
            (WAIT.map(str::to_owned).to_vec(), Wiring::Pipes)
        } else {
            // No program: the user's own shell.
            (Vec::new(), Wiring::Terminal(window))
        };
        let request = StartRequest {
            argv,
            note: Note::Terminal(note.clone()).text()?,
            cwd: Some(note.cwd.clone()),
            env: self.0.environment(note.envs.clone()),
            wiring,
        };
        let number = self.port().start(self.0.id(), request).await?;
        Ok(terminal(note, window, None, number))
    }

    async fn remove(&self, number: u64) -> Result<()> {
        gone_is_fine(self.port().kill(self.0.id(), number).await)?;
        gone_is_fine(self.port().forget(self.0.id(), number).await)
    }

    fn port(&self) -> &dyn Processes {
        self.0.house.runtime.processes()
    }
}

fn check(window: Window) -> Result<()> {
    for (field, size) in [("cols", window.columns), ("rows", window.rows)] {
        if !(1..=WIDEST).contains(&size) {
            return Err(Error::invalid(format!("{field}: expected 1 to {WIDEST}")));
        }
    }
    Ok(())
}

/// The terminals among the sandbox's processes. Of one that waits and the same one started, as a crash may leave
/// them, only the started one counts.
fn terminals(processes: &[Process]) -> Vec<Terminal> {
    let mut all: Vec<Terminal> = Vec::new();
    for process in processes {
        let Some(Note::Terminal(note)) = Note::of(process) else { continue };
        if note.waiting && process.exit_code.is_some() {
            continue;
        }
        let window = match process.wiring {
            Some(Wiring::Terminal(window)) => window,
            _ => Window { columns: note.columns, rows: note.rows },
        };
        all.retain(|one| one.id != note.id);
        all.push(terminal(note, window, process.exit_code, process.number));
    }
    all
}

fn terminal(note: TerminalNote, window: Window, exit_code: Option<i32>, number: u64) -> Terminal {
    Terminal {
        active: exit_code.is_none() && !note.waiting,
        created_at: note.created_at(),
        id: note.id,
        cwd: note.cwd,
        envs: note.envs,
        window,
        lazy: note.lazy,
        exit_code,
        number,
        waiting: note.waiting,
    }
}

fn note(terminal: Terminal, waiting: bool) -> TerminalNote {
    TerminalNote {
        id: terminal.id,
        cwd: terminal.cwd,
        envs: terminal.envs,
        columns: terminal.window.columns,
        rows: terminal.window.rows,
        created: terminal.created_at.0,
        lazy: terminal.lazy,
        waiting,
    }
}
