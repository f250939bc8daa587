//! Making a sandbox: claimed from the warm pool where one fits, else made anew.

use std::sync::Arc;

use mayfly_core::access::Caller;
use mayfly_core::id::SandboxId;
use mayfly_core::limits::Resources;
use mayfly_core::network::NetworkPolicy;
use mayfly_core::sandbox::{Claim, Command, CreateSandbox, Effect, Sandbox};
use mayfly_core::snapshot::Snapshot;
use mayfly_core::volume::Mount;
use mayfly_core::{Error, Result};

use crate::admission::{self, admit};
use crate::commit::{self, Added};
use crate::driver;
use crate::house::House;
use crate::living::Live;
use crate::network;
use crate::patience::{self, Promise};
use crate::shelf::Claims;
use crate::snapshots;
use crate::tenants::Use;
use crate::warm::{self, Claimed};

/// Makes a sandbox for a caller.
pub(crate) async fn create(
    house: &Arc<House>,
    caller: &Caller,
    wanted: CreateSandbox,
) -> Result<Sandbox> {
    wanted.check()?;
    // What was made needs no room any more, nor its snapshot.
    if let Some(key) = &wanted.idempotency_key
        && let Some(made) = house.store.sandbox_by_key(caller.organization, key).await?
    {
        return Ok(repeated(house, made));
    }
    let named = wanted.snapshot.as_deref().unwrap_or(&house.settings.default_snapshot);
    let snapshot = snapshots::find(house, caller.organization, named).await?;
    admission::enforceable(house, &wanted.size())?;
    admission::may_pause(house, wanted.timers.auto_pause.into())?;
    let network = network::of_new(house, &wanted.network)?;
    let resources = wanted.resources(snapshot.resources);
    admission::fits(house, resources)?;
    let (mounts, claims) = mounts(house, caller, &wanted)?;
    let promise = Promise::default();
    let work = {
        let (house, caller, promise) = (Arc::clone(house), caller.clone(), promise.clone());
        async move {
            let make =
                Make { wanted, snapshot, resources, network, mounts, _claims: claims, caller };
            make.run(&house, &promise).await
        }
    };
    patience::wait(house, &promise, work).await
}

/// The volumes asked for; [`mayfly_core::Kind::NotFound`] names one that is unknown.
fn mounts(house: &House, caller: &Caller, wanted: &CreateSandbox) -> Result<(Vec<Mount>, Claims)> {
    if !wanted.volumes.is_empty() {
        house.runtime.volumes()?;
    }
    house.shelf.claim(caller.organization, &wanted.volumes, house.now().wall)
}

struct Make {
    wanted: CreateSandbox,
    snapshot: Arc<Snapshot>,
    resources: Resources,
    network: NetworkPolicy,
    mounts: Vec<Mount>,
    /// Until the record says that they are mounted.
    _claims: Claims,
    caller: Caller,
}

impl Make {
    async fn run(self, house: &Arc<House>, promise: &Promise) -> Result<Sandbox> {
        let share = admission::share(house, self.caller.organization, self.uses())?;
        house.snapshots.note_use(self.snapshot.id, house.now().wall);
        if self.warm_fits() {
            let claim = |id| self.claim(house, id);
            match warm::claim(house, self.snapshot.id, self.resources, claim).await? {
                Claimed::Yes(live, effect) => {
                    drop(share);
                    return self.hand_over(house, promise, live, effect).await;
                }
                Claimed::NameTaken => return Err(self.name_taken()),
                Claimed::Repeated(made) => return Ok(repeated(house, *made)),
                Claimed::NoneReady => {}
            }
        }
        let room = admit(house, self.resources)?;
        let added = commit::insert(house, self.record(house)).await?;
        drop((room, share));
        match added {
            Added::New(live) => self.drive(house, promise, live, Effect::Create).await,
            Added::NameTaken => Err(self.name_taken()),
            Added::Repeated(made) => Ok(repeated(house, *made)),
        }
    }

