//! How long to wait before another attempt.

use super::config::RetryStrategy;

/// Milliseconds before the attempt after the `failures`-th failure (from 1).
///
/// `chance` is 0 to 1 and moves the delay within its jitter.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "delays are bounded by a day before they become whole numbers"
)]
pub(crate) fn delay(strategy: RetryStrategy, jitter: f64, failures: u32, chance: f64) -> i64 {
    const DAY: f64 = 86_400.0;
    let seconds = match strategy {
        RetryStrategy::Immediate => return 0,
        RetryStrategy::Linear { delay_secs } => delay_secs as f64,
        RetryStrategy::Exponential { initial_delay_secs, max_delay_secs, multiplier } => {
            let steps = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
            (initial_delay_secs as f64 * multiplier.powi(steps)).min(max_delay_secs as f64)
        }
    };
    (seconds.min(DAY) * (1.0 + jitter * (2.0 * chance - 1.0)) * 1000.0).round() as i64
}

/// A chance that is always the same for the same attempt: 0 to 1, spread evenly.
pub(crate) fn chance(run: &str, node: &str, key: &str, attempt: u32) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let parts = [run.as_bytes(), node.as_bytes(), key.as_bytes(), &attempt.to_le_bytes()];
    for byte in parts.into_iter().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // Mixes the last bytes into the high bits.
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    f64::from(u32::try_from(hash >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_limit_and_stay_within_the_jitter() {
        let strategy = RetryStrategy::default();
        let plain: Vec<i64> = (1..8).map(|n| delay(strategy, 0.1, n, 0.5)).collect();
        assert_eq!(plain, [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(delay(strategy, 0.1, 1, 0.0), 1800);
        assert_eq!(delay(strategy, 0.1, 1, 1.0), 2200);
        assert_eq!(delay(RetryStrategy::Linear { delay_secs: 7 }, 0.0, 9, 0.3), 7000);
        assert_eq!(delay(RetryStrategy::Immediate, 1.0, 9, 0.3), 0);
        assert_eq!(delay(strategy, 0.0, u32::MAX, 0.5), 60_000);
    }

    #[test]
    fn chances_are_spread() {
        let of = |n: u32| chance("run", "node", "default", n);
        assert!((of(1) - of(1)).abs() < f64::EPSILON);
        let low = (0..1000).filter(|n| of(*n) < 0.5).count();
        assert!((400..600).contains(&low), "{low}");
    }
}
