//! E20: the host's clock cannot be set.

use crate::harness::{Bench, OPEN};

/// Arguments that change nothing even where they are accepted.
const ATTEMPT: &str = "
tried('settimeofday', lambda: call('settimeofday', None, None))
tried('clock_settime', lambda: call('clock_settime', 0, None))
tried('adjtimex', lambda: call('adjtimex', ctypes.create_string_buffer(512)))
tried('clock_adjtime', lambda: call('clock_adjtime', 0, ctypes.create_string_buffer(512)))
tried('rtc', lambda: os.close(os.open('/dev/rtc0', os.O_RDONLY)))
tried('offsets', lambda: put('/proc/self/timens_offsets', 'monotonic 1000 0'))
";

#[test]
fn e20_clocks_cannot_be_set() {
    let Some(bench) = Bench::open("E20") else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    for verb in ["settimeofday", "clock_settime", "adjtimex", "clock_adjtime"] {
        assert_eq!(ran.value(verb), "EPERM", "{verb}");
    }
    assert_eq!(ran.value("rtc"), "ENOENT");
    assert_ne!(ran.value("offsets"), "OK");
}

#[test]
fn e20_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened_full("E20", OPEN) else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    for verb in ["settimeofday", "adjtimex", "clock_adjtime"] {
        assert_eq!(ran.value(verb), "OK", "{verb}");
    }
    assert_eq!(ran.value("clock_settime"), "EFAULT");
}
