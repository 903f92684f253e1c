//! The charts of one run and of several.

use super::super::words::{self, figure, micros};
use super::super::{Moment, ProcessUse, RawHistogram, Run, histogram};
use super::chart::{Axis, Chart, Line};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Steps on a time axis; of longer runs several seconds are one.
const STEPS: usize = 900;
/// Places on the axis of a percentile curve.
const RANKS: usize = 360;

/// A run with the name that it goes by on the page.
pub type NamedRun<'a> = (&'a str, &'a Run);

fn seconds(at: f64) -> String {
    format!("{} s", figure(at))
}

fn time_axis() -> Axis {
    Axis {
        label: "time since measuring began".to_owned(),
        log: false,
        text: seconds,
        ticks: None,
    }
}

fn value_axis(label: &str, text: fn(f64) -> String) -> Axis {
    Axis {
        label: label.to_owned(),
        log: false,
        text,
        ticks: None,
    }
}

fn latency_axis() -> Axis {
    Axis {
        log: true,
        ..value_axis("latency, logarithmic", micros)
    }
}

/// Timelines on common steps, each as long as makes [`STEPS`] of the longest.
struct Clock {
    step: f64,
    places: Vec<i64>,
}

impl Clock {
    fn new(times: &[f64]) -> Clock {
        let fine = || times.iter().filter(|at| at.abs() < 1e9);
        let (first, last) = (
            fine().copied().fold(0.0, f64::min),
            fine().copied().fold(0.0, f64::max),
        );
        let step = ((last - first) / STEPS as f64).ceil().max(1.0);
        let mut clock = Clock {
            step,
            places: Vec::new(),
        };
        let places: BTreeSet<_> = fine().map(|at| clock.place(*at)).collect();
        clock.places = places.into_iter().collect();
        clock
    }

    /// The step of a moment that began at about this second.
    fn place(&self, at: f64) -> i64 {
        ((at + 0.25) / self.step).floor() as i64
    }

    fn axis(&self) -> Vec<f64> {
        self.places
            .iter()
            .map(|place| *place as f64 * self.step)
            .collect()
    }

    /// One value for each step, from all that fall into it.
    fn line<T>(
        &self,
        all: &[T],
        at: impl Fn(&T) -> f64,
        value: impl Fn(&[&T]) -> f64,
    ) -> Vec<Option<f64>> {
        let mut by_place = BTreeMap::<i64, Vec<&T>>::new();
        for one in all {
            by_place.entry(self.place(at(one))).or_default().push(one);
        }
        self.places
            .iter()
            .map(|place| by_place.get(place).map(|some| value(some)))
            .collect()
    }

    fn note(&self) -> String {
        if self.step > 1.0 {
            format!(" Each step is {} s.", figure(self.step))
        } else {
            String::new()
        }
    }
}

