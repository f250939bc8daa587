//! Isolation profiles: what a server without root cannot enforce is refused, and profiles are never mixed.

use mayfly_core::Kind;
use mayfly_core::ports::runtime::Profile;
use mayfly_core::sandbox::{State, Timers};
use mayfly_engine::{CreateSandbox, Resize, Settings, Timer};
use mayfly_testkit::{Fuse, World};

use crate::site::{Site, named};

/// A server of an ordinary user.
async fn unprivileged(world: World) -> mayfly_core::Result<Site> {
    world.runtime(&Fuse::never()).set_profile(Profile::Unprivileged);
    Site::on(world, &Fuse::never(), Settings::default()).await
}

#[tokio::test(start_paused = true)]
async fn c6_sizes_that_nothing_enforces_are_refused_by_name() {
    let site = unprivileged(World::new(7)).await.unwrap();
    let all = site.engine.sandboxes();
    let sizes = [
        ("cpu", CreateSandbox { cpu: Some(1), ..named("box") }),
        ("memory", CreateSandbox { memory_gib: Some(1), ..named("box") }),
        ("disk", CreateSandbox { disk_gib: Some(1), ..named("box") }),
    ];
    for (field, wanted) in sizes {
        let refused = all.create(&site.caller, wanted).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid);
        assert!(refused.message().starts_with(field), "{refused}");
        assert!(refused.message().contains("`unprivileged`"), "{refused}");
        assert!(refused.hint().is_some_and(|hint| hint.contains("as root")));
    }
    site.create("box").await;
    let resize = Resize { disk_gib: Some(9), ..Resize::default() };
    let refused = all.resize(&site.caller, "box", resize).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
    let record = all.get(&site.caller, "box").await.unwrap();
    assert_eq!(record.profile, Profile::Unprivileged);
    assert!(!record.network.block_all, "the network is none of what is missing");
    site.assert_in_line();
}

#[tokio::test(start_paused = true)]
async fn pausing_is_refused_before_anything_changes() {
    let site = unprivileged(World::new(7)).await.unwrap();
    let all = site.engine.sandboxes();
    let timers = Timers { auto_stop: 0, auto_pause: 5, ..Timers::default() };
    let wanted = CreateSandbox { timers, ..named("box") };
    assert_eq!(all.create(&site.caller, wanted).await.unwrap_err().kind(), Kind::Unsupported);
    site.create("box").await;
    let refused = all.pause(&site.caller, "box").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unsupported);
    let refused = all.set_timer(&site.caller, "box", Timer::AutoPause, 5).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unsupported);
    assert!(all.set_timer(&site.caller, "box", Timer::AutoPause, 0).await.is_ok());
    assert_eq!(site.state("box").await, Some(State::Started));
}

#[tokio::test(start_paused = true)]
async fn a_server_with_another_profile_does_not_take_over() {
    let world = World::new(7);
    let site = Site::on(world.clone(), &Fuse::never(), Settings::default()).await.unwrap();
    site.create("made-as-root").await;
    site.engine.shutdown().await;
    let refused = unprivileged(world.clone()).await.err().expect("the record says `full`");
    assert_eq!(refused.kind(), Kind::Conflict);
    for part in ["`made-as-root`", "`full`", "`unprivileged`"] {
        assert!(refused.message().contains(part), "{part} in {refused}");
    }
    assert!(refused.hint().is_some_and(|hint| hint.contains("as root")), "{refused:?}");
    // Nothing was converted or destroyed.
    let runtime = world.runtime(&Fuse::never());
    assert_eq!(runtime.peek().len(), 1);
    runtime.set_profile(Profile::Full);
    let site = Site::on(world, &Fuse::never(), Settings::default()).await.unwrap();
    assert_eq!(site.state("made-as-root").await, Some(State::Started));
}
