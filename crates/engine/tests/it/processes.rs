//! Processes that stay: found again by a later server, counted as use, bounded.

use bytes::Bytes;
use mayfly_core::process::Window;
use mayfly_core::sandbox::{State, Timers};
use mayfly_core::{Code, Kind};
use mayfly_engine::{CodeEvent, CodeRequest, CreateSandbox, NewTerminal, Reach, Settings, Timer};
use mayfly_testkit::Fuse;
use std::time::Duration;

use crate::site::{Site, named};

async fn reach(site: &Site) -> Reach {
    site.engine.reach(&site.caller, "box").await.unwrap()
}

async fn started(auto_stop: u32) -> Site {
    let site = Site::new().await;
    let timers = Timers { auto_stop, ..Timers::default() };
    let wanted = CreateSandbox { timers, ..named("box") };
    site.engine.sandboxes().create(&site.caller, wanted).await.unwrap();
    site
}

/// Another server on the same machine, after the first one was killed.
async fn later(site: Site) -> Site {
    let world = site.world.clone();
    drop(site);
    Site::on(world, &Fuse::never(), Settings::default()).await.unwrap()
}

fn terminal(id: &str, lazy: bool) -> NewTerminal {
    let window = Window { columns: 80, rows: 24 };
    NewTerminal { id: id.to_owned(), cwd: None, envs: [].into(), window, lazy }
}

async fn run(reach: &Reach, code: &str, context: Option<&str>) -> Vec<CodeEvent> {
    let context = context.map(str::to_owned);
    let timeout = Duration::from_mins(1);
    let request = CodeRequest { code: code.to_owned(), context, envs: [].into(), timeout };
    let mut run = reach.contexts().turn(request).await.unwrap().run().await.unwrap();
    let mut events = Vec::new();
    while !matches!(events.last(), Some(CodeEvent::Done | CodeEvent::TimedOut)) {
        events.push(run.next().await.unwrap());
    }
    events
}

fn printed(text: &str) -> CodeEvent {
    CodeEvent::Output(mayfly_core::process::Stream::Output, format!("{text}\n"))
}

#[tokio::test(start_paused = true)]
async fn l1_a_later_server_finds_all_of_them_with_their_state() {
    let site = started(0).await;
    let one = reach(&site).await;
    one.shells().create("s").await.unwrap();
    one.shells().run("s", "export A=1".to_owned()).await.unwrap();
    let waits = one.shells().run("s", "read x; echo $A".to_owned()).await.unwrap();
    one.terminals().create(terminal("t", false)).await.unwrap();
    one.terminals().create(terminal("lazy", true)).await.unwrap();
    let context = one.contexts().create(Some("/tmp".to_owned()), None).await.unwrap();
    run(&one, "x = 5", Some(&context.id)).await;
    run(&one, "x = 6", None).await;
    drop(one);
    let site = later(site).await;
    let two = reach(&site).await;
    two.shells().write("s", &waits.id, Bytes::from("go\n")).await.unwrap();
    let shown = two.shells().get("s").await.unwrap();
    let codes: Vec<_> = shown.commands.iter().map(|one| one.exit_code).collect();
    assert_eq!(codes, [Some(0), Some(0)]);
    let mut follower = two.shells().follow(waits.number).await.unwrap();
    assert_eq!(follower.next(99).await.unwrap().pieces[0].bytes, "1\n");
    let known: Vec<_> = two.terminals().all().await.unwrap();
    let known: Vec<_> = known.iter().map(|one| (one.id.as_str(), one.active)).collect();
    assert_eq!(known, [("t", true), ("lazy", false)]);
    assert!(two.terminals().attach("lazy").await.unwrap().active);
    assert_eq!(two.contexts().all().await.unwrap(), std::slice::from_ref(&context));
    assert_eq!(run(&two, "print(x)", Some(&context.id)).await[0], printed("5"));
    assert_eq!(run(&two, "print(x)", None).await[0], printed("6"));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_server_left_running_in_a_context_is_interrupted() {
    let site = started(0).await;
    let one = reach(&site).await;
    let timeout = Duration::from_secs(999);
    let code = "x = 1\nhang()".to_owned();
    let request = CodeRequest { code, context: None, envs: [].into(), timeout };
    let call = one.contexts().turn(request).await.unwrap().run().await.unwrap();
    drop((call, one));
    let site = later(site).await;
    assert_eq!(run(&reach(&site).await, "print(x)", None).await[0], printed("1"));
}

#[tokio::test(start_paused = true)]
async fn l9_a_command_that_nobody_waits_for_is_use_until_it_ends() {
    let site = started(10).await;
    let one = reach(&site).await;
    one.shells().create("s").await.unwrap();
    let waits = one.shells().run("s", "read x".to_owned()).await.unwrap();
    drop(one);
    for _ in 0..3 {
        site.pass(9).await;
        site.pass(9).await;
    }
    assert_eq!(site.state("box").await, Some(State::Started));
    let site = later(site).await;
    site.pass(60).await;
    assert_eq!(site.state("box").await, Some(State::Started), "a later server knows it, too");
    reach(&site).await.shells().write("s", &waits.id, Bytes::from("go\n")).await.unwrap();
    // Looks are five seconds apart.
    site.pass(0).await;
    site.pass(0).await;
    site.pass(9).await;
    assert_eq!(site.state("box").await, Some(State::Started), "the time begins at its end");
    site.pass(2).await;
    assert_eq!(site.state("box").await, Some(State::Stopped));
}

#[tokio::test(start_paused = true)]
async fn l9_a_restart_of_the_server_is_no_use() {
    let site = started(10).await;
    site.pass(9).await;
    let site = later(site).await;
    site.pass(1).await;
    assert_eq!(site.state("box").await, Some(State::Stopped));
}

#[tokio::test(start_paused = true)]
async fn they_end_with_their_sandbox_and_their_ids_are_free() {
    let site = started(0).await;
    let one = reach(&site).await;
    one.shells().create("s").await.unwrap();
    one.shells().run("s", "exit 1".to_owned()).await.unwrap();
    let over = one.shells().run("s", "echo".to_owned()).await.unwrap_err();
    assert_eq!(over.code(), Some(Code::SessionEnded));
    one.shells().create("s").await.unwrap();
    one.shells().run("s", "echo".to_owned()).await.unwrap();
    assert_eq!(one.shells().create("s").await.unwrap_err().kind(), Kind::Conflict);
    let all = site.engine.sandboxes();
    all.stop(&site.caller, "box", true).await.unwrap();
    all.start(&site.caller, "box").await.unwrap();
    let two = reach(&site).await;
    two.shells().create("s").await.unwrap();
    all.set_timer(&site.caller, "box", Timer::AutoStop, 1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn their_numbers_are_bounded() {
    let site = started(0).await;
    let one = reach(&site).await;
    for number in 0..128 {
        one.shells().create(&format!("s{number}")).await.unwrap();
        one.terminals().create(terminal(&format!("t{number}"), number % 2 == 0)).await.unwrap();
    }
    assert_eq!(one.shells().create("more").await.unwrap_err().kind(), Kind::Limit);
    let more = one.terminals().create(terminal("more", false)).await;
    assert_eq!(more.unwrap_err().kind(), Kind::Limit);
    for _ in 0..32 {
        one.contexts().create(None, None).await.unwrap();
    }
    assert_eq!(one.contexts().create(None, None).await.unwrap_err().kind(), Kind::Limit);
    assert_eq!(run(&one, "print(on)", None).await[0], printed("on"), "the default one is extra");
}
