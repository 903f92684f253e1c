//! The result of a run with channels, for people and as JSON.

use super::job::{Counts, Times, count};
use super::run::{Mark, Options};
use crate::client::process::Usage;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Quantiles shown, with their names.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

/// What was used between two moments.
pub struct Phase {
    pub seconds: f64,
    /// Of each process, ours first: at the beginning, at the end.
    pub usage: Vec<(Usage, Usage)>,
    /// What the kernel's objects grew by.
    pub kernel_kib: i64,
}

impl Phase {
    /// Of two marks.
    pub fn between(marks: &[Mark]) -> Phase {
        let (Some(from), Some(to)) = (marks.first(), marks.last()) else {
            unreachable!("a window holds two");
        };
        let usage = from.usage.iter().copied().zip(to.usage.iter().copied());
        Phase {
            seconds: (to.at - from.at).as_secs_f64(),
            usage: usage.collect(),
            kernel_kib: to.kernel_kib as i64 - from.kernel_kib as i64,
        }
    }

    fn cpu_us(&self, process: usize) -> f64 {
        let used = self.usage.get(process);
        used.map_or(0.0, |(from, to)| {
            to.cpu_ns.saturating_sub(from.cpu_ns) as f64 / 1e3
        })
    }

    fn grown_bytes(&self, process: usize) -> f64 {
        let used = self.usage.get(process);
        used.map_or(0.0, |(from, to)| {
            (to.rss_kib as f64 - from.rss_kib as f64) * 1024.0
        })
    }
}

/// One run's figures.
pub struct Report {
    url: String,
    kinds: String,
    count: u32,
    shards: usize,
    processes: Vec<(String, u32)>,
    /// CPU of one certificate, of which each opening needs one.
    identity_us: f64,
    /// As of the end of the opening.
    opened: Counts,
    pub counts: Counts,
    pub times: Times,
    /// Opening, then holding; with pushes, what was between them is the second of three.
    pub phases: Vec<Phase>,
    pub pushed: Option<Pushed>,
}

/// What became of the pushes of a run.
pub struct Pushed {
    pub asked: u32,
    pub accepted: u64,
    pub refused: BTreeMap<String, u64>,
    /// From call to answer, in microseconds.
    pub call: Histogram<u64>,
    /// From call to the API's event, in microseconds.
    pub receipt: Histogram<u64>,
    pub receipts: u64,
    /// Why receipts were not heard to the end.
    pub unheard: Option<&'static str>,
    /// Channels that were sent to, by the API's results.
    sent: u64,
    /// The other results, by the API's names.
    failed: BTreeMap<String, u64>,
}

impl Pushed {
    pub fn new(asked: u32) -> Pushed {
        let times = || Histogram::new(3).expect("three digits are allowed");
        Pushed {
            asked,
            accepted: 0,
            refused: BTreeMap::new(),
            call: times(),
            receipt: times(),
            receipts: 0,
            unheard: None,
            sent: 0,
            failed: BTreeMap::new(),
        }
    }

    /// Calls that were answered.
    pub fn calls(&self) -> u64 {
        self.accepted + self.refused.values().sum::<u64>()
    }

    /// Adds one push's results.
    pub fn outcome(&mut self, results: Result<Value, String>, to_all: bool) {
        let results = match results {
            Ok(results) => results,
            Err(why) => return count(&mut self.failed, &why, 1),
        };
        let counts = results["counts"].as_object().into_iter().flatten();
        for (name, n) in counts.filter_map(|(name, n)| Some((name, n.as_u64()?))) {
            match name.as_str() {
                // Receipts of a push to all are of channels that are counted as sent.
                "targets" => {}
                "acknowledged" if to_all => {}
                "sent" | "acknowledged" => self.sent += n,
                _ if n > 0 => count(&mut self.failed, name, n),
                _ => {}
            }
        }
    }

    /// Everything was accepted, sent, and seen by clients so often.
    fn is_good(&self, seen: u64) -> bool {
        self.accepted == u64::from(self.asked) && self.failed.is_empty() && seen >= self.sent
    }

    fn to_json(&self) -> Value {
        json!({
            "asked": self.asked,
            "accepted": self.accepted,
            "refused": self.refused,
            "call_us": quantiles(&self.call),
            "receipts": self.receipts,
            "receipt_us": quantiles(&self.receipt),
            "receipt_histogram_us": raw(&self.receipt),
            "receipts_unheard": self.unheard,
            "sent": self.sent,
            "failed": self.failed,
        })
    }
}

