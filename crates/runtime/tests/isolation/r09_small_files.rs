//! R9: very many small files are made and deleted without holding up others or the host's memory.

use std::time::{Duration, Instant};

use mayfly_core::ports::runtime::Runtime as _;

use crate::harness::{Bench, rounds};

#[test]
fn r09_many_small_files_come_and_go() {
    let Some(bench) = Bench::with("R9", |options| options.pool_bytes = Some(8 << 30)) else {
        return;
    };
    let (many, neighbour) = (bench.sandbox(), bench.sandbox());
    let count = rounds(1_000_000, 10_000);
    let script = format!(
        "for folder in range({}):
    os.makedirs(f'/var/many/{{folder}}')
    for file in range(1000):
        with open(f'/var/many/{{folder}}/{{file}}', 'w') as out:
            out.write('small')",
        count / 1000
    );
    let patience = Duration::from_mins(10);
    let made =
        many.exec(&["/usr/bin/python3", "-I", "-c", &format!("import os\n{script}")], |request| {
            request.timeout = patience;
        });
    let made = made.unwrap();
    assert_eq!(made.exit_code, 0, "{}", String::from_utf8_lossy(&made.output));
    let begin = Instant::now();
    // The delete and a neighbour's work at once.
    std::thread::scope(|scope| {
        let deleted = scope.spawn(|| {
            bench.wait_for(patience, bench.runtime().destroy(many.id())).unwrap();
        });
        for _ in 0..20 {
            let round = Instant::now();
            assert_eq!(neighbour.sh("echo x > /var/x && cat /var/x").text, "x\n");
            assert!(round.elapsed() < Duration::from_secs(2), "{:?}", round.elapsed());
        }
        deleted.join().unwrap();
    });
    assert!(begin.elapsed() < patience);
    let list = bench.wait(bench.runtime().list()).unwrap();
    assert_eq!(list.len(), 1, "{list:?}");
}
