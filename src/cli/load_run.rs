//! `tidegate load requests`, `handshakes` and `transfer`: flags over a scenario, one run, its result.

use super::load::processes;
use crate::client::agent::AgentCommand;
use crate::client::load::scenario::words::Think;
use crate::client::load::scenario::{Flags, Kind, RATE_MAX, Scenario, Spread, open};
use crate::client::load::{report, run};
use crate::control::config::units;
use clap::{Args, ValueEnum, value_parser};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args)]
pub struct Requests {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    shape: Shape,
    /// Method [default: GET]
    #[arg(long, value_parser = method)]
    method: Option<String>,
    /// Bytes of request body, e.g. 64KiB
    #[arg(long, value_parser = units::size)]
    body: Option<u64>,
    /// `Name: value`, more than once; takes the place of a scenario's of the same name
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// Pause of a connection between an answer and its next request: 100ms, or drawn from 50ms..150ms (no --rate)
    #[arg(long, value_name = "TIME", value_parser = Think::new)]
    think: Option<Think>,
}

#[derive(Args)]
pub struct Handshakes {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    shape: Shape,
    /// Resume sessions: each handshake takes a ticket that an earlier connection of its thread was given
    #[arg(long)]
    resumed: bool,
    /// Ask for the URL once on each connection, and measure to the answer
    #[arg(long)]
    request: bool,
}

#[derive(Args)]
pub struct Transfer {
    #[command(flatten)]
    common: Common,
    /// GET the URL over and over (what is done unless --upload is given)
    #[arg(long, conflicts_with = "upload")]
    download: bool,
    /// Send bodies of this size to the URL, which must take them, e.g. 1GiB
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    upload: Option<u64>,
    /// Method [default: GET, with --upload PUT]
    #[arg(long, value_parser = method)]
    method: Option<String>,
    /// `Name: value`, more than once
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
}

/// When requests are sent.
#[derive(Args)]
struct Shape {
    /// Requests a second, all shards together, whatever the answers do; latency counts from when each was due. Without
    /// it each connection waits for its answer (closed loop)
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// With --rate: equal gaps, or those of independent clients [default: constant]
    #[arg(long, value_enum)]
    arrivals: Option<Arrivals>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Arrivals {
    Constant,
    Poisson,
}

/// What all three have.
#[derive(Args)]
struct Common {
    /// https:// or http:// URL to ask for
    #[arg(long, value_name = "URL", required_unless_present = "scenario")]
    url: Option<String>,
    /// A scenario (TOML; see tuning/examples/load), or the --json file of an earlier run to repeat it; flags override it
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// CA certificates (PEM) that the server's certificate must be under
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Take any server certificate (never outside a lab)
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// TLS 1.2 instead of 1.3
    #[arg(long)]
    tls12: bool,
    /// Connections, all shards together [default: requests 64, handshakes 16 at a time, transfer 4]
    #[arg(short, long, value_parser = value_parser!(u32).range(1..=100_000))]
    connections: Option<u32>,
    /// How long to measure, e.g. 10s [default: 10s]
    #[arg(short, long, value_parser = units::duration)]
    duration: Option<Duration>,
    /// Open connections (with --rate: raise it) evenly over this time, not measured [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    ramp_up: Option<Duration>,
    /// Not measured, after that [default: 1s; 0s with -n and without --rate]
    #[arg(long, value_parser = units::duration)]
    warm_up: Option<Duration>,
    /// End after this many, those of the warm-up apart (then --duration is the longest it may take)
    #[arg(short = 'n', long, value_parser = value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Threads [default: 1]
    #[arg(long, value_parser = value_parser!(u16).range(1..=256))]
    shards: Option<u16>,
    /// Longest wait for an answer [default: 30s]
    #[arg(long, value_parser = units::duration)]
    timeout: Option<Duration>,
    /// What is random (members of a mix, think times, Poisson gaps) follows from it [default: a new one, printed]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// Source addresses, which connections take in turn: an address, 127.0.1.0/24, or 10.0.0.5-10.0.0.20; more than once
    #[arg(long = "source", value_name = "ADDR")]
    sources: Vec<String>,
    /// CPU and memory of a server process while it runs: `gateway=1234`, more than once
    #[arg(long = "pid", value_name = "NAME=PID")]
    pids: Vec<String>,
    /// Writes the result, raw histogram included
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the result as a page that needs nothing else: charts, percentiles, what it cost, how to repeat it
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Runs a part of it where this command starts `tidegate load agent`, e.g. 'ssh bench-2 tidegate load agent'; more than
    /// once. Connections, rate and count are divided, --shards and --source are each one's; NAME=COMMAND gives it a name
    #[arg(long = "agent", value_name = "COMMAND", value_parser = AgentCommand::new)]
    agents: Vec<AgentCommand>,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number"))?;
    if rate > 0.0 && rate <= RATE_MAX {
        Ok(rate)
    } else {
        Err(format!("above 0, and {RATE_MAX} at most"))
    }
}

fn method(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        Ok(text.to_owned())
    } else {
        Err("a method is written in capital letters: GET".to_owned())
    }
}

impl Common {
    fn flags(&self) -> Flags {
        Flags {
            url: self.url.clone(),
            ca: self.ca.clone(),
            insecure: self.insecure,
            tls12: self.tls12,
            certificate: self.cert.clone(),
            key: self.key.clone(),
            connections: self.connections.map(|count| count as usize),
            shards: self.shards.map(usize::from),
            ramp_up: self.ramp_up,
            warm_up: self.warm_up,
            duration: self.duration,
            requests: self.requests,
            timeout: self.timeout,
            seed: self.seed,
            sources: self.sources.clone(),
            ..Flags::default()
        }
    }

    /// True when something was measured and nothing failed.
    fn run(self, kind: Kind, flags: Flags) -> Result<bool, String> {
        let pids = processes(&self.pids)?;
        let file = self.scenario.as_deref().map(open).transpose()?;
        let scenario = Scenario::of(kind, file, flags)?;
        let run = run(scenario, &pids, &self.agents)?;
        report(&run, self.json.as_deref(), self.html.as_deref())
    }
}

impl Shape {
    fn lay(&self, flags: &mut Flags) {
        flags.rate = self.rate;
        flags.arrivals = self.arrivals.map(|arrivals| match arrivals {
            Arrivals::Constant => Spread::Constant,
            Arrivals::Poisson => Spread::Poisson,
        });
    }
}

pub fn requests(arguments: Requests) -> Result<bool, String> {
    let mut flags = Flags {
        method: arguments.method,
        body: arguments.body,
        headers: arguments.headers,
        think: arguments.think,
        ..arguments.common.flags()
    };
    arguments.shape.lay(&mut flags);
    arguments.common.run(Kind::Requests, flags)
}

pub fn handshakes(arguments: Handshakes) -> Result<bool, String> {
    let mut flags = Flags {
        resumed: arguments.resumed,
        ask: arguments.request,
        ..arguments.common.flags()
    };
    arguments.shape.lay(&mut flags);
    arguments.common.run(Kind::Handshakes, flags)
}

pub fn transfer(arguments: Transfer) -> Result<bool, String> {
    let upload = arguments.upload.map(|_| "PUT".to_owned());
    let download = arguments.download.then(|| "GET".to_owned());
    let flags = Flags {
        method: arguments.method.or(upload).or(download),
        body: arguments.upload.or(arguments.download.then_some(0)),
        headers: arguments.headers,
        ..arguments.common.flags()
    };
    arguments.common.run(Kind::Transfer, flags)
}
