//! Language servers inside a sandbox: one process per language and project, spoken to in the language server
//! protocol over its standard streams.
//!
//! The process stays (it outlives this server), but what was said to it lives here: a server that finds one of
//! an earlier server's starts it anew, and nothing is lost, as documents are read from the sandbox's files
//! before every question. Calls to one language server follow one another; while none is under way nobody
//! reads, the runtime keeps what the process says and never stalls it.
//!
//! The process is hostile: lengths, messages and waits are bounded, and one that breaks the protocol is ended.

mod answers;
mod frame;
mod messages;
mod paths;
mod session;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mayfly_core::ports::processes::Processes;
use mayfly_core::process::{Process, StartRequest, Wiring};
use mayfly_core::{Code, Error, Kind, Result};

pub use answers::{Completion, Completions, Documentation, Position, Range, Symbol};

use crate::note::Note;
use crate::reach::{Busy, Reach};
use crate::shells::gone_is_fine;
use paths::Project;
use session::{Answer, Session};

/// Most language servers of one sandbox.
const MOST: usize = 8;
/// Most calls that wait for one language server.
const MOST_WAITING: usize = 32;

/// A language that there may be a server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// `python`.
    Python,
    /// `typescript`.
    TypeScript,
    /// `javascript`.
    JavaScript,
}

impl Language {
    /// Reads its word.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "python" => Ok(Self::Python),
            "typescript" => Ok(Self::TypeScript),
            "javascript" => Ok(Self::JavaScript),
            _ => Err(Error::invalid("languageId: expected python, typescript or javascript")),
        }
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::TypeScript => "typescript",
            Self::JavaScript => "javascript",
        }
    }

    /// Programs that serve it, the most able first.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["basedpyright-langserver", "pyright-langserver", "pylsp"],
            Self::TypeScript | Self::JavaScript => &["typescript-language-server"],
        }
    }

    /// What the protocol calls a file of it.
    fn of_file(self, path: &str) -> &'static str {
        let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
        match (self, ending) {
            (Self::Python, _) => "python",
            (_, "tsx") => "typescriptreact",
            (_, "jsx") => "javascriptreact",
            (_, "ts" | "mts" | "cts") => "typescript",
            (_, "js" | "mjs" | "cjs") => "javascript",
            (language, _) => language.word(),
        }
    }
}

/// Starts the first program of the list that is there; pylsp needs no option for its standard streams.
const START: &str = r#"for p in "$@"; do
command -v "$p" >/dev/null 2>&1 || continue
case $p in pylsp) exec "$p";; *) exec "$p" --stdio;; esac
done; exit 127"#;

/// Which language server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    language: Language,
    /// Absolute folder.
    project: String,
}

/// Held by the one call that talks to it.
type Lane = Arc<tokio::sync::Mutex<Option<Session>>>;

/// The language servers of one sandbox that this server talks to.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<HashMap<Key, Lane>>);

impl Lanes {
    fn of(&self, key: &Key) -> Result<Lane> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(key) {
            // One handle is the map's, one is that of the call that runs.
            if Arc::strong_count(lane) > MOST_WAITING + 1 {
                let message = format!("{MOST_WAITING} calls wait for this language server already");
                return Err(Error::new(Kind::Limit, message));
            }
            return Ok(Arc::clone(lane));
        }
        // Those that nobody talks to any more make room; what runs is found again by its note.
        if lanes.len() >= MOST * 2 {
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        Ok(Arc::clone(lanes.entry(key.clone()).or_default()))
    }

    /// No process is left.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The language server of one language and project in a started sandbox.
#[derive(Debug)]
pub struct Lsp<'a> {
    reach: &'a Reach,
    key: Key,
    project: Project,
    /// Longest time of one question.
    patience: Duration,
}

/// A language server's one listener and speaker.
#[derive(Debug)]
struct Turn {
    session: tokio::sync::OwnedMutexGuard<Option<Session>>,
    _busy: Busy,
}

