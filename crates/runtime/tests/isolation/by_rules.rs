//! The cases of the network once more, steered by packet rules: as root, who asks for them, and as an ordinary user,
//! for whom there is nothing else.
//!
//! Each runs one test of this program again. For the user root makes the pretend internet: he is started in the
//! namespace that traffic leaves from, and the sockets that answer him are opened for him.

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Output, Stdio};

use mayfly_core::Kind;
use mayfly_core::network::NetworkPolicy;
use mayfly_core::ports::runtime::{Layer, LayerState, Runtime as _};
use mayfly_runtime::local::{Options, Way};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::c01_missing_layers::{EPERM, number, refuse};
use crate::c01_of_users::{PLAY, USER, has_user};
use crate::harness::{Bench, rootless};
use crate::internet_ground::Ground;

/// Tells the inner run of root how to steer.
const STEERING: &str = "MAYFLY_TEST_STEERING";
/// Tells the inner run of the user that he asks for sockets at his standard input.
const LENDER: &str = "MAYFLY_TEST_LENDER";

/// How sandboxes of this run are steered; nothing = as the host offers.
pub(crate) fn steering() -> Option<Way> {
    std::env::var(STEERING).ok().map(|name| name.parse().unwrap())
}

/// Where this run asks for sockets of the internet.
pub(crate) fn lender() -> Option<OwnedFd> {
    std::env::var_os(LENDER)?;
    Some(std::io::stdin().as_fd().try_clone_to_owned().unwrap())
}

/// One test of this program.
fn program(test: &str) -> [String; 5] {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let rest = ["--exact", test, "--nocapture", "--test-threads=1"].map(str::to_owned);
    let [exact, test, nocapture, one] = rest;
    [program, exact, test, nocapture, one]
}

#[track_caller]
fn passed(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", text(&output.stderr));
    assert!(said.contains("1 passed") && !said.contains("SKIP"), "{said}");
}

/// Runs a test as root, steered by rules.
#[track_caller]
fn as_root(test: &str) {
    if rootless() {
        return println!("SKIP {test}: root, who runs it as both");
    }
    let [program, arguments @ ..] = program(test);
    let rules = Way::Tproxy.to_string();
    passed(&Command::new(program).args(arguments).env(STEERING, rules).output().unwrap());
}

/// Runs a test as an ordinary user.
#[track_caller]
fn as_user(test: &str) {
    if rootless() {
        return println!("SKIP {test}: root, who runs it as both");
    }
    if !has_user() {
        return println!("SKIP {test}: the user {USER}, made by `cargo xtask setup`");
    }
    let ground = Ground::make();
    let kind = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, kind.0, kind.1, None).unwrap();
    let spawn = || {
        Command::new("/usr/bin/python3")
            .args(["-I", "-c", PLAY, USER, "-1", "0", "0"])
            .args(program(test))
            .env(LENDER, "1")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let child = ground.on_host(spawn);
    std::thread::scope(|scope| {
        scope.spawn(|| ground.lend(&ours));
        passed(&child.wait_with_output().unwrap());
    });
}

/// A test of another module, as both.
macro_rules! again {
    ($($name:ident: $module:ident;)*) => {
        $(mod $name {
            #[test]
            fn by_rules() {
                super::as_root(concat!(stringify!($module), "::", stringify!($name)));
            }

            #[test]
            fn of_users() {
                super::as_user(concat!(stringify!($module), "::", stringify!($name)));
            }
        })*
    };
}

again! {
    n1_metadata_is_out_of_reach_in_every_form: n01_metadata;
    n1_a_name_that_changes_its_mind_leads_nowhere: n01_metadata;
    n4_private_ranges_need_the_caller_and_the_operator: n01_metadata;
    n2_no_address_of_the_host_answers: n02_host;
    n3_neighbours_are_out_of_reach: n02_host;
    n14_nothing_comes_in: n02_host;
    n5_only_what_proves_its_name_passes: n05_domains;
    n6_only_the_resolver_of_the_policy_and_only_allowed_names: n05_domains;
    n7_no_protocol_goes_round_the_policy: n07_protocols;
    n8_block_all_lets_nothing_out: n07_protocols;
    n8_nothing_leaves_before_the_first_policy_or_during_a_change: n07_protocols;
    n9_tightening_cuts_flows_and_loosening_needs_no_restart: n09_live;
    n13_a_killed_network_process_stops_traffic_and_comes_back: n09_live;
    the_network_outlives_its_server_and_the_next_one_takes_it_over: n09_live;
    a_network_process_killed_while_no_server_runs_is_replaced: n09_live;
    stopped_sandboxes_hold_no_network_and_get_it_again: n09_live;
}

/// The line of the doctor.
fn network_layer(bench: &Bench) -> Layer {
    let lines = bench.wait(bench.runtime().doctor());
    let held = lines.iter().filter(|line| line.required && line.state != LayerState::Holds);
    assert_eq!(held.count(), 0, "{lines:?}");
    lines.into_iter().find(|line| line.name == "network").unwrap()
}

#[test]
fn c1_root_who_may_not_load_programs_steers_by_rules() {
    if rootless() {
        return println!("SKIP C1: root, who may load programs otherwise");
    }
    refuse(number::BPF, None, EPERM);
    let Some(bench) = Bench::open("C1") else { return };
    let layer = network_layer(&bench);
    assert_eq!(layer.state, LayerState::Holds, "{layer:?}");
    for part in ["nftables tproxy", "sk_lookup: Operation not permitted"] {
        assert!(layer.evidence.contains(part), "{layer:?}");
    }
    assert!(bench.sandbox().sh("getent ahostsv4 mayfly.internal").text.contains("10.0.0.1"));
}

/// What an ordinary user has on a host whose kernel takes no packet rules.
#[test]
fn c1_a_user_without_any_way_has_loopback_only() {
    if !rootless() {
        return as_user("by_rules::c1_a_user_without_any_way_has_loopback_only");
    }
    let only_programs = |options: &mut Options| options.network.steering = Some(Way::SkLookup);
    let Some(bench) = Bench::with("C1", only_programs) else { return };
    assert!(!bench.runtime().has_network());
    let refused = bench.wait(bench.runtime().create(&bench.spec())).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(refused.message().contains("`network`"), "{refused}");
    let layer = network_layer(&bench);
    assert_eq!((layer.state, layer.required), (LayerState::Absent, false), "{layer:?}");
    assert!(layer.remedy.is_some_and(|remedy| remedy.contains("NFT_TPROXY")));
    let blocked = bench.sandbox_under(NetworkPolicy::blocked());
    assert!(blocked.reach("say('beyond', tcp('1.1.1.1'))").says("beyond=False"));
}
