//! R1: a fork bomb ends at the limit of processes; neighbours keep working.

use std::time::{Duration, Instant};

use mayfly_core::Kind;

use crate::harness::{Bench, Sandbox, within};

/// Forks sleeping children until the kernel refuses, and says how many there were.
const FORKS: &str = r"
import time
made = 0
while made < 5000:
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
    except OSError as error:
        print('end=' + errno.errorcode[error.errno])
        break
print(f'made={made}')
";

fn forks_until_refused(pids: u32) -> Option<(u32, String)> {
    let bench = Bench::with("R1", |options| options.ceilings.pids = pids)?;
    let sandbox = bench.sandbox();
    let ran = sandbox.python(FORKS);
    let made = ran.value("made").parse().unwrap();
    // The children live on; few more commands take the last places, the next one is refused and told so.
    std::thread::scope(|scope| {
        let refused = || {
            scope.spawn(|| sandbox.exec(&["/bin/sleep", "2"], |_| {}));
            let answer = sandbox.exec(&["/bin/true"], |_| {});
            answer.is_err_and(|error| error.kind() == Kind::Limit)
        };
        assert!(within(refused), "the limit is used up");
    });
    let used = bench.wait(runtime_usage(&bench, &sandbox)).pids;
    assert!(used <= u64::from(pids), "{used} of {pids}");
    Some((made, ran.value("end").to_owned()))
}

async fn runtime_usage(bench: &Bench, sandbox: &Sandbox<'_>) -> mayfly_core::ports::runtime::Usage {
    use mayfly_core::ports::runtime::Runtime as _;
    bench.runtime().usage(sandbox.id()).await.unwrap()
}

#[test]
fn r01_forking_ends_at_the_limit() {
    let Some((made, end)) = forks_until_refused(100) else { return };
    assert!((90..100).contains(&made), "{made}");
    assert_eq!(end, "EAGAIN");
}

#[test]
fn r01_shows_under_a_raised_limit() {
    let Some((made, _)) = forks_until_refused(400) else { return };
    assert!((390..400).contains(&made), "{made}");
}

#[test]
fn r01_neighbours_of_a_fork_bomb_stay_quick() {
    let Some(bench) = Bench::with("R1", |options| options.ceilings.pids = 200) else { return };
    let (bomb, neighbour) = (bench.sandbox(), bench.sandbox());
    let median = || {
        let mut times: Vec<Duration> = (0..21)
            .map(|_| {
                let begin = Instant::now();
                assert_eq!(neighbour.run(&["/bin/true"]).code, 0);
                begin.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    // The machine's own noise counts for both figures; the better of three is the honest one.
    let best = |rounds: u32| (0..rounds).map(|_| median()).min().unwrap();
    let quiet = best(3);
    // What it says of its own failing forks is of no interest.
    bomb.sh("bomb() { bomb | bomb & }; bomb 2>/dev/null");
    let loaded = best(3);
    assert!(
        loaded <= quiet * 2 + Duration::from_millis(2),
        "{loaded:?} with the bomb, {quiet:?} without"
    );
    let begin = Instant::now();
    bomb.stop();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}
