//! How far a ratio of two runs' figures may be chance, told from the seconds of each run.
//!
//! A figure of a run is a sum over its seconds through another one (requests through time, CPU through requests). Each run's
//! seconds are drawn anew with replacement, in blocks of neighbours, because one slow second is rarely alone (circular block
//! bootstrap, block length n^(1/3)); 2000 draws give 2000 ratios, and the deviation of their logarithms. The interval is what
//! lies within Student's 97.5 % of that deviation, with as many degrees of freedom as there are blocks less two: of some ten
//! seconds the bare middle 95 % of the draws call three times as many equal runs different as they should. The draws have a
//! fixed seed: the same files give the same answer. What this cannot see is how much two runs of the same differ anyway
//! (another layout of memory, another neighbour on the host): for that, runs have to be repeated.

use fastrand::Rng;

const DRAWS: usize = 2000;
const SEED: u64 = 0x7469_6465;
/// Of fewer seconds nothing is said.
const FEWEST: usize = 8;
/// Longer runs are taken in steps of several seconds.
const MOST: usize = 1000;

/// One second: what is summed, and what it is divided by.
pub type Sample = (f64, f64);

/// Where the ratio lies with 95 % by the seconds' spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// No difference is possible.
    pub fn holds_one(&self) -> bool {
        self.low <= 1.0 && self.high >= 1.0
    }
}

/// The spread of b/a as factors of that ratio itself; a run that is too short or without figures counts as exact, and none
/// is known when both are.
pub fn spread(a: &[Sample], b: &[Sample]) -> Option<Interval> {
    let (a, b) = (usable(a), usable(b));
    let point =
        |samples: &Option<Vec<Sample>>| samples.as_deref().map_or(1.0, |all| quotient(all.iter()));
    if a.is_none() && b.is_none() {
        return None;
    }
    let middle = point(&b) / point(&a);
    let mut random = Rng::with_seed(SEED);
    let mut draw = |samples: &Option<Vec<Sample>>| {
        samples
            .as_deref()
            .map_or(1.0, |all| drawn(all, &mut random))
    };
    let ratios = (0..DRAWS).map(|_| {
        let below = draw(&a);
        draw(&b) / below / middle
    });
    let logs: Vec<f64> = ratios.map(f64::ln).filter(|log| log.is_finite()).collect();
    if logs.len() < DRAWS {
        return None;
    }
    let mean = logs.iter().sum::<f64>() / DRAWS as f64;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / DRAWS as f64;
    let known: Vec<_> = [&a, &b].into_iter().flatten().map(Vec::len).collect();
    let blocks: f64 = known
        .iter()
        .map(|n| (*n as f64 / block(*n) as f64).max(2.0))
        .sum();
    // Blocks that overlap vary less than the runs that they are drawn from.
    let bias = known
        .iter()
        .map(|n| *n as f64 / (n - block(*n)) as f64)
        .fold(1.0, f64::max);
    let half = student(blocks - known.len() as f64) * (variance * bias).sqrt();
    Some(Interval {
        low: (-half).exp(),
        high: half.exp(),
    })
}

/// Neighbours that are drawn together, of so many.
fn block(n: usize) -> usize {
    (n as f64).cbrt().round().max(1.0) as usize
}

/// The 97.5 % quantile of Student's distribution, by the expansion around the normal one's (Abramowitz and Stegun 26.7.5).
fn student(degrees: f64) -> f64 {
    let (z, v) = (1.959_964_f64, degrees.max(1.0));
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / v + second / v.powi(2) + third / v.powi(3)
}

