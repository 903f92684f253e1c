//! The coordinator: starts the agents, deals the scenario out, lets them begin together, and makes one run of their results.

use std::ops::{Deref, DerefMut};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::super::load::{Scenario, seeded};
use super::super::process::Process;
use super::super::result::{self, Environment, Run};
use super::child::{Agent, Event, explained, of};
use super::command::distinct;
use super::course::{Course, End};
use super::{AgentCommand, FromAgent, ToAgent, part};

/// A login and the start of a program, a password typed by hand included.
const HELLO: Duration = Duration::from_secs(60);
/// Names looked up, files read, threads started.
const PREPARED: Duration = Duration::from_secs(60);
/// Messages that wait; agents that say more wait themselves.
const EVENTS_MAX: usize = 64;
/// The class of error that a lost agent counts as.
pub const LOST: &str = "agent lost";

/// Runs a scenario on all agents at once; processes are those of this host.
///
/// # Errors
/// An agent did not get ready, or none had a result. One that is lost later is told in the run: its part is missing there.
pub fn coordinate(
    scenario: Scenario,
    commands: &[AgentCommand],
    pids: &[(String, u32)],
) -> Result<Run, String> {
    let processes = pids.iter().map(|(name, pid)| Process::new(name, *pid));
    let processes = processes.collect::<Result<Vec<_>, String>>()?;
    let scenario = seeded(scenario);
    let parts = part::parts(&scenario, commands.len())?;
    let mut commands = commands.to_vec();
    distinct(&mut commands);

    // Before the run: a process may be gone after it.
    let environment = Environment::read(pids);

    let (events_in, events) = sync_channel(EVENTS_MAX);
    interrupt(events_in.clone());
    let mut agents = Agents(Vec::new());
    for (number, command) in commands.iter().enumerate() {
        agents.push(Agent::start(command, number, events_in.clone())?);
    }
    drop(events_in);
    let greetings = greeted(&mut agents, &events)?;
    for (agent, part) in agents.iter_mut().zip(&parts) {
        let scenario = Box::new(part.clone());
        agent
            .tell(&ToAgent::Job { scenario })
            .map_err(|why| of(agent, &why))?;
    }
    all(&mut agents, &events, PREPARED, "ready", |_, said| {
        matches!(said, FromAgent::Ready)
    })?;

    let mut course = Course::new(&scenario, agents.len(), processes);
    for agent in agents.iter_mut() {
        agent.tell(&ToAgent::Go).map_err(|why| of(agent, &why))?;
    }
    course.follow(&mut agents, &events)?;
    let (ends, watched) = course.end();

    let parts = greetings
        .into_iter()
        .zip(parts)
        .zip(agents.iter().zip(ends));
    let parts = parts.map(|((environment, part), (agent, end))| Part {
        name: agent.name.clone(),
        environment,
        scenario: part,
        end,
    });
    let mut run = joined(parts)?;
    // What was asked for, not what the first was told.
    run.scenario = scenario.to_kept();
    run.seed = scenario.seed.unwrap_or_default();
    run.intended_rate = scenario.rate.unwrap_or_default();
    run.environment = environment;
    let bodies = run.body_bytes_received.saturating_add(run.body_bytes_sent);
    (run.processes, _) = watched.uses(run.requests, bodies);
    Ok(run)
}

/// What became of one agent.
struct Part {
    name: String,
    environment: Environment,
    scenario: Scenario,
    end: End,
}

/// One run of all parts; those that are missing are errors in it.
fn joined(parts: impl Iterator<Item = Part>) -> Result<Run, String> {
    let mut whole: Option<Run> = None;
    let mut lost = Vec::new();
    for part in parts {
        match part.end {
            End::Result(mut run) => {
                run.environment = part.environment;
                run.agents = vec![run.as_agent(&part.name)];
                match &mut whole {
                    Some(whole) => whole.merge(&run),
                    None => whole = Some(*run),
                }
            }
            End::Lost(why) => lost.push(result::Agent {
                name: part.name,
                environment: part.environment,
                connections: part.scenario.connections,
                shards: part.scenario.shards,
                lost: why,
                ..result::Agent::default()
            }),
        }
    }
    let told = |agent: &result::Agent| format!("{} {}", agent.name, agent.lost);
    let Some(mut run) = whole else {
        let each: Vec<_> = lost
            .iter()
            .map(|agent| format!("agent {}", told(agent)))
            .collect();
        return Err(each.join("; "));
    };
    if let Some(first) = lost.first() {
        run.errors.insert(LOST.to_owned(), lost.len() as u64);
        run.error_examples.insert(LOST.to_owned(), told(first));
    }
    run.agents.extend(lost);
    Ok(run)
}

/// All of a run. Those that are left at its end are dismissed together, so that they end side by side.
struct Agents(Vec<Agent>);

impl Deref for Agents {
    type Target = Vec<Agent>;
    fn deref(&self) -> &Vec<Agent> {
        &self.0
    }
}

impl DerefMut for Agents {
    fn deref_mut(&mut self) -> &mut Vec<Agent> {
        &mut self.0
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Agent::dismiss);
    }
}

/// Ctrl-C and SIGTERM end the run as an error does, so that every agent is ended.
fn interrupt(events: SyncSender<Result<Event, String>>) {
    let wait = async move {
        use tokio::signal::unix::{SignalKind, signal};
        let terminate = signal(SignalKind::terminate());
        let Ok(mut terminate) = terminate else { return };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        let _ = events.send(Err("interrupted".to_owned()));
    };
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        if let Ok(runtime) = runtime {
            runtime.block_on(wait);
        }
    });
}

