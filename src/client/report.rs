//! The result of a load run in a few lines, for people.

use std::collections::BTreeMap;
use std::fmt;

use super::load::run::QUANTILES;
use super::result::Run;

/// Shows a run.
pub struct Report<'a>(pub &'a Run);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.0;
        writeln!(
            f,
            "{}   {} connections, {} shard(s), seed {}",
            run.url, run.connections, run.shards, run.seed
        )?;
        let (what, unit) = match run.kind.as_str() {
            "handshakes" => ("handshakes", "handshakes"),
            _ => ("answers", "requests"),
        };
        writeln!(
            f,
            "  {} {what} in {:.2} s: {:.0} {unit}/s",
            run.requests, run.seconds, run.requests_per_second
        )?;
        if run.kind == "transfer" {
            writeln!(
                f,
                "  {:.1} MB/s  {} bytes received, {} sent",
                run.body_bytes_per_second / 1e6,
                run.body_bytes_received,
                run.body_bytes_sent
            )?;
        }
        if run.kind == "handshakes" {
            let (full, resumed) = (run.handshakes_full, run.handshakes_resumed);
            writeln!(f, "  {full} full, {resumed} resumed (warm-up included)")?;
        }
        times(f, "latency", &run.latency_us)?;
        if run.intended_rate > 0.0 {
            times(f, "service", &run.service_us)?;
            writeln!(
                f,
                "  of {:.0}/s intended; latency counts from when a request was due",
                run.intended_rate
            )?;
        }
        write!(f, "  status")?;
        for (status, n) in &run.statuses {
            write!(f, "  {status}: {n}")?;
        }
        writeln!(f, "   connects: {}", run.connects)?;
        for (class, n) in &run.errors {
            let example = run.error_examples.get(class).map_or("", String::as_str);
            writeln!(f, "  failed  {n} × {class} ({example})")?;
        }
        // A closed loop ends with a request under way on each connection: worth a word are those that hang.
        let slowest = run.latency_us.get("max").copied().unwrap_or_default();
        if run.unfinished_longest_us > slowest {
            let longest = run.unfinished_longest_us as f64 / 1e3;
            writeln!(
                f,
                "  {} still open at the end, for {longest:.1} ms at most",
                run.unfinished
            )?;
        }
        if run.members.len() > 1 {
            for member in &run.members {
                write!(
                    f,
                    "  {:<20} {:>9} answers, {} failed",
                    member.name, member.requests, member.failed
                )?;
                times(f, "", &member.latency_us)?;
            }
        }
        for p in run.processes.iter().chain([&run.load]) {
            write!(
                f,
                "  {:<10} {:.2} µs CPU a request ({:.2} s)",
                p.name, p.cpu_us_per_request, p.cpu_seconds
            )?;
            if run.kind == "transfer" {
                write!(f, ", {:.3} s CPU a GB", p.cpu_seconds_per_gb)?;
            }
            writeln!(f, ", RSS {} KiB, peak {} KiB", p.rss_kib, p.peak_rss_kib)?;
        }
        Ok(())
    }
}

fn times(f: &mut fmt::Formatter<'_>, what: &str, times: &BTreeMap<String, u64>) -> fmt::Result {
    write!(f, "  {what}")?;
    for (name, _) in QUANTILES {
        let us = times.get(name).copied().unwrap_or_default();
        write!(f, "  {name} {:.3} ms", us as f64 / 1e3)?;
    }
    writeln!(f)
}
