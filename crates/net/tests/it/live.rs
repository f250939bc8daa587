//! Policies that change while connections are open (N9), and their refusal (C4).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mayfly_net::control::{Request, Status};

use crate::world::{World, echo, eventually};

fn is_alive(stream: &mut TcpStream) -> bool {
    let mut answer = [0_u8; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok()
}

#[test]
fn tightening_closes_what_is_no_longer_allowed_and_nothing_else() {
    let mut world = World::new();
    world.serve(7, echo);
    let sandbox = world.sandbox("mode public");
    let mut kept = sandbox.connect("1.1.1.1:7").unwrap();
    let mut cut = sandbox.connect("8.8.8.8:7").unwrap();
    let flow = sandbox.udp("8.8.8.8:4000");
    flow.send(b"x").unwrap();
    assert!(is_alive(&mut kept) && is_alive(&mut cut));
    eventually("the flow is there", || world.statistics(&sandbox).flows == 1);
    let start = Instant::now();
    world.set_policy(&sandbox, "mode allow\ncidr 1.1.1.0/24");
    assert!(!is_alive(&mut cut) && start.elapsed() < Duration::from_secs(2));
    assert!(is_alive(&mut kept) && !sandbox.reaches("8.8.8.8:7"));
    assert_eq!(world.statistics(&sandbox).flows, 0);
    world.set_policy(&sandbox, "mode block");
    assert!(!is_alive(&mut kept));
    world.set_policy(&sandbox, "mode public");
    assert!(sandbox.reaches("8.8.8.8:7"), "loosening needs no restart");
}

#[test]
fn another_proxy_cuts_what_does_not_go_through_it() {
    let mut world = World::new();
    world.serve(7, echo);
    let sandbox = world.sandbox("mode public");
    let mut open = sandbox.connect("1.1.1.1:7").unwrap();
    assert!(is_alive(&mut open));
    world.set_policy(&sandbox, "mode public\nconnections 9");
    assert!(is_alive(&mut open));
    world.set_policy(&sandbox, "mode public\nproxy http://5.6.7.8:3128");
    assert!(!is_alive(&mut open));
}

#[test]
fn a_policy_that_cannot_be_read_leaves_the_running_one() {
    let mut world = World::new();
    world.serve(7, echo);
    let sandbox = world.sandbox("mode allow\ncidr 1.1.1.1/32");
    for bad in ["", "mode open", "mode allow\ncidr 0.0.0.0/33", "mode public\ncolour red"] {
        let answer = world.ask(&Request::SetPolicy(sandbox.id, bad.to_owned()));
        assert_eq!(answer.status, Status::BadPolicy, "{bad}");
        assert!(sandbox.reaches("1.1.1.1:7") && !sandbox.reaches("1.1.1.2:7"));
    }
}

#[test]
fn a_new_address_of_the_host_is_denied_at_once() {
    let mut world = World::new();
    world.serve(7, echo);
    let sandbox = world.sandbox("mode public");
    let mut open = sandbox.connect("5.5.5.5:7").unwrap();
    assert!(is_alive(&mut open));
    crate::world::ip(
        &world.host,
        "addr add 5.5.5.5/32 dev lo\naddr add 2606:5::5/128 dev lo nodad\n",
    );
    eventually("the connection is cut", || !is_alive(&mut open));
    eventually("IPv6 too", || !sandbox.reaches("[2606:5::5]:7"));
    assert!(!sandbox.reaches("5.5.5.5:7"));
    crate::world::ip(&world.host, "addr del 5.5.5.5/32 dev lo\n");
    eventually("it is free again", || sandbox.reaches("5.5.5.5:7"));
}
