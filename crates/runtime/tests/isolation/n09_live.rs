//! N9: policies change under running sandboxes; N13: the network process is killed.

use std::time::{Duration, Instant};

use mayfly_core::network::NetworkPolicy;
use mayfly_core::ports::runtime::Runtime as _;

use crate::harness::{Bench, Sandbox, within};
use crate::internet::{Internet, lists};

/// Opens connections and writes down, over and over, which of them still work.
const STREAMS: &str = "
if os.fork() == 0:
    os.setsid()
    for number in range(3):
        os.close(number)
    kept = {}
    while True:
        for host in ('1.1.1.1', '8.8.8.8'):
            try:
                stream = kept.get(host) or socket.create_connection((host, 7), 1)
                kept[host] = stream
                stream.settimeout(1)
                stream.sendall(b'ping')
                works = stream.recv(4) == b'ping'
            except OSError:
                works = False
            if not works:
                kept.pop(host, None)
            # The beat tells that what is read is new.
            put('/' + host, f'{works} {time.monotonic()}')
        time.sleep(0.01)
";

fn works(sandbox: &Sandbox<'_>, host: &str, wanted: bool) -> bool {
    let read = || String::from_utf8(sandbox.get(&format!("/{host}")).unwrap_or_default()).unwrap();
    let told = if wanted { "True" } else { "False" };
    within(|| {
        let first = read();
        first.starts_with(told)
            && within(|| {
                let second = read();
                !second.is_empty() && second != first
            })
            && read().starts_with(told)
    })
}

fn streaming(bench: &Bench, policy: NetworkPolicy) -> Sandbox<'_> {
    let sandbox = bench.sandbox_under(policy);
    assert_eq!(sandbox.reach(STREAMS).code, 0);
    sandbox
}

#[test]
fn n9_tightening_cuts_flows_and_loosening_needs_no_restart() {
    let Some((_internet, bench)) = Internet::open("N9", |_| {}) else { return };
    let sandbox = streaming(&bench, NetworkPolicy::default());
    assert!(works(&sandbox, "1.1.1.1", true) && works(&sandbox, "8.8.8.8", true));
    let begun = Instant::now();
    bench.set_network(&sandbox, &lists("1.1.1.1", ""));
    assert!(begun.elapsed() < Duration::from_secs(2), "the flows are cut when it returns");
    assert!(works(&sandbox, "8.8.8.8", false) && works(&sandbox, "1.1.1.1", true));
    bench.set_network(&sandbox, &NetworkPolicy::blocked());
    assert!(works(&sandbox, "1.1.1.1", false));
    bench.set_network(&sandbox, &lists("8.8.8.0/24", ""));
    assert!(works(&sandbox, "8.8.8.8", true) && works(&sandbox, "1.1.1.1", false));
    // A flow that stays allowed is not touched: one connection for all of it.
    let before = bench.audit(&sandbox).len();
    bench.set_network(&sandbox, &lists("8.8.8.0/24,7.7.7.7", ""));
    assert!(works(&sandbox, "8.8.8.8", true));
    let opened = bench.audit(&sandbox).into_iter().skip(before);
    assert!(opened.into_iter().all(|entry| entry.address.to_string() != "8.8.8.8"));
}

#[test]
fn n13_a_killed_network_process_stops_traffic_and_comes_back() {
    let Some((_internet, bench)) = Internet::open("N13", |_| {}) else { return };
    let sandbox = streaming(&bench, lists("1.1.1.1", ""));
    let idle = bench.sandbox_under(NetworkPolicy::blocked());
    for _ in 0..3 {
        assert!(works(&sandbox, "1.1.1.1", true));
        let [pid] = bench.runtime().network_pids()[..] else { panic!("one process") };
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let notice = bench.wait(bench.runtime().next_notice());
        assert_eq!(notice.rule, "network");
        assert!(works(&sandbox, "1.1.1.1", true), "traffic returns under the same policy");
        assert!(works(&sandbox, "8.8.8.8", false));
        assert!(!idle.reach("say('any', tcp('1.1.1.1'))").text.contains("True"));
    }
    let audit = bench.audit(&sandbox);
    assert!(
        audit
            .iter()
            .all(|entry| entry.verdict == "allowed" || entry.address.to_string() == "8.8.8.8")
    );
    // New ones are made as before, and what waited ahead still becomes one.
    let fresh = bench.sandbox_under(lists("8.8.8.8", ""));
    assert!(fresh.reach("say('new', tcp('8.8.8.8'))").says("new=True"));
}

#[test]
fn the_network_outlives_its_server_and_the_next_one_takes_it_over() {
    let Some((_internet, mut bench)) = Internet::open("N9", |_| {}) else { return };
    let spec = streaming(&bench, lists("1.1.1.1", "")).spec;
    let gone = bench.sandbox_under(NetworkPolicy::default()).spec.id;
    let before = bench.runtime().network_pids();
    bench.reopen();
    assert_eq!(bench.runtime().network_pids(), before, "the process was adopted");
    let sandbox = bench.adopted(spec);
    assert!(works(&sandbox, "1.1.1.1", true) && works(&sandbox, "8.8.8.8", false));
    bench.set_network(&sandbox, &lists("8.8.8.8", ""));
    assert!(works(&sandbox, "8.8.8.8", true) && works(&sandbox, "1.1.1.1", false));
    bench.wait(bench.runtime().destroy(gone)).unwrap();
    assert!(bench.audit(&sandbox).len() > 1);
    bench.wait(bench.runtime().destroy(sandbox.id())).unwrap();
    assert!(bench.audit(&sandbox).is_empty(), "the audit goes with its sandbox");
}

#[test]
fn a_network_process_killed_while_no_server_runs_is_replaced() {
    let Some((_internet, mut bench)) = Internet::open("N13", |_| {}) else { return };
    let spec = streaming(&bench, lists("1.1.1.1", "")).spec;
    let [pid] = bench.runtime().network_pids()[..] else { panic!("one process") };
    bench.reopen_after(|| {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    });
    let sandbox = bench.adopted(spec);
    assert_ne!(bench.runtime().network_pids(), [pid]);
    // No committed policy: nothing passes until the engine tells it again.
    assert!(works(&sandbox, "1.1.1.1", false));
    bench.set_network(&sandbox, &lists("1.1.1.1", ""));
    assert!(works(&sandbox, "1.1.1.1", true));
}

#[test]
fn stopped_sandboxes_hold_no_network_and_get_it_again() {
    let Some((_internet, bench)) = Internet::open("N9", |_| {}) else { return };
    let mut sandbox = bench.sandbox_under(NetworkPolicy::default());
    assert!(sandbox.reach("say('x', tcp('8.8.8.8'))").says("x=True"));
    sandbox.stop();
    sandbox.spec.network = lists("1.1.1.1", "");
    bench.set_network(&sandbox, &sandbox.spec.network);
    sandbox.start().unwrap();
    let ran = sandbox.reach("say('x', tcp('8.8.8.8'))\nsay('y', tcp('1.1.1.1'))");
    assert!(ran.says("x=False") && ran.says("y=True"), "{}", ran.text);
    assert!(bench.audit(&sandbox).len() >= 3, "the audit is of all its lives");
}
