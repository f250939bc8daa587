//! Commands inside a sandbox: what is asked and what comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::time::Timestamp;

/// A program to run inside a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments; the program is looked up in the sandbox's `PATH` when it has no slash.
    pub argv: Vec<String>,
    /// Text shown for this command in logs; what the caller typed.
    pub title: String,
    /// Working folder inside; `None` = the sandbox's work dir. A missing one is [`crate::Kind::Invalid`].
    pub cwd: Option<String>,
    /// Added to the sandbox's environment, byte-exact.
    pub env: BTreeMap<String, String>,
    /// Bytes given on standard input, then end of file.
    pub stdin: Bytes,
    /// All of the command's processes are killed when it is over this.
    pub timeout: Duration,
    /// Most bytes of merged output in the answer; what is over it is replaced by a marked last line.
    pub max_output: usize,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Exit code; 128 + n after signal n.
    pub exit_code: i32,
    /// Standard output and error, merged in the order they were written.
    pub output: Bytes,
    /// Whether output was cut at the limit; the mark is already part of `output`.
    pub truncated: bool,
    /// Number of its log within the sandbox.
    pub process: u64,
}

/// A command whose output was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessLog {
    /// Number within the sandbox, counting up.
    pub process: u64,
    /// What the caller asked to run.
    pub title: String,
    /// When it started.
    pub started_at: Timestamp,
    /// Exit code, `None` while it runs.
    pub exit_code: Option<i32>,
    /// Bytes of output kept so far.
    pub size: u64,
}

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Width, 1 to 10,000.
    pub columns: u16,
    /// Height, 1 to 10,000.
    pub rows: u16,
}

/// What the standard streams of a process that stays are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wiring {
    /// Pipes; standard output and error are kept apart.
    Pipes,
    /// One terminal for all three, of this size.
    Terminal(Window),
    /// Pipes of a shell that runs queued commands one after the other, see
    /// [`crate::ports::processes::Processes::queue`].
    Shell,
}

/// A process that stays until it ends, is killed, or its sandbox stops; the server's life does not matter to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartRequest {
    /// Program and arguments; the program is looked up in the sandbox's `PATH` when it has no slash. Of a
    /// [`Wiring::Shell`], the shell and its options; empty = bash where the sandbox has it, else `/bin/sh`.
    pub argv: Vec<String>,
    /// Comes back with [`Process`], also to a later server: what the caller needs to know it again. 16 KiB at most.
    pub note: String,
    /// Working folder inside; `None` = the sandbox's work dir. A missing one is [`crate::Kind::Invalid`].
    pub cwd: Option<String>,
    /// Added to the sandbox's environment, byte-exact.
    pub env: BTreeMap<String, String>,
    /// Its standard streams.
    pub wiring: Wiring,
}

/// A command for a shell that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShellCommand {
    /// Text in the shell's language; runs in the shell itself, so that variables and folder persist.
    pub command: String,
    /// Like [`StartRequest::note`].
    pub note: String,
}

/// A process that stays, or a command queued for one; kept in the list after its end while its output is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Number within the sandbox, counting up over its whole life, common with those of [`ProcessLog`].
    pub number: u64,
    /// As given when it was started or queued.
    pub note: String,
    /// When it was asked for.
    pub started_at: Timestamp,
    /// Exit code, 128 + n after signal n; `None` while it waits or runs.
    pub exit_code: Option<i32>,
    /// Its standard streams; `None` = a command of the shell `shell`.
    pub wiring: Option<Wiring>,
    /// Number of the shell that it is queued for.
    pub shell: Option<u64>,
}

/// Which stream a piece of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output; all output of a terminal.
    Output,
    /// Standard error.
    Error,
}

/// Output of one stream, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it came from.
    pub stream: Stream,
    /// The bytes.
    pub bytes: Bytes,
}

/// What a process that stays has written since an offset. Offsets count kept bytes in the order of writing and
/// are opaque but for order: take `next` to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Pieces in the order of writing.
    pub pieces: Vec<Piece>,
    /// Where these pieces begin: more than what was asked for when older output is no longer kept.
    pub from: u64,
    /// Where to read on.
    pub next: u64,
    /// Exit code when it has ended and these pieces are its last.
    pub exit_code: Option<i32>,
}
