//! A run from several hosts while it goes on: what the agents say of it, one line on the terminal, and how each part ended.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::super::load::Scenario;
use super::super::load::live::Live;
use super::super::load::run::Progress;
use super::super::load::timeline::Clock;
use super::super::load::watch::Watched;
use super::super::process::Process;
use super::super::result::{Moment, Run};
use super::FromAgent;
use super::child::{Agent, Event, GONE, explained, of};

/// Beyond what the scenario takes, for the way of a result.
const RESULT: Duration = Duration::from_secs(30);

/// How an agent's part ended.
pub enum End {
    Result(Box<Run>),
    Lost(String),
}

/// The run while it goes on.
pub struct Course {
    clock: Clock,
    end: Instant,
    /// Who has no result by then is lost.
    last: Instant,
    watched: Watched,
    live: Live,
    moments: Vec<Moment>,
    sums: Vec<(u64, u64)>,
    ends: Vec<Option<End>>,
}

impl Course {
    pub fn new(scenario: &Scenario, agents: usize, processes: Vec<Process>) -> Course {
        let lead = scenario.lead();
        let clock = Clock::new(Instant::now(), lead, lead + scenario.duration);
        let end = clock.measured_from() + scenario.duration;
        Course {
            clock,
            end,
            last: end + scenario.timeout + RESULT,
            watched: Watched::new(processes, clock),
            live: Live::new(scenario.kind, scenario.rate.is_some()),
            moments: vec![Moment::default(); agents],
            sums: vec![(0, 0); agents],
            ends: (0..agents).map(|_| None).collect(),
        }
    }

    /// To the last agent's end.
    ///
    /// # Errors
    /// It was interrupted.
    pub fn follow(
        &mut self,
        agents: &mut [Agent],
        events: &Receiver<Result<Event, String>>,
    ) -> Result<(), String> {
        while self.ends.iter().any(Option::is_none) {
            let now = Instant::now();
            self.watched.look(now, self.end);
            if now >= self.last {
                let open = self.ends.iter_mut().filter(|end| end.is_none());
                open.for_each(|end| *end = Some(End::Lost("had no result in time".to_owned())));
                return Ok(());
            }
            let until = self.watched.next_look(self.end).min(self.last);
            match events.recv_timeout(until.saturating_duration_since(now)) {
                Ok(event) => {
                    let event = event?;
                    self.take(&mut agents[event.agent], event);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        Ok(())
    }

    fn take(&mut self, agent: &mut Agent, event: Event) {
        let number = event.agent;
        if self.ends[number].is_some() {
            return;
        }
        let end = match event.said {
            Ok(FromAgent::Progress {
                moment,
                requests,
                failed,
            }) => {
                (self.moments[number], self.sums[number]) = (moment, (requests, failed));
                self.show();
                return;
            }
            Ok(FromAgent::Result { run }) => End::Result(run),
            Ok(FromAgent::Failed { why }) => End::Lost(format!("failed: {why}")),
            Ok(said) => End::Lost(
                format!("said {said:?} in the course of the run")
                    .chars()
                    .take(200)
                    .collect(),
            ),
            Err(why) => End::Lost(explained(agent, why)),
        };
        agent.dismiss();
        match &end {
            // What a server spends is measured over the time that its answers are.
            End::Result(_) => self.watched.stop(Instant::now()),
            End::Lost(why) => eprintln!("tidegate load: {}", of(agent, why)),
        }
        self.ends[number] = Some(end);
    }

    /// The line on the terminal: all agents' last moments together.
    fn show(&mut self) {
        let mut joint = Moment::default();
        for moment in self.moments.iter().filter(|moment| moment.seconds > 0.0) {
            joint.add(moment);
        }
        let sum = |of: fn(&(u64, u64)) -> u64| {
            self.sums
                .iter()
                .fold(0_u64, |sum, one| sum.saturating_add(of(one)))
        };
        let now = Instant::now();
        self.live.show(&Progress {
            moment: &joint,
            elapsed: now.saturating_duration_since(self.clock.begin),
            left: self.end.saturating_duration_since(now),
            requests: sum(|one| one.0),
            failed: sum(|one| one.1),
        });
    }

    pub fn end(self) -> (Vec<End>, Watched) {
        self.live.end();
        let ends = self.ends.into_iter();
        let known = ends.map(|end| end.unwrap_or_else(|| End::Lost(GONE.to_owned())));
        (known.collect(), self.watched)
    }
}
