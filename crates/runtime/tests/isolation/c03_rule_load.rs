//! C3: a network that cannot be set up is a sandbox that is not started, and nothing of it stays.

use mayfly_core::network::NetworkPolicy;
use mayfly_core::ports::runtime::{Runtime as _, SandboxSpec};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::internet::Internet;

#[test]
fn c3_no_sandbox_without_its_network() {
    let Some((_internet, bench)) = Internet::open("C3", |options| options.namespaces = 0) else {
        return;
    };
    let first = bench.sandbox_under(NetworkPolicy::default());
    let [pid] = bench.runtime().network_pids()[..] else { panic!("one process") };
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let maximum = line.split_whitespace().nth(4).unwrap().parse().ok();
    let tight = Rlimit { current: Some(open), maximum };
    let pid = Pid::from_raw(pid);
    let former = prlimit(pid, Resource::Nofile, tight).unwrap();
    let spec = SandboxSpec { network: NetworkPolicy::default(), ..bench.spec() };
    let refused = bench.wait(bench.runtime().create(&spec));
    prlimit(pid, Resource::Nofile, former).unwrap();
    let refused = refused.expect_err("the process has no descriptor left");
    assert!(refused.message().contains("network"), "{refused}");
    let listed = bench.wait(bench.runtime().list()).unwrap();
    assert_eq!(listed.iter().map(|seen| seen.id).collect::<Vec<_>>(), [first.id()]);
    assert!(first.reach("say('first', tcp('1.1.1.1'))").says("first=True"), "others are untouched");
    let second = bench.sandbox_of(spec);
    assert!(second.reach("say('second', tcp('1.1.1.1'))").says("second=True"));
}