/// The samples in at most [`MOST`] steps, when they say anything.
fn usable(samples: &[Sample]) -> Option<Vec<Sample>> {
    let fine = |sample: &&Sample| sample.0.is_finite() && sample.1.is_finite() && sample.1 > 0.0;
    let samples: Vec<_> = samples.iter().filter(fine).copied().collect();
    let step = samples.len().div_ceil(MOST).max(1);
    let sum = |part: &[Sample]| {
        part.iter()
            .fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    let grouped: Vec<_> = samples.chunks(step).map(sum).collect();
    let total = quotient(grouped.iter());
    (grouped.len() >= FEWEST && total.is_finite() && total > 0.0).then_some(grouped)
}

fn quotient<'a>(samples: impl Iterator<Item = &'a Sample>) -> f64 {
    let (above, below) = samples.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    above / below
}

/// The figure of a run that might as well have been.
fn drawn(samples: &[Sample], random: &mut Rng) -> f64 {
    let n = samples.len();
    let block = block(n);
    let (mut above, mut below, mut taken) = (0.0, 0.0, 0);
    while taken < n {
        let first = random.usize(..n);
        for at in first..first + block.min(n - taken) {
            let sample = samples[at % n];
            above += sample.0;
            below += sample.1;
        }
        taken += block;
    }
    above / below
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of a run with that rate, give or take.
    fn seconds(n: usize, rate: f64, give: f64, seed: u64) -> Vec<Sample> {
        let mut random = Rng::with_seed(seed);
        (0..n)
            .map(|_| (rate * (1.0 + give * (random.f64() * 2.0 - 1.0)), 1.0))
            .collect()
    }

    fn covers(a: &[Sample], b: &[Sample]) -> bool {
        let ratio = quotient(b.iter()) / quotient(a.iter());
        let spread = spread(a, b).unwrap();
        Interval {
            low: spread.low * ratio,
            high: spread.high * ratio,
        }
        .holds_one()
    }

    #[test]
    fn equal_runs_are_rarely_told_apart() {
        let mut random = Rng::with_seed(1);
        let mut seconds = || -> Vec<Sample> {
            (0..30)
                .map(|_| (5000.0 + 500.0 * random.f64(), 1.0))
                .collect()
        };
        let told_apart = (0..400).filter(|_| !covers(&seconds(), &seconds()));
        // 5 % are promised.
        let n = told_apart.count();
        assert!((8..=32).contains(&n), "{n} of 400");
    }

    #[test]
    fn students_quantiles_are_those_of_the_tables() {
        for (degrees, quantile) in [(4.0, 2.776), (10.0, 2.228), (30.0, 2.042), (1000.0, 1.962)] {
            assert!(
                (student(degrees) - quantile).abs() < 0.01,
                "{degrees}: {}",
                student(degrees)
            );
        }
    }

    #[test]
    fn a_difference_is_told_when_it_is_large_enough() {
        let a = seconds(30, 5000.0, 0.1, 1);
        assert!(!covers(&a, &seconds(30, 5500.0, 0.1, 2)));
        assert!(!covers(
            &seconds(5000, 5000.0, 0.5, 1),
            &seconds(5000, 5200.0, 0.5, 2)
        ));
    }

    #[test]
    fn slow_phases_widen_it() {
        let steady = seconds(60, 5000.0, 0.2, 1);
        let mut phases = steady.clone();
        phases.sort_by(|a, b| a.0.total_cmp(&b.0));
        let width = |samples: &[Sample]| spread(samples, samples).map(|i| i.high - i.low).unwrap();
        assert!(width(&phases) > width(&steady) * 1.3);
    }

    #[test]
    fn it_is_the_same_each_time_and_silent_of_nothing() {
        let (a, b) = (seconds(20, 100.0, 0.3, 1), seconds(20, 100.0, 0.3, 2));
        assert_eq!(spread(&a, &b), spread(&a, &b));
        assert_eq!(spread(&a[..5], &b[..5]), None);
        assert_eq!(spread(&[], &[]), None);
        let zeros = vec![(0.0, 1.0); 20];
        assert_eq!(spread(&zeros, &zeros), None);
        assert!(spread(&a, &[]).is_some());
        let wrong = vec![(f64::NAN, 1.0), (f64::INFINITY, 0.0)];
        assert_eq!(spread(&wrong, &wrong), None);
    }
}
