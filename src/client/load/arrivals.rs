//! When the requests of a fixed rate are due, whatever became of those before.

use super::mix::{Stream, rng};
use super::scenario::Spread;
use std::time::Duration;

/// The due times of one shard, ascending, without end.
///
/// A rate that is raised evenly over `ramp_up` has `A(t) = rate·t²/(2·ramp_up)` arrivals until `t`, and after that grows by
/// `rate` a second. Arrival number `a` is due at the inverse of that, and the numbers are 0, 1, 2, … (constant), dealt out
/// to the shards in turn, or the points of a Poisson process of their own on each shard, which together are one of the
/// whole rate.
pub struct Arrivals {
    rate: f64,
    ramp_up_s: f64,
    shard: u64,
    shards: u64,
    drawn: u64,
    random: Option<(fastrand::Rng, f64)>,
}

impl Arrivals {
    /// `rate` is that of all shards together.
    pub fn new(
        rate: f64,
        spread: Spread,
        ramp_up: Duration,
        (shard, shards): (usize, usize),
        seed: u64,
    ) -> Arrivals {
        assert!(
            rate > 0.0 && shard < shards,
            "a rate, and a shard of those that there are"
        );
        let random = match spread {
            Spread::Constant => None,
            Spread::Poisson => Some((rng(seed, shard, Stream::Arrivals), 0.0)),
        };
        Arrivals {
            rate,
            ramp_up_s: ramp_up.as_secs_f64(),
            shard: shard as u64,
            shards: shards as u64,
            drawn: 0,
            random,
        }
    }

    /// When the next one is due, since the begin of the run.
    pub fn draw(&mut self) -> Duration {
        let number = match &mut self.random {
            None => (self.shard + self.drawn * self.shards) as f64,
            Some((rng, reached)) => {
                // 1 - f64() is in (0, 1].
                *reached += -(1.0 - rng.f64()).ln() * self.shards as f64;
                *reached
            }
        };
        self.drawn += 1;
        let ramped = self.rate * self.ramp_up_s / 2.0;
        let due_s = if number < ramped {
            (2.0 * number * self.ramp_up_s / self.rate).sqrt()
        } else {
            self.ramp_up_s + (number - ramped) / self.rate
        };
        Duration::from_nanos((due_s * 1e9).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(arrivals: &mut Arrivals, count: usize) -> Vec<Duration> {
        (0..count).map(|_| arrivals.draw()).collect()
    }

    #[test]
    fn constant_gaps_are_exact() {
        let mut arrivals = Arrivals::new(500.0, Spread::Constant, Duration::ZERO, (0, 1), 1);
        let due = first(&mut arrivals, 10_000);
        let expected: Vec<_> = (0..10_000).map(|n| Duration::from_millis(2 * n)).collect();
        assert_eq!(due, expected);
    }

    #[test]
    fn shards_take_turns() {
        let mut all = Vec::new();
        for shard in 0..3 {
            let mut arrivals =
                Arrivals::new(1000.0, Spread::Constant, Duration::ZERO, (shard, 3), 1);
            all.extend(first(&mut arrivals, 100));
        }
        all.sort();
        let expected: Vec<_> = (0..300).map(Duration::from_millis).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn poisson_gaps_have_their_mean_and_spread() {
        let due = |seed, shard| {
            let mut arrivals =
                Arrivals::new(2000.0, Spread::Poisson, Duration::ZERO, (shard, 2), seed);
            first(&mut arrivals, 100_000)
        };
        let one = due(7, 0);
        // Of two shards each has 1000/s: the 100,000th comes at 100 s, give or take 0.3 s.
        let end = one.last().unwrap().as_secs_f64();
        assert!((98.0..102.0).contains(&end), "{end}");
        let gaps: Vec<_> = one
            .windows(2)
            .map(|w| (w[1] - w[0]).as_secs_f64())
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // The deviation of an exponential distribution is its mean; that of equal gaps would be 0.
        assert!((0.95..1.05).contains(&(variance.sqrt() / mean)));
        assert_eq!(one, due(7, 0), "the same seed");
        assert_ne!(one, due(8, 0), "another seed");
        assert_ne!(one, due(7, 1), "another shard");
    }

    #[test]
    fn a_ramp_raises_the_rate_evenly() {
        let ramp_up = Duration::from_secs(10);
        let mut arrivals = Arrivals::new(100.0, Spread::Constant, ramp_up, (0, 1), 1);
        let due = first(&mut arrivals, 2000);
        let within = |from: u64, to: u64| {
            let range = Duration::from_secs(from)..Duration::from_secs(to);
            due.iter().filter(|at| range.contains(at)).count() as i64
        };
        // Second n of the ramp has 10·n - 5.
        for second in 0..10 {
            let expected = 10 * (second as i64 + 1) - 5;
            assert!(
                (within(second, second + 1) - expected).abs() <= 1,
                "second {second}"
            );
        }
        assert!((within(10, 20) - 1000).abs() <= 1);
        assert!(due.is_sorted());
    }
}
