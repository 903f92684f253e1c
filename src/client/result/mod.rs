//! The result of a load run as a file: what was run, on what machine, what came out, raw histograms included, so that a run
//! can be repeated and compared. Keys are never renamed or given another meaning; readers skip those that they do not know
//! and take a default for those that an older file lacks.
//!
//! Times of a run (`at`) are seconds since its first measured moment; warm-up is negative.

//!
//! | file | what |
//! |---|---|
//! | `histogram` | percentiles, mean and the percentile curve of a raw histogram |
//! | `environment` | the machine, and the versions of the programs that are measured |
//! | `merge` | several runs of one load, side by side on other hosts, as one |
//! | `file` | reading and writing, `NAME=FILE` |
//! | `warnings` | what makes a run's figures doubtful, the load generator's own limit before all |
//! | `words` | numbers with units, and a run as a sentence |
//! | `text`, `html`, `diff` | the report on a terminal, as a page, and of two runs side by side |
//!
//! What a file holds may come from anybody: it is never trusted as HTML, and no figure of it can make a report panic.

pub mod diff;
pub mod environment;
pub mod file;
pub mod histogram;
pub mod html;
mod merge;
pub mod text;
mod warnings;
mod words;

#[cfg(test)]
mod testing;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Written into every file; a reader refuses a higher one.
pub const SCHEMA: u32 = 1;

/// A histogram: `(upper bound in µs, count)`, ascending, none empty.
pub type RawHistogram = Vec<(u64, u64)>;

/// One run of `load requests`, `handshakes` or `transfer`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    pub schema: u32,
    /// `requests`, `handshakes` or `transfer`.
    pub kind: String,
    /// Tidegate's, of the load generator.
    pub version: String,
    /// RFC 3339.
    pub started: String,
    pub environment: Environment,
    /// All that was asked for, in the words of a scenario file, so that the run can be repeated.
    pub scenario: serde_json::Value,
    pub seed: u64,
    /// The target of a plain run; of a mix its origin.
    pub url: String,
    pub connections: usize,
    pub shards: usize,
    /// Requests a second that were to be sent; 0: a closed loop, in which each waits for the last one's answer.
    pub intended_rate: f64,
    /// Complete answers (or handshakes, or transfers) in the measured time.
    pub requests: u64,
    pub seconds: f64,
    pub requests_per_second: f64,
    /// `p50`, `p90`, `p99`, `p99.9`, `max`. With a fixed arrival rate: from the intended time of each request.
    pub latency_us: BTreeMap<String, u64>,
    pub latency_mean_us: f64,
    pub histogram_us: RawHistogram,
    /// With a fixed arrival rate: the same from when each was really sent.
    pub service_us: BTreeMap<String, u64>,
    pub service_histogram_us: RawHistogram,
    pub statuses: BTreeMap<String, u64>,
    /// What failed, by class, each with the count: `connect`, `handshake`, `timeout`, `broken off`, `unreadable answer`, and
    /// `not sent` for what was due while no connection was free until the end. Those of the warm-up too.
    pub errors: BTreeMap<String, u64>,
    /// Of each class the first one in its own words.
    pub error_examples: BTreeMap<String, String>,
    /// Requests that a closed loop left without an answer when its time was over, and how long the oldest had waited. They
    /// are neither answers nor errors; a server that hangs shows here.
    pub unfinished: u64,
    pub unfinished_longest_us: u64,
    pub bytes_received: u64,
    pub body_bytes_received: u64,
    pub body_bytes_sent: u64,
    /// Of a transfer: bytes of bodies, both ways together, also of those that were under way at the end.
    pub body_bytes_per_second: f64,
    pub connects: u64,
    /// TLS handshakes of the whole run, by whether they resumed a session.
    pub handshakes_full: u64,
    pub handshakes_resumed: u64,
    /// Of a mix: its members.
    pub members: Vec<Member>,
    pub timeline: Vec<Moment>,
    pub processes: Vec<ProcessUse>,
    /// The load generator itself; with agents, all of them together.
    pub load: ProcessUse,
    /// Of a run from several hosts: each one's part.
    pub agents: Vec<Agent>,
}

/// One host's part of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Agent {
    pub name: String,
    pub environment: Environment,
    pub connections: usize,
    pub shards: usize,
    pub requests: u64,
    pub seconds: f64,
    pub requests_per_second: f64,
    pub latency_us: BTreeMap<String, u64>,
    pub errors: BTreeMap<String, u64>,
    /// Its load generator.
    pub load: ProcessUse,
    /// Why its part is missing; empty of one that ended as it should.
    pub lost: String,
}

/// One request of a mix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    pub name: String,
    pub requests: u64,
    /// Without an answer, warm-up included.
    pub failed: u64,
    pub latency_us: BTreeMap<String, u64>,
    pub histogram_us: RawHistogram,
    pub statuses: BTreeMap<String, u64>,
}

/// One step of the run, usually a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Moment {
    /// Its begin, and how long it was.
    pub at: f64,
    pub seconds: f64,
    pub requests: u64,
    pub failed: u64,
    pub bytes_received: u64,
    pub body_bytes_sent: u64,
    pub body_bytes_received: u64,
    /// Requests that were due and waited for a free connection, at its end.
    pub backlog: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

/// What a process used while the run was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessUse {
    pub name: String,
    pub pid: u32,
    pub cpu_seconds: f64,
    pub cpu_us_per_request: f64,
    /// A GB is 1e9 bytes of bodies, both ways together; 0 where none were carried.
    pub cpu_seconds_per_gb: f64,
    /// At the end, and the peak of the process's life.
    pub rss_kib: u64,
    pub peak_rss_kib: u64,
    pub timeline: Vec<UseMoment>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UseMoment {
    pub at: f64,
    /// 100 is one core.
    pub cpu_percent: f64,
    pub rss_kib: u64,
}

/// The machine that the load ran on; on loopback the servers' too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Environment {
    pub cpu: String,
    /// That this process may run on.
    pub cores: usize,
    pub memory_kib: u64,
    pub kernel: String,
    /// `/sys/devices/system/cpu/vulnerabilities`: name to state.
    pub mitigations: BTreeMap<String, String>,
    /// Programs measured beside, as far as they are known: name to version.
    pub versions: BTreeMap<String, String>,
}
