//! What sandboxes may reach: who may ask for what, and that it is in force when it was acknowledged.

use std::time::Duration;

use mayfly_core::Kind;
use mayfly_core::event::What;
use mayfly_core::network::{NetworkChange, NetworkPolicy, cidrs, domains};
use mayfly_core::ports::runtime::Notice;
use mayfly_core::sandbox::State;
use mayfly_engine::{CreateSandbox, NetworkSettings, Settings};
use mayfly_testkit::{Fuse, Verb, World};

use crate::site::{Site, named};

fn lists(ranges: &str, names: &str) -> NetworkChange {
    NetworkChange {
        cidrs: Some(cidrs(ranges).unwrap()),
        domains: Some(domains(names).unwrap()),
        ..NetworkChange::default()
    }
}

fn block(block_all: bool) -> NetworkChange {
    NetworkChange { block_all: Some(block_all), ..NetworkChange::default() }
}

fn wanting(name: &str, network: NetworkChange) -> CreateSandbox {
    CreateSandbox { network, ..named(name) }
}

fn settings(network: NetworkSettings) -> Settings {
    Settings { network, ..Settings::default() }
}

/// The record's and the runtime's, which must be the same.
async fn both(site: &Site, name: &str) -> NetworkPolicy {
    let record = site.engine.sandboxes().get(&site.caller, name).await.unwrap();
    assert_eq!(site.runtime.network(record.id), Some(record.network.clone()), "{name}");
    record.network
}

