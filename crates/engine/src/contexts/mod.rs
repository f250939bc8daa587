//! Interpreters: Python contexts whose state persists from call to call, one process each.
//!
//! A driver inside reads calls from its standard input and runs them; what the program prints goes through the
//! process's own streams, and each call is enclosed in marks that no program knows beforehand (`scan.rs`). All
//! of it is hostile: the server waits, reads and keeps within bounds, and kills what does not follow.

mod run;
mod scan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mayfly_core::ports::processes::Processes;
use mayfly_core::process::{Process, StartRequest, Wiring};
use mayfly_core::time::Timestamp;
use mayfly_core::{Error, Kind, Result};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout};

pub use run::{CodeEvent, CodeRun};

use crate::note::Note;
use crate::reach::Reach;
use crate::shells::{gone_is_fine, shown};

/// Most contexts of one sandbox, the default one not counted.
const MOST: usize = 32;
/// Most calls that wait for one context.
const MOST_WAITING: usize = 32;
/// Id of the context for callers who name none.
const DEFAULT: &str = "default";
/// The one language so far.
const PYTHON: &str = "python";
/// Longest start of an interpreter.
const START: Duration = Duration::from_secs(20);
/// Exit code by which the start says that there is no interpreter.
const ABSENT: i32 = 127;
const DRIVER: &str = include_str!("driver.py");
/// `$1` is the driver.
const START_PYTHON: &str = "for p in python3 python; do command -v $p >/dev/null 2>&1 && exec $p -c \"$1\"; done; exit 127";

/// A context that somebody made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// A UUID.
    pub id: String,
    /// Where it started.
    pub cwd: String,
    /// `python`.
    pub language: String,
    /// Whether its interpreter runs; one that ended starts anew, without its state, at the next call.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
    number: u64,
}

/// Code to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeRequest {
    /// The program.
    pub code: String,
    /// Which context; `None` = the default one, which is there when it is needed.
    pub context: Option<String>,
    /// Environment for this call only.
    pub envs: BTreeMap<String, String>,
    /// From the call on; then it is interrupted, and killed when that does not help.
    pub timeout: Duration,
}

/// Where a context's output was read to; held by the one call that runs.
#[derive(Debug, Default)]
pub(crate) struct Place {
    number: u64,
    offset: u64,
}

/// The calls of one context, one at a time.
pub(crate) type Turn = Arc<tokio::sync::Mutex<Place>>;

/// A call whose turn has come.
#[derive(Debug)]
pub struct CodeTurn {
    reach: Reach,
    place: OwnedMutexGuard<Place>,
    request: CodeRequest,
    id: String,
    deadline: Instant,
}

impl CodeTurn {
    /// Runs the code, in an interpreter that is started where none runs.
    pub async fn run(mut self) -> Result<CodeRun> {
        let number = self.reach.contexts().running(&self.id).await?;
        if self.place.number != number {
            *self.place = Place { number, offset: 0 };
        }
        run::begin(&self.reach, self.place, self.request, self.deadline).await
    }
}

/// Contexts of one started sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Contexts<'a>(pub(crate) &'a Reach);

