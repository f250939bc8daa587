//! L12: a full pool or disk refuses new sandboxes clearly, harms no other, and recovers.

use std::time::{Duration, Instant};

use mayfly_core::Kind;
use mayfly_core::ports::runtime::Runtime as _;

use crate::harness::{Bench, Ran, Sandbox, only_full, rounds};

/// Takes space until that much is taken or there is none.
fn take(sandbox: &Sandbox<'_>, megabytes: u32) -> Ran {
    sandbox.python(&format!(
        "file = os.open('/var/hog', os.O_CREAT | os.O_RDWR)
taken = 0
try:
    while taken < {megabytes}:
        os.posix_fallocate(file, taken << 20, 4 << 20)
        taken += 4
    print('end=OK')
except OSError as error:
    print('end=' + errno.errorcode[error.errno])
print(f'taken={{taken}}')"
    ))
}

fn refused(bench: &Bench) {
    let before = bench.wait(bench.runtime().list()).unwrap();
    let refused = bench.wait(bench.runtime().create(&bench.spec())).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(refused.message().contains("storage pool"), "{refused}");
    assert!(refused.hint().is_some());
    assert_eq!(bench.wait(bench.runtime().list()).unwrap(), before, "nothing half made");
}

fn recovers(bench: &Bench, patience: Duration) {
    let deadline = Instant::now() + patience;
    while let Err(error) = bench.wait(bench.runtime().create(&bench.spec())) {
        assert!(Instant::now() < deadline, "no space came back: {error}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn open() -> Option<Bench> {
    if !only_full("L12", "storage pool") {
        return None;
    }
    Bench::with("L12", |options| options.pool_bytes = Some(512 << 20))
}

#[test]
fn l12_a_nearly_full_pool_refuses_new_sandboxes_and_recovers_at_once() {
    let Some(bench) = open() else { return };
    let hog = bench.sandbox();
    // Within the sandbox's own limit; four fifths of the pool are the bound for new ones.
    assert_eq!(take(&hog, 400).value("end"), "OK");
    refused(&bench);
    bench.wait(bench.runtime().destroy(hog.id())).unwrap();
    recovers(&bench, Duration::from_secs(5));
}

#[test]
fn l12_a_full_pool_harms_no_running_sandbox() {
    let Some(bench) = open() else { return };
    let (hog, neighbour) = (bench.sandbox(), bench.sandbox());
    let ran = take(&hog, 1024);
    assert!(matches!(ran.value("end"), "ENOSPC" | "EDQUOT"), "{}", ran.text);
    refused(&bench);
    assert_eq!(neighbour.run(&["/bin/echo", "on"]).text, "on\n", "commands still run");
    assert_eq!(hog.run(&["/bin/echo", "on"]).text, "on\n");
    bench.wait(bench.runtime().destroy(hog.id())).unwrap();
    // The kernel gives emptied chunks back some 30 s after a pool was full to the last one.
    if rounds(1, 0) == 1 {
        recovers(&bench, Duration::from_secs(90));
    }
}

#[test]
fn l12_a_disk_below_its_reserve_refuses_new_sandboxes() {
    let Some(bench) = Bench::with("L12", |options| options.reserve_bytes = 1 << 60) else { return };
    let refused = bench.wait(bench.runtime().create(&bench.spec())).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(refused.message().contains("disk of the data directory"), "{refused}");
    assert!(bench.wait(bench.runtime().list()).unwrap().is_empty(), "nothing half made");
}
