//! The result of a load run, for people and as JSON.

use hdrhistogram::Histogram;
use serde_json::json;
use std::fmt;

use super::load::Options;
use super::process::Process;
use super::requests::Measured;

/// Quantiles shown, with their names.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

/// One run's figures.
pub struct Report {
    url: String,
    connections: usize,
    shards: usize,
    answers: u64,
    seconds: f64,
    latency: Histogram<u64>,
    statuses: Vec<(u16, u64)>,
    errors: Vec<(String, u64)>,
    bytes_in: u64,
    bytes_out: u64,
    connects: u64,
    processes: Vec<Spent>,
}

/// What one server process spent.
struct Spent {
    name: String,
    pid: u32,
    cpu_seconds: f64,
    cpu_us_per_request: f64,
    rss_kib: u64,
    peak_kib: u64,
}

impl Report {
    pub fn new(options: &Options, measured: &Measured, processes: &[Process]) -> Report {
        let span = measured.ended.zip(measured.started);
        let seconds = span.map_or(0.0, |(end, start)| {
            end.saturating_duration_since(start).as_secs_f64()
        });
        let answers = measured.latency.len();
        let target = &options.target;
        let scheme = if target.https { "https" } else { "http" };
        let spent = processes.iter().map(|process| Spent {
            name: process.name.clone(),
            pid: process.pid,
            cpu_seconds: process.cpu_ns() as f64 / 1e9,
            cpu_us_per_request: process.cpu_ns() as f64 / 1e3 / answers.max(1) as f64,
            rss_kib: process.rss_kib,
            peak_kib: process.peak_kib,
        });
        Report {
            url: format!("{scheme}://{}:{}{}", target.host, target.port, target.path),
            connections: options.connections,
            shards: options.shards,
            answers,
            seconds,
            latency: measured.latency.clone(),
            statuses: measured
                .statuses
                .iter()
                .map(|(status, n)| (*status, *n))
                .collect(),
            errors: measured
                .errors
                .iter()
                .map(|(error, n)| (error.clone(), *n))
                .collect(),
            bytes_in: measured.bytes_in,
            bytes_out: measured.bytes_out,
            connects: measured.connects,
            processes: spent.collect(),
        }
    }

    fn rate(&self) -> f64 {
        if self.seconds > 0.0 {
            self.answers as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// The same as JSON, with the raw histogram as `[upper bound in µs, count]` pairs.
    pub fn to_json(&self) -> String {
        let quantiles: serde_json::Map<String, serde_json::Value> = QUANTILES
            .iter()
            .map(|(name, q)| {
                (
                    (*name).to_owned(),
                    json!(self.latency.value_at_quantile(*q)),
                )
            })
            .collect();
        let raw: Vec<_> = self
            .latency
            .iter_recorded()
            .map(|v| json!([v.value_iterated_to(), v.count_at_value()]))
            .collect();
        let processes: Vec<_> = self
            .processes
            .iter()
            .map(|p| {
                json!({"name": p.name, "pid": p.pid, "cpu_seconds": p.cpu_seconds,
                    "cpu_us_per_request": p.cpu_us_per_request, "rss_kib": p.rss_kib, "peak_rss_kib": p.peak_kib})
            })
            .collect();
        let whole = json!({
            "kind": "requests",
            "version": env!("CARGO_PKG_VERSION"),
            "url": self.url,
            "connections": self.connections,
            "shards": self.shards,
            "requests": self.answers,
            "seconds": self.seconds,
            "requests_per_second": self.rate(),
            "latency_us": quantiles,
            "latency_mean_us": self.latency.mean(),
            "histogram_us": raw,
            "statuses": self.statuses.iter().map(|(s, n)| (s.to_string(), json!(n))).collect::<serde_json::Map<_, _>>(),
            "errors": self.errors.iter().map(|(e, n)| (e.clone(), json!(n))).collect::<serde_json::Map<_, _>>(),
            "bytes_received": self.bytes_in,
            "body_bytes_sent": self.bytes_out,
            "connects": self.connects,
            "processes": processes,
        });
        format!("{whole:#}\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}   {} connections, {} shard(s)",
            self.url, self.connections, self.shards
        )?;
        writeln!(
            f,
            "  {} answers in {:.2} s: {:.0} requests/s",
            self.answers,
            self.seconds,
            self.rate()
        )?;
        write!(f, "  latency")?;
        for (name, q) in QUANTILES {
            write!(
                f,
                "  {name} {:.3} ms",
                self.latency.value_at_quantile(q) as f64 / 1e3
            )?;
        }
        writeln!(f)?;
        write!(f, "  status")?;
        for (status, n) in &self.statuses {
            write!(f, "  {status}: {n}")?;
        }
        writeln!(f, "   connects: {}", self.connects)?;
        for (error, n) in &self.errors {
            writeln!(f, "  failed  {n} × {error}")?;
        }
        for p in &self.processes {
            writeln!(
                f,
                "  {:<10} {:.2} µs CPU a request ({:.2} s), RSS {} KiB, peak {} KiB",
                p.name, p.cpu_us_per_request, p.cpu_seconds, p.rss_kib, p.peak_kib
            )?;
        }
        Ok(())
    }
}
