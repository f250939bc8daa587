//! The life of the process and of its sandboxes: restarts, removal, refusals, what one costs.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mayfly_net::client::Client;
use mayfly_net::control::{Request, Status};
use mayfly_net::namespace::{fresh, inside};
use mayfly_net::way::Way;

use crate::world::{World, echo, eventually};

#[test]
fn a_killed_process_lets_nothing_through_until_its_sandboxes_are_added_again() {
    let mut world = World::new();
    world.serve(7, echo);
    let sandbox = world.sandbox("mode public");
    let mut open = sandbox.connect("1.1.1.1:7").unwrap();
    assert!(sandbox.reaches("1.1.1.1:7"));
    world.kill();
    assert_eq!(open.read(&mut [0; 4]).unwrap_or(0), 0);
    let refused = sandbox.connect("1.1.1.1:7").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    world.restart();
    assert!(sandbox.connect("1.1.1.1:7").is_err(), "no committed policy");
    world.add(&sandbox, "mode public");
    assert!(sandbox.reaches("1.1.1.1:7") && sandbox.reaches("[2606:4700::1]:7"));
}

#[test]
fn the_process_keeps_nothing_open_that_others_wait_for() {
    let world = World::new();
    let open = std::fs::read_dir(format!("/proc/{}/fd", world.pid())).unwrap();
    let zero =
        |path: std::path::PathBuf| std::fs::read_link(path).is_ok_and(|to| to.ends_with("zero"));
    assert!(!open.flatten().any(|entry| zero(entry.path())));
}

#[test]
fn n13_kills_under_load_let_nothing_through_that_the_policy_denies() {
    const KILLS: usize = 5;
    let mut world = World::new();
    world.serve(7, echo);
    let sandbox = world.sandbox("mode allow\ncidr 1.1.1.0/24");
    let is_over = AtomicBool::new(false);
    let (allowed, denied) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for (to, count) in
            [("1.1.1.1:7", &allowed), ("8.8.8.8:7", &denied), ("[2606::1]:7", &denied)]
        {
            let (sandbox, is_over) = (&sandbox, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    count.fetch_add(usize::from(sandbox.reaches(to)), Ordering::Relaxed);
                }
            });
        }
        for _ in 0..KILLS {
            let before = allowed.load(Ordering::Relaxed);
            eventually("traffic flows", || allowed.load(Ordering::Relaxed) > before + 20);
            world.restart();
            world.add(&sandbox, "mode allow\ncidr 1.1.1.0/24");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(denied.load(Ordering::Relaxed), 0);
}

#[test]
fn the_process_outlives_its_server() {
    let mut world = World::new();
    world.serve(7, echo);
    let sandbox = world.sandbox("mode public");
    let path = world.folder.join("control");
    world.client = Client::connect(&path).unwrap();
    assert!(sandbox.reaches("1.1.1.1:7"));
    assert_eq!(world.ask(&Request::List([0; 16])).ids(), [sandbox.id]);
    assert!(world.ask(&Request::List(sandbox.id)).ids().is_empty());
    assert_eq!(world.statistics(&sandbox).allowed, 1);
}

#[test]
fn a_namespace_that_waited_becomes_a_sandboxs_by_one_request() {
    let mut world = World::new();
    world.serve(7, echo);
    let mut sandbox = world.sandbox("mode block");
    let waited = sandbox.id;
    assert!(!sandbox.reaches("1.1.1.1:7"));
    let other = world.sandbox("mode block");
    let assign = |to, text: &str| Request::Assign(waited, to, text.to_owned());
    assert_eq!(world.ask(&assign(other.id, "mode public")).status, Status::Exists);
    assert_eq!(world.ask(&assign([0xab; 16], "mode none")).status, Status::BadPolicy);
    assert!(!sandbox.reaches("1.1.1.1:7"), "a refused request changes nothing");
    assert_eq!(world.ask(&assign([0xab; 16], "mode public")).status, Status::Done);
    assert!(sandbox.reaches("1.1.1.1:7"));
    assert_eq!(world.ask(&assign([0xac; 16], "mode public")).status, Status::Unknown);
    sandbox.id = [0xab; 16];
    assert!(world.audit(&sandbox).iter().any(|line| line.verdict == "allowed"));
    world.remove(&sandbox);
    assert_eq!(world.ask(&Request::List([0; 16])).ids(), [other.id]);
}

