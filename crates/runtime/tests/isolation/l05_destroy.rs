//! L5: destroying twice, at once, late, or during anything else ends with the sandbox gone.

use std::time::Duration;

use mayfly_core::ports::runtime::Runtime as _;

use crate::census;
use crate::harness::{Bench, rounds, within};

#[test]
fn l05_double_and_late_destroys_are_successes() {
    let Some(bench) = Bench::open("L5") else { return };
    let sandbox = bench.sandbox();
    for _ in 0..3 {
        bench.wait(bench.runtime().destroy(sandbox.id())).unwrap();
    }
    bench.wait(bench.runtime().destroy(bench.spec().id)).unwrap();
    assert!(bench.wait(bench.runtime().list()).unwrap().is_empty());
}

#[test]
fn l05_destroys_during_other_verbs_win() {
    let Some(bench) = Bench::open("L5") else { return };
    let runtime = bench.runtime();
    for round in 0..rounds(200, 12) {
        let spec = bench.spec();
        let id = spec.id;
        if round % 3 != 0 {
            bench.wait(runtime.create(&spec)).unwrap();
        }
        std::thread::scope(|scope| {
            let (bench, spec) = (&bench, &spec);
            // Whether these pass or are refused depends on who is first.
            match round % 3 {
                0 => drop(scope.spawn(|| bench.wait(runtime.create(spec)).is_ok())),
                1 => drop(scope.spawn(|| {
                    let request = mayfly_core::process::ExecRequest {
                        argv: vec!["/bin/sleep".to_owned(), "5".to_owned()],
                        title: String::new(),
                        cwd: None,
                        env: std::collections::BTreeMap::new(),
                        stdin: bytes::Bytes::new(),
                        timeout: Duration::from_secs(8),
                        max_output: 10,
                    };
                    let ran = bench.wait(runtime.exec(id, request));
                    assert!(ran.is_err(), "its sandbox went away: {ran:?}");
                })),
                _ => drop(scope.spawn(|| bench.wait(runtime.stop(id, Duration::from_millis(50))))),
            }
            for _ in 0..3 {
                scope.spawn(move || bench.wait(runtime.destroy(id)).unwrap());
            }
        });
        // A create that came after all destroys is a new wish.
        bench.wait(runtime.destroy(id)).unwrap();
        assert!(bench.wait(runtime.list()).unwrap().is_empty(), "round {round}");
    }
    assert!(
        within(|| census::processes(bench.dir()).len() <= 2),
        "{:?}",
        census::processes(bench.dir())
    );
}
