//! `tidegate load …`: arguments to a job, progress, and the report.

use crate::client::load::{self, Target};
use clap::{Subcommand, value_parser};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Subcommand)]
pub enum Command {
    /// Closed loop: each connection sends its next request when the last answer is complete
    Requests(Requests),
    /// Opens authenticated channels and holds them: rates, CPU and memory on both sides, keep-alives, what is lost
    Channels(super::load_channels::Channels),
    /// Opens channels, pushes to them through a connector's API: times from call to client and to receipt, what fails
    Push(super::load_channels::Push),
}

#[derive(clap::Args)]
pub struct Requests {
    /// https:// or http:// URL to ask for
    #[arg(long, value_name = "URL")]
    url: String,
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
    /// Connections, all shards together
    #[arg(short, long, default_value_t = 64, value_parser = value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// How long to measure, e.g. 10s
    #[arg(short, long, default_value = "10s", value_parser = crate::control::config::units::duration)]
    duration: Duration,
    /// Not measured, before that
    #[arg(long, default_value = "1s", value_parser = crate::control::config::units::duration)]
    warm_up: Duration,
    /// End after this many requests (then --duration is the longest it may take)
    #[arg(short = 'n', long)]
    requests: Option<u64>,
    #[arg(long, default_value = "GET")]
    method: String,
    /// Bytes of request body, e.g. 64KiB
    #[arg(long, default_value = "0", value_parser = crate::control::config::units::size)]
    body: u64,
    /// `Name: value`, more than once
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// TLS 1.2 instead of 1.3
    #[arg(long)]
    tls12: bool,
    /// Threads
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=256))]
    shards: u16,
    /// Longest wait for an answer
    #[arg(long, default_value = "30s", value_parser = crate::control::config::units::duration)]
    timeout: Duration,
    /// CPU and memory of a server process while it runs: `gateway=1234`, more than once
    #[arg(long = "pid", value_name = "NAME=PID")]
    pids: Vec<String>,
    /// Writes the result, raw histogram included
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Requests(options) => requests(options),
        Command::Channels(options) => super::load_channels::channels(options),
        Command::Push(options) => super::load_channels::push(options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("tidegate load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn pair<'t>(text: &'t str, by: char, what: &str) -> Result<(&'t str, &'t str), String> {
    text.split_once(by)
        .map(|(a, b)| (a.trim(), b.trim()))
        .ok_or_else(|| format!("`{text}` is not {what}"))
}

/// Reads `NAME=PID` of each.
pub(super) fn processes(texts: &[String]) -> Result<Vec<(String, u32)>, String> {
    let read = |text: &String| {
        let (name, pid) = pair(text, '=', "NAME=PID")?;
        let pid = pid.parse();
        Ok((
            name.to_owned(),
            pid.map_err(|_| format!("`{text}` names no process id"))?,
        ))
    };
    texts.iter().map(read).collect()
}

/// True when every request got an answer.
fn requests(options: Requests) -> Result<bool, String> {
    let headers = options.headers.iter().map(|text| {
        pair(text, ':', "`Name: value`").map(|(name, value)| (name.to_owned(), value.to_owned()))
    });
    let target = Target::new(&options.url)?;
    load::requests(load::Options {
        target,
        ca: options.ca,
        identity: options.cert.zip(options.key),
        insecure: options.insecure,
        tls12: options.tls12,
        connections: options.connections as usize,
        duration: options.duration,
        warm_up: options.warm_up,
        requests: options.requests.unwrap_or(0),
        method: options.method,
        body: options.body,
        headers: headers.collect::<Result<_, String>>()?,
        shards: usize::from(options.shards),
        timeout: options.timeout,
        pids: processes(&options.pids)?,
        json: options.json,
    })
}