#[test]
fn a_removed_sandbox_keeps_nothing() {
    let mut world = World::new();
    world.serve(7, echo);
    let before = world.settled_descriptors();
    let sandbox = world.sandbox("mode public");
    let costs = if crate::WAY == Way::SkLookup { 3 } else { 2 };
    assert_eq!(world.settled_descriptors(), before + costs, "what an idle sandbox costs");
    let mut open = sandbox.connect("1.1.1.1:7").unwrap();
    open.write_all(b"ping").unwrap();
    open.read_exact(&mut [0; 4]).unwrap();
    sandbox.udp("8.8.8.8:4000").send(b"x").unwrap();
    eventually("the flow is there", || world.statistics(&sandbox).flows == 1);
    world.remove(&sandbox);
    assert!(open.read_exact(&mut [0; 1]).is_err());
    assert!(world.settled_descriptors() <= before + 4, "only spare pipes stay");
    assert_eq!(world.ask(&Request::Statistics(sandbox.id)).status, Status::Unknown);
    world.remove(&sandbox);
    assert_eq!(sandbox.connect("1.1.1.1:7").unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn what_cannot_be_added_is_refused_and_leaves_nothing() {
    let mut world = World::new();
    let sandbox = world.sandbox("mode public");
    let before = world.settled_descriptors();
    let add = |id: u8, policy: &str| Request::Add([id; 16], policy.to_owned());
    let other = fresh().unwrap();
    let exists =
        world.client.ask(&Request::Add(sandbox.id, "mode public".to_owned()), Some(other.as_fd()));
    assert_eq!(exists.unwrap().status, Status::Exists);
    let bad = world.client.ask(&add(99, "mode"), Some(other.as_fd())).unwrap();
    assert_eq!(bad.status, Status::BadPolicy);
    assert_eq!(world.ask(&add(99, "mode public")).status, Status::Malformed);
    let file = std::fs::File::open("/dev/null").unwrap();
    let wrong = world.client.ask(&add(99, "mode public"), Some(file.as_fd())).unwrap();
    assert_eq!(wrong.status, Status::Failed);
    assert!(String::from_utf8_lossy(&wrong.body).contains("enter the namespace"));
    assert_eq!(world.settled_descriptors(), before);
    assert_eq!(world.ask(&Request::List([0; 16])).ids().len(), 1);
}

#[test]
fn c3_a_set_up_that_fails_half_way_is_undone() {
    let mut world = World::new();
    let namespace = fresh().unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = inside(namespace.as_fd(), || {
            std::process::Command::new(program).args(arguments).output().unwrap()
        });
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    inside(namespace.as_fd(), || {
        std::fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "1").unwrap();
    })
    .unwrap();
    let request = Request::Add([99; 16], "mode public".to_owned());
    let answer = world.client.ask(&request, Some(namespace.as_fd())).unwrap();
    assert_eq!(answer.status, Status::Failed);
    assert!(String::from_utf8_lossy(&answer.body).starts_with("set up addresses and routes"));
    assert!(!run("ip", &["route", "show", "table", "local"]).contains("local default"));
    assert_eq!(run("ss", &["-tulnH"]), "");
    assert!(world.ask(&Request::List([0; 16])).ids().is_empty());
}

#[test]
fn idle_sandboxes_cost_no_time() {
    const COUNT: u8 = 100;
    let mut world = World::new();
    let _sandboxes: Vec<_> = (0..COUNT).map(|_| world.sandbox("mode public")).collect();
    let before = ticks(world.pid());
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(ticks(world.pid()) - before <= 1, "in hundredths of a second");
}

fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
