//! Two runs side by side: each figure with its ratio, whether the difference is beyond the noise, and what else differs, so
//! that nobody compares unlike runs unknowingly. `noise` says what noise is; a run compared with itself differs in nothing.

mod noise;
mod unlike;

pub use noise::Interval;
pub use unlike::{Difference, differences};

use super::text::{row, table};
use super::words::{self, figure, kibibytes, micros};
use super::{Moment, ProcessUse, Run};
use noise::Sample;

/// Smaller differences are none.
const NOTHING: f64 = 0.002;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Number,
    Micros,
    Kib,
    Percent,
    BytesPerSecond,
}

impl Unit {
    pub fn text(self, value: f64) -> String {
        match self {
            Unit::Number => figure(value),
            // CPU times are often a few µs.
            Unit::Micros if value < 99.95 => format!("{} µs", figure(value)),
            Unit::Micros => micros(value),
            Unit::Kib => kibibytes(value as u64),
            Unit::Percent => format!("{} %", figure(value)),
            Unit::BytesPerSecond => format!("{}/s", words::bytes(value)),
        }
    }
}

/// One figure of both runs.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub unit: Unit,
    pub values: [f64; 2],
    /// More of it is worse.
    pub less_is_better: bool,
    /// Whether `--fail-above` looks at it.
    pub judged: bool,
    /// b/a with 95 %, as far as the runs' seconds tell.
    pub interval: Option<Interval>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// There is a difference, and it may be chance.
    WithinNoise,
    Better,
    Worse,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Verdict::Same => "same",
            Verdict::WithinNoise => "within noise",
            Verdict::Better => "better",
            Verdict::Worse => "worse",
        }
    }
}

impl Row {
    /// The verdict in words, and whether nothing is known of noise.
    pub fn verdict_text(&self) -> String {
        match self.verdict() {
            verdict @ (Verdict::Better | Verdict::Worse) if self.interval.is_none() => {
                format!("{}, noise unknown", verdict.text())
            }
            verdict => verdict.text().to_owned(),
        }
    }

    /// b/a; none where a is 0 and b is not.
    pub fn ratio(&self) -> Option<f64> {
        let [a, b] = self.values;
        match a {
            _ if a == b => Some(1.0),
            0.0 => None,
            _ => Some(b / a),
        }
    }

    /// By what part it got worse: 0.1 is a tenth more of what should be little, or a tenth less of what should be much.
    /// Negative when it got better.
    pub fn worse_by(&self) -> f64 {
        let grown = self.ratio().map_or(f64::INFINITY, |ratio| ratio - 1.0);
        if self.less_is_better { grown } else { -grown }
    }

    pub fn verdict(&self) -> Verdict {
        let worse_by = self.worse_by();
        if worse_by.abs() < NOTHING {
            return Verdict::Same;
        }
        match &self.interval {
            Some(interval) if interval.holds_one() => Verdict::WithinNoise,
            _ if worse_by > 0.0 => Verdict::Worse,
            _ => Verdict::Better,
        }
    }
}

/// Two runs compared.
pub struct Comparison {
    pub names: [String; 2],
    pub rows: Vec<Row>,
    pub unlike: Vec<Difference>,
}

impl Comparison {
    /// Refuses runs of different kinds, whose figures have other meanings.
    pub fn new(names: [String; 2], runs: [&Run; 2]) -> Result<Comparison, String> {
        let [a, b] = runs;
        if a.kind != b.kind {
            return Err(format!(
                "{} is a run of {} and {} one of {}: their figures mean different things",
                names[0], a.kind, names[1], b.kind
            ));
        }
        Ok(Comparison {
            names,
            rows: rows(a, b),
            unlike: differences(&runs),
        })
    }

    /// What got worse by more than so many percent and beyond the noise, among the figures that are judged.
    pub fn worse_than(&self, percent: f64) -> Vec<&Row> {
        let worse = |row: &&Row| {
            row.judged && row.verdict() == Verdict::Worse && row.worse_by() * 100.0 > percent
        };
        self.rows.iter().filter(worse).collect()
    }
}

