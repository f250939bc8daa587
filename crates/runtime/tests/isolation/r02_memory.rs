//! R2: what takes too much memory is killed in its own sandbox; tmpfs is bounded and counted.

use mayfly_core::ports::runtime::Runtime as _;

use crate::harness::{Bench, Sandbox, rounds};

/// Takes 1,300 MiB, touched; more than the smallest sandbox has.
const GREEDY: &str = "held = b'x' * (1300 << 20)
print(f'held={len(held)}')";

fn greedy(sandbox: &Sandbox<'_>) -> crate::harness::Ran {
    sandbox.python(GREEDY)
}

#[test]
fn r02_a_memory_bomb_hurts_only_itself() {
    let Some(bench) = Bench::full("R2", "memory limit") else { return };
    let (bomb, neighbour) = (bench.sandbox(), bench.sandbox());
    let sleeper = neighbour.sh("sleep 60 >/dev/null 2>&1 & echo $!");
    let ran = greedy(&bomb);
    assert_eq!(ran.code, 137, "killed by the kernel: {}", ran.text);
    assert_eq!(bomb.run(&["/bin/echo", "on"]).text, "on\n", "the sandbox itself lives");
    let alive = neighbour.sh(&format!("kill -0 {} && echo alive", sleeper.text.trim()));
    assert_eq!(alive.text, "alive\n");
    let group = bench.wait(bench.runtime().usage(bomb.id())).unwrap();
    assert!(group.memory_bytes < 256 << 20, "given back: {}", group.memory_bytes);
}

#[test]
fn r02_shows_under_a_raised_limit() {
    let Some(bench) = Bench::full("R2", "memory limit") else { return };
    let mut spec = bench.spec();
    spec.resources.memory_gib = 2;
    let ran = greedy(&bench.sandbox_of(spec));
    assert_eq!((ran.code, ran.value("held")), (0, "1363148800"), "{}", ran.text);
}

#[test]
fn r02_shared_memory_is_bounded_and_counted() {
    let Some(bench) = Bench::full("R2", "memory limit") else { return };
    let sandbox = bench.sandbox();
    let used = || bench.wait(bench.runtime().usage(sandbox.id())).unwrap();
    let before = used();
    let ran = sandbox
        .sh("dd if=/dev/zero of=/dev/shm/bomb bs=1M count=200 2>&1; stat -c %s /dev/shm/bomb");
    assert!(ran.text.contains("No space left"), "{}", ran.text);
    assert!(ran.says("67108864"), "64 MiB: {}", ran.text);
    let after = used();
    let counted = (after.memory_bytes + after.memory_cache_bytes)
        .saturating_sub(before.memory_bytes + before.memory_cache_bytes);
    assert!(counted >= 60 << 20, "tmpfs counts as the sandbox's memory: {counted}");
    let files = sandbox.python(
        "made = 0
try:
    for made in range(100000):
        open(f'/dev/shm/{made}', 'w').close()
except OSError as error:
    print('end=' + errno.errorcode[error.errno])",
    );
    assert_eq!(files.value("end"), "ENOSPC", "inodes are bounded too");
}

#[test]
fn r02_page_cache_is_given_back_instead_of_killing() {
    let Some(bench) = Bench::with("R2", |options| options.pool_bytes = Some(8 << 30)) else {
        return;
    };
    let sandbox = bench.sandbox();
    // In full: more than the sandbox's memory.
    let megabytes = rounds(1500, 150);
    let ran = sandbox.exec(
        &["/bin/dd", "if=/dev/zero", "of=/var/hog", "bs=1M", &format!("count={megabytes}")],
        |request| request.timeout = std::time::Duration::from_mins(1),
    );
    assert_eq!(ran.unwrap().exit_code, 0);
    assert_eq!(sandbox.run(&["/bin/true"]).code, 0);
}
