//! Volumes: who may have which, what keeps one from being deleted, and what a crash leaves.

use std::time::Duration;

use mayfly_core::Kind;
use mayfly_core::access::{Permission, Quota};
use mayfly_core::ports::runtime::{Profile, Runtime as _};
use mayfly_core::ports::store::Store as _;
use mayfly_core::sandbox::{CreateSandbox, State};
use mayfly_core::volume::{VolumeState, WantedMount};
use mayfly_engine::Settings;
use mayfly_testkit::{Fuse, Verb, World};

use crate::site::{Site, named};

fn mounting(name: &str, volume: &str) -> CreateSandbox {
    let mount = WantedMount {
        volume: volume.to_owned(),
        path: "/data/".to_owned(),
        subpath: Some("a//b".to_owned()),
        read_only: true,
    };
    CreateSandbox { volumes: vec![mount], ..named(name) }
}

/// Records and files agree: what lasts has its files, and nothing else is there.
async fn assert_in_line(site: &Site) {
    let mut there = site.runtime.volumes().unwrap().list().await.unwrap();
    let mut known: Vec<_> = site
        .store
        .volumes()
        .await
        .unwrap()
        .into_iter()
        .filter(|volume| volume.state != VolumeState::Deleted)
        .inspect(|volume| assert_eq!(volume.state, VolumeState::Ready, "{volume:?}"))
        .map(|volume| volume.id)
        .collect();
    there.sort();
    known.sort();
    assert_eq!(there, known);
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_found_by_id_and_name_by_its_organization_only() {
    let site = Site::new().await;
    let (volumes, stranger) = (site.engine.volumes(), site.stranger());
    let made = volumes.create(&site.caller, "data", None).await.unwrap();
    assert_eq!((made.state, made.size_gib), (VolumeState::Ready, Settings::default().volume_gib));
    let id = made.id.to_string();
    assert_eq!(volumes.get(&site.caller, &id).unwrap(), made);
    assert_eq!(volumes.get(&site.caller, "data").unwrap(), made);
    assert_eq!(volumes.by_name(&site.caller, "data").unwrap(), made);
    assert_eq!(volumes.by_name(&site.caller, &id).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(volumes.list(&site.caller, false), [made]);
    for text in [id.as_str(), "data"] {
        assert_eq!(volumes.get(&stranger, text).unwrap_err().kind(), Kind::NotFound);
        let refused = volumes.delete(&stranger, text).await.unwrap_err();
        assert_eq!(refused.message(), format!("volume {text} not found"));
    }
    assert_eq!(volumes.list(&stranger, true), []);
    let taken = volumes.create(&site.caller, "data", None).await.unwrap_err();
    assert_eq!(taken.kind(), Kind::Conflict);
    let mut reader = site.caller.clone();
    reader.permissions = [Permission::WriteSandboxes].into();
    assert_eq!(volumes.create(&reader, "x", None).await.unwrap_err().kind(), Kind::Denied);
    assert_eq!(volumes.delete(&reader, "data").await.unwrap_err().kind(), Kind::Denied);
    for (name, size, kind) in [
        ("", None, Kind::Invalid),
        (id.as_str(), None, Kind::Invalid),
        ("big", Some(0), Kind::Invalid),
        ("big", Some(201), Kind::Limit),
    ] {
        assert_eq!(volumes.create(&site.caller, name, size).await.unwrap_err().kind(), kind);
    }
    assert_in_line(&site).await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_mounts_by_name_and_keeps_its_volume_until_it_is_destroyed() {
    let site = Site::new().await;
    let (volumes, sandboxes) = (site.engine.volumes(), site.engine.sandboxes());
    let id = volumes.create(&site.caller, "data", Some(3)).await.unwrap().id;
    let made = sandboxes.create(&site.caller, mounting("box", "data")).await.unwrap();
    let [mount] = &made.volumes[..] else { panic!("{made:?}") };
    assert_eq!((mount.volume, mount.path.as_str()), (id, "/data"));
    assert_eq!((mount.subpath.as_deref(), mount.read_only), (Some("a/b"), true));
    let used = volumes.get(&site.caller, "data").unwrap().last_used_at;
    assert!(used.is_some(), "its use shows");
    for step in ["started", "stopped"] {
        let refused = volumes.delete(&site.caller, "data").await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Conflict);
        assert!(refused.message().contains("in use by sandbox box"), "{step}: {refused}");
        sandboxes.stop(&site.caller, "box", true).await.unwrap();
    }
    sandboxes.start(&site.caller, "box").await.unwrap();
    sandboxes.delete(&site.caller, "box").await.unwrap();
    let deleted = volumes.delete(&site.caller, &id.to_string()).await.unwrap();
    assert_eq!(deleted.state, VolumeState::Deleted);
    assert_eq!(volumes.list(&site.caller, false), []);
    assert_eq!(volumes.list(&site.caller, true), [deleted]);
    assert_eq!(volumes.get(&site.caller, "data").unwrap_err().kind(), Kind::NotFound);
    volumes.create(&site.caller, "data", None).await.expect("the name is free again");
    assert_in_line(&site).await;
    site.pass(60 * 25).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(volumes.list(&site.caller, true).len(), 1, "deleted ones are forgotten");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_mounted_is_refused_by_name_and_leaves_nothing() {
    let site = Site::new().await;
    let (volumes, sandboxes) = (site.engine.volumes(), site.engine.sandboxes());
    let foreign = volumes.create(&site.stranger(), "theirs", None).await;
    assert!(foreign.is_err(), "an unknown organization has no volumes");
    let refused = sandboxes.create(&site.caller, mounting("box", "none")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.message()), (Kind::NotFound, "volume none not found"));
    site.runtime.delay(Verb::CreateVolume, Duration::from_secs(5));
    let (slow, early) = tokio::join!(volumes.create(&site.caller, "slow", None), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        sandboxes.create(&site.caller, mounting("box", "slow")).await
    });
    let early = early.unwrap_err();
    assert_eq!(early.kind(), Kind::Conflict);
    assert!(early.message().contains("slow is creating"), "{early}");
    slow.unwrap();
    site.runtime.fail(Verb::CreateVolume, Kind::Unavailable);
    let failed = volumes.create(&site.caller, "full", None).await.unwrap_err();
    assert_eq!(failed.kind(), Kind::Unavailable);
    let full = volumes.get(&site.caller, "full");
    assert!(full.is_err(), "what could not be made is taken away: {full:?}");
    assert_eq!(site.state("box").await, None);
    site.assert_in_line();
    assert_in_line(&site).await;
}

#[tokio::test(start_paused = true)]
async fn no_volume_is_deleted_under_a_sandbox_that_is_being_made() {
    let site = Site::new().await;
    let (volumes, sandboxes) = (site.engine.volumes(), site.engine.sandboxes());
    volumes.create(&site.caller, "data", None).await.unwrap();
    site.runtime.delay(Verb::Create, Duration::from_millis(500));
    let (made, refused) =
        tokio::join!(sandboxes.create(&site.caller, mounting("box", "data")), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            volumes.delete(&site.caller, "data").await
        });
    assert_eq!(made.unwrap().state, State::Started);
    assert_eq!(refused.unwrap_err().kind(), Kind::Conflict);
    sandboxes.delete(&site.caller, "box").await.unwrap();
    site.runtime.delay(Verb::DeleteVolume, Duration::from_millis(500));
    let (deleted, late) = tokio::join!(volumes.delete(&site.caller, "data"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        sandboxes.create(&site.caller, mounting("late", "data")).await
    });
    deleted.unwrap();
    assert_eq!(late.unwrap_err().kind(), Kind::Conflict);
    assert_in_line(&site).await;
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_volumes_holds_against_racing_calls() {
    let quota = Quota { volumes: Some(3), ..Quota::default() };
    let site = Site::with(Settings { quota, ..Settings::default() }).await;
    let volumes = site.engine.volumes();
    let calls = (0..10).map(|n| {
        let (engine, caller) = (site.engine.clone(), site.caller.clone());
        tokio::spawn(async move { engine.volumes().create(&caller, &format!("v{n}"), None).await })
    });
    let mut made = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => {
                assert_eq!(error.kind(), Kind::Limit);
                assert!(error.message().contains("limit of 3 volumes"), "{error}");
            }
        }
    }
    assert_eq!(made, 3);
    let organization = site.engine.organizations().list(&site.caller).await.unwrap().remove(0);
    assert_eq!(site.engine.organizations().usage(&organization).0.volumes, 3);
    let first = volumes.list(&site.caller, false)[0].name.clone();
    volumes.delete(&site.caller, &first).await.unwrap();
    volumes.create(&site.caller, "next", None).await.expect("there is room again");
    assert_in_line(&site).await;
}

