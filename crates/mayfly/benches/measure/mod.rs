//! What the benchmarks share: timing to the first byte, percentiles, one JSON line per figure.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Times of one kind, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// Adds one.
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e6);
    }

    /// The share `part` (0 to 1) of the times is at most this.
    pub(crate) fn percentile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index of a short list"
        )]
        let index = (last as f64 * part).round() as usize;
        sorted.get(index).copied().unwrap_or(0.0)
    }

    /// Number of times.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// What a figure must keep.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// At most this multiple of the floor.
    Ratio(f64),
    /// At most this value.
    AtMost(f64),
    /// At least this value.
    AtLeast(f64),
    /// Shown only.
    None,
}

/// Prints one figure as a line of JSON.
#[expect(clippy::print_stdout, reason = "the lines are the result of a benchmark")]
pub(crate) fn print(
    name: &str,
    unit: &str,
    n: usize,
    (p50, p99): (f64, f64),
    floor: Option<f64>,
    limit: Limit,
) {
    let ratio = floor.map(|floor| p50 / floor);
    let (bound, holds) = match limit {
        Limit::Ratio(most) => {
            (format!("\"<= {most}x\""), Some(ratio.is_some_and(|ratio| ratio <= most)))
        }
        Limit::AtMost(most) => (format!("\"<= {most}\""), Some(p50 <= most)),
        Limit::AtLeast(least) => (format!("\">= {least}\""), Some(p50 >= least)),
        Limit::None => ("null".to_owned(), None),
    };
    let number =
        |value: Option<f64>| value.map_or_else(|| "null".to_owned(), |value| format!("{value:.2}"));
    let holds = holds.map_or_else(|| "null".to_owned(), |holds| holds.to_string());
    println!(
        "{{\"name\":\"{name}\",\"unit\":\"{unit}\",\"n\":{n},\"p50\":{p50:.2},\"p99\":{p99:.2},\"floor\":{},\"ratio\":{},\"limit\":{bound},\"holds\":{holds}}}",
        number(floor),
        number(ratio)
    );
}

/// Prints a set of times against a floor.
pub(crate) fn print_times(name: &str, times: &Times, floor: Option<f64>, limit: Limit) {
    print(name, "us", times.count(), (times.percentile(0.5), times.percentile(0.99)), floor, limit);
}

/// From the call to output and exit code of a program that is started directly: the physical floor.
pub(crate) fn direct(argv: &[&str], n: usize) -> Times {
    let mut times = Times::default();
    for _ in 0..n {
        let began = Instant::now();
        let output = Command::new(argv[0]).args(&argv[1..]).stdin(Stdio::null()).output();
        times.add(began.elapsed());
        assert_eq!(output.expect("the program of the floor is installed").stdout, b"x\n");
    }
    times
}

/// Samples per figure: `MAYFLY_BENCH_N`, else the given number.
pub(crate) fn samples(usual: usize) -> usize {
    std::env::var("MAYFLY_BENCH_N").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