    /// Gives a claimed one what it may reach, before anybody hears of it, and its size.
    async fn hand_over(
        &self,
        house: &Arc<House>,
        promise: &Promise,
        live: Arc<Live>,
        effect: Option<Effect>,
    ) -> Result<Sandbox> {
        if self.network != network::default(house)
            && let Err(error) = network::apply(house, &live).await
        {
            self.take_back(house, live).await;
            return Err(error);
        }
        match effect {
            Some(effect) => self.drive(house, promise, live, effect).await,
            None => Ok(live.shown()),
        }
    }

    /// Waits for it to be ready. What fails while its caller still waits is taken away again; what fails
    /// after the caller was answered stays, in `error`, for the caller to see.
    async fn drive(
        &self,
        house: &Arc<House>,
        promise: &Promise,
        live: Arc<Live>,
        effect: Effect,
    ) -> Result<Sandbox> {
        promise.written(&live);
        let Err(error) = driver::drive(house, &live, effect).await else {
            return Ok(live.shown());
        };
        if !promise.answered() {
            self.take_back(house, live).await;
        }
        Err(error)
    }

    async fn take_back(&self, house: &Arc<House>, live: Arc<Live>) {
        let house = Arc::clone(house);
        let undo = async move { driver::command(&house, &live, |_| Some(Command::Destroy)).await };
        if let Err(error) = undo.await {
            tracing::warn!(%error, "could not take back a sandbox that failed to be made");
        }
    }

    fn uses(&self) -> Use {
        Use {
            sandboxes: 1,
            cpu: self.resources.cpu.into(),
            memory_gib: self.resources.memory_gib.into(),
            disk_gib: self.resources.disk_gib.into(),
            ..Use::default()
        }
    }

    /// Whether nothing asked for needs another make than the pool's. Volumes are mounted before anything runs.
    fn warm_fits(&self) -> bool {
        self.mounts.is_empty()
            && self.wanted.user.as_ref().is_none_or(|user| *user == self.snapshot.user)
    }

    fn claim(&self, house: &House, id: SandboxId) -> Claim {
        Claim {
            organization: self.caller.organization,
            name: self.name(id),
            snapshot_name: self.snapshot.name.clone(),
            env: self.wanted.env.clone(),
            labels: self.wanted.labels.clone(),
            public: self.wanted.public,
            target: self.target(house),
            resources: self.resources,
            network: self.network.clone(),
            timers: self.wanted.timers,
            idempotency_key: self.wanted.idempotency_key.clone(),
        }
    }

    fn record(&self, house: &House) -> Sandbox {
        let id = SandboxId::from_uuid(house.entropy.uuid());
        let wanted = &self.wanted;
        Sandbox {
            organization: self.caller.organization,
            name: self.name(id),
            user: wanted.user.clone().unwrap_or_else(|| self.snapshot.user.clone()),
            env: wanted.env.clone(),
            labels: wanted.labels.clone(),
            public: wanted.public,
            target: self.target(house),
            resources: self.resources,
            network: self.network.clone(),
            volumes: self.mounts.clone(),
            timers: wanted.timers,
            idempotency_key: wanted.idempotency_key.clone(),
            ..house.blank(id, &self.snapshot)
        }
    }

    fn name(&self, id: SandboxId) -> String {
        self.wanted.name.clone().unwrap_or_else(|| id.to_string())
    }

    fn target(&self, house: &House) -> String {
        self.wanted.target.clone().unwrap_or_else(|| house.settings.target.clone())
    }

    fn name_taken(&self) -> Error {
        let name = self.wanted.name.as_deref().unwrap_or_default();
        Error::conflict(format!("a sandbox named {name} already exists"))
            .with_hint("choose another name, or delete that sandbox first")
    }
}

/// What the first call with this key made, as it is now.
fn repeated(house: &House, made: Sandbox) -> Sandbox {
    house.living.get(made.id).map_or(made, |live| live.shown())
}
