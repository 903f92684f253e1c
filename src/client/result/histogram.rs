//! Raw histograms: percentiles, the mean, and the percentile curve. A value is its bucket's upper bound, so that nothing is
//! ever shown quicker than it was.

use super::RawHistogram;
use std::collections::BTreeMap;

/// Percentiles in result files and reports, with their names.
pub const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

/// How many values it holds.
pub fn total(raw: &RawHistogram) -> u64 {
    raw.iter().fold(0, |sum, (_, n)| sum.saturating_add(*n))
}

/// The smallest value that at least this part of all does not exceed; 0 of an empty histogram.
pub fn at_quantile(raw: &RawHistogram, quantile: f64) -> u64 {
    // Rounding must not make the 99 of 100 that 0.99 means to 100.
    let wanted = (quantile * total(raw) as f64 - 1e-6).ceil().max(1.0) as u64;
    let mut seen = 0_u64;
    for (value, n) in raw {
        seen = seen.saturating_add(*n);
        if seen >= wanted {
            return *value;
        }
    }
    raw.last().map_or(0, |(value, _)| *value)
}

/// The named percentiles; none of an empty histogram.
pub fn quantiles(raw: &RawHistogram) -> BTreeMap<String, u64> {
    if total(raw) == 0 {
        return BTreeMap::new();
    }
    let each = QUANTILES
        .iter()
        .map(|(name, quantile)| ((*name).to_owned(), at_quantile(raw, *quantile)));
    each.collect()
}

/// By the buckets' upper bounds.
pub fn mean(raw: &RawHistogram) -> f64 {
    let sum: f64 = raw.iter().map(|(v, n)| *v as f64 * *n as f64).sum();
    sum / total(raw).max(1) as f64
}

/// Both together.
pub fn merged(a: &RawHistogram, b: &RawHistogram) -> RawHistogram {
    let mut counts = BTreeMap::<u64, u64>::new();
    for (value, n) in a.iter().chain(b) {
        let count = counts.entry(*value).or_default();
        *count = count.saturating_add(*n);
    }
    counts.into_iter().filter(|(_, n)| *n > 0).collect()
}

/// A point of the percentile curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rank {
    /// 1/(1-q): 10 is the 90th percentile, 100 the 99th. The last value's is the number of all.
    pub one_in: f64,
    pub value: u64,
}

/// Value over rank, both ascending: what HdrHistogram's plots show.
pub fn curve(raw: &RawHistogram) -> Vec<Rank> {
    let all = total(raw);
    let (mut seen, mut points) = (0_u64, Vec::with_capacity(raw.len()));
    for (value, n) in raw.iter().filter(|(_, n)| *n > 0) {
        seen = seen.saturating_add(*n);
        let beyond = all.saturating_sub(seen).max(1);
        points.push(Rank {
            one_in: all as f64 / beyond as f64,
            value: *value,
        });
    }
    points
}

/// A histogram as files hold it, whatever one holds: ascending, one entry a value, none empty.
pub fn tidy(raw: &mut RawHistogram) {
    let ascending = raw.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if !ascending || raw.iter().any(|(_, n)| *n == 0) {
        *raw = merged(raw, &Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    fn raw(values: &[u64]) -> RawHistogram {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        values.iter().for_each(|v| histogram.record(*v).unwrap());
        let recorded = histogram.iter_recorded();
        recorded
            .map(|v| (v.value_iterated_to(), v.count_at_value()))
            .collect()
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_recorder(values in prop::collection::vec(0_u64..3_000_000, 1..300)) {
            let mut histogram = Histogram::<u64>::new(3).unwrap();
            values.iter().for_each(|v| histogram.record(*v).unwrap());
            for (name, quantile) in QUANTILES {
                let ours = at_quantile(&raw(&values), quantile);
                prop_assert_eq!(ours, histogram.value_at_quantile(quantile), "{}", name);
            }
        }

        #[test]
        fn a_curve_ascends_and_ends_at_the_highest(values in prop::collection::vec(0_u64..3_000_000, 1..300)) {
            let curve = curve(&raw(&values));
            prop_assert!(curve.windows(2).all(|p| p[0].value < p[1].value && p[0].one_in <= p[1].one_in));
            prop_assert!(curve.iter().all(|p| p.one_in >= 1.0));
            prop_assert_eq!(curve.last().unwrap().one_in, values.len() as f64);
            prop_assert!(curve.last().unwrap().value >= *values.iter().max().unwrap());
        }

        #[test]
        fn merging_loses_nothing(
            a in prop::collection::vec(0_u64..3_000_000, 0..200),
            b in prop::collection::vec(0_u64..3_000_000, 0..200),
        ) {
            let both = merged(&raw(&a), &raw(&b));
            prop_assert_eq!(total(&both), (a.len() + b.len()) as u64);
            prop_assert_eq!(&both, &raw(&[a.clone(), b.clone()].concat()));
            prop_assert_eq!(&both, &merged(&raw(&b), &raw(&a)));
        }
    }

    #[test]
    fn of_nothing_there_is_nothing() {
        let none = RawHistogram::new();
        assert_eq!((total(&none), at_quantile(&none, 0.99)), (0, 0));
        assert!(quantiles(&none).is_empty() && curve(&none).is_empty());
        assert_eq!(mean(&none), 0.0);
    }

    #[test]
    fn a_wrong_histogram_is_put_in_order() {
        let mut wrong = vec![(9, 1), (3, 2), (9, 4), (5, 0)];
        tidy(&mut wrong);
        assert_eq!(wrong, [(3, 2), (9, 5)]);
        let huge = vec![(u64::MAX, u64::MAX), (u64::MAX, u64::MAX)];
        assert_eq!(at_quantile(&huge, 0.5), u64::MAX);
        assert!(curve(&huge).iter().all(|p| p.one_in.is_finite()));
    }
}