/// Waits until each has said who it is.
fn greeted(
    agents: &mut [Agent],
    events: &Receiver<Result<Event, String>>,
) -> Result<Vec<Environment>, String> {
    let mut greetings = vec![Environment::default(); agents.len()];
    all(agents, events, HELLO, "there", |agent, said| match said {
        FromAgent::Hello { environment, .. } => {
            greetings[agent] = *environment;
            true
        }
        _ => false,
    })?;
    Ok(greetings)
}

/// Waits until each has said what is wanted; anything else is an error.
fn all(
    agents: &mut [Agent],
    events: &Receiver<Result<Event, String>>,
    patience: Duration,
    what: &str,
    mut wanted: impl FnMut(usize, FromAgent) -> bool,
) -> Result<(), String> {
    let until = Instant::now() + patience;
    let mut missing: Vec<_> = (0..agents.len()).collect();
    while !missing.is_empty() {
        let wait = until.saturating_duration_since(Instant::now());
        let event = match events.recv_timeout(wait) {
            Ok(event) => event?,
            Err(_) => {
                let names: Vec<_> = missing.iter().map(|at| agents[*at].name.as_str()).collect();
                return Err(format!(
                    "not {what} after {} s: {}",
                    patience.as_secs(),
                    names.join(", ")
                ));
            }
        };
        let why = match event.said {
            Ok(FromAgent::Failed { why }) => format!("cannot: {why}"),
            Ok(said) => {
                let text = format!("said {said:?} before it was {what}");
                if wanted(event.agent, said) {
                    missing.retain(|at| *at != event.agent);
                    continue;
                }
                text.chars().take(200).collect()
            }
            Err(why) => why,
        };
        let agent = &mut agents[event.agent];
        let why = explained(agent, why);
        return Err(of(agent, &why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::load::scenario::{Flags, Kind};
    use super::*;

    fn scenario() -> Scenario {
        let flags = Flags {
            url: Some("http://localhost:1/".to_owned()),
            duration: Some(Duration::from_secs(1)),
            ..Flags::default()
        };
        Scenario::of(Kind::Requests, None, flags).unwrap()
    }

    /// What comes of an agent that is this shell script.
    fn refused(script: &str) -> String {
        let command =
            AgentCommand::new(&format!("bad=sh -c {}", shlex::try_quote(script).unwrap())).unwrap();
        coordinate(scenario(), &[command], &[]).unwrap_err()
    }

    fn hello() -> String {
        let hello = FromAgent::Hello {
            protocol: super::super::PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            environment: Box::default(),
        };
        serde_json::to_string(&hello).unwrap()
    }

    #[test]
    fn an_agent_that_is_none_is_named_with_its_reason() {
        assert_eq!(refused("exit 3"), "agent bad ended: exit status: 3");
        assert!(refused("echo Welcome; cat").starts_with("agent bad said `Welcome` is no message"));
        let old = hello().replace(env!("CARGO_PKG_VERSION"), "0.0.1");
        assert!(refused(&format!("echo '{old}'; cat")).contains("is of tidegate 0.0.1"));
        let command = AgentCommand::new("/nowhere/tidegate load agent").unwrap();
        let refused = coordinate(scenario(), &[command], &[]).unwrap_err();
        assert!(
            refused.contains("agent agent could not be started"),
            "{refused}"
        );
    }

    #[test]
    fn an_agent_that_cannot_do_its_job_stops_the_run() {
        let hello = hello();
        let cannot = refused(&format!(
            r#"echo '{hello}'; read job; echo '{{"say": "failed", "why": "no CA"}}'; cat"#
        ));
        assert_eq!(cannot, "agent bad cannot: no CA");
        let early = refused(&format!(r#"echo '{hello}'; read job; echo '{hello}'; cat"#));
        assert!(early.contains("before it was ready"), "{early}");
    }

    #[test]
    fn an_agent_that_is_lost_in_the_run_is_told() {
        let begin = format!(
            r#"echo '{}'; read job; echo '{{"say": "ready"}}'; read go"#,
            hello()
        );
        assert_eq!(
            refused(&format!("{begin}; exit 7")),
            "agent bad ended: exit status: 7"
        );
        let script = format!(
            r#"{begin}; echo '{{"say": "result", "run": {{"kind": "requests", "requests": 5}}}}'; cat >/dev/null"#
        );
        let command = |name: &str, script: &str| {
            AgentCommand::new(&format!(
                "{name}=sh -c {}",
                shlex::try_quote(script).unwrap()
            ))
            .unwrap()
        };
        let commands = [
            command("good", &script),
            command("bad", &format!("{begin}; echo '[]'; cat >/dev/null")),
        ];
        let run = coordinate(scenario(), &commands, &[]).unwrap();
        assert_eq!((run.requests, run.errors[LOST]), (5, 1));
        let lost: Vec<_> = run
            .agents
            .iter()
            .map(|agent| (agent.name.as_str(), agent.lost.is_empty()))
            .collect();
        assert_eq!(lost, [("good", true), ("bad", false)]);
        assert!(
            run.error_examples[LOST].starts_with("bad said `[]` is no message"),
            "{:?}",
            run.error_examples
        );
    }
}
