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
