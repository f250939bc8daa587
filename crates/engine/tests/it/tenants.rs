//! Organizations: their limits, their end, what they hear and what is kept of what they did.

use std::time::Duration;

use mayfly_core::Kind;
use mayfly_core::access::{Caller, Permission, Quota};
use mayfly_core::audit::{Entry, Look};
use mayfly_core::sandbox::{CreateSandbox, State};
use mayfly_core::time::Timestamp;
use mayfly_engine::{NewKey, Resize, Settings};
use mayfly_testkit::{Fuse, World};

use crate::site::{Site, named};

impl Site {
    /// An organization with these limits, and who may do everything in it.
    async fn tenant(&self, name: &str, quota: Quota) -> Caller {
        let all = self.engine.organizations();
        all.create(&self.caller, name, quota).await.unwrap();
        let operator = self.engine.access().administrator_of(name).unwrap();
        let wanted = NewKey {
            name: "first".to_owned(),
            permissions: [Permission::Admin].into(),
            expires_at: None,
        };
        let (_, value) = self.engine.access().create_key(&operator, wanted).await.unwrap();
        self.engine.access().authenticate(&value).await.unwrap()
    }
}

fn sized(name: &str, cpu: u32, memory_gib: u32, disk_gib: u32) -> CreateSandbox {
    CreateSandbox {
        cpu: Some(cpu),
        memory_gib: Some(memory_gib),
        disk_gib: Some(disk_gib),
        ..named(name)
    }
}

#[tokio::test(start_paused = true)]
async fn every_limit_of_an_organization_is_named_when_it_is_reached() {
    let site = Site::new().await;
    let few = Quota { sandboxes: Some(2), ..Quota::default() };
    let small = Quota { cpu: Some(3), memory_gib: Some(4), disk_gib: Some(9), ..Quota::default() };
    let (few, small) = (site.tenant("few", few).await, site.tenant("small", small).await);
    let sandboxes = site.engine.sandboxes();
    for name in ["a", "b"] {
        sandboxes.create(&few, named(name)).await.unwrap();
    }
    let refused = sandboxes.create(&few, named("c")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Limit);
    assert!(refused.message().contains("limit of 2 sandboxes"), "{refused}");
    sandboxes.create(&site.caller, named("c")).await.expect("others are not held up");

    sandboxes.create(&small, sized("a", 2, 3, 5)).await.unwrap();
    for (wanted, words) in [
        (sized("b", 2, 1, 1), "limit of 3 cores"),
        (sized("b", 1, 2, 1), "limit of 4 GiB of memory"),
        (sized("b", 1, 1, 5), "limit of 9 GiB of disk"),
    ] {
        let refused = sandboxes.create(&small, wanted).await.unwrap_err();
        assert!(refused.kind() == Kind::Limit && refused.message().contains(words), "{refused}");
    }
    let resize = Resize { disk_gib: Some(10), ..Resize::default() };
    let refused = sandboxes.resize(&small, "a", resize).await.unwrap_err();
    assert!(refused.message().contains("limit of 9 GiB of disk"), "{refused}");
    let resize = Resize { cpu: Some(3), ..Resize::default() };
    sandboxes.resize(&small, "a", resize).await.expect("up to the limit");

    sandboxes.stop(&small, "a", false).await.unwrap();
    sandboxes.create(&small, sized("b", 1, 1, 1)).await.expect("a stopped one needs no cores");
    let refused = sandboxes.start(&small, "a").await.unwrap_err();
    assert!(refused.message().contains("limit of 3 cores"), "{refused}");
    assert_eq!(sandboxes.get(&small, "a").await.unwrap().state, State::Stopped, "left as it was");
    sandboxes.delete(&small, "b").await.unwrap();
    assert_eq!(sandboxes.start(&small, "a").await.unwrap().state, State::Started);
    assert_eq!(sandboxes.start(&small, "a").await.unwrap().state, State::Started, "again");
}

#[tokio::test(start_paused = true)]
async fn racing_calls_stay_within_the_limit() {
    let site = Site::new().await;
    let five = site.tenant("five", Quota { sandboxes: Some(5), ..Quota::default() }).await;
    let tries = (0..40).map(|number| {
        let (engine, five) = (site.engine.clone(), five.clone());
        tokio::spawn(async move {
            engine.sandboxes().create(&five, named(&format!("n{number}"))).await.is_ok()
        })
    });
    let mut made = 0;
    for one in tries.collect::<Vec<_>>() {
        made += usize::from(one.await.unwrap());
    }
    assert_eq!(made, 5);
}