#[tokio::test(start_paused = true)]
async fn without_a_wish_the_operators_default_holds() {
    let open = Site::new().await;
    open.create("a").await;
    assert_eq!(both(&open, "a").await, NetworkPolicy::default());
    let closed =
        Site::with(settings(NetworkSettings { default_block: true, ..NetworkSettings::default() }))
            .await;
    for (name, network, blocked) in [
        ("a", NetworkChange::default(), true),
        ("b", block(false), false),
        ("c", block(true), true),
        ("d", lists("1.1.1.1", ""), false),
        ("e", lists("", ""), true),
        ("f", NetworkChange { block_all: Some(true), ..lists("1.1.1.1", "") }, true),
    ] {
        closed.engine.sandboxes().create(&closed.caller, wanting(name, network)).await.unwrap();
        assert_eq!(both(&closed, name).await.block_all, blocked, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn n4_private_ranges_are_granted_only_where_they_are_permitted() {
    let permitted = cidrs("10.1.0.0/16").unwrap();
    let site =
        Site::with(settings(NetworkSettings { permitted, ..NetworkSettings::default() })).await;
    let all = site.engine.sandboxes();
    site.create("box").await;
    for bad in ["10.0.0.0/8", "1.1.1.1,192.168.1.0/24", "fd00::/8", "10.2.0.0/16"] {
        let refused = all.create(&site.caller, wanting("new", lists(bad, ""))).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid);
        let entry = bad.rsplit(',').next().unwrap();
        assert!(refused.message().contains(&format!("`{entry}`")), "{refused}");
        let refused = all.set_network(&site.caller, "box", lists(bad, "")).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid);
        assert_eq!(both(&site, "box").await, NetworkPolicy::default(), "nothing changed");
    }
    assert_eq!(site.state("new").await, None);
    all.set_network(&site.caller, "box", lists("10.1.2.0/24,0.0.0.0/0", "")).await.unwrap();
    assert_eq!(both(&site, "box").await.cidrs.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn changes_are_live_and_name_only_what_they_change() {
    let site = Site::new().await;
    let (all, who) = (site.engine.sandboxes(), &site.caller);
    site.create("box").await;
    all.set_network(who, "box", lists("1.1.1.0/24", "*.a.com")).await.unwrap();
    let changed = all.set_network(who, "box", block(true)).await.unwrap();
    assert!(changed.network.block_all && changed.network.lists(), "the lists stay");
    all.set_network(who, "box", lists("1.1.1.0/24", "")).await.unwrap();
    let kept = both(&site, "box").await;
    assert!(!kept.block_all && kept.cidrs.len() == 1, "a list lifts the block");
    all.set_network(who, "box", block(false)).await.unwrap();
    let open = both(&site, "box").await;
    assert!(!open.block_all && !open.lists(), "the public internet again");
    let stranger = site.stranger();
    assert_eq!(
        all.set_network(&stranger, "box", block(true)).await.unwrap_err().kind(),
        Kind::NotFound
    );
    assert_eq!(
        all.network_audit(&stranger, "box", None, 1).await.unwrap_err().kind(),
        Kind::NotFound
    );
    // A stopped one gets it with its next start.
    all.stop(who, "box", true).await.unwrap();
    all.set_network(who, "box", lists("2.2.2.2", "")).await.unwrap();
    all.start(who, "box").await.unwrap();
    assert_eq!(both(&site, "box").await.cidrs, cidrs("2.2.2.2").unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_change_while_it_is_made_is_caught_up() {
    let site = Site::new().await;
    let (all, who) = (site.engine.sandboxes(), &site.caller);
    site.runtime.delay(Verb::Create, Duration::from_secs(5));
    let made = all.create(who, named("box")).await.unwrap();
    assert_eq!(made.state, State::Creating);
    all.set_network(who, "box", block(true)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(site.state("box").await, Some(State::Started));
    assert!(both(&site, "box").await.block_all);
}

#[tokio::test(start_paused = true)]
async fn a_claimed_warm_one_has_its_claimers_network_before_it_is_handed_over() {
    let site = Site::with(Settings { warm: 1, ..Settings::default() }).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let warm = site.runtime.peek()[0].0.id;
    assert_eq!(site.runtime.network(warm), Some(NetworkPolicy::default()));
    let all = site.engine.sandboxes();
    let made = all.create(&site.caller, wanting("mine", block(true))).await.unwrap();
    assert_eq!(made.id, warm);
    assert!(both(&site, "mine").await.block_all);
    // One that cannot be told is not handed over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.runtime.fail(Verb::SetNetwork, Kind::Unavailable);
    let refused = all.create(&site.caller, wanting("other", block(true))).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(site.state("other").await, None);
}

#[tokio::test(start_paused = true)]
async fn c6_a_host_without_a_network_blocks_all_and_refuses_lists() {
    let world = World::new(7);
    world.runtime(&Fuse::never()).take_network_away();
    let site = Site::on(world, &Fuse::never(), Settings::default()).await.unwrap();
    let all = site.engine.sandboxes();
    site.create("box").await;
    assert!(both(&site, "box").await.block_all, "the record says what is in force");
    let proxy = NetworkChange { proxy: Some(Some("http://p:1".parse().unwrap())), ..block(false) };
    for (field, network) in [
        ("networkAllowList", lists("1.1.1.1", "")),
        ("domainAllowList", lists("", "a.com")),
        ("outboundProxyUrl", proxy),
    ] {
        let refused = all.create(&site.caller, wanting("new", network.clone())).await.unwrap_err();
        assert!(refused.message().starts_with(field), "{refused}");
        let refused = all.set_network(&site.caller, "box", network).await.unwrap_err();
        assert!(refused.message().starts_with(field), "{refused}");
        assert_eq!(refused.kind(), Kind::Invalid);
    }
    let refused = all.set_network(&site.caller, "box", block(false)).await.unwrap_err();
    assert!(refused.message().starts_with("networkBlockAll"), "{refused}");
    all.set_network(&site.caller, "box", block(true)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_proxy_for_all_leaves_no_other() {
    let site =
        Site::with(settings(NetworkSettings { has_proxy: true, ..NetworkSettings::default() }))
            .await;
    let proxy = NetworkChange {
        proxy: Some(Some("http://p:1".parse().unwrap())),
        ..NetworkChange::default()
    };
    let all = site.engine.sandboxes();
    let refused = all.create(&site.caller, wanting("a", proxy)).await.unwrap_err();
    assert!(refused.message().starts_with("outboundProxyUrl"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn n13_a_dead_network_process_is_an_audit_event() {
    let site = Site::new().await;
    site.runtime.notify(Notice { rule: "network", target: "it ended".to_owned() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let events = site.engine.audit(&site.caller, 9).await.unwrap();
    let told = events.iter().any(|event| {
        event.what == What::Audit { rule: "network".to_owned(), target: "it ended".to_owned() }
    });
    assert!(told, "{events:?}");
}

/// Between the write of a change and its application, and at every other step.
#[test]
fn l1_a_kill_at_any_step_of_a_change_leaves_what_was_acknowledged_in_force() {
    async fn tighten(world: World, fuse: &Fuse) -> Option<bool> {
        let site = Site::on(world, fuse, Settings::default()).await.ok()?;
        let changed = site.engine.sandboxes().set_network(&site.caller, "box", block(true)).await;
        changed.ok().map(|sandbox| sandbox.network.block_all)
    }
    let run = |work: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(work);
    };
    let prepared = |seed: u64| {
        let world = World::new(seed);
        let made = world.clone();
        run(Box::pin(async move {
            let site = Site::on(made, &Fuse::never(), Settings::default()).await.unwrap();
            site.create("box").await;
            site.engine.shutdown().await;
        }));
        world
    };
    let whole = Fuse::never();
    let (world, fuse) = (prepared(1), whole.clone());
    run(Box::pin(async move { assert_eq!(tighten(world, &fuse).await, Some(true)) }));
    let steps = whole.used();
    assert!(steps > 4, "{steps} steps");
    for step in 0..steps {
        let world = prepared(step);
        let (killed, fuse) = (world.clone(), Fuse::after(step));
        run(Box::pin(async move {
            tokio::select! {
                () = fuse.blown() => {}
                _ = tighten(killed, &fuse) => {}
            }
        }));
        run(Box::pin(async move {
            let site = Site::on(world, &Fuse::never(), Settings::default()).await.unwrap();
            // The record tells what was acknowledged; the runtime must have the same at once.
            both(&site, "box").await;
        }));
    }
}
