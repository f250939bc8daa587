//! Sandboxes: the verbs of their callers.

use std::collections::BTreeMap;
use std::sync::Arc;

use mayfly_core::access::{Caller, Permission};
use mayfly_core::event::Event;
use mayfly_core::network::{AuditPage, NetworkChange};
use mayfly_core::ports::store::{SandboxPage, SandboxQuery};
use mayfly_core::sandbox::{Command, CreateSandbox, Resize, Sandbox, State, Timer, on_command};
use mayfly_core::{Error, Result};

use crate::admission;
use crate::commit::{self, Changed};
use crate::create;
use crate::driver;
use crate::house::{House, need, not_found};
use crate::living::Live;
use crate::network;
use crate::patience::{self, Promise};
use crate::telemetry::{self, Sample};
use crate::tenants::{Room, Use};

/// Most rows of a page and most events of an answer.
const MAX_PAGE: u32 = 200;
/// Most entries of a page of the network audit.
const MAX_AUDIT: u32 = 1000;

/// Use cases of sandboxes. Verbs wait at most `Settings::patience` for their transition and then answer
/// with the transient state; the transition goes on even when its caller leaves.
#[derive(Clone, Copy, Debug)]
pub struct Sandboxes<'a>(pub(crate) &'a Arc<House>);

