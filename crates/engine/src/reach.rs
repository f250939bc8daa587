//! The inside of a started sandbox.

use std::sync::Arc;

use bytes::Bytes;
use mayfly_core::Result;
use mayfly_core::id::SandboxId;
use mayfly_core::ports::files::Files;
use mayfly_core::ports::runtime::{Places, Runtime, Usage};
use mayfly_core::process::{ExecOutcome, ExecRequest, ProcessLog};
use mayfly_core::sandbox::Sandbox;

/// Access to the inside of a sandbox that was started when it was asked for.
#[derive(Clone, Debug)]
pub struct Reach {
    sandbox: Arc<Sandbox>,
    runtime: Arc<dyn Runtime>,
}

impl Reach {
    /// Its record.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Its id, which the file port takes.
    pub fn id(&self) -> SandboxId {
        self.sandbox.id
    }

    /// Runs a program to its end with env = image, sandbox, call (later wins). Counts as use throughout.
    pub async fn exec(&self, request: ExecRequest) -> Result<ExecOutcome> {
        self.runtime.exec(self.id(), request).await
    }

    /// The file port; give it [`Reach::id`].
    pub fn files(&self) -> &dyn Files {
        self.runtime.files()
    }

    /// Commands whose output is kept, newest last.
    pub async fn logs(&self) -> Result<Vec<ProcessLog>> {
        self.runtime.logs(self.id()).await
    }

    /// Kept output of one command from an offset, at most `max` bytes.
    pub async fn read_log(&self, process: u64, offset: u64, max: usize) -> Result<Bytes> {
        self.runtime.read_log(self.id(), process, offset, max).await
    }

    /// What it uses.
    pub async fn usage(&self) -> Result<Usage> {
        self.runtime.usage(self.id()).await
    }

    /// Home of its default user and its work dir.
    pub async fn places(&self) -> Result<Places> {
        self.runtime.places(self.id()).await
    }
}