impl Turn {
    fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("a turn is given with a session in its place")
    }
}

impl Reach {
    /// The language server for a project, a folder that may be relative to the work dir. Every answer must come
    /// within `patience`.
    pub async fn lsp(
        &self,
        language: Language,
        project: &str,
        patience: Duration,
    ) -> Result<Lsp<'_>> {
        let project = Project::new(self, project).await?;
        let key = Key { language, project: project.folder.clone() };
        Ok(Lsp { reach: self, key, project, patience })
    }
}

impl Lsp<'_> {
    /// Starts it; one that runs stays. [`Kind::Unsupported`] names what the image would have to have,
    /// [`Kind::Limit`] when the sandbox has 8.
    pub async fn start(&self) -> Result<()> {
        let lane = self.reach.live.languages.of(&self.key)?;
        let mut session = lane.lock().await;
        let _busy = self.reach.busy();
        if let Some(running) = session.as_mut()
            && running.is_alive().await?
        {
            return Ok(());
        }
        *session = None;
        *session = Some(self.begin().await?);
        Ok(())
    }

    /// Ends it. [`Code::LspServerNotInitialized`] when none runs.
    pub async fn stop(&self) -> Result<()> {
        let lane = self.reach.live.languages.of(&self.key)?;
        let mut session = lane.lock().await;
        *session = None;
        if self.sweep().await? { Ok(()) } else { Err(self.not_started("")) }
    }

    /// Shows it a file, with its content as it is now, until that is closed again.
    pub async fn open(&self, uri: &str) -> Result<()> {
        let (path, text) = self.document(uri).await?;
        let mut turn = self.turn().await?;
        let outcome = turn.session().show(&path, self.key.language.of_file(&path), &text).await;
        self.settle(turn, outcome).await
    }

    /// Closes a file; one that is not open stays so.
    pub async fn close(&self, uri: &str) -> Result<()> {
        let path = self.project.resolve(self.reach, uri).await?;
        let mut turn = self.turn().await?;
        let outcome = turn.session().close(&path).await;
        self.settle(turn, outcome).await
    }

    /// What could stand at a position of a file.
    pub async fn completions(
        &self,
        uri: &str,
        position: Position,
        trigger: Option<(u32, Option<String>)>,
    ) -> Result<Completions> {
        let params = |target: &str| messages::at(target, position, trigger);
        answers::completions(self.about(uri, "textDocument/completion", params).await?)
    }

    /// What a file defines.
    pub async fn document_symbols(&self, uri: &str) -> Result<Vec<Symbol>> {
        let answer = self.about(uri, "textDocument/documentSymbol", messages::document).await?;
        // The one file is named as the caller named it.
        answers::symbols(answer, |_| uri.to_owned())
    }

    /// What the project defines under names like the query.
    pub async fn workspace_symbols(&self, query: &str) -> Result<Vec<Symbol>> {
        let mut turn = self.turn().await?;
        let outcome = turn.session().ask("workspace/symbol", messages::query(query)).await;
        let answer = self.settle(turn, outcome).await?;
        answers::symbols(answer, |uri| self.project.shown(uri))
    }

    /// Asks about a file, with its content as it is now.
    async fn about(
        &self,
        uri: &str,
        method: &str,
        params: impl FnOnce(&str) -> Answer + Send,
    ) -> Result<Answer> {
        let (path, text) = self.document(uri).await?;
        let mut turn = self.turn().await?;
        let language = self.key.language.of_file(&path);
        let params = params(&paths::uri(&path));
        let outcome = turn.session().ask_about((&path, language, &text), method, params).await;
        self.settle(turn, outcome).await
    }

    async fn document(&self, uri: &str) -> Result<(String, String)> {
        let path = self.project.resolve(self.reach, uri).await?;
        let text = paths::read(self.reach, &path).await?;
        Ok((path, text))
    }

    /// Waits for the turn to talk to it.
    async fn turn(&self) -> Result<Turn> {
        let lane = self.reach.live.languages.of(&self.key)?;
        let mut session = lane.lock_owned().await;
        let busy = self.reach.busy();
        let is_known = match session.as_mut() {
            Some(running) => running.is_alive().await?,
            None => false,
        };
        if !is_known {
            *session = None;
            match self.find().await? {
                // An earlier server's, or one that was left in the middle: what it was told is not known.
                Some(left) if left.exit_code.is_none() => *session = Some(self.begin().await?),
                Some(ended) => {
                    let code = ended.exit_code.unwrap_or_default();
                    return Err(self.not_started(&format!("; it ended with exit code {code}")));
                }
                None => return Err(self.not_started("")),
            }
        }
        Ok(Turn { session, _busy: busy })
    }

    /// The end of a turn. One that broke the protocol is ended.
    async fn settle<T>(&self, mut turn: Turn, outcome: Result<T>) -> Result<T> {
        if let Some(code) = turn.session().ended() {
            *turn.session = None;
            return Err(self.not_started(&format!("; it ended with exit code {code}")));
        }
        if turn.session().is_broken() {
            *turn.session = None;
            self.sweep().await?;
        }
        outcome
    }

    fn not_started(&self, more: &str) -> Error {
        let Key { language, project } = &self.key;
        let message = format!("no language server for {} runs in {project}{more}", language.word());
        Error::invalid(message).with_code(Code::LspServerNotInitialized).with_hint("start it first")
    }

    /// Starts the process anew and shakes hands.
    async fn begin(&self) -> Result<Session> {
        let _lone = self.reach.live.naming.lock().await;
        self.sweep().await?;
        let processes = self.port().list(self.reach.id()).await?;
        let is_ours = |process: &&Process| {
            process.exit_code.is_none() && matches!(Note::of(process), Some(Note::Language { .. }))
        };
        if processes.iter().filter(is_ours).count() >= MOST {
            let message = format!("the sandbox has {MOST} language servers, which is the most");
            return Err(Error::new(Kind::Limit, message).with_hint("stop one"));
        }
        let words = ["/bin/sh", "-c", START, "language-server"];
        let programs = self.key.language.programs();
        let request = StartRequest {
            argv: words.iter().chain(programs).map(|&word| word.to_owned()).collect(),
            note: self.note().text()?,
            cwd: Some(self.project.folder.clone()),
            env: self.reach.environment(BTreeMap::new()),
            wiring: Wiring::Pipes,
        };
        let number = self.port().start(self.reach.id(), request).await?;
        let session = Session::begin(self.reach, number, &self.project.folder, self.patience).await;
        if session.is_err() {
            // The reason why it did not start is what the caller needs.
            let _ = self.remove(number).await;
        }
        session.map_err(|failure| failure.explain(self.key.language.word(), programs))
    }

    fn note(&self) -> Note {
        let project = self.key.project.clone();
        Note::Language { language: self.key.language.word().to_owned(), project }
    }

    /// Its process, the newest where there are several.
    async fn find(&self) -> Result<Option<Process>> {
        let note = self.note();
        let processes = self.port().list(self.reach.id()).await?;
        Ok(processes.into_iter().rev().find(|process| Note::of(process).as_ref() == Some(&note)))
    }

    /// Ends and forgets all processes of it; whether one lived.
    async fn sweep(&self) -> Result<bool> {
        let mut lived = false;
        let note = self.note();
        for process in self.port().list(self.reach.id()).await? {
            if Note::of(&process).as_ref() == Some(&note) {
                lived |= process.exit_code.is_none();
                self.remove(process.number).await?;
            }
        }
        Ok(lived)
    }

    async fn remove(&self, number: u64) -> Result<()> {
        gone_is_fine(self.port().kill(self.reach.id(), number).await)?;
        gone_is_fine(self.port().forget(self.reach.id(), number).await)
    }

    fn port(&self) -> &dyn Processes {
        self.reach.house.runtime.processes()
    }
}
