//! `tidegate load …`: arguments to a job, progress, and the report.

use clap::Subcommand;
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum Command {
    /// Requests on kept connections: as fast as answers come, or at a fixed rate; one URL, or a mix from a scenario
    Requests(super::load_run::Requests),
    /// Opens TLS connections, completes the handshake and ends them (close_notify, then a reset, so that no port waits)
    Handshakes(super::load_run::Handshakes),
    /// Large bodies, down or up: bytes a second, and what a GB costs
    Transfer(super::load_run::Transfer),
    /// Opens authenticated channels and holds them: rates, CPU and memory on both sides, keep-alives, what is lost
    Channels(super::load_channels::Channels),
    /// Opens channels, pushes to them through a connector's API: times from call to client and to receipt, what fails
    Push(super::load_channels::Push),
    /// One host's part of a run, for --agent of requests, handshakes and transfer: told what to do on standard input, one JSON
    /// message a line; it ends when that ends
    Agent,
    /// Shows results again, and draws one or several as a page
    Report(super::load_report::Report),
    /// Compares two results: ratios, what is noise, what else differs; exit 2 when worse than --fail-above
    Diff(super::load_report::Diff),
}

pub fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Requests(options) => super::load_run::requests(options),
        Command::Handshakes(options) => super::load_run::handshakes(options),
        Command::Transfer(options) => super::load_run::transfer(options),
        Command::Channels(options) => super::load_channels::channels(options),
        Command::Push(options) => super::load_channels::push(options),
        Command::Agent => agent(),
        Command::Report(options) => super::load_report::report(&options),
        Command::Diff(options) => super::load_report::diff(&options),
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

fn agent() -> Result<bool, String> {
    let input = std::io::BufReader::new(std::io::stdin());
    crate::client::agent::serve(input, &mut std::io::stdout().lock()).map(|()| true)
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