impl Sandboxes<'_> {
    /// Makes a sandbox, or gives the one that the same idempotency key made.
    ///
    /// [`mayfly_core::Kind::NotFound`] for an unknown snapshot, `Conflict` for a taken name, `Limit` naming
    /// the quota, `Invalid` naming the field, `Unavailable` when the host has no room at the moment.
    pub async fn create(&self, caller: &Caller, wanted: CreateSandbox) -> Result<Sandbox> {
        need(caller, Permission::WriteSandboxes)?;
        create::create(self.0, caller, wanted).await
    }

    /// One sandbox, by id, else by name.
    #[expect(clippy::unused_async, reason = "a store shared by several servers will be asked here")]
    pub async fn get(&self, caller: &Caller, id_or_name: &str) -> Result<Sandbox> {
        self.0.find(caller, id_or_name).map(|live| live.shown())
    }

    /// A page of the organization's sandboxes, 1 to 200 rows.
    pub async fn list(&self, caller: &Caller, query: &SandboxQuery) -> Result<SandboxPage> {
        if !(1..=MAX_PAGE).contains(&query.limit) {
            return Err(Error::invalid(format!("limit must be 1 to {MAX_PAGE}")));
        }
        self.0.store.sandboxes(caller.organization, query).await
    }

    /// Runs it: from stopped, archived, paused; a started one is returned unchanged.
    pub async fn start(&self, caller: &Caller, id_or_name: &str) -> Result<Sandbox> {
        need(caller, Permission::WriteSandboxes)?;
        let live = self.0.find(caller, id_or_name)?;
        let room = self.room_to_run(&live)?;
        self.run(live, Some(room), |_| Command::Start).await
    }

    /// Ends its processes; `force` = without the grace.
    pub async fn stop(&self, caller: &Caller, id_or_name: &str, force: bool) -> Result<Sandbox> {
        self.write(caller, id_or_name, move |_| Command::Stop { force }).await
    }

    /// Puts a stopped one away.
    pub async fn archive(&self, caller: &Caller, id_or_name: &str) -> Result<Sandbox> {
        self.write(caller, id_or_name, |_| Command::Archive).await
    }

    /// Freezes a started one.
    pub async fn pause(&self, caller: &Caller, id_or_name: &str) -> Result<Sandbox> {
        admission::may_pause(self.0, 1)?;
        self.write(caller, id_or_name, |_| Command::Pause).await
    }

    /// Leaves a recoverable error, to started or, with `skip_start`, to stopped.
    pub async fn recover(
        &self,
        caller: &Caller,
        id_or_name: &str,
        skip_start: bool,
    ) -> Result<Sandbox> {
        need(caller, Permission::WriteSandboxes)?;
        let live = self.0.find(caller, id_or_name)?;
        let room = if skip_start { None } else { Some(self.room_to_run(&live)?) };
        self.run(live, room, move |_| Command::Recover { skip_start }).await
    }

    /// Deletes it, in every state, repeatedly; one that is already gone is returned as destroyed for as
    /// long as its record is kept.
    pub async fn delete(&self, caller: &Caller, id_or_name: &str) -> Result<Sandbox> {
        need(caller, Permission::DeleteSandboxes)?;
        match self.0.find(caller, id_or_name) {
            Ok(live) => self.run(live, None, |_| Command::Destroy).await,
            Err(_) => self.destroyed(caller, id_or_name).await,
        }
    }

    /// Changes its size; the disk only grows.
    pub async fn resize(
        &self,
        caller: &Caller,
        id_or_name: &str,
        wanted: Resize,
    ) -> Result<Sandbox> {
        wanted.check()?;
        need(caller, Permission::WriteSandboxes)?;
        let live = self.0.find(caller, id_or_name)?;
        admission::enforceable(self.0, &wanted)?;
        let current = live.record();
        let resources = wanted.apply(current.resources);
        admission::fits(self.0, resources)?;
        let larger = Sandbox { resources, ..Sandbox::clone(&current) };
        let more = Use::of(&larger).over(Use::of(&current));
        let room = admission::share(self.0, caller.organization, more)?;
        let command = move |current: &Sandbox| Command::Resize(wanted.apply(current.resources));
        self.run(live, Some(room), command).await
    }

    /// Replaces all its labels.
    pub async fn set_labels(
        &self,
        caller: &Caller,
        id_or_name: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<Sandbox> {
        self.write(caller, id_or_name, move |_| Command::SetLabels(labels.clone())).await
    }

    /// Sets one of its timers, in minutes; setting its time to live counts anew.
    pub async fn set_timer(
        &self,
        caller: &Caller,
        id_or_name: &str,
        timer: Timer,
        minutes: i64,
    ) -> Result<Sandbox> {
        if timer == Timer::AutoPause {
            admission::may_pause(self.0, minutes)?;
        }
        self.write(caller, id_or_name, move |_| Command::SetTimer(timer, minutes)).await
    }

    /// Sets whether previews need no token.
    pub async fn set_public(
        &self,
        caller: &Caller,
        id_or_name: &str,
        public: bool,
    ) -> Result<Sandbox> {
        self.write(caller, id_or_name, move |_| Command::SetPublic(public)).await
    }

    /// Changes what it may reach; in force when this returns, also in a running one.
    pub async fn set_network(
        &self,
        caller: &Caller,
        id_or_name: &str,
        wanted: NetworkChange,
    ) -> Result<Sandbox> {
        need(caller, Permission::WriteSandboxes)?;
        let (house, live) = (Arc::clone(self.0), self.0.find(caller, id_or_name)?);
        // Nothing is promised before it is in force, so the caller waits for all of it.
        let work = async move {
            network::change(&house, &live, &wanted).await?;
            Ok(live.shown())
        };
        patience::wait(self.0, &Promise::default(), work).await
    }

    /// A page of what it reached for, oldest first, at most 1000 entries.
    pub async fn network_audit(
        &self,
        caller: &Caller,
        id_or_name: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<AuditPage> {
        if !(1..=MAX_AUDIT).contains(&limit) {
            return Err(Error::invalid(format!("limit must be 1 to {MAX_AUDIT}")));
        }
        let id = self.0.find(caller, id_or_name)?.id();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.0.runtime.network_audit(id, after, limit).await
    }

    /// Marks a use of it now; kept in memory and written down every few seconds and at shutdown.
    #[expect(clippy::unused_async, reason = "a store shared by several servers will be asked here")]
    pub async fn touch(&self, caller: &Caller, id_or_name: &str) -> Result<()> {
        need(caller, Permission::WriteSandboxes)?;
        let house = self.0;
        house.find(caller, id_or_name)?.touch(house.now());
        Ok(())
    }

    /// What it used of late, oldest first; the last sample is of now where it runs. At most an hour.
    pub async fn samples(&self, caller: &Caller, id_or_name: &str) -> Result<Vec<Sample>> {
        let live = self.0.find(caller, id_or_name)?;
        let mut samples = live.samples.all();
        if live.record().state == State::Started {
            samples.extend(telemetry::look(self.0, &live).await);
        }
        Ok(samples)
    }

    /// Newest events of a sandbox, newest first, at most 200; also of one destroyed not long ago, by id.
    pub async fn events(
        &self,
        caller: &Caller,
        id_or_name: &str,
        limit: u32,
    ) -> Result<Vec<Event>> {
        let id = match self.0.find(caller, id_or_name) {
            Ok(live) => live.id(),
            Err(_) => self.destroyed(caller, id_or_name).await?.id,
        };
        self.0.store.events(id, limit.min(MAX_PAGE)).await
    }

    async fn write(
        &self,
        caller: &Caller,
        id_or_name: &str,
        command: impl Fn(&Sandbox) -> Command + Send + Sync + 'static,
    ) -> Result<Sandbox> {
        need(caller, Permission::WriteSandboxes)?;
        let live = self.0.find(caller, id_or_name)?;
        self.run(live, None, command).await
    }

    /// Room for what it takes while it runs, where it does not take it already.
    fn room_to_run(self, live: &Live) -> Result<Room> {
        let record = live.record();
        let more = Use::running(&record).over(Use::of(&record));
        admission::share(self.0, record.organization, more)
    }

    /// Takes a transition to its end, or as far as patience goes. The room is held until the record counts.
    async fn run(
        &self,
        live: Arc<Live>,
        room: Option<Room>,
        command: impl Fn(&Sandbox) -> Command + Send + Sync + 'static,
    ) -> Result<Sandbox> {
        let promise = Promise::default();
        let house = Arc::clone(self.0);
        let work = transition(house, live, promise.clone(), room, command);
        patience::wait(self.0, &promise, work).await
    }

    /// The record of a destroyed one, which only its id still leads to.
    async fn destroyed(&self, caller: &Caller, id: &str) -> Result<Sandbox> {
        let unknown = || not_found("sandbox", id);
        let parsed = id.parse().map_err(|_| unknown())?;
        let kept = self.0.store.sandbox(parsed).await?;
        kept.filter(|kept| {
            kept.organization == caller.organization && kept.state == State::Destroyed && !kept.warm
        })
        .ok_or_else(unknown)
    }
}

async fn transition(
    house: Arc<House>,
    live: Arc<Live>,
    promise: Promise,
    room: Option<Room>,
    command: impl Fn(&Sandbox) -> Command + Send + Sync,
) -> Result<Sandbox> {
    let changed = commit::change(&house, &live, |current, now| {
        on_command(current, command(current), now)
            .map_err(|denied| denied.into_error(&current.name))
    });
    let changed = changed.await?;
    drop(room);
    match changed {
        Changed::Done(effect) => {
            promise.written(&live);
            if let Some(effect) = effect {
                driver::drive(&house, &live, effect).await?;
            }
        }
        // Only a claim gives a name or a key.
        Changed::NameTaken | Changed::Repeated(_) => {}
    }
    Ok(live.shown())
}
