//! An engine on a simulated machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mayfly_core::Result;
use mayfly_core::access::{Caller, Permission};
use mayfly_core::id::OrganizationId;
use mayfly_core::ports::entropy::Entropy as _;
use mayfly_core::process::ExecRequest;
use mayfly_core::sandbox::State;
use mayfly_engine::{CreateSandbox, Engine, Settings};
use mayfly_testkit::{FakeRuntime, FakeStore, Fuse, World};

pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) store: Arc<FakeStore>,
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) engine: Engine,
    pub(crate) caller: Caller,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self::on(World::new(7), &Fuse::never(), settings).await.unwrap()
    }

    /// A server on this machine, its ports behind this fuse.
    pub(crate) async fn on(world: World, fuse: &Fuse, settings: Settings) -> Result<Self> {
        let (store, runtime) = (world.store(fuse), world.runtime(fuse));
        let (clock, entropy) = (world.clock.clone(), world.entropy.clone());
        let engine = Engine::open(store.clone(), runtime.clone(), clock, entropy, settings).await?;
        let caller = engine.access().administrator();
        Ok(Self { world, store, runtime, engine, caller })
    }

    pub(crate) async fn create(&self, name: &str) {
        let made = self.engine.sandboxes().create(&self.caller, named(name)).await.unwrap();
        assert_eq!(made.state, State::Started);
    }

    pub(crate) async fn state(&self, name: &str) -> Option<State> {
        let found = self.engine.sandboxes().get(&self.caller, name).await;
        found.ok().map(|sandbox| sandbox.state)
    }

    /// Someone else, who may do everything in an organization of their own.
    pub(crate) fn stranger(&self) -> Caller {
        Caller {
            organization: OrganizationId::from_uuid(self.world.entropy.uuid()),
            permissions: BTreeSet::from([Permission::Admin]),
            key: Some("strange".to_owned()),
            operator: false,
        }
    }

    /// Lets simulated time pass and the reconcilers look at it.
    pub(crate) async fn pass(&self, minutes: u64) {
        self.world.clock.advance(Duration::from_secs(minutes * 60));
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    /// Every sandbox of the runtime has one living record and the other way round.
    pub(crate) fn assert_in_line(&self) {
        let there: BTreeMap<_, _> =
            self.runtime.peek().into_iter().map(|(seen, size)| (seen.id, (seen, size))).collect();
        for row in self.store.peek() {
            assert!(!row.state.is_transient(), "{row:?} is still on its way");
            assert!(self.runtime.made(row.id) <= 1, "{row:?} was made twice");
            let Some((seen, size)) = there.get(&row.id) else {
                assert!(matches!(row.state, State::Destroyed | State::Error), "{row:?} is lost");
                continue;
            };
            let runs = matches!(row.state, State::Started | State::Paused);
            assert_eq!(seen.running, runs, "{row:?}");
            assert_eq!(seen.frozen, row.state == State::Paused, "{row:?}");
            assert_eq!(*size, row.resources, "{row:?}");
        }
        for id in there.keys() {
            let row = self.store.peek().into_iter().find(|row| row.id == *id);
            assert!(row.is_some_and(|row| row.state != State::Destroyed), "{id} is an orphan");
        }
    }
}

pub(crate) fn named(name: &str) -> CreateSandbox {
    CreateSandbox { name: Some(name.to_owned()), ..CreateSandbox::default() }
}

pub(crate) fn exec(argv: &[&str]) -> ExecRequest {
    ExecRequest {
        argv: argv.iter().map(ToString::to_string).collect(),
        title: argv.join(" "),
        cwd: None,
        env: BTreeMap::new(),
        stdin: Bytes::new(),
        timeout: Duration::from_secs(100_000),
        max_output: 1 << 20,
    }
}
