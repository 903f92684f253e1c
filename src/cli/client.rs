//! `tidegate client …`: the reference client.

use crate::client::channel::Kind;
use crate::client::listen;
use crate::client::load::Target;
use crate::control::config::units;
use clap::{Subcommand, value_parser};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Subcommand)]
pub enum Command {
    /// Opens a notification channel and prints each push as it comes; comes back when the channel ends
    Listen(Listen),
}

#[derive(clap::Args)]
pub struct Listen {
    /// https://HOST[:PORT]
    #[arg(long, value_name = "URL")]
    gateway: String,
    /// CA certificates (PEM) that the gateway's certificate must be under
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Take any server certificate (never outside a lab)
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// A bearer token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[arg(long, default_value = "sse", value_parser = ["sse", "websocket", "poll"])]
    kind: String,
    /// Acknowledge each push when it is printed
    #[arg(long)]
    ack: bool,
    /// One JSON object a line: {"push":…,"payload":…}
    #[arg(long)]
    json: bool,
    /// End after the first push
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// End after so many
    #[arg(long, value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// A channel without a sign of life for this long is taken for dead
    #[arg(long, default_value = "120s", value_parser = units::duration)]
    silence: Duration,
    /// Seconds that a long poll waits
    #[arg(long, default_value_t = 30, value_parser = value_parser!(u32).range(1..=300))]
    poll_wait: u32,
}

pub fn run(command: Command) -> ExitCode {
    let Command::Listen(arguments) = command;
    let outcome = Target::new(&arguments.gateway).and_then(|gateway| {
        listen::listen(listen::Options {
            gateway,
            ca: arguments.ca,
            insecure: arguments.insecure,
            identity: arguments.cert.zip(arguments.key),
            token_file: arguments.token_file,
            kind: match arguments.kind.as_str() {
                "websocket" => Kind::WebSocket,
                "poll" => Kind::Poll,
                _ => Kind::Sse,
            },
            ack: arguments.ack,
            json: arguments.json,
            count: arguments.count.or(arguments.once.then_some(1)),
            silence: arguments.silence,
            poll_wait_s: arguments.poll_wait,
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate client: {error}");
            ExitCode::FAILURE
        }
    }
}
