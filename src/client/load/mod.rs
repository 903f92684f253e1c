//! `load requests`, `handshakes` and `transfer`: one engine.
//!
//! ```text
//!   scenario/   what is to be done: flags, a file, an earlier result
//!   plan        made ready: names looked up, certificates and tokens read
//!   run         threads that wait and go together ─▶ shard/ ─▶ figures, moments ─▶ a result's `Run`
//!               │ watch    CPU and memory of processes
//!               └ live     a line on the terminal
//!   shard/      users and connections of one thread, over any ring
//!     queue     the open loop: what is due, by arrivals
//!     mix       which request comes next, by a seed
//!     line      one connection; tickets: sessions that handshakes resume
//!     figures, timeline    what is counted
//! ```
//!
//! - Nothing is shared between shards while they run: rate, count and users are dealt out before, and each draws from a
//!   stream of its own, so that a seed repeats a run's sequence whatever the other shards do.
//! - With a rate, latency counts from when a request was due, not from when it could be sent: what a stalled server keeps
//!   from being sent is in the figures ("coordinated omission" is not). What was never sent is an error of its own class.
//! - Each shard is a bare thread over its ring, not bound to a core: servers under test often are, and to the same.

mod arrivals;
pub mod figures;
mod line;
pub(in crate::client) mod live;
mod mix;
mod plan;
mod queue;
pub mod run;
pub mod scenario;
pub mod shard;
mod target;
mod tickets;
pub mod timeline;
mod trust;
pub(in crate::client) mod watch;

pub use plan::Plan;
pub use scenario::Scenario;
pub use target::Target;
pub(in crate::client) use target::server_name;
pub(in crate::client) use trust::{Trust, client_tls};

use std::path::Path;

use super::agent::{AgentCommand, coordinate};
use super::process::Process;
use super::result::{Environment, Run, file, html, text};

/// Runs a scenario and shows on the terminal how it goes; with agents, on their hosts.
///
/// # Errors
/// It could not be run; what fails while it runs is in the result.
pub fn run(
    scenario: Scenario,
    pids: &[(String, u32)],
    agents: &[AgentCommand],
) -> Result<Run, String> {
    if !agents.is_empty() {
        return coordinate(scenario, agents, pids);
    }
    let processes = pids.iter().map(|(name, pid)| Process::new(name, *pid));
    let processes = processes.collect::<Result<Vec<_>, String>>()?;
    // Before the run: a process may be gone after it.
    let environment = Environment::read(pids);
    let (kind, open_loop) = (scenario.kind, scenario.rate.is_some());
    let ready = run::prepare(Plan::new(scenario)?)?;
    let mut live = live::Live::new(kind, open_loop);
    let run = ready.go(processes, |progress| live.show(progress));
    live.end();
    Ok(Run {
        environment,
        ..run?
    })
}

/// The scenario with a seed, a new one if it has none. 32 bits: as a number in JSON it is then the same for every reader.
pub(in crate::client) fn seeded(mut scenario: Scenario) -> Scenario {
    scenario
        .seed
        .get_or_insert_with(|| u64::from(fastrand::u32(..)));
    scenario
}

/// Prints the report, writes the result file and the page. True when something was measured and nothing failed.
///
/// # Errors
/// A file cannot be written.
pub fn report(run: &Run, json: Option<&Path>, page: Option<&Path>) -> Result<bool, String> {
    print!("{}", text::report(run));
    if let Some(path) = json {
        file::write(path, &file::to_json(run))?;
    }
    if let Some(path) = page {
        file::write(path, &html::page(run))?;
    }
    let carried = match run.kind.as_str() {
        "transfer" => run.body_bytes_received.saturating_add(run.body_bytes_sent),
        _ => run.requests,
    };
    Ok(run.errors.is_empty() && carried > 0)
}
