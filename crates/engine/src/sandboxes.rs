//! Sandboxes: the verbs of their callers.

use std::collections::BTreeMap;

use mayfly_core::access::Caller;
use mayfly_core::event::Event;
use mayfly_core::ports::store::{SandboxPage, SandboxQuery};
use mayfly_core::sandbox::{CreateSandbox, Resize, Sandbox, Timer};
use mayfly_core::{Error, Result};

use crate::engine::Engine;

/// Use cases of sandboxes. Verbs wait at most `Settings::patience` for their transition.
#[derive(Clone, Copy, Debug)]
pub struct Sandboxes<'a>(pub(crate) &'a Engine);

impl Sandboxes<'_> {
    /// Makes a sandbox, or gives the one that the same idempotency key made.
    pub async fn create(&self, caller: &Caller, wanted: CreateSandbox) -> Result<Sandbox> {
        let _ = (caller, wanted);
        Err(Error::unsupported("create"))
    }

    /// One sandbox, by id, else by name.
    pub async fn get(&self, caller: &Caller, id_or_name: &str) -> Result<Sandbox> {
        let _ = (caller, id_or_name);
        Err(Error::unsupported("get"))
    }

    /// A page of the organization's sandboxes.
    pub async fn list(&self, caller: &Caller, query: &SandboxQuery) -> Result<SandboxPage> {
        let _ = (caller, query);
        Err(Error::unsupported("list"))
    }

    /// Runs it: from stopped, archived, paused; a started one is returned unchanged.
    pub async fn start(&self, caller: &Caller, id_or_name: &str) -> Result<Sandbox> {
        self.get(caller, id_or_name).await
    }

    /// Ends its processes; `force` = without the grace.
    pub async fn stop(&self, caller: &Caller, id_or_name: &str, force: bool) -> Result<Sandbox> {
        let _ = force;
        self.get(caller, id_or_name).await
    }

    /// Puts a stopped one away.
    pub async fn archive(&self, caller: &Caller, id_or_name: &str) -> Result<Sandbox> {
        self.get(caller, id_or_name).await
    }

    /// Freezes a started one.
    pub async fn pause(&self, caller: &Caller, id_or_name: &str) -> Result<Sandbox> {
        self.get(caller, id_or_name).await
    }

    /// Leaves a recoverable error, to started or, with `skip_start`, to stopped.
    pub async fn recover(
        &self,
        caller: &Caller,
        id_or_name: &str,
        skip_start: bool,
    ) -> Result<Sandbox> {
        let _ = skip_start;
        self.get(caller, id_or_name).await
    }

    /// Deletes it, in every state, repeatedly.
    pub async fn delete(&self, caller: &Caller, id_or_name: &str) -> Result<Sandbox> {
        self.get(caller, id_or_name).await
    }

    /// Changes its size; the disk only grows.
    pub async fn resize(
        &self,
        caller: &Caller,
        id_or_name: &str,
        wanted: Resize,
    ) -> Result<Sandbox> {
        let _ = wanted;
        self.get(caller, id_or_name).await
    }

    /// Replaces all its labels.
    pub async fn set_labels(
        &self,
        caller: &Caller,
        id_or_name: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<Sandbox> {
        let _ = labels;
        self.get(caller, id_or_name).await
    }

    /// Sets one of its timers, in minutes.
    pub async fn set_timer(
        &self,
        caller: &Caller,
        id_or_name: &str,
        timer: Timer,
        minutes: i64,
    ) -> Result<Sandbox> {
        let _ = (timer, minutes);
        self.get(caller, id_or_name).await
    }

    /// Sets whether previews need no token.
    pub async fn set_public(
        &self,
        caller: &Caller,
        id_or_name: &str,
        public: bool,
    ) -> Result<Sandbox> {
        let _ = public;
        self.get(caller, id_or_name).await
    }

    /// Marks a use of it now; kept in memory and written down every few seconds.
    pub async fn touch(&self, caller: &Caller, id_or_name: &str) -> Result<()> {
        self.get(caller, id_or_name).await.map(|_| ())
    }

    /// Newest events of a sandbox, newest first; also of one destroyed not long ago.
    pub async fn events(
        &self,
        caller: &Caller,
        id_or_name: &str,
        limit: u32,
    ) -> Result<Vec<Event>> {
        let _ = (caller, id_or_name, limit);
        Err(Error::unsupported("events"))
    }
}
