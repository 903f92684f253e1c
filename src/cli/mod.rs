//! The command line: arguments to calls, nothing else. The contract of names and flags is DESIGN §11.

mod client;
mod demo;
mod load;
mod load_channels;
mod load_report;
mod load_run;
mod push;
mod reload;
mod token;
mod upstream;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// An HTTPS gateway that reaches services behind a firewall with no inbound port.
#[derive(Parser)]
#[command(name = "tidegate", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A PKI, a sample upstream, a gateway and a connector on loopback; prints curl lines that work. Ctrl-C ends it
    Demo(demo::Options),
    /// A small CA for labs and tests
    Pki {
        #[command(subcommand)]
        command: crate::control::pki::Command,
    },
    /// Registration and client tokens of a site, signed with the site's key
    Token {
        #[command(subcommand)]
        command: crate::control::tokens::site::Command,
    },
    /// The Internet side: ends TLS, authenticates, forwards over relay links
    Gateway(ConfigFile),
    /// The private side: dials the gateways and forwards to upstreams; listens on no port but its admin's
    Connector(ConfigFile),
    /// Reads a config file and says all that is wrong with it; exit 0 when nothing is
    Check(Check),
    /// Makes a running gateway or connector read its config file again, as SIGHUP does; a wrong file changes nothing
    Reload(reload::Options),
    /// The reference client
    Client {
        #[command(subcommand)]
        command: client::Command,
    },
    /// Sends a notification to clients, through a connector's notification API
    Push(push::Options),
    /// Benchmarks
    Load {
        #[command(subcommand)]
        command: Box<load::Command>,
    },
}

#[derive(clap::Args)]
struct Check {
    #[command(flatten)]
    file: ConfigFile,
    /// A line for every route that a connector publishes, those of presets included
    #[arg(short, long)]
    verbose: bool,
}

#[derive(clap::Args)]
struct ConfigFile {
    /// gateway.toml or connector.toml
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Pki { command } => pki(&command),
        Command::Token { command } => token::run(&command),
        Command::Gateway(file) => crate::gateway::server::run(&file.config),
        Command::Connector(file) => crate::connector::server::run(&file.config),
        Command::Check(check) => exit(crate::control::check::run(
            &check.file.config,
            check.verbose,
        )),
        Command::Reload(options) => reload::run(&options),
        Command::Client { command } => client::run(command),
        Command::Push(options) => push::run(&options),
        Command::Load { command } => load::run(*command),
    }
}

fn pki(command: &crate::control::pki::Command) -> ExitCode {
    match crate::control::pki::run(command, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate pki: {error}");
            ExitCode::FAILURE
        }
    }
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