#[tokio::test(start_paused = true)]
async fn limits_and_what_is_used_are_known_after_a_restart() {
    let world = World::new(7);
    let quota = Quota { sandboxes: Some(0), ..Quota::default() };
    let settings = || Settings {
        quota: Quota { sandboxes: Some(1), ..Quota::default() },
        ..Settings::default()
    };
    let site = Site::on(world.clone(), &Fuse::never(), settings()).await.unwrap();
    let (free, bound) =
        (site.tenant("free", quota).await, site.tenant("bound", Quota::default()).await);
    site.engine.sandboxes().create(&bound, named("a")).await.unwrap();
    site.engine.shutdown().await;
    drop(site);
    let site = Site::on(world, &Fuse::never(), settings()).await.unwrap();
    let refused = site.engine.sandboxes().create(&bound, named("b")).await.unwrap_err();
    assert!(refused.message().contains("limit of 1 sandboxes"), "the server's default: {refused}");
    for name in ["a", "b"] {
        site.engine.sandboxes().create(&free, named(name)).await.expect("0 = no limit");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claimed_sandbox_counts_for_its_new_owner() {
    let site = Site::with(Settings { warm: 1, ..Settings::default() }).await;
    let one = site.tenant("one", Quota { sandboxes: Some(1), ..Quota::default() }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.engine.sandboxes().create(&one, named("a")).await.unwrap();
    let refused = site.engine.sandboxes().create(&one, named("b")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Limit);
}

#[tokio::test(start_paused = true)]
async fn an_organization_ends_with_its_keys_but_not_with_sandboxes() {
    let site = Site::new().await;
    let caller = site.tenant("short", Quota::default()).await;
    let all = site.engine.organizations();
    site.engine.sandboxes().create(&caller, named("a")).await.unwrap();
    let refused = all.delete(&site.caller, "short").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    site.engine.sandboxes().create(&caller, named("b")).await.expect("it is open again");
    for name in ["a", "b"] {
        site.engine.sandboxes().delete(&caller, name).await.unwrap();
    }
    all.delete(&site.caller, "short").await.unwrap();
    assert!(all.get(&site.caller, "short").is_err());
    let late = site.engine.sandboxes().create(&caller, named("c")).await.unwrap_err();
    assert_eq!(late.kind(), Kind::Unauthenticated, "a call that was under way finds it closed");
    assert_eq!(all.delete(&site.caller, "default").await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(all.delete(&site.caller, "none").await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn only_the_operator_changes_organizations_and_keys_see_their_own() {
    let site = Site::new().await;
    let (one, two) =
        (site.tenant("one", Quota::default()).await, site.tenant("two", Quota::default()).await);
    let all = site.engine.organizations();
    let names = async |caller: &Caller| {
        let found = all.list(caller).await.unwrap();
        found.into_iter().map(|one| one.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&site.caller).await, ["default", "one", "two"]);
    assert_eq!(names(&one).await, ["one"]);
    assert_eq!(all.get(&two, "one").unwrap_err().kind(), Kind::NotFound);
    for refused in [
        all.create(&one, "three", Quota::default()).await.map(drop),
        all.set_quota(&one, "one", Quota::default()).await.map(drop),
        all.delete(&one, "one").await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), Kind::Denied);
    }
    for bad in ["", "-a", "a b", "0192f0c1-2b3c-7def-8123-456789abcdef", &"a".repeat(65)] {
        let refused = all.create(&site.caller, bad, Quota::default()).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid, "{bad:?}");
    }
    let names_of = ["one".to_owned(), "four".to_owned()];
    all.ensure(&names_of).await.unwrap();
    all.ensure(&names_of).await.unwrap();
    assert_eq!(names(&site.caller).await, ["default", "four", "one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn listeners_hear_their_own_organization_in_order_after_it_can_be_seen() {
    let site = Site::with(Settings { warm: 1, ..Settings::default() }).await;
    let (one, two) =
        (site.tenant("one", Quota::default()).await, site.tenant("two", Quota::default()).await);
    let mut heard = site.engine.listen(one.organization);
    let engine = site.engine.clone();
    tokio::time::sleep(Duration::from_secs(1)).await;
    engine.sandboxes().create(&two, named("other")).await.unwrap();
    engine.sandboxes().create(&one, named("box")).await.unwrap();
    engine.sandboxes().stop(&one, "box", false).await.unwrap();
    engine.sandboxes().set_labels(&one, "box", [("a".into(), "b".into())].into()).await.unwrap();
    engine.sandboxes().start(&one, "box").await.unwrap();
    engine.sandboxes().delete(&one, "box").await.unwrap();
    let mut steps = Vec::new();
    let mut version = 0;
    while let Ok(news) = heard.try_recv() {
        assert_eq!(news.sandbox.name, "box", "another organization is heard");
        assert!(news.sandbox.version > version, "out of order");
        version = news.sandbox.version;
        steps.push(match news.from {
            None => format!("new {}", news.sandbox.state),
            Some(from) => format!("{from} {}", news.sandbox.state),
        });
    }
    let last = ["started destroying", "destroying destroyed"];
    assert_eq!(steps[steps.len() - 2..], last, "{steps:?}");
    assert_eq!(steps.iter().filter(|step| step.starts_with("new")).count(), 1, "{steps:?}");
    for pair in ["started stopping", "stopping stopped", "stopped starting", "starting started"] {
        assert_eq!(steps.iter().filter(|step| *step == pair).count(), 1, "{pair} in {steps:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_comes_after_a_look_shows_it() {
    let site = Site::new().await;
    site.create("box").await;
    let mut heard = site.engine.listen(site.caller.organization);
    let (engine, caller) = (site.engine.clone(), site.caller.clone());
    let work = tokio::spawn(async move {
        for _ in 0..50 {
            engine.sandboxes().stop(&caller, "box", true).await.unwrap();
            engine.sandboxes().start(&caller, "box").await.unwrap();
        }
    });
    for _ in 0..200 {
        let news = heard.recv().await.unwrap();
        let seen = site.engine.sandboxes().get(&site.caller, "box").await.unwrap();
        assert!(seen.version >= news.sandbox.version, "{seen:?} before {news:?}");
        let kept = site.store.peek().into_iter().find(|row| row.id == seen.id).unwrap();
        assert!(kept.version >= news.sandbox.version, "lists come from the store");
    }
    work.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_done_is_read_by_its_administrators_only_and_calls_are_counted_up() {
    let site = Site::new().await;
    let (one, two) =
        (site.tenant("one", Quota::default()).await, site.tenant("two", Quota::default()).await);
    let log = site.engine.audit_log();
    let entry = |action: &str| Entry {
        id: 0,
        at: Timestamp(5),
        organization: one.organization,
        key: Some("first".to_owned()),
        origin: "192.0.2.1".to_owned(),
        action: action.to_owned(),
        object: Some("x".repeat(1000)),
        status: 200,
        rule: None,
        count: 1,
    };
    log.write(entry("POST /a")).await.unwrap();
    for _ in 0..3 {
        log.count(entry("POST /b"));
    }
    for number in 0..5000 {
        log.count(Entry { origin: number.to_string(), ..entry("POST /c") });
    }
    let look = Look { limit: 200, ..Look::default() };
    assert_eq!(log.read(&one, look).await.unwrap().total, 1, "changes are there at once");
    site.engine.shutdown().await;
    let page = log.read(&one, look).await.unwrap();
    assert!(page.total < 1100, "{} lines of a flood", page.total);
    let mut all = Vec::new();
    let mut look = look;
    loop {
        let page = log.read(&one, look).await.unwrap();
        let Some(last) = page.items.last() else { break };
        look.before = Some(last.id);
        all.extend(page.items);
    }
    let times = |action: &str| -> u64 {
        all.iter().filter(|line| line.action == action).map(|line| line.count).sum()
    };
    assert_eq!((times("POST /a"), times("POST /b")), (1, 3));
    assert_eq!(times("POST /c") + times("others"), 5000, "none is lost");
    assert!(all.iter().all(|line| line.object.as_ref().is_none_or(|text| text.len() <= 255)));
    assert_eq!(log.read(&two, look).await.unwrap().items, []);
    let weak = Caller { permissions: [Permission::WriteSandboxes].into(), ..one };
    assert_eq!(log.read(&weak, look).await.unwrap_err().kind(), Kind::Denied);
}