impl Report {
    pub fn new(
        options: &Options,
        shards: usize,
        processes: &[(String, u32)],
        identity_us: f64,
    ) -> Report {
        let kinds: Vec<_> = options
            .kinds
            .iter()
            .map(|kind| format!("{kind:?}"))
            .collect();
        Report {
            url: format!("https://{}:{}", options.target.host, options.target.port),
            kinds: kinds.join(", ").to_lowercase(),
            count: options.count,
            shards,
            processes: processes.to_vec(),
            identity_us,
            opened: Counts::default(),
            counts: Counts::default(),
            times: Times::new(),
            phases: Vec::new(),
            pushed: None,
        }
    }

    pub(super) fn opened(&mut self, counts: &Counts) {
        self.opened = counts.clone();
    }

    pub(super) fn finished(&mut self, counts: Counts, times: Times, phases: Vec<Phase>) {
        (self.counts, self.times, self.phases) = (counts, times, phases);
    }

    /// Seconds since a moment.
    pub(super) fn since(&self, mark: Option<&Mark>) -> f64 {
        mark.map_or(0.0, |mark| mark.at.elapsed().as_secs_f64())
    }

    /// Every channel was opened and none was lost, or fell silent; every push came where it should.
    pub fn is_good(&self) -> bool {
        let counts = &self.counts;
        let seen = counts.pushes - counts.repeats;
        let held =
            counts.held == u64::from(self.count) && counts.losses() == 0 && counts.silent == 0;
        held && self
            .pushed
            .as_ref()
            .is_none_or(|pushed| pushed.is_good(seen))
    }

