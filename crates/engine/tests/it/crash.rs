//! L1: the server is killed before and after every call of a port, and a new one takes over.

use std::time::Duration;

use mayfly_core::id::SandboxId;
use mayfly_core::limits::Resources;
use mayfly_core::ports::entropy::Entropy as _;
use mayfly_core::ports::runtime::SandboxSpec;
use mayfly_core::sandbox::State;
use mayfly_core::snapshot::Source;
use mayfly_engine::{Resize, Settings};
use mayfly_testkit::{Fuse, World};

use crate::site::{Site, named};

/// One call of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Create,
    Stop,
    Start,
    Pause,
    Resize,
    Archive,
    Delete,
}

const LIFE: [(&str, Act); 14] = [
    ("a", Act::Create),
    ("b", Act::Create),
    ("a", Act::Stop),
    ("b", Act::Pause),
    ("a", Act::Resize),
    ("a", Act::Start),
    ("b", Act::Start),
    ("a", Act::Pause),
    ("b", Act::Stop),
    ("b", Act::Archive),
    ("c", Act::Create),
    ("b", Act::Start),
    ("a", Act::Delete),
    ("c", Act::Delete),
];

/// What its caller was told, and what it asked for without an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    told: Option<State>,
    grown: bool,
    asked: Option<Act>,
}

fn settings() -> Settings {
    Settings { warm: 1, ..Settings::default() }
}

fn after(act: Act, before: Option<State>) -> Option<State> {
    match act {
        Act::Create | Act::Start => Some(State::Started),
        Act::Stop => Some(State::Stopped),
        Act::Pause => Some(State::Paused),
        Act::Archive => Some(State::Archived),
        Act::Resize => before,
        Act::Delete => None,
    }
}

async fn live(world: World, fuse: &Fuse, known: &mut [(&'static str, Known); 3]) {
    let Ok(site) = Site::on(world, fuse, settings()).await else { return };
    let (all, who) = (site.engine.sandboxes(), &site.caller);
    for (name, act) in LIFE {
        let entry = &mut known.iter_mut().find(|(known, _)| *known == name).unwrap().1;
        entry.asked = Some(act);
        let bigger = Resize { disk_gib: Some(7), ..Resize::default() };
        let answer = match act {
            Act::Create => all.create(who, named(name)).await,
            Act::Stop => all.stop(who, name, false).await,
            Act::Start => all.start(who, name).await,
            Act::Pause => all.pause(who, name).await,
            Act::Resize => all.resize(who, name, bigger).await,
            Act::Archive => all.archive(who, name).await,
            Act::Delete => all.delete(who, name).await,
        };
        let state = answer.unwrap().state;
        if state.is_transient() {
            // The port it waits for was crashed; the clock runs on until the caller gives up.
            fuse.blown().await;
            std::future::pending::<()>().await;
        }
        *entry = Known {
            told: Some(state).filter(|state| *state != State::Destroyed),
            grown: entry.grown || act == Act::Resize,
            asked: None,
        };
    }
    site.engine.shutdown().await;
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(work)
}

#[test]
fn l1_a_kill_at_any_step_loses_and_doubles_nothing() {
    let unknown = [("a", Known::default()), ("b", Known::default()), ("c", Known::default())];
    let whole = Fuse::never();
    run(live(World::new(1), &whole, &mut unknown.clone()));
    let steps = whole.used();
    assert!(steps > 60, "the life takes {steps} steps");
    for step in 0..steps {
        let world = World::new(step);
        let fuse = Fuse::after(step);
        let mut known = unknown;
        run(async {
            tokio::select! {
                () = fuse.blown() => {}
                () = live(world.clone(), &fuse, &mut known) => {}
            }
        });
        run(async {
            let site = Site::on(world, &Fuse::never(), settings()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(20)).await;
            for (name, known) in known {
                let found = site.engine.sandboxes().get(&site.caller, name).await.ok();
                let state = found.as_ref().map(|found| found.state);
                let done = known.asked.map(|act| after(act, known.told));
                assert!(
                    state == known.told || Some(state) == done,
                    "killed at step {step}: {name} is {state:?}, {known:?}"
                );
                if known.grown
                    && let Some(found) = found
                {
                    assert_eq!(found.resources.disk_gib, 7, "killed at step {step}");
                }
            }
            site.assert_in_line();
            let warm = site.store.peek().into_iter().filter(|row| row.warm);
            let ready = warm.filter(|row| row.state == State::Started).count();
            assert_eq!(ready, 1, "killed at step {step}");
            site.engine.shutdown().await;
        });
    }
}

#[test]
fn what_no_record_knows_is_reaped_and_what_is_lost_says_so() {
    let world = World::new(3);
    run(async {
        let site = Site::on(world.clone(), &Fuse::never(), Settings::default()).await.unwrap();
        for name in ["lost", "kept"] {
            site.create(name).await;
        }
        site.engine.shutdown().await;
        let lost = site.engine.sandboxes().get(&site.caller, "lost").await.unwrap().id;
        site.runtime.lose(lost);
        site.runtime.smuggle(SandboxSpec {
            id: SandboxId::from_uuid(world.entropy.uuid()),
            source: Source::Host { fingerprint: String::new() },
            resources: Resources::DEFAULT,
            user: String::new(),
            workdir: None,
            env: std::collections::BTreeMap::new(),
            volumes: Vec::new(),
            network: mayfly_core::network::NetworkPolicy::default(),
        });
        let again = Site::on(world.clone(), &Fuse::never(), Settings::default()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let all = again.engine.sandboxes();
        let shown = all.get(&again.caller, "lost").await.unwrap();
        assert_eq!((shown.state, shown.recoverable), (State::Error, false));
        assert!(shown.error_reason.unwrap().contains("gone"));
        assert_eq!(again.state("kept").await, Some(State::Started));
        again.assert_in_line();
        assert_eq!(all.delete(&again.caller, "lost").await.unwrap().state, State::Destroyed);
    });
}