impl Contexts<'_> {
    /// Makes a context and starts its interpreter. [`Kind::Invalid`] names another language, a missing folder or
    /// a missing interpreter, [`Kind::Limit`] when there are 32.
    pub async fn create(&self, cwd: Option<String>, language: Option<&str>) -> Result<Context> {
        if let Some(other) = language.filter(|language| *language != PYTHON) {
            let other = shown(other);
            return Err(Error::invalid(format!(
                "language: `{other}` is not supported for contexts: expected python"
            )));
        }
        let _lone = self.0.live.naming.lock().await;
        if self.all().await?.len() >= MOST {
            let message = format!("the sandbox has {MOST} interpreter contexts, which is the most");
            return Err(Error::new(Kind::Limit, message).with_hint("delete one"));
        }
        let id = self.0.house.entropy.uuid().to_string();
        self.start(id, cwd, self.0.house.now().wall).await
    }

    /// Those that somebody made, oldest first.
    pub async fn all(&self) -> Result<Vec<Context>> {
        let mut all = self.listed().await?;
        all.retain(|context| context.id != DEFAULT);
        Ok(all)
    }

    /// Ends a context. [`Kind::NotFound`] when there is none of that id.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let found = self.find(id).await?.filter(|_| id != DEFAULT).ok_or_else(|| missing(id))?;
        self.remove(found.number).await?;
        self.0.live.turns.forget(id);
        Ok(())
    }

    /// Waits until the calls before this one in its context are through. Cancel-safe. [`Kind::NotFound`] for an
    /// unknown context, [`Kind::Limit`] when 32 calls wait, [`Kind::Timeout`] when its turn did not come in its
    /// time.
    pub async fn turn(&self, request: CodeRequest) -> Result<CodeTurn> {
        let id = request.context.clone().unwrap_or_else(|| DEFAULT.to_owned());
        if id != DEFAULT && self.find(&id).await?.is_none() {
            return Err(missing(&id));
        }
        let deadline = within(request.timeout);
        let turn = self.0.live.turns.of(&id);
        // One handle is the map's, one is this call's.
        if Arc::strong_count(&turn) > MOST_WAITING + 2 {
            return Err(Error::new(
                Kind::Limit,
                format!("{MOST_WAITING} calls wait for this interpreter context already"),
            ));
        }
        let late = |_| Error::new(Kind::Timeout, "the calls before it took too long");
        let place = tokio::time::timeout_at(deadline, turn.lock_owned()).await.map_err(late)?;
        Ok(CodeTurn { reach: self.0.clone(), place, request, id, deadline })
    }

    /// The number of the context's interpreter, started where it does not run.
    async fn running(&self, id: &str) -> Result<u64> {
        let _lone = self.0.live.naming.lock().await;
        let found = self.find(id).await?;
        match found {
            Some(context) if context.active => Ok(context.number),
            Some(context) => {
                let (cwd, created) = (context.cwd, context.created_at);
                let started = self.start(id.to_owned(), Some(cwd), created).await?;
                gone_is_fine(self.port().forget(self.0.id(), context.number).await)?;
                Ok(started.number)
            }
            None if id == DEFAULT => {
                let now = self.0.house.now().wall;
                Ok(self.start(id.to_owned(), None, now).await?.number)
            }
            None => Err(missing(id)),
        }
    }

    /// Starts an interpreter and waits until it takes calls.
    async fn start(&self, id: String, cwd: Option<String>, created: Timestamp) -> Result<Context> {
        let cwd = match cwd {
            Some(cwd) => cwd,
            None => self.0.places().await?.workdir,
        };
        let language = PYTHON.to_owned();
        let note = Note::Context {
            id: id.clone(),
            cwd: cwd.clone(),
            language: language.clone(),
            created: created.0,
        };
        let words = ["/bin/sh", "-c", START_PYTHON, "interpreter", DRIVER];
        let request = StartRequest {
            argv: words.map(str::to_owned).to_vec(),
            note: note.text()?,
            cwd: Some(cwd.clone()),
            env: self.0.environment(BTreeMap::new()),
            wiring: Wiring::Pipes,
        };
        let number = self.port().start(self.0.id(), request).await?;
        let ready = timeout(START, self.ready(number)).await;
        if let Err(error) = ready.unwrap_or_else(|_| {
            Err(Error::new(Kind::Timeout, "the interpreter did not start within 20 seconds"))
        }) {
            // The reason why it did not start is what the caller needs.
            let _ = self.remove(number).await;
            return Err(error);
        }
        Ok(Context { id, cwd, language, active: true, created_at: created, number })
    }

    /// Waits for the driver's first word.
    async fn ready(&self, number: u64) -> Result<()> {
        let mut follower = self.port().follow(self.0.id(), number, 0).await?;
        loop {
            let output = follower.next(4096).await?;
            match output.exit_code {
                None if output.pieces.is_empty() => {}
                None => return Ok(()),
                Some(ABSENT) => {
                    return Err(Error::invalid(
                        "language: python needs python3 in the sandbox's image, which has none",
                    ));
                }
                Some(code) => {
                    return Err(Error::new(
                        Kind::Unavailable,
                        format!("the sandbox's python3 ended at its start with exit code {code}"),
                    ));
                }
            }
        }
    }

    async fn find(&self, id: &str) -> Result<Option<Context>> {
        Ok(self.listed().await?.into_iter().find(|context| context.id == id))
    }

    async fn listed(&self) -> Result<Vec<Context>> {
        Ok(contexts(&self.port().list(self.0.id()).await?))
    }

    async fn remove(&self, number: u64) -> Result<()> {
        gone_is_fine(self.port().kill(self.0.id(), number).await)?;
        gone_is_fine(self.port().forget(self.0.id(), number).await)
    }

    fn port(&self) -> &dyn Processes {
        self.0.house.runtime.processes()
    }
}

/// The contexts among the sandbox's processes; of one that was started anew only the newest counts.
fn contexts(processes: &[Process]) -> Vec<Context> {
    let mut all: Vec<Context> = Vec::new();
    for process in processes {
        let Some(Note::Context { id, cwd, language, created }) = Note::of(process) else {
            continue;
        };
        all.retain(|one| one.id != id);
        let (active, number) = (process.exit_code.is_none(), process.number);
        all.push(Context { id, cwd, language, active, created_at: Timestamp(created), number });
    }
    all
}

/// The moment so long from now, on the clock that waits go by.
fn within(time: Duration) -> Instant {
    tokio::time::sleep(time).deadline()
}

fn missing(id: &str) -> Error {
    Error::not_found(format!("interpreter context {} not found", shown(id)))
}
