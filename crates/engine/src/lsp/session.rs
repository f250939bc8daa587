//! One language server's process as this server talks to it: requests, their answers, and the files it was shown.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mayfly_core::id::SandboxId;
use mayfly_core::ports::processes::Follower;
use mayfly_core::process::{Output, Stream};
use mayfly_core::{Error, Kind, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::frame::{Frames, enclosed};
use super::{messages, paths};
use crate::house::House;
use crate::reach::Reach;

/// Bytes of output read at once.
const PIECE: usize = 64 << 10;
/// Most files that are open at once.
const MOST_OPEN: usize = 256;
/// Most messages that come between a question and its answer.
const MOST_BETWEEN: usize = 100_000;
/// Most bytes that come between a question and its answer, which is part of them.
const MOST_BYTES: u64 = 64 << 20;
/// Most requests of the server that are answered in the time of one question.
const MOST_REPLIES: usize = 1_000;
/// Most characters of the server's own words in an error.
const MOST_WORDS: usize = 500;
/// Exit code by which the start says that there is no program.
const ABSENT: i32 = 127;
/// The protocol's code for a method that is not known.
const METHOD_NOT_FOUND: i32 = -32_601;

/// The answer to a request.
pub(super) type Answer = Value;

/// A conversation that is under way.
#[derive(Debug)]
pub(super) struct Session {
    house: Arc<House>,
    sandbox: SandboxId,
    number: u64,
    folder: String,
    patience: Duration,
    follower: Box<dyn Follower>,
    /// Where the output was read to.
    offset: u64,
    frames: Frames,
    last_id: u64,
    documents: HashMap<String, Document>,
    /// Nothing more can be said or understood.
    broken: bool,
    ended: Option<i32>,
}

#[derive(Debug)]
struct Document {
    version: i32,
    fingerprint: [u8; 32],
}

/// Any message of the protocol.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    id: Value,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    code: i64,
    #[serde(default)]
    message: String,
}

/// Why a conversation did not begin.
#[derive(Debug)]
pub(super) struct Failure {
    absent: bool,
    error: Error,
}

impl Failure {
    /// As the caller is told.
    pub(super) fn explain(self, language: &str, programs: &[&str]) -> Error {
        if !self.absent {
            return self.error;
        }
        let programs = programs.join(", ");
        let message = format!(
            "a language server for {language} is not supported by this sandbox: its image has none of: {programs}"
        );
        Error::new(Kind::Unsupported, message).with_hint("use a snapshot whose image has one")
    }
}

impl Session {
    /// Shakes hands with a process that was just started.
    pub(super) async fn begin(
        reach: &Reach,
        number: u64,
        folder: &str,
        patience: Duration,
    ) -> std::result::Result<Self, Failure> {
        let plain = |error| Failure { absent: false, error };
        let port = reach.house.runtime.processes();
        let mut session = Self {
            house: Arc::clone(&reach.house),
            sandbox: reach.id(),
            number,
            folder: folder.to_owned(),
            patience,
            follower: port.follow(reach.id(), number, 0).await.map_err(plain)?,
            offset: 0,
            frames: Frames::default(),
            last_id: 0,
            documents: HashMap::new(),
            broken: false,
            ended: None,
        };
        let hello = session.ask("initialize", messages::initialize(folder)).await;
        hello.map_err(|error| Failure { absent: session.ended == Some(ABSENT), error })?;
        session.tell("initialized", json!({})).await.map_err(plain)?;
        // Some answer nothing before they were told settings, be it none.
        let settings = json!({ "settings": {} });
        session.tell("workspace/didChangeConfiguration", settings).await.map_err(plain)?;
        Ok(session)
    }

    /// Whether it can be talked to: takes in what it said meanwhile.
    pub(super) async fn is_alive(&mut self) -> Result<bool> {
        let patience = self.patience;
        if let Ok(alive) = timeout(patience, self.catch_up()).await {
            return alive;
        }
        // It never stops talking, so what it says is worth nothing.
        self.broken = true;
        Ok(false)
    }

    async fn catch_up(&mut self) -> Result<bool> {
        let mut replies = 0;
        for _ in 0..MOST_BETWEEN {
            if self.broken {
                break;
            }
            let output = match self.follower.now(PIECE).await {
                Err(error) if error.kind() == Kind::NotFound => return Ok(false),
                output => output?,
            };
            let is_all = output.pieces.is_empty();
            self.take(&output);
            while let Some(message) = self.message()? {
                self.heed(message, &mut replies).await?;
            }
            if is_all {
                return Ok(!self.broken);
            }
        }
        self.broken = true;
        Ok(false)
    }

    /// Exit code, once it is known to have ended.
    pub(super) fn ended(&self) -> Option<i32> {
        self.ended
    }

    /// Whether it broke the protocol, ended, or was left in the middle of a message.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Shows it a file, or what changed in it.
    pub(super) async fn show(&mut self, path: &str, language: &str, text: &str) -> Result<()> {
        let fingerprint = paths::fingerprint(text);
        let uri = paths::uri(path);
        if let Some(document) = self.documents.get_mut(path) {
            if document.fingerprint == fingerprint {
                return Ok(());
            }
            document.version = document.version.wrapping_add(1);
            document.fingerprint = fingerprint;
            let params = messages::changed(&uri, document.version, text);
            return self.tell("textDocument/didChange", params).await;
        }
        if self.documents.len() >= MOST_OPEN {
            let message = format!("{MOST_OPEN} files are open, which is the most");
            return Err(Error::new(Kind::Limit, message).with_hint("close some"));
        }
        self.documents.insert(path.to_owned(), Document { version: 1, fingerprint });
        self.tell("textDocument/didOpen", messages::opened(&uri, language, 1, text)).await
    }

