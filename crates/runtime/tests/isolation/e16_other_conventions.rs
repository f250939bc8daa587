//! E16: 32-bit and x32 system calls do not get round the filter.
#![cfg(target_arch = "x86_64")]

use crate::harness::{Bench, OPEN};

/// `getpid` by each convention, then `unshare`, which the filter refuses by the usual one.
const ATTEMPT: &str = r"
import mmap
def native(code):
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    answer = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    return answer
def interrupt(number, argument=0):
    # push rbx; mov eax, number; mov ebx, argument; int 0x80; pop rbx; ret
    return native(b'\x53\xb8' + struct.pack('I', number) + b'\xbb' + struct.pack('I', argument)
        + b'\xcd\x80\x5b\xc3')
X32 = 0x40000000
tried('int getpid', lambda: interrupt(20))
tried('int unshare', lambda: interrupt(310, NEWUTS))
tried('x32 getpid', lambda: call(39 | X32))
tried('x32 unshare', lambda: call(272 | X32, NEWUTS))
tried('x32 only', lambda: call(520 | X32, None, None, None))
tried('negative', lambda: call(-1))
tried('beyond', lambda: call(0x3fffffff))
";

#[test]
fn e16_other_conventions_are_refused() {
    let Some(bench) = Bench::open("E16") else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    for what in ["int getpid", "int unshare"] {
        // Without 32-bit support the kernel ends the process instead.
        assert!(["ENOSYS", "status 11"].contains(&ran.value(what)), "{what} {}", ran.value(what));
    }
    for what in ["x32 getpid", "x32 unshare", "x32 only", "negative", "beyond"] {
        assert_eq!(ran.value(what), "ENOSYS", "{what}");
    }
}

#[test]
fn e16_shows_on_a_weakened_sandbox() {
    let Some(bench) = Bench::weakened("E16", OPEN) else { return };
    let ran = bench.sandbox().python(ATTEMPT);
    if ran.value("int getpid") == "status 11" {
        println!("SKIP E16: kernel support for 32-bit system calls");
    } else {
        assert_eq!((ran.value("int getpid"), ran.value("int unshare")), ("OK", "OK"));
    }
    if ran.value("x32 getpid") == "ENOSYS" {
        println!("SKIP E16: kernel support for x32 system calls");
    } else {
        assert_eq!((ran.value("x32 getpid"), ran.value("x32 unshare")), ("OK", "OK"));
    }
}
