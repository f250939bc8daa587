//! Keys.

use std::collections::BTreeSet;
use std::time::Duration;

use mayfly_core::Kind;
use mayfly_core::access::{Caller, Permission};
use mayfly_core::time::Timestamp;
use mayfly_engine::{NewKey, Settings};
use mayfly_testkit::Fuse;

use crate::site::Site;

fn key(name: &str, permission: Permission, expires_at: Option<Timestamp>) -> NewKey {
    NewKey { name: name.to_owned(), permissions: BTreeSet::from([permission]), expires_at }
}

#[tokio::test(start_paused = true)]
async fn the_first_key_is_made_once_and_opens_the_house() {
    let site = Site::new().await;
    let access = site.engine.access();
    let value = access.bootstrap_key(None).await.unwrap().unwrap();
    assert!(value.starts_with("mf_key_") && value.len() == 50, "{}", value.len());
    assert_eq!(access.bootstrap_key(None).await.unwrap(), None, "shown once");
    let caller = access.authenticate(&value).await.unwrap();
    assert!(caller.may(Permission::DeleteSandboxes));
    let kept = access.keys(&caller).await.unwrap().remove(0);
    assert!(!format!("{kept:?}").contains(&value), "kept as a hash");
    let again = Site::on(site.world.clone(), &Fuse::never(), Settings::default()).await.unwrap();
    assert_eq!(again.engine.access().authenticate(&value).await.unwrap(), caller);
    for wrong in ["", "mf_key_", &value[..49], &format!("{value}x")] {
        let refused = access.authenticate(wrong).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Unauthenticated);
    }
}

#[tokio::test(start_paused = true)]
async fn a_given_key_replaces_the_one_given_before() {
    let site = Site::new().await;
    let access = site.engine.access();
    assert_eq!(access.bootstrap_key(Some("first-given-key")).await.unwrap(), None);
    assert!(access.authenticate("first-given-key").await.is_ok());
    access.bootstrap_key(Some("first-given-key")).await.unwrap();
    access.bootstrap_key(Some("second-given-key")).await.unwrap();
    assert!(access.authenticate("second-given-key").await.is_ok());
    assert!(access.authenticate("first-given-key").await.is_err(), "also out of memory");
    assert_eq!(access.bootstrap_key(Some("a b")).await.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn keys_expire_and_are_revoked_at_once() {
    let site = Site::new().await;
    let (access, admin) = (site.engine.access(), &site.caller);
    let soon = Timestamp(1_767_225_600_000 + 60_000);
    let wanted = key("brief", Permission::WriteSandboxes, Some(soon));
    let (kept, value) = access.create_key(admin, wanted.clone()).await.unwrap();
    assert_eq!(access.authenticate(&value).await.unwrap().permissions, kept.permissions);
    let taken = access.create_key(admin, wanted).await.unwrap_err();
    assert_eq!(taken.kind(), Kind::Conflict);
    site.world.clock.advance(Duration::from_mins(1));
    assert_eq!(access.authenticate(&value).await.unwrap_err().kind(), Kind::Unauthenticated);
    let past = key("past", Permission::Admin, Some(Timestamp(5)));
    assert_eq!(access.create_key(admin, past).await.unwrap_err().kind(), Kind::Invalid);
    let lasting = key("lasting", Permission::WriteSandboxes, None);
    let (_, value) = access.create_key(admin, lasting).await.unwrap();
    let writer: Caller = access.authenticate(&value).await.unwrap();
    assert_eq!(access.keys(&writer).await.unwrap_err().kind(), Kind::Denied);
    access.delete_key(admin, "lasting").await.unwrap();
    assert!(access.authenticate(&value).await.is_err());
    assert_eq!(access.delete_key(admin, "lasting").await.unwrap_err().kind(), Kind::NotFound);
}