    /// Prints it, and writes it to a file; gives whether it is good.
    pub fn publish(&self, kind: &str, json: Option<&Path>) -> Result<bool, String> {
        print!("{self}");
        if let Some(file) = json {
            let text = format!("{:#}\n", self.to_json(kind));
            std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        Ok(self.is_good())
    }

    /// The last one, if it is not the opening.
    fn hold(&self) -> Option<&Phase> {
        self.phases.get(1..)?.last()
    }

    fn channels(&self) -> f64 {
        self.opened.held.max(1) as f64
    }

    fn to_json(&self, kind: &str) -> Value {
        let processes: Vec<_> = (0..self.processes.len())
            .map(|at| self.process(at))
            .collect();
        let opening = self.phases.first();
        json!({
            "kind": kind,
            "version": env!("CARGO_PKG_VERSION"),
            "url": self.url,
            "channel_kinds": self.kinds,
            "count": self.count,
            "shards": self.shards,
            "opened": self.opened.opened,
            "opening_seconds": opening.map_or(0.0, |phase| phase.seconds),
            "opening_us": quantiles(&self.times.opening),
            "identity_cpu_us": self.identity_us,
            "kernel_bytes_a_channel": self.kernel_bytes(),
            "processes": processes,
            "hold_seconds": self.hold().map_or(0.0, |phase| phase.seconds),
            "held": self.counts.held,
            "keep_alives": self.counts.keep_alives,
            "late": self.counts.late,
            "silent": self.counts.silent,
            "pushes": self.counts.pushes,
            "repeats": self.counts.repeats,
            "receipts": self.counts.receipts,
            "failed": self.counts.failed,
            "lost": self.counts.lost,
            "delivery_us": quantiles(&self.times.delivery),
            "delivery_histogram_us": raw(&self.times.delivery),
            "api": self.pushed.as_ref().map(Pushed::to_json),
        })
    }

    fn process(&self, at: usize) -> Value {
        let (name, pid) = self.processes.get(at).cloned().unwrap_or_default();
        let (opening, hold) = (self.phases.first(), self.hold());
        let rss = |phase: Option<&Phase>| {
            let usage = phase.and_then(|phase| phase.usage.get(at));
            usage.map_or(0, |(_, to)| to.rss_kib)
        };
        let hold_us = hold.map_or(0.0, |phase| phase.cpu_us(at));
        json!({
            "name": name,
            "pid": pid,
            "opening_cpu_us": opening.map_or(0.0, |p| p.cpu_us(at) / self.channels()),
            "bytes_a_channel": opening.map_or(0.0, |p| p.grown_bytes(at) / self.channels()),
            "rss_kib": rss(opening),
            "hold_cpu_seconds": hold_us / 1e6,
            "delivery_cpu_us": self.pushed.as_ref().map(|_| hold_us / self.counts.pushes.max(1) as f64),
            "hold_rss_kib": rss(hold),
        })
    }

    fn kernel_bytes(&self) -> f64 {
        let grown = self.phases.first().map_or(0, |phase| phase.kernel_kib);
        grown as f64 * 1024.0 / self.channels()
    }
}

fn quantiles(times: &Histogram<u64>) -> Value {
    let each = QUANTILES.iter().map(|(name, quantile)| {
        let value = json!(times.value_at_quantile(*quantile));
        ((*name).to_owned(), value)
    });
    Value::Object(each.collect())
}

/// `[upper bound in µs, count]` pairs.
fn raw(times: &Histogram<u64>) -> Vec<Value> {
    let recorded = times.iter_recorded();
    recorded
        .map(|v| json!([v.value_iterated_to(), v.count_at_value()]))
        .collect()
}

/// One line of quantiles; none when nothing was timed.
pub fn write_times(f: &mut fmt::Formatter<'_>, what: &str, times: &Histogram<u64>) -> fmt::Result {
    if times.is_empty() {
        return Ok(());
    }
    write!(f, "  {what:<10}")?;
    for (name, quantile) in QUANTILES {
        let millis = times.value_at_quantile(quantile) as f64 / 1e3;
        write!(f, " {name} {millis:.3} ms ")?;
    }
    writeln!(f)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (opened, counts) = (&self.opened, &self.counts);
        writeln!(
            f,
            "{}   {} channels ({}), {} shard(s)",
            self.url, self.count, self.kinds, self.shards
        )?;
        let seconds = self.phases.first().map_or(0.0, |phase| phase.seconds);
        writeln!(
            f,
            "  {:<10} {} in {seconds:.1} s: {:.0}/s, {} failed",
            "opened",
            opened.opened,
            opened.opened as f64 / seconds.max(1e-3),
            opened.failures()
        )?;
        write_times(f, "opening", &self.times.opening)?;
        for (at, (name, _)) in self.processes.iter().enumerate() {
            self.write_process(f, at, name)?;
        }
        writeln!(
            f,
            "  {:<10} {:.0} bytes a channel, both ends (slab)",
            "kernel",
            self.kernel_bytes()
        )?;
        if let Some(hold) = self.hold() {
            writeln!(
                f,
                "  {:<10} {} for {:.0} s: {} keep-alives, {} late, {} silent, {} lost",
                "held",
                counts.held,
                hold.seconds,
                counts.keep_alives,
                counts.late,
                counts.silent,
                counts.losses()
            )?;
        }
        if counts.pushes > 0 {
            writeln!(
                f,
                "  {:<10} {} to clients, {} of them repeats, {} receipts",
                "pushes", counts.pushes, counts.repeats, counts.receipts
            )?;
            write_times(f, "delivery", &self.times.delivery)?;
        }
        if let Some(pushed) = &self.pushed {
            write!(f, "{pushed}")?;
        }
        for (reason, n) in &counts.failed {
            writeln!(f, "  failed     {n} × {reason}")?;
        }
        for (reason, n) in &counts.lost {
            writeln!(f, "  lost       {n} × {reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Pushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {:<10} {} calls, {} accepted; sent to {} channels, {} receipts back",
            "API", self.asked, self.accepted, self.sent, self.receipts
        )?;
        write_times(f, "answer", &self.call)?;
        write_times(f, "receipt", &self.receipt)?;
        for (reason, n) in &self.refused {
            writeln!(f, "  refused    {n} × {reason}")?;
        }
        for (outcome, n) in &self.failed {
            writeln!(f, "  not sent   {n} × {outcome}")?;
        }
        if let Some(why) = self.unheard {
            writeln!(f, "  receipts   not heard to the end: {why}")?;
        }
        Ok(())
    }
}

impl Report {
    fn write_process(&self, f: &mut fmt::Formatter<'_>, at: usize, name: &str) -> fmt::Result {
        let Some(opening) = self.phases.first() else {
            return Ok(());
        };
        let rss = |phase: &Phase| phase.usage.get(at).map_or(0, |(_, to)| to.rss_kib / 1024);
        write!(
            f,
            "  {name:<10} {:.0} µs CPU an opening",
            opening.cpu_us(at) / self.channels()
        )?;
        if at == 0 && self.identity_us > 0.0 {
            write!(f, " ({:.0} of them for a certificate)", self.identity_us)?;
        }
        write!(
            f,
            ", {:.0} bytes a channel, RSS {} MiB",
            opening.grown_bytes(at) / self.channels(),
            rss(opening)
        )?;
        if let Some(hold) = self.hold() {
            let cores = hold.cpu_us(at) / 1e6 / hold.seconds.max(1e-3);
            write!(
                f,
                "; then {:.2} % of a core, {} MiB",
                cores * 100.0,
                rss(hold)
            )?;
            if self.pushed.is_some() && self.counts.pushes > 0 {
                let each = hold.cpu_us(at) / self.counts.pushes as f64;
                write!(f, ", {each:.1} µs CPU a delivery")?;
            }
        }
        writeln!(f)
    }
}
