//! R4: what the kernel counts per user or per machine is used up for the sandbox itself only.

use crate::harness::{Bench, rootless};
use crate::outside::unprotected;

/// Takes file watches until there are no more, and keeps them while the next script runs.
const HOARD: &str = "
count = 0
while _libc.inotify_init1(0) >= 0:
    count += 1
print(f'count={count}', flush=True)
if os.fork() == 0:
    os.setsid()
    for number in range(3):
        os.close(number)
    time.sleep(20)
";

const WATCH: &str = "print('watch=' + ('OK' if _libc.inotify_init1(0) >= 0 else 'refused'))";

/// Asynchronous I/O by the old interface: contexts count against one number of the machine.
const CONTEXT: &str = "
number = {'x86_64': 206, 'aarch64': 0}[platform.machine()]
attempt('context', lambda: call(number, 1, ctypes.byref(ctypes.c_ulong(0))))
";

#[test]
fn r04_watches_of_one_are_not_missing_for_others() {
    let Some(bench) = Bench::open("R4") else { return };
    let (hoarder, neighbour) = (bench.sandbox(), bench.sandbox());
    let hoarded = hoarder.python(HOARD);
    // Those of an ordinary user count for him, so that one sandbox gets a share of what he may have.
    let least = if rootless() { 16 } else { 100 };
    assert!(hoarded.value("count").parse::<u32>().unwrap() >= least, "{}", hoarded.text);
    assert_eq!(hoarder.python(WATCH).value("watch"), "refused");
    assert_eq!(neighbour.python(WATCH).value("watch"), "OK");
    assert_eq!(unprotected(WATCH).value("watch"), "OK");
}

#[test]
fn r04_no_share_of_a_number_of_the_machine() {
    let Some(bench) = Bench::open("R4") else { return };
    assert_eq!(bench.sandbox().python(CONTEXT).value("context"), "ENOSYS");
    // Outside, the host answers as it always does.
    assert_ne!(unprotected(CONTEXT).value("context"), "EPERM");
}
