//! R3: disk limits are hard: a full sandbox gets a quota error, the pool and the neighbours notice nothing.

use std::os::unix::fs::MetadataExt;

use crate::harness::{Bench, Sandbox, only_full};

const POOL: u64 = 4 << 30;
/// Used up first, without writing it: leaves little of the smallest limit, 1 GiB.
const MOST: &str = "
def take(path, size):
    try:
        file = os.open(path, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        print(f'{path}={errno.errorcode[error.errno]}')
        return -1
    try:
        os.posix_fallocate(file, 0, size)
        print(f'{path}=OK')
    except OSError as error:
        print(f'{path}={errno.errorcode[error.errno]}')
    return file
";

fn open(disk_gib: u32) -> Option<(Bench, mayfly_core::ports::runtime::SandboxSpec)> {
    if !only_full("R3", "disk limit") {
        return None;
    }
    let bench = Bench::with("R3", |options| options.pool_bytes = Some(POOL))?;
    let mut spec = bench.spec();
    spec.resources.disk_gib = disk_gib;
    Some((bench, spec))
}

fn python(sandbox: &Sandbox<'_>, script: &str) -> crate::harness::Ran {
    sandbox.python(&format!("{MOST}{script}"))
}

fn is_full(answer: &str) -> bool {
    matches!(answer, "EDQUOT" | "ENOSPC")
}

#[test]
fn r03_a_full_sandbox_gets_an_error_and_others_write_on() {
    let Some((bench, spec)) = open(1) else { return };
    let (sandbox, neighbour) = (bench.sandbox_of(spec), bench.sandbox());
    let ran = python(
        &sandbox,
        "take('/var/most', 960 << 20)
file = os.open('/var/rest', os.O_CREAT | os.O_WRONLY)
written = 0
try:
    while written < 200 << 20:
        written += os.write(file, b'x' * (1 << 20))
    os.fsync(file)
    print('end=OK')
except OSError as error:
    print('end=' + errno.errorcode[error.errno])
print(f'written={written}')
take('/usr/more', 64 << 20)
take('/tmp/more', 64 << 20)",
    );
    assert_eq!(ran.value("/var/most"), "OK", "{}", ran.text);
    for place in ["end", "/usr/more", "/tmp/more"] {
        assert!(is_full(ran.value(place)), "every writable place counts: {}", ran.text);
    }
    assert!(ran.value("written").parse::<u64>().unwrap() <= 80 << 20, "{}", ran.text);
    let file = std::fs::metadata(bench.dir().join("pool.btrfs")).unwrap();
    assert!(file.blocks() * 512 < 1300 << 20, "host space used: {}", file.blocks() * 512);
    let other = neighbour.sh("head -c 20000000 /dev/zero > /var/x && stat -c %s /var/x");
    assert_eq!(other.text, "20000000\n");
    assert_eq!(
        sandbox.run(&["/bin/echo", "on"]).text,
        "on\n",
        "a full sandbox still runs commands"
    );
}

#[test]
fn r03_shows_under_a_raised_limit() {
    let Some((bench, spec)) = open(2) else { return };
    let ran =
        python(&bench.sandbox_of(spec), "take('/var/a', 960 << 20)\ntake('/var/b', 200 << 20)");
    assert_eq!((ran.value("/var/a"), ran.value("/var/b")), ("OK", "OK"));
}

#[test]
fn r03_sparse_files_count_what_they_hold() {
    let Some((bench, spec)) = open(1) else { return };
    let ran = python(
        &bench.sandbox_of(spec),
        "os.truncate(take('/var/sparse', 4096), 100 << 40)
print(f\"size={os.stat('/var/sparse').st_size}\")
take('/var/more', 2 << 30)
take('/var/fits', 512 << 20)",
    );
    assert_eq!(ran.value("size"), (100_u64 << 40).to_string(), "holes cost nothing");
    assert!(is_full(ran.value("/var/more")), "{}", ran.text);
    assert_eq!(ran.value("/var/fits"), "OK", "a refused file is not charged");
}

#[test]
fn r03_deleted_but_open_files_count_until_they_are_closed() {
    let Some((bench, spec)) = open(1) else { return };
    let ran = python(
        &bench.sandbox_of(spec),
        "import time
held = take('/var/held', 900 << 20)
os.unlink('/var/held')
take('/var/while-open', 300 << 20)
os.close(held)
end = time.monotonic() + 20
answer = 'never'
while time.monotonic() < end and answer != 'OK':
    file = os.open('/var/later', os.O_CREAT | os.O_RDWR)
    try:
        os.posix_fallocate(file, 0, 300 << 20)
        answer = 'OK'
    except OSError as error:
        time.sleep(0.05)
    os.close(file)
print(f'later={answer}')",
    );
    assert!(is_full(ran.value("/var/while-open")), "{}", ran.text);
    assert_eq!(ran.value("later"), "OK", "space comes back with the close");
}

#[test]
fn r03_many_inodes_end_at_the_same_limit() {
    let Some((bench, spec)) = open(1) else { return };
    let sandbox = bench.sandbox_of(spec);
    let ran = python(
        &sandbox,
        "take('/var/most', 1000 << 20)
os.mkdir('/var/many')
made = 0
end = 'never'
try:
    while made < 200000:
        with open(f'/var/many/{made}', 'w') as file:
            file.write('x' * 1500)
        made += 1
except OSError as error:
    end = errno.errorcode[error.errno]
print(f'made={made}\\nend={end}')",
    );
    assert_eq!(ran.value("/var/most"), "OK", "{}", ran.text);
    assert!(is_full(ran.value("end")), "{}", ran.text);
    let file = std::fs::metadata(bench.dir().join("pool.btrfs")).unwrap();
    assert!(file.blocks() * 512 < 1300 << 20, "host space used: {}", file.blocks() * 512);
}
