//! A run for tests: ten seconds with everything in it, the same each time.

use super::{
    Environment, Member, Moment, ProcessUse, RawHistogram, Run, SCHEMA, UseMoment, histogram,
};
use std::collections::BTreeMap;

/// Latencies like a server's: most around `middle`, few far above. About `n` of them.
pub fn latencies(middle: f64, n: u64) -> RawHistogram {
    let mut raw = RawHistogram::new();
    let (mut left, mut value) = (n, middle * 0.4);
    while left > 0 {
        let part = (left as f64 * 0.22).ceil() as u64;
        raw.push((value as u64 + raw.len() as u64, part));
        left -= part;
        value *= 1.11;
    }
    raw
}

fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs
        .iter()
        .map(|(name, n)| ((*name).to_owned(), *n))
        .collect()
}

fn process(name: &str, pid: u32, cpu: f64) -> ProcessUse {
    let timeline = (0..10).map(|at| UseMoment {
        at: f64::from(at),
        cpu_percent: cpu * 100.0 + f64::from(at % 3),
        rss_kib: 20_000 + 300 * at as u64,
    });
    ProcessUse {
        name: name.to_owned(),
        pid,
        cpu_seconds: cpu * 10.0,
        cpu_us_per_request: cpu * 10.0 * 1e6 / 50_000.0,
        rss_kib: 22_700,
        peak_rss_kib: 24_000,
        timeline: timeline.collect(),
        ..ProcessUse::default()
    }
}

fn member(name: &str, middle: f64, n: u64) -> Member {
    let raw = latencies(middle, n);
    Member {
        name: name.to_owned(),
        requests: n,
        failed: 2,
        latency_us: histogram::quantiles(&raw),
        histogram_us: raw,
        statuses: counts(&[("200", n)]),
    }
}

pub fn run() -> Run {
    let raw = latencies(900.0, 50_000);
    let timeline = (-1..10).map(|at| Moment {
        at: f64::from(at),
        seconds: 1.0,
        requests: 4960 + 40 * ((at + 1) as u64 % 3),
        failed: u64::from(at == 4) * 3,
        bytes_received: 6_000_000,
        p50_us: 890 + (at + 1) as u64,
        p99_us: 3000 + 100 * ((at + 1) as u64 % 4),
        max_us: 9000 + 1000 * ((at + 1) as u64 % 3),
        ..Moment::default()
    });
    Run {
        schema: SCHEMA,
        kind: "requests".to_owned(),
        version: "0.1.0".to_owned(),
        started: "2026-01-02T03:04:05Z".to_owned(),
        environment: Environment {
            cpu: "A Processor".to_owned(),
            cores: 8,
            memory_kib: 16 * 1024 * 1024,
            kernel: "6.12.0".to_owned(),
            mitigations: [("retbleed".to_owned(), "Not affected".to_owned())].into(),
            versions: [("gateway".to_owned(), "tidegate 0.1.0".to_owned())].into(),
        },
        scenario: serde_json::json!({"url": "https://localhost:8443/a", "connections": 64, "rate": 5000.0, "tls": {"ca": "ca.pem"}}),
        seed: 7,
        intended_rate: 5000.0,
        url: "https://localhost:8443/a".to_owned(),
        connections: 64,
        shards: 1,
        requests: 50_000,
        seconds: 10.0,
        requests_per_second: 5000.0,
        latency_us: histogram::quantiles(&raw),
        latency_mean_us: histogram::mean(&raw),
        service_us: histogram::quantiles(&latencies(700.0, 50_000)),
        service_histogram_us: latencies(700.0, 50_000),
        histogram_us: raw,
        statuses: counts(&[("200", 49_990), ("503", 10)]),
        errors: counts(&[("timeout", 2), ("broken off", 1)]),
        error_examples: [("timeout".to_owned(), "no answer within 30 s".to_owned())].into(),
        bytes_received: 60_000_000,
        body_bytes_received: 51_200_000,
        connects: 64,
        members: vec![
            member("list", 800.0, 30_000),
            member("upload", 1500.0, 20_000),
        ],
        timeline: timeline.collect(),
        processes: vec![process("gateway", 11, 0.4), process("connector", 12, 0.3)],
        load: process("load", 13, 0.5),
        ..Run::default()
    }
}
