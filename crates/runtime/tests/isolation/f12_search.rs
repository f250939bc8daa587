//! F12: searches over many files, with hostile patterns or over binary data, are bounded.

use std::time::{Duration, Instant};

use crate::harness::{Bench, rounds};

#[test]
fn f12_searches_are_bounded() {
    let Some(bench) = Bench::open("F12") else { return };
    let sandbox = bench.sandbox();
    let (id, files) = (sandbox.id(), sandbox.files());
    let count = rounds(200_000, 5_000);
    let made = sandbox.exec(
        &["/usr/bin/python3", "-I", "-c", &format!(
            "
import os
for folder in range({count} // 1000):
    os.makedirs(f'/srv/many/{{folder}}')
    for number in range(1000):
        os.close(os.open(f'/srv/many/{{folder}}/' + 'a' * 100 + str(number), os.O_CREAT | os.O_WRONLY))
with open('/srv/many/binary', 'wb') as file:
    file.write(b'needle' + bytes(range(256)) * 4096)
with open('/srv/many/line', 'w') as file:
    file.write('x' * (8 << 20) + 'needle')
with open('/srv/many/text', 'w') as file:
    file.write('a needle\\n')
"
        )],
        |request| request.timeout = Duration::from_mins(1),
    );
    assert_eq!(made.unwrap().exit_code, 0);
    let start = Instant::now();
    let hostile = "*a".repeat(50) + "b";
    let none = sandbox.wait(files.search(id, "/srv/many", &hostile)).unwrap();
    assert_eq!(none, Vec::<String>::new());
    let some = sandbox.wait(files.search(id, "/srv/many", "*7")).unwrap();
    assert!(!some.is_empty() && some.len() <= count);
    let found = sandbox.wait(files.find(id, "/srv/many", "needle")).unwrap();
    assert!(found.iter().any(|found| found.file == "/srv/many/text"), "{}", found.len());
    // Binary files are passed over, and long lines are cut.
    assert!(found.iter().all(|found| found.file != "/srv/many/binary"));
    assert!(found.iter().all(|found| found.content.len() <= 4096 + 16));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
