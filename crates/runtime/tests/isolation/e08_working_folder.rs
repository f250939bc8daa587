//! E8: a working folder that is a descriptor, or a link to one, leads nowhere.

use crate::harness::{Bench, OPEN, Sandbox};

/// Where `pwd` says a command ran, for each way that was not refused.
fn tried(sandbox: &Sandbox<'_>, cwds: impl Iterator<Item = String>) -> Vec<String> {
    let show = "/bin/pwd -P; ls /proc/self/cwd/";
    cwds.filter_map(|cwd| {
        let ran = sandbox.exec(&["/bin/sh", "-c", show], |request| request.cwd = Some(cwd.clone()));
        ran.ok().map(|ran| format!("{cwd}: {}", String::from_utf8_lossy(&ran.output)))
    })
    .collect()
}

fn ways() -> impl Iterator<Item = String> {
    let numbers = (0..16)
        .flat_map(|number| [format!("/proc/self/fd/{number}"), format!("/proc/1/fd/{number}/..")]);
    let named =
        ["/proc/1/cwd", "/proc/1/root/..", "/tmp/link", "/tmp/link/..", "/proc/self/task/../fd/3"];
    numbers.chain(named.map(str::to_owned))
}

#[test]
fn e08_descriptors_are_no_working_folders() {
    let Some(bench) = Bench::open("E8") else { return };
    let sandbox = bench.sandbox();
    sandbox.sh("ln -s /proc/self/fd/4 /tmp/link");
    assert_eq!(tried(&sandbox, ways()), Vec::<String>::new());
    // Also when the sandbox was made with it.
    let mut spec = bench.spec();
    spec.workdir = Some("/proc/self/fd/4".to_owned());
    let sandbox = bench.sandbox_of(spec);
    assert!(sandbox.exec(&["/bin/pwd"], |_| {}).is_err());
    assert!(sandbox.wait(sandbox.files().list(sandbox.id(), ".", 1)).is_err());
    assert_eq!(
        sandbox.exec(&["/bin/pwd"], |r| r.cwd = Some("/tmp".into())).unwrap().output,
        "/tmp\n"
    );
}

#[test]
fn e08_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened("E8", OPEN) else { return };
    let sandbox = bench.sandbox();
    let entered = tried(&sandbox, ways());
    // The folder of the sandbox on the host, through the descriptor of its logs.
    assert!(entered.iter().any(|said| said.contains("usr-upper")), "{entered:?}");
}
