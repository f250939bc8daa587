//! Timers: by monotonic time, held off by use, across restarts of server and host.

use std::time::Duration;

use mayfly_core::sandbox::{State, Timers};
use mayfly_engine::{CreateSandbox, Settings, Timer};
use mayfly_testkit::Fuse;

use crate::site::{Site, exec, named};

fn with(name: &str, timers: Timers) -> CreateSandbox {
    CreateSandbox { timers, ..named(name) }
}

#[tokio::test(start_paused = true)]
async fn idle_stopped_archived_deleted() {
    let site = Site::new().await;
    let timers = Timers { auto_stop: 10, auto_archive: 20, auto_delete: 50, ..Timers::default() };
    site.engine.sandboxes().create(&site.caller, with("box", timers)).await.unwrap();
    site.pass(9).await;
    assert_eq!(site.state("box").await, Some(State::Started));
    site.engine.sandboxes().touch(&site.caller, "box").await.unwrap();
    site.pass(9).await;
    assert_eq!(site.state("box").await, Some(State::Started), "a use begins the time anew");
    site.pass(1).await;
    assert_eq!(site.state("box").await, Some(State::Stopped));
    site.pass(20).await;
    assert_eq!(site.state("box").await, Some(State::Archived));
    site.pass(29).await;
    assert_eq!(site.state("box").await, Some(State::Archived));
    site.pass(1).await;
    assert_eq!(site.state("box").await, None, "stopped time counts on through the archive");
    site.assert_in_line();
}

#[tokio::test(start_paused = true)]
async fn ephemeral_and_time_to_live() {
    let site = Site::new().await;
    let all = site.engine.sandboxes();
    let ephemeral = Timers { auto_delete: 0, ..Timers::default() };
    all.create(&site.caller, with("brief", ephemeral)).await.unwrap();
    assert_eq!(all.stop(&site.caller, "brief", false).await.unwrap().state, State::Destroyed);
    let ttl = Timers { auto_stop: 0, ttl: 30, ..Timers::default() };
    all.create(&site.caller, with("stopped", ttl)).await.unwrap();
    all.stop(&site.caller, "stopped", false).await.unwrap();
    all.create(&site.caller, with("renewed", ttl)).await.unwrap();
    site.pass(20).await;
    all.set_timer(&site.caller, "renewed", Timer::Ttl, 30).await.unwrap();
    site.pass(10).await;
    assert_eq!(site.state("stopped").await, None, "in any state");
    assert_eq!(site.state("renewed").await, Some(State::Started), "counts anew");
    site.pass(20).await;
    assert_eq!(site.state("renewed").await, None);
    let pause = Timers { auto_stop: 0, auto_pause: 5, ..Timers::default() };
    all.create(&site.caller, with("pauses", pause)).await.unwrap();
    site.pass(5).await;
    assert_eq!(site.state("pauses").await, Some(State::Paused));
    site.assert_in_line();
}

#[tokio::test(start_paused = true)]
async fn l4_a_jump_of_the_wall_clock_ends_nothing_early_or_late() {
    let site = Site::new().await;
    site.create("box").await;
    for jump in [3_600_000, -7_200_000, 3_600_000] {
        site.world.clock.jump_wall(jump);
        site.pass(0).await;
        assert_eq!(site.state("box").await, Some(State::Started), "jump of {jump} ms");
    }
    site.world.clock.jump_wall(-3_600_000);
    site.pass(15).await;
    assert_eq!(site.state("box").await, Some(State::Stopped), "on time all the same");
}

#[tokio::test(start_paused = true)]
async fn l9_a_running_command_is_a_use() {
    let site = Site::new().await;
    site.create("box").await;
    let reach = site.engine.reach(&site.caller, "box").await.unwrap();
    let busy = tokio::spawn(async move { reach.exec(exec(&["sleep", "60"])).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..10 {
        site.pass(10).await;
        assert_eq!(site.state("box").await, Some(State::Started));
    }
    assert_eq!(busy.await.unwrap().unwrap().exit_code, 0);
    site.pass(14).await;
    assert_eq!(site.state("box").await, Some(State::Started), "idle since the command ended");
    site.pass(15).await;
    assert_eq!(site.state("box").await, Some(State::Stopped));
}

#[tokio::test(start_paused = true)]
async fn uses_and_times_survive_a_restart_of_the_server() {
    let site = Site::new().await;
    site.create("box").await;
    site.pass(10).await;
    site.engine.sandboxes().touch(&site.caller, "box").await.unwrap();
    site.engine.shutdown().await;
    let again = Site::on(site.world.clone(), &Fuse::never(), Settings::default()).await.unwrap();
    assert_eq!(again.state("box").await, Some(State::Started), "sandboxes live on");
    again.pass(14).await;
    assert_eq!(again.state("box").await, Some(State::Started), "the use was written down");
    again.pass(1).await;
    assert_eq!(again.state("box").await, Some(State::Stopped));
}

#[tokio::test(start_paused = true)]
async fn times_go_on_across_a_restart_of_the_host() {
    let site = Site::new().await;
    site.world.clock.advance(Duration::from_secs(1_000_000));
    let timers = Timers { auto_stop: 0, ttl: 60, ..Timers::default() };
    site.engine.sandboxes().create(&site.caller, with("box", timers)).await.unwrap();
    site.engine.shutdown().await;
    let world = site.world.rebooted("boot-2", Duration::from_mins(50));
    let again = Site::on(world, &Fuse::never(), Settings::default()).await.unwrap();
    let found = again.engine.sandboxes().get(&again.caller, "box").await.unwrap();
    assert_eq!(found.state, State::Stopped, "its processes ended with the host");
    assert!(found.error_reason.unwrap().contains("server was away"));
    again.pass(9).await;
    assert_eq!(again.state("box").await, Some(State::Stopped));
    again.pass(1).await;
    assert_eq!(again.state("box").await, None, "50 minutes off count, monotonic time or not");
    again.assert_in_line();
}