#[tokio::test(start_paused = true)]
async fn an_ordinary_user_s_server_says_why_it_has_none() {
    let world = World::new(7);
    world.runtime(&Fuse::never()).set_profile(Profile::Unprivileged);
    let site = Site::on(world, &Fuse::never(), Settings::default()).await.unwrap();
    let refused = site.engine.volumes().create(&site.caller, "data", None).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unsupported);
    assert!(refused.message().contains("unprivileged"), "{refused}");
    let wish = mounting("box", "data");
    let refused = site.engine.sandboxes().create(&site.caller, wish).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unsupported);
    assert_eq!(site.engine.volumes().list(&site.caller, true), []);
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_files_are_gone_says_so_and_what_nobody_knows_is_deleted() {
    let site = Site::new().await;
    let volumes = site.engine.volumes();
    let made = volumes.create(&site.caller, "data", None).await.unwrap();
    let port = site.runtime.volumes().unwrap();
    port.delete(made.id).await.unwrap();
    let stray = mayfly_core::id::VolumeId::from_uuid(uuid::Uuid::now_v7());
    port.create(stray, 1).await.unwrap();
    site.pass(1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let lost = volumes.get(&site.caller, "data").unwrap();
    assert_eq!(lost.state, VolumeState::Error);
    assert!(lost.error_reason.unwrap().contains("gone"));
    let refused = site.engine.sandboxes().create(&site.caller, mounting("box", "data")).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(port.list().await.unwrap(), []);
    volumes.delete(&site.caller, "data").await.expect("a broken one can be deleted");
    assert_in_line(&site).await;
}

/// What a caller does with one volume.
async fn life(site: &Site) -> mayfly_core::Result<()> {
    let (volumes, sandboxes) = (site.engine.volumes(), site.engine.sandboxes());
    volumes.create(&site.caller, "data", None).await?;
    sandboxes.create(&site.caller, mounting("box", "data")).await?;
    sandboxes.delete(&site.caller, "box").await?;
    volumes.delete(&site.caller, "data").await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn l01_a_server_killed_at_any_step_leaves_no_volume_half_made_or_half_deleted() {
    let whole = Fuse::never();
    let site = Site::on(World::new(7), &whole, Settings::default()).await.unwrap();
    let opened = whole.used();
    life(&site).await.unwrap();
    let steps = whole.used();
    assert!(steps > opened + 12, "{steps}");
    for limit in opened..steps {
        let (world, fuse) = (World::new(7), Fuse::after(limit));
        let acknowledged = {
            let site = Site::on(world.clone(), &fuse, Settings::default()).await.unwrap();
            tokio::select! {
                done = life(&site) => done.expect("it blew after the last answer"),
                () = fuse.blown() => {}
            }
            // What was acknowledged before it blew: the record as readers saw it.
            let seen = site.engine.volumes().list(&site.caller, true);
            seen.first().map(|volume| volume.state)
        };
        let site = Site::on(world, &Fuse::never(), Settings::default()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_in_line(&site).await;
        site.assert_in_line();
        let now = site.engine.volumes().list(&site.caller, true).first().map(|v| v.state);
        if acknowledged == Some(VolumeState::Ready) {
            assert!(now.is_some(), "step {limit}: a volume that was ready is known");
        }
        if acknowledged == Some(VolumeState::Deleted) {
            assert_eq!(now, Some(VolumeState::Deleted), "step {limit}");
        }
        if site.state("box").await.is_none() {
            let volumes = site.engine.volumes();
            if volumes.get(&site.caller, "data").is_ok() {
                volumes.delete(&site.caller, "data").await.expect("nobody mounts it");
            }
        }
    }
}