fn moments_clock(runs: &[NamedRun<'_>]) -> Clock {
    let times: Vec<_> = runs
        .iter()
        .flat_map(|(_, run)| run.timeline.iter().map(|moment| moment.at))
        .collect();
    Clock::new(&times)
}

/// A sum over the moments of a step through their time.
fn per_second(moments: &[&Moment], of: fn(&Moment) -> u64) -> f64 {
    let seconds: f64 = moments.iter().map(|moment| moment.seconds).sum();
    let sum: f64 = moments.iter().map(|moment| of(moment) as f64).sum();
    if seconds > 0.0 {
        sum / seconds
    } else {
        f64::NAN
    }
}

fn highest(moments: &[&Moment], of: fn(&Moment) -> u64) -> f64 {
    moments.iter().map(|moment| of(moment)).max().unwrap_or(0) as f64
}

/// A second without an answer has no latency.
fn latency(clock: &Clock, run: &Run, of: fn(&Moment) -> u64) -> Vec<Option<f64>> {
    let line = clock.line(
        &run.timeline,
        |moment| moment.at,
        |moments| {
            let answered = moments.iter().any(|moment| moment.requests > 0);
            if answered {
                highest(moments, of)
            } else {
                f64::NAN
            }
        },
    );
    line.into_iter()
        .map(|value| value.filter(|value| value.is_finite()))
        .collect()
}

fn rates(clock: &Clock, run: &Run, of: fn(&Moment) -> u64) -> Vec<Option<f64>> {
    clock.line(
        &run.timeline,
        |moment| moment.at,
        |moments| per_second(moments, of),
    )
}

fn line(name: &str, values: Vec<Option<f64>>) -> Line {
    Line {
        name: name.to_owned(),
        values,
        dashed: false,
    }
}

/// Answers a second of one run, with what failed and what was intended.
pub fn throughput(run: &Run) -> Chart {
    let (clock, kind) = (moments_clock(&[("", run)]), words::kind(run));
    let mut lines = vec![line(
        "answered",
        rates(&clock, run, |moment| moment.requests),
    )];
    if run.timeline.iter().any(|moment| moment.failed > 0) {
        lines.push(line("failed", rates(&clock, run, |moment| moment.failed)));
    }
    let mut note = format!("How many {} were completed in each second.", kind.many);
    if let Some(rate) = words::rate(run) {
        let values = clock.places.iter().map(|_| Some(rate)).collect();
        lines.push(Line {
            dashed: true,
            ..line("intended", values)
        });
        note += " The dashed line is the rate that was to be sent: where answers stay below it, requests wait.";
    }
    Chart {
        title: "Throughput over time".to_owned(),
        note: note + &clock.note(),
        x: time_axis(),
        y: value_axis(&format!("{} a second", kind.many), figure),
        places: clock.axis(),
        lines,
        steps: false,
        half: false,
    }
}

fn bytes_a_second(value: f64) -> String {
    format!("{}/s", words::bytes(value))
}

/// Bytes a second of one run, when it carried bodies to speak of.
pub fn bytes(run: &Run) -> Option<Chart> {
    let clock = moments_clock(&[("", run)]);
    let mut lines = Vec::new();
    let mut add = |name: &str, of: fn(&Moment) -> u64| {
        if run.timeline.iter().any(|moment| of(moment) > 0) {
            lines.push(line(name, rates(&clock, run, of)));
        }
    };
    add("received, heads included", |moment| moment.bytes_received);
    add("sent bodies", |moment| moment.body_bytes_sent);
    (!lines.is_empty()).then(|| Chart {
        title: "Bytes over time".to_owned(),
        note: "What the load generator received and sent inside TLS, in powers of 1000.".to_owned()
            + &clock.note(),
        x: time_axis(),
        y: value_axis("bytes a second", bytes_a_second),
        places: clock.axis(),
        lines,
        steps: false,
        half: true,
    })
}

/// Requests that were due and waited for a free connection, when any ever did.
pub fn backlog(run: &Run) -> Option<Chart> {
    let clock = moments_clock(&[("", run)]);
    run.timeline.iter().any(|moment| moment.backlog > 0).then(|| Chart {
        title: "Waiting to be sent".to_owned(),
        note: "Requests that were due while every connection was busy. Their wait counts as latency.".to_owned() + &clock.note(),
        x: time_axis(),
        y: value_axis("requests", figure),
        places: clock.axis(),
        lines: vec![line(
            "waiting",
            clock.line(&run.timeline, |m| m.at, |moments| highest(moments, |m| m.backlog)),
        )],
        steps: false,
        half: true,
    })
}

/// p50, p99 and the maximum of each second of one run.
pub fn latency_over_time(run: &Run) -> Chart {
    let clock = moments_clock(&[("", run)]);
    let worst = if clock.step > 1.0 {
        " and the highest of its seconds"
    } else {
        ""
    };
    Chart {
        title: "Latency over time".to_owned(),
        note: format!(
            "Of the {} that ended within each second: half took at most p50, 99 of 100 at most p99, the slowest took max.{}{worst}",
            words::kind(run).many,
            clock.note()
        ),
        x: time_axis(),
        y: latency_axis(),
        places: clock.axis(),
        lines: vec![
            line("p50", latency(&clock, run, |moment| moment.p50_us)),
            line("p99", latency(&clock, run, |moment| moment.p99_us)),
            line("max", latency(&clock, run, |moment| moment.max_us)),
        ],
        steps: false,
        half: false,
    }
}

/// A rank 1/(1-q) as the percentile that it is.
fn percentile(one_in: f64) -> String {
    let q = 100.0 - 100.0 / one_in.max(1.0);
    let digits = (one_in.max(1.0).log10().ceil() as usize)
        .saturating_sub(2)
        .min(8);
    let text = format!("{q:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn at_percentile(one_in: f64) -> String {
    format!("p{}", percentile(one_in))
}

/// Latency by percentile of some histograms, the axis stretched towards the slowest.
pub fn percentiles(title: &str, note: &str, histograms: &[(&str, &RawHistogram)]) -> Chart {
    let most = histograms
        .iter()
        .map(|(_, raw)| histogram::total(raw))
        .max()
        .unwrap_or(0);
    // To the slowest single one, and beyond ten of them at least.
    let end = (most as f64).max(10.0);
    let places: Vec<_> = (0..=RANKS)
        .map(|at| end.powf(at as f64 / RANKS as f64))
        .collect();
    let values = |raw: &RawHistogram| {
        let (curve, all) = (histogram::curve(raw), histogram::total(raw) as f64);
        // A curve ends where its slowest single one stands.
        let end = places.partition_point(|one_in| *one_in < all * (1.0 - 1e-9));
        let value = |(at, one_in): (usize, &f64)| {
            let place = curve.partition_point(|rank| rank.one_in < one_in * (1.0 - 1e-9));
            let rank = match at.cmp(&end) {
                Ordering::Less => curve.get(place),
                Ordering::Equal => curve.last(),
                Ordering::Greater => None,
            };
            rank.map(|rank| rank.value as f64)
        };
        places.iter().enumerate().map(value).collect::<Vec<_>>()
    };
    let lines = histograms.iter().filter(|(_, raw)| !raw.is_empty());
    let tick = |one_in: f64| (one_in, percentile(one_in));
    let mut ticks = vec![tick(1.0), tick(2.0)];
    ticks.extend((1..=9).map(|power| tick(10_f64.powi(power))));
    Chart {
        title: title.to_owned(),
        note: format!(
            "{note} Each mark to the right is ten times rarer: at 99.9 stands what one in a thousand took, or longer; the end of \
             a line is the slowest of all."
        ),
        x: Axis {
            label: "percentile".to_owned(),
            log: true,
            text: at_percentile,
            ticks: Some(ticks),
        },
        y: latency_axis(),
        lines: lines.map(|(name, raw)| line(name, values(raw))).collect(),
        places,
        steps: true,
        half: false,
    }
}

fn percent(value: f64) -> String {
    format!("{} %", figure(value))
}

fn mebibytes(value: f64) -> String {
    format!("{} MiB", figure(value))
}

/// The processes of a run that are drawn, the load generator last.
fn drawn(run: &Run) -> Vec<(String, &ProcessUse)> {
    let named = run
        .processes
        .iter()
        .map(|process| (process.name.clone(), process));
    let load = (!run.load.timeline.is_empty()).then(|| ("load generator".to_owned(), &run.load));
    named
        .chain(load)
        .filter(|(_, process)| !process.timeline.is_empty())
        .collect()
}

/// CPU and memory of each process over time, when they were recorded.
pub fn processes(run: &Run) -> Vec<Chart> {
    let drawn = drawn(run);
    if drawn.is_empty() {
        return Vec::new();
    }
    let times: Vec<_> = drawn
        .iter()
        .flat_map(|(_, process)| process.timeline.iter().map(|one| one.at))
        .collect();
    let clock = Clock::new(&times);
    let chart = |title: &str, note: &str, y: Axis, of: fn(&super::super::UseMoment) -> f64| {
        let lines = drawn.iter().map(|(name, process)| {
            let mean = |some: &[&super::super::UseMoment]| {
                some.iter().map(|one| of(one)).sum::<f64>() / some.len() as f64
            };
            line(name, clock.line(&process.timeline, |one| one.at, mean))
        });
        Chart {
            title: title.to_owned(),
            note: note.to_owned() + &clock.note(),
            x: time_axis(),
            y,
            places: clock.axis(),
            lines: lines.collect(),
            steps: false,
            half: true,
        }
    };
    vec![
        chart(
            "CPU over time",
            "100 % is one core, kernel time on behalf of the process included.",
            value_axis("percent of a core", percent),
            |one| one.cpu_percent,
        ),
        chart(
            "Memory over time",
            "Resident memory of the process; the kernel's own, for sockets, is not in it.",
            value_axis("resident memory", mebibytes),
            |one| one.rss_kib as f64 / 1024.0,
        ),
    ]
}

/// Answers a second of several runs.
pub fn throughputs(runs: &[NamedRun<'_>]) -> Chart {
    let clock = moments_clock(runs);
    let transfer = runs.iter().all(|(_, run)| run.kind == "transfer");
    let (label, text): (_, fn(f64) -> String) = if transfer {
        ("bytes of bodies a second", bytes_a_second)
    } else {
        ("completed a second", figure)
    };
    let of: fn(&Moment) -> u64 = if transfer {
        |moment| {
            moment
                .body_bytes_received
                .saturating_add(moment.body_bytes_sent)
        }
    } else {
        |moment| moment.requests
    };
    Chart {
        title: "Throughput over time".to_owned(),
        note: "Each run from the moment that its measuring began.".to_owned() + &clock.note(),
        x: time_axis(),
        y: value_axis(label, text),
        places: clock.axis(),
        lines: runs
            .iter()
            .map(|(name, run)| line(name, rates(&clock, run, of)))
            .collect(),
        steps: false,
        half: false,
    }
}

/// p99 of each second of several runs.
pub fn p99_over_time(runs: &[NamedRun<'_>]) -> Chart {
    let clock = moments_clock(runs);
    Chart {
        title: "p99 over time".to_owned(),
        note: "Of each second, 99 of 100 took at most this long.".to_owned() + &clock.note(),
        x: time_axis(),
        y: latency_axis(),
        places: clock.axis(),
        lines: runs
            .iter()
            .map(|(name, run)| line(name, latency(&clock, run, |moment| moment.p99_us)))
            .collect(),
        steps: false,
        half: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing;
    use super::*;

    #[test]
    fn a_percentile_curve_never_falls() {
        let raw = testing::latencies(900.0, 12_345);
        let chart = percentiles("t", "n", &[("a", &raw), ("few", &vec![(5, 3), (9, 1)])]);
        let known: Vec<_> = chart.lines[0].values.iter().flatten().copied().collect();
        assert_eq!(known.len(), chart.places.len());
        assert!(known.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(
            known.last().copied(),
            raw.last().map(|(value, _)| *value as f64)
        );
        // Four values say nothing of the 99th percentile.
        let few = &chart.lines[1].values;
        assert!(few[0] == Some(5.0) && few.last() == Some(&None) && few.contains(&Some(9.0)));
    }

    #[test]
    fn percentiles_are_written_as_short_as_may_be() {
        let texts = [1.0, 2.0, 10.0, 100.0, 1000.0, 1e4, 1e6].map(percentile);
        assert_eq!(texts, ["0", "50", "90", "99", "99.9", "99.99", "99.9999"]);
    }

    #[test]
    fn long_runs_are_drawn_in_steps() {
        let mut run = testing::run();
        run.timeline = (0..10_000)
            .map(|at| Moment {
                at: f64::from(at),
                seconds: 1.0,
                requests: 100,
                p99_us: 10 + u64::from(at == 5000),
                ..Moment::default()
            })
            .collect();
        let chart = throughput(&run);
        assert!(
            chart.places.len() <= STEPS + 1 && chart.note.contains("Each step is 12.0 s"),
            "{}",
            chart.note
        );
        assert!(
            chart.lines[0]
                .values
                .iter()
                .flatten()
                .all(|rate| (*rate - 100.0).abs() < 1e-6)
        );
        let p99 = &latency_over_time(&run).lines[1].values;
        assert!(p99.contains(&Some(11.0)), "the worst second is kept");
    }

    #[test]
    fn seconds_without_an_answer_have_no_latency() {
        let mut run = testing::run();
        run.timeline[3].requests = 0;
        assert_eq!(latency_over_time(&run).lines[0].values[3], None);
        run.timeline[3].at = f64::NAN;
        run.timeline[4].at = f64::MAX;
        assert_eq!(throughput(&run).places.len(), 9);
    }
}