fn rows(a: &Run, b: &Run) -> Vec<Row> {
    let mut rows = Vec::new();
    let kind = words::kind(a);
    let mut add = |name: &str,
                   unit,
                   values: [f64; 2],
                   less_is_better,
                   judged,
                   samples: Option<[Vec<Sample>; 2]>| {
        if values == [0.0, 0.0] {
            return;
        }
        let mut row = Row {
            name: name.to_owned(),
            unit,
            values,
            less_is_better,
            judged,
            interval: None,
        };
        let spread = samples.and_then(|[a, b]| noise::spread(&a, &b));
        row.interval = spread.zip(row.ratio()).map(|(spread, ratio)| Interval {
            low: spread.low * ratio,
            high: spread.high * ratio,
        });
        rows.push(row);
    };
    let both = |of: fn(&Run) -> f64| [of(a), of(b)];
    let seconds = |of: fn(&Moment) -> Sample| Some([per_second(a, of), per_second(b, of)]);

    if a.kind == "transfer" {
        let bytes = |m: &Moment| {
            (
                m.body_bytes_received as f64 + m.body_bytes_sent as f64,
                m.seconds,
            )
        };
        add(
            "bodies",
            Unit::BytesPerSecond,
            both(|r| r.body_bytes_per_second),
            false,
            true,
            seconds(bytes),
        );
    }
    let rate = format!("{}/s", kind.many);
    let answers = |m: &Moment| (m.requests as f64, m.seconds);
    add(
        &rate,
        Unit::Number,
        both(|r| r.requests_per_second),
        false,
        a.kind != "transfer",
        seconds(answers),
    );
    add(
        "failed",
        Unit::Percent,
        both(failed_percent),
        true,
        true,
        None,
    );
    for (name, _) in super::histogram::QUANTILES {
        let of = |run: &Run| run.latency_us.get(name).map_or(0.0, |us| *us as f64);
        let samples = match name {
            "p50" => seconds(|m| (m.p50_us as f64 * m.requests as f64, m.requests as f64)),
            "p99" => seconds(|m| (m.p99_us as f64 * m.requests as f64, m.requests as f64)),
            _ => None,
        };
        let judged = samples.is_some();
        add(
            &format!("latency {name}"),
            Unit::Micros,
            [of(a), of(b)],
            true,
            judged,
            samples,
        );
    }
    for name in ["p50", "p99"] {
        let of = |run: &Run| run.service_us.get(name).map_or(0.0, |us| *us as f64);
        add(
            &format!("service {name}"),
            Unit::Micros,
            [of(a), of(b)],
            true,
            false,
            None,
        );
    }
    for process in &a.processes {
        let Some(other) = b.processes.iter().find(|other| other.name == process.name) else {
            continue;
        };
        let name = &process.name;
        if a.kind == "transfer" {
            let values = [process.cpu_seconds_per_gb, other.cpu_seconds_per_gb];
            add(
                &format!("{name}: CPU s/GB"),
                Unit::Number,
                values,
                true,
                true,
                None,
            );
        } else {
            let values = [process.cpu_us_per_request, other.cpu_us_per_request];
            let samples = Some([cpu(process, a), cpu(other, b)]);
            add(
                &format!("{name}: CPU a {}", kind.one),
                Unit::Micros,
                values,
                true,
                true,
                samples,
            );
        }
        let values = [process.peak_rss_kib as f64, other.peak_rss_kib as f64];
        add(
            &format!("{name}: memory peak"),
            Unit::Kib,
            values,
            true,
            false,
            None,
        );
    }
    let load = both(|r| r.load.cpu_us_per_request);
    add(
        &format!("(load): CPU a {}", kind.one),
        Unit::Micros,
        load,
        true,
        false,
        None,
    );
    rows
}

fn failed_percent(run: &Run) -> f64 {
    words::failures(run) as f64 / words::attempts(run).max(1) as f64 * 100.0
}

/// Of the measured seconds.
fn per_second(run: &Run, of: fn(&Moment) -> Sample) -> Vec<Sample> {
    run.timeline
        .iter()
        .filter(|moment| moment.at >= 0.0)
        .map(of)
        .collect()
}

/// CPU of a process through the requests of the same second.
fn cpu(process: &ProcessUse, run: &Run) -> Vec<Sample> {
    let second = |at: f64| (at + 0.25).floor() as i64;
    let used: std::collections::BTreeMap<_, _> = process
        .timeline
        .iter()
        .map(|one| (second(one.at), one.cpu_percent))
        .collect();
    let moments = run.timeline.iter().filter(|moment| moment.at >= 0.0);
    let samples = moments.filter_map(|moment| {
        let percent = used.get(&second(moment.at))?;
        Some((percent * moment.seconds, moment.requests as f64))
    });
    samples.collect()
}

