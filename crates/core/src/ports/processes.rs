//! Processes that stay, as a port: shells, terminals, interpreters, language servers.

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;
use crate::id::SandboxId;
use crate::process::{Output, Process, ShellCommand, StartRequest, Window};

/// Starts and serves processes that outlive the call, the connection and the server.
///
/// Unknown numbers are [`crate::Code::ProcessNotFound`]. The last 10 MiB of output of each are kept (bounded in
/// all per sandbox: the oldest ended ones go first) and can be read from any offset by any number of readers. A
/// reader that keeps up loses nothing; one that does not misses what is no longer kept, and never stalls the
/// process for long.
#[async_trait]
pub trait Processes: Send + Sync + std::fmt::Debug {
    /// Starts a process; it runs when this returns. [`crate::Kind::Invalid`] names a missing program or folder.
    async fn start(&self, sandbox: SandboxId, request: StartRequest) -> Result<u64>;

    /// Queues a command for a shell. It counts as accepted when this returns: it runs although the server dies.
    /// [`crate::Kind::Gone`] after the shell's end; when the shell ends, commands behind the one that ended it
    /// end with its code, unrun. What it leaves unread of its input is dropped.
    async fn queue(&self, sandbox: SandboxId, shell: u64, command: ShellCommand) -> Result<u64>;

    /// All that are kept, oldest first.
    async fn list(&self, sandbox: SandboxId) -> Result<Vec<Process>>;

    /// Follows the output of one from an offset on (0 = the oldest kept byte).
    async fn follow(&self, sandbox: SandboxId, number: u64, from: u64)
    -> Result<Box<dyn Follower>>;

    /// Like [`Processes::follow`], for a reader that must miss nothing from then on: the process waits while this
    /// reader is behind, up to a day, until it is dropped. What has it only for a connection that may be slow, such
    /// as a pipe through it, asks for this.
    async fn follow_all(
        &self,
        sandbox: SandboxId,
        number: u64,
        from: u64,
    ) -> Result<Box<dyn Follower>> {
        self.follow(sandbox, number, from).await
    }

    /// Gives it input; empty = end of input (of a terminal: the end-of-file character is the caller's to write).
    /// For a queued command the input is that of its shell while it runs, and its end is that of the shell's, for
    /// later commands, too. Waits while the process does not read,
    /// within a bound. [`crate::Kind::Gone`] after its end, [`crate::Kind::Conflict`] before its turn.
    async fn write(&self, sandbox: SandboxId, number: u64, input: Bytes) -> Result<()>;

    /// Changes the size of its terminal. [`crate::Kind::Gone`] after its end.
    async fn resize(&self, sandbox: SandboxId, number: u64, window: Window) -> Result<()>;

    /// Sends a signal to the process group in its foreground (terminal), to the process, or, for a queued command
    /// that runs, to the children of its shell. Ended = success.
    async fn signal(&self, sandbox: SandboxId, number: u64, signal: i32) -> Result<()>;

    /// Kills it and everything that descends from it, and waits for its end. Ended = success. A queued command
    /// that waits is taken out of the queue; one that runs is killed with its shell.
    async fn kill(&self, sandbox: SandboxId, number: u64) -> Result<()>;

    /// Forgets an ended one with its output. Unknown = success, running = [`crate::Kind::Conflict`].
    async fn forget(&self, sandbox: SandboxId, number: u64) -> Result<()>;
}

/// A reader of one process's output.
#[async_trait]
pub trait Follower: Send + std::fmt::Debug {
    /// Waits for output or the end, and gives what there is, at most `max` bytes (at least one piece). After the
    /// end was given it gives the end again at once. Cancel-safe: what was not returned is not lost.
    async fn next(&mut self, max: usize) -> Result<Output>;

    /// Like [`Follower::next`], without waiting: nothing new gives no pieces.
    async fn now(&mut self, max: usize) -> Result<Output>;
}
