//! R4: open files and sockets end at the limit per process; root inside cannot raise it.

use crate::harness::{Bench, Ran};

/// Opens files, then sockets, until it is refused.
fn exhaust(limit: u32) -> Option<Ran> {
    let bench = Bench::with("R4", |options| options.ceilings.open_files = limit)?;
    let sandbox = bench.sandbox();
    let ran = sandbox.python(
        "import resource
def fill(what, make):
    held = []
    try:
        while len(held) < 5000:
            held.append(make())
        print(f'{what}=none')
    except OSError as error:
        print(f'{what}=' + errno.errorcode[error.errno])
    print(f'held_{what}={len(held)}')
fill('files', lambda: open('/etc/passwd'))
fill('sockets', lambda: socket.socket())
fill('pairs', lambda: socket.socketpair())
limits = struct.pack('QQ', 1 << 20, 1 << 20)
print('raise=' + name(call(302, 0, resource.RLIMIT_NOFILE, limits, None)))",
    );
    assert_eq!(sandbox.run(&["/bin/echo", "on"]).text, "on\n");
    Some(ran)
}

#[test]
fn r04_descriptors_end_at_the_limit() {
    let Some(ran) = exhaust(256) else { return };
    for what in ["files", "sockets", "pairs"] {
        assert_eq!(ran.value(what), "EMFILE", "{}", ran.text);
        let held: u32 = ran.value(&format!("held_{what}")).parse().unwrap();
        assert!(held < 256, "{}", ran.text);
    }
    assert_eq!(ran.value("raise"), "EPERM", "{}", ran.text);
}

#[test]
fn r04_shows_under_a_raised_limit() {
    let Some(ran) = exhaust(1024) else { return };
    let held: u32 = ran.value("held_files").parse().unwrap();
    assert!((900..1024).contains(&held), "{}", ran.text);
}