/// The comparison on a terminal.
pub fn report(comparison: &Comparison) -> String {
    let [a, b] = &comparison.names;
    let mut text = format!("A: {a}\nB: {b}\n");
    if !comparison.unlike.is_empty() {
        text += "\nThe runs differ in more than their figures:\n";
        let mut rows = vec![row(["", "", "A", "B"])];
        for difference in &comparison.unlike {
            let mut cells = vec![difference.group.to_owned(), difference.what.clone()];
            cells.extend(difference.values.iter().cloned());
            rows.push(cells);
        }
        text += &table(rows);
    }
    let mut rows = vec![row(["figure", "A", "B", "B/A", "95 %", ""])];
    for figures in &comparison.rows {
        rows.push(vec![
            figures.name.clone(),
            figures.unit.text(figures.values[0]),
            figures.unit.text(figures.values[1]),
            ratio_text(figures),
            figures
                .interval
                .map_or_else(String::new, |i| interval_text(&i)),
            figures.verdict_text(),
        ]);
    }
    text += &table(rows);
    text + "\n95 %: where B/A lies by the spread of each run's seconds (block bootstrap); without it nothing is known of noise.\n\
            Two runs of the same may differ by more: repeat them before a small difference is believed.\n"
}

pub fn ratio_text(row: &Row) -> String {
    row.ratio()
        .map_or_else(|| "from 0".to_owned(), |ratio| format!("{ratio:.3}"))
}

pub fn interval_text(interval: &Interval) -> String {
    format!("{:.3}–{:.3}", interval.low, interval.high)
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn compare(a: &Run, b: &Run) -> Comparison {
        Comparison::new(["a".into(), "b".into()], [a, b]).unwrap()
    }

    fn verdict(comparison: &Comparison, name: &str) -> Verdict {
        let row = comparison.rows.iter().find(|row| row.name == name);
        row.unwrap_or_else(|| panic!("no row {name}")).verdict()
    }

    #[test]
    fn a_run_compared_with_itself_differs_in_nothing() {
        let run = testing::run();
        let same = compare(&run, &run);
        assert!(same.rows.len() > 10 && same.rows.iter().all(|row| row.verdict() == Verdict::Same));
        assert!(same.worse_than(0.0).is_empty() && same.unlike.is_empty());
        assert!(!report(&same).contains("differ in more"));
    }

    #[test]
    fn what_got_worse_beyond_the_noise_fails() {
        let (a, mut b) = (testing::run(), testing::run());
        b.requests_per_second *= 0.9;
        for moment in &mut b.timeline {
            moment.requests = moment.requests * 9 / 10;
        }
        let found = compare(&a, &b);
        assert_eq!(verdict(&found, "requests/s"), Verdict::Worse);
        assert_eq!(verdict(&compare(&b, &a), "requests/s"), Verdict::Better);
        let names = |percent| {
            found
                .worse_than(percent)
                .iter()
                .map(|row| row.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(5.0), ["requests/s"]);
        assert_eq!(names(11.0), Vec::<String>::new());
        assert!(report(&found).contains("0.900"));
    }

    #[test]
    fn what_may_be_chance_does_not() {
        let (mut a, mut b) = (testing::run(), testing::run());
        for (at, moment) in a.timeline.iter_mut().chain(&mut b.timeline).enumerate() {
            moment.requests = 5000 + (at as u64 * 1237) % 3000;
        }
        b.requests_per_second *= 0.95;
        let found = compare(&a, &b);
        assert_eq!(verdict(&found, "requests/s"), Verdict::WithinNoise);
        assert!(found.worse_than(1.0).is_empty());
        // Without seconds nothing is known of noise: then the figures count as they are.
        (a.timeline, b.timeline) = (Vec::new(), Vec::new());
        assert_eq!(compare(&a, &b).worse_than(1.0).len(), 1);
    }

    #[test]
    fn failures_where_there_were_none_always_count() {
        let (mut a, b) = (testing::run(), testing::run());
        a.errors.clear();
        let found = compare(&a, &b);
        assert_eq!(found.worse_than(1e9)[0].name, "failed");
        assert!(report(&found).contains("from 0"));
    }

    #[test]
    fn runs_of_different_kinds_are_refused() {
        let (a, b) = (
            testing::run(),
            Run {
                kind: "transfer".into(),
                ..testing::run()
            },
        );
        let refused = Comparison::new(["a".into(), "b".into()], [&a, &b])
            .err()
            .unwrap();
        assert!(
            refused.contains("run of requests and b one of transfer"),
            "{refused}"
        );
        compare(&Run::default(), &Run::default());
        compare(&b, &b);
    }

    #[test]
    fn processes_are_compared_by_name() {
        let (a, mut b) = (testing::run(), testing::run());
        b.processes.reverse();
        b.processes[0].cpu_us_per_request *= 1.5;
        let found = compare(&a, &b);
        assert_eq!(verdict(&found, "connector: CPU a request"), Verdict::Worse);
        assert_eq!(verdict(&found, "gateway: CPU a request"), Verdict::Same);
    }
}