    /// Closes a file that is open.
    pub(super) async fn close(&mut self, path: &str) -> Result<()> {
        if self.documents.remove(path).is_none() {
            return Ok(());
        }
        self.tell("textDocument/didClose", messages::document(&paths::uri(path))).await
    }

    /// Asks and waits for the answer, within the patience.
    pub(super) async fn ask(&mut self, method: &str, params: Value) -> Result<Answer> {
        let patience = self.patience;
        match timeout(patience, self.converse(method, params)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.late()),
        }
    }

    async fn converse(&mut self, method: &str, params: Value) -> Result<Answer> {
        self.last_id += 1;
        let id = self.last_id;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.send(&request).await?;
        let mut replies = 0;
        let from = self.offset;
        for _ in 0..MOST_BETWEEN {
            if self.offset - from > MOST_BYTES {
                break;
            }
            let message = self.receive().await?;
            if message.method.is_none() && message.id == json!(id) {
                return answer(message, method);
            }
            self.heed(message, &mut replies).await?;
        }
        Err(self.nonsense("it talks without answering"))
    }

    /// Asks about a file, which is shown for this question only unless it is open.
    pub(super) async fn ask_about(
        &mut self,
        (path, language, text): (&str, &str, &str),
        method: &str,
        params: Value,
    ) -> Result<Answer> {
        let was_open = self.documents.contains_key(path);
        self.show(path, language, text).await?;
        let answer = self.ask(method, params).await;
        if !was_open && !self.broken {
            self.close(path).await?;
        }
        answer
    }

    async fn tell(&mut self, method: &str, params: Value) -> Result<()> {
        let notification = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        let patience = self.patience;
        match timeout(patience, self.send(&notification)).await {
            Ok(sent) => sent,
            Err(_) => Err(self.late()),
        }
    }

    /// Answers what the server asks; whatever else it says is of no interest.
    async fn heed(&mut self, message: Message, replies: &mut usize) -> Result<()> {
        let Some(method) = message.method.filter(|_| !message.id.is_null()) else { return Ok(()) };
        *replies += 1;
        if *replies > MOST_REPLIES {
            return Err(self.nonsense("it asks without end"));
        }
        let reply = match messages::reply(&method, &message.params, &self.folder) {
            Some(result) => json!({ "jsonrpc": "2.0", "id": message.id, "result": result }),
            None => json!({ "jsonrpc": "2.0", "id": message.id,
                "error": { "code": METHOD_NOT_FOUND, "message": "not supported" } }),
        };
        self.send(&reply).await
    }

    async fn send(&mut self, message: &Value) -> Result<()> {
        if self.broken {
            return Err(self.over());
        }
        // A call that is given up in the middle of a message leaves nothing that could be gone on with.
        self.broken = true;
        let bytes = enclosed(message.to_string().as_bytes());
        let house = Arc::clone(&self.house);
        match house.runtime.processes().write(self.sandbox, self.number, bytes).await {
            // Its last words say more than that it is gone.
            Err(error) if error.kind() != Kind::Gone => Err(error),
            _ => {
                self.broken = false;
                Ok(())
            }
        }
    }

    async fn receive(&mut self) -> Result<Message> {
        loop {
            if let Some(message) = self.message()? {
                return Ok(message);
            }
            if self.broken {
                return Err(self.over());
            }
            let output = self.follower.next(PIECE).await?;
            self.take(&output);
        }
    }

    fn message(&mut self) -> Result<Option<Message>> {
        let bytes: Option<Bytes> = match self.frames.next() {
            Ok(bytes) => bytes,
            Err(super::frame::Nonsense(what)) => return Err(self.nonsense(what)),
        };
        let Some(bytes) = bytes else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(message) => Ok(Some(message)),
            Err(_) => Err(self.nonsense("a message that is not of the protocol")),
        }
    }

    fn take(&mut self, output: &Output) {
        // Its output was longer than what is kept, so some message is not whole.
        self.broken |= output.from > self.offset;
        self.offset = output.next;
        for piece in output.pieces.iter().filter(|piece| piece.stream == Stream::Output) {
            self.frames.feed(&piece.bytes);
        }
        if output.exit_code.is_some() {
            self.ended = output.exit_code;
            self.broken = true;
        }
    }

    fn nonsense(&mut self, what: &str) -> Error {
        self.broken = true;
        let message = format!("the language server broke its protocol and was ended: {what}");
        Error::new(Kind::Unavailable, message).with_hint("start it again")
    }

    fn over(&self) -> Error {
        let message = match self.ended {
            Some(code) => format!("the language server ended with exit code {code}"),
            None => "the language server said more than is kept and was ended".to_owned(),
        };
        Error::new(Kind::Unavailable, message).with_hint("start it again")
    }

    fn late(&mut self) -> Error {
        // A late answer would do no harm, but a server that is stuck would do all.
        self.broken = true;
        let seconds = self.patience.as_secs_f64();
        let message =
            format!("the language server gave no answer within {seconds} s and was ended");
        Error::new(Kind::Timeout, message).with_hint("start it again")
    }
}

/// The result, or the server's refusal.
fn answer(message: Message, method: &str) -> Result<Answer> {
    let Some(refusal) = message.error else { return Ok(message.result) };
    if refusal.code == i64::from(METHOD_NOT_FOUND) {
        let message = format!("{method} is not supported by this language server");
        return Err(Error::new(Kind::Unsupported, message));
    }
    let words: String = refusal.message.chars().take(MOST_WORDS).collect();
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Err(Error::invalid(format!("the language server refused {method}: {words}")))
}
