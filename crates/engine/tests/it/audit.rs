//! What is written down besides changes: refusals counted up, disk limits that changed.

use mayfly_core::access::{Caller, Permission};
use mayfly_core::event::{Event, What};
use mayfly_core::ports::runtime::DiskGuard;
use mayfly_engine::Refusal;

use crate::site::Site;

fn refusal(site: &Site, target: &str) -> Refusal {
    let organization = Some(site.caller.organization);
    Refusal { organization, sandbox: None, rule: "state", target: target.to_owned() }
}

fn told(events: &[Event]) -> Vec<String> {
    let told = events.iter().filter_map(|event| match &event.what {
        What::Audit { rule, target } => Some(format!("{rule}: {target}")),
        _ => None,
    });
    told.collect()
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted_up_and_told_of_their_sandbox() {
    let site = Site::new().await;
    site.create("box").await;
    for _ in 0..1000 {
        site.engine.refused(refusal(&site, "POST start"), Some("box"));
    }
    site.engine.refused(refusal(&site, "POST create"), None);
    let strange =
        Refusal { organization: Some(site.stranger().organization), ..refusal(&site, "GET") };
    site.engine.refused(strange, Some("box"));
    site.pass(1).await;
    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    let events = site.engine.sandboxes().events(&site.caller, "box", 50).await.unwrap();
    assert_eq!(told(&events), ["state: POST start, refused 1000 times"]);
    let others = site.engine.audit(&site.caller, 50).await.unwrap();
    assert_eq!(told(&others), ["state: POST create, refused 1 times"], "only one's own");
    let reader = Caller { permissions: [Permission::WriteSandboxes].into(), ..site.caller.clone() };
    assert!(site.engine.audit(&reader, 50).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_refusals_of_all_kinds_writes_a_bounded_number_of_events() {
    let site = Site::new().await;
    for number in 0..10_000 {
        site.engine.refused(refusal(&site, &format!("GET {number}")), None);
    }
    site.engine.shutdown().await;
    let events = site.engine.audit(&site.caller, 10_000).await.unwrap();
    assert!((200..300).contains(&events.len()), "{} events", events.len());
    assert!(told(&events).contains(&"state: others, refused 9744 times".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_changed_disk_limit_is_told_of_its_sandbox() {
    let site = Site::new().await;
    site.create("box").await;
    let id = site.engine.sandboxes().get(&site.caller, "box").await.unwrap().id;
    site.runtime.guard_next(vec![DiskGuard { id, limit: 77, lowered: true }]);
    site.pass(0).await;
    site.runtime.guard_next(vec![DiskGuard { id, limit: 99, lowered: false }]);
    site.pass(0).await;
    let events = site.engine.sandboxes().events(&site.caller, "box", 50).await.unwrap();
    assert_eq!(
        told(&events),
        [
            "storage pool: disk limit restored to 99 bytes",
            "storage pool: disk limit lowered to 77 bytes"
        ]
    );
}
