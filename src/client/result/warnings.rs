//! What makes a run's figures doubtful. The load generator's own limit comes first: a server is never slower than the one
//! that asks it.

use super::words::{self, count, figure};
use super::{ProcessUse, Run};

/// Of its cores that the load generator may use before it counts as the limit, in percent.
const BUSY: f64 = 92.0;
/// A run that is over sooner, or in which nothing was completed, shows the load generator's start rather than its limit.
const LONG_ENOUGH: f64 = 0.5;
/// Of the intended rate that must have been reached.
const REACHED: f64 = 0.98;
/// Fewer measured values make a p99 of a handful.
const FEW: u64 = 1000;

/// Sentences, the weightiest first; none of a run that can be trusted.
pub fn of(run: &Run) -> Vec<String> {
    let mut found = Vec::new();
    for agent in run.agents.iter().filter(|agent| !agent.lost.is_empty()) {
        found.push(format!(
            "The part of host {} is missing: it {}.",
            agent.name, agent.lost
        ));
    }
    let telling = run.requests > 0 && run.seconds >= LONG_ENOUGH;
    let busy = busiest(run).filter(|_| telling);
    if let Some((name, percent, shards)) = &busy {
        found.push(format!(
            "The load generator was the limit: {name} used {} % of its {}. The servers may be quicker than these figures; \
             give it more shards, or run it on hosts of its own (--agent).",
            figure(*percent),
            words::plural(*shards as u64, "core"),
        ));
    }
    if let Some(rate) = words::rate(run).filter(|_| run.seconds > 0.0) {
        let reached = words::attempts(run) as f64 / run.seconds;
        if reached < rate * REACHED {
            let why = if busy.is_some() {
                "the load generator could not send as fast"
            } else {
                "the servers did not keep up, or there were too few connections for it"
            };
            found.push(format!(
                "The intended rate was not reached: {} of {} {} a second; {why}. Latency holds the wait for a free connection.",
                figure(reached),
                figure(rate),
                words::kind(run).many
            ));
        }
    }
    let kind = words::kind(run);
    if run.requests == 0 {
        found.push(format!(
            "Nothing was measured: no {} was completed.",
            kind.one
        ));
    } else if run.requests < FEW {
        found.push(format!(
            "Only {} were measured: p99 and above stand on single ones.",
            words::plural(run.requests, kind.one)
        ));
    }
    if run.unfinished > 0 {
        found.push(format!(
            "{} had no answer when the time was over; the oldest had waited {}. They are in no figure.",
            words::plural(run.unfinished, kind.one),
            words::micros(run.unfinished_longest_us as f64)
        ));
    }
    let failed = words::failures(run);
    if failed > 0 {
        found.push(format!(
            "{} of {} {} failed; latency is that of the others.",
            count(failed),
            count(words::attempts(run)),
            kind.many
        ));
    }
    found
}

/// The load generator that had the least room left, if too little: its name, its percentage of its cores, and their number.
fn busiest(run: &Run) -> Option<(String, f64, usize)> {
    let own = (
        "it".to_owned(),
        &run.load,
        run.shards,
        run.environment.cores,
        run.seconds,
    );
    let agents = run.agents.iter();
    let agents = agents.map(|a| {
        (
            format!("agent {}", a.name),
            &a.load,
            a.shards,
            a.environment.cores,
            a.seconds,
        )
    });
    let all: Vec<_> = if run.agents.is_empty() {
        vec![own]
    } else {
        agents.collect()
    };
    let loads = all.into_iter().map(|(name, load, shards, cores, seconds)| {
        // More threads than cores share these.
        let may = if cores > 0 {
            shards.clamp(1, cores)
        } else {
            shards.max(1)
        };
        (name, used(load, seconds) / may as f64, may)
    });
    loads
        .filter(|(_, percent, _)| *percent >= BUSY)
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Percent of one core.
fn used(load: &ProcessUse, seconds: f64) -> f64 {
    if seconds > 0.0 {
        load.cpu_seconds / seconds * 100.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Agent, testing};
    use super::*;

    fn quiet() -> Run {
        let mut run = testing::run();
        run.errors.clear();
        run
    }

    #[test]
    fn a_good_run_has_none() {
        assert_eq!(of(&quiet()), Vec::<String>::new());
    }

    #[test]
    fn a_busy_load_generator_is_told() {
        let mut run = quiet();
        run.load.cpu_seconds = 9.6;
        assert!(
            of(&run)[0].contains("96.0 % of its 1 core"),
            "{:?}",
            of(&run)
        );
        run.seconds = 0.4;
        run.load.cpu_seconds = 0.4;
        assert!(of(&run).is_empty(), "that was its start");
        (run.seconds, run.load.cpu_seconds) = (10.0, 9.6);
        run.requests = 0;
        assert!(!of(&run)[0].contains("the limit"), "{:?}", of(&run));
        let mut run = quiet();
        run.load.cpu_seconds = 9.6;
        run.shards = 2;
        assert!(of(&run).is_empty());
        // Eight shards on one core can use no more than that.
        (run.shards, run.environment.cores) = (8, 1);
        assert_eq!(of(&run).len(), 1);
        run.shards = 2;
        run.agents = vec![Agent {
            name: "b".into(),
            seconds: 10.0,
            load: run.load.clone(),
            ..Agent::default()
        }];
        assert!(of(&run)[0].contains("agent b"));
    }

    #[test]
    fn a_rate_that_was_not_reached_is_told() {
        let mut run = quiet();
        run.intended_rate = 5050.0;
        assert!(of(&run).is_empty());
        run.intended_rate = 6000.0;
        assert!(of(&run)[0].contains("5,000 of 6,000 requests a second; the servers"));
    }

    #[test]
    fn few_and_failed_are_told() {
        let mut run = quiet();
        run.requests = 10;
        run.intended_rate = 0.0;
        run.errors.insert("timeout".into(), 2);
        let told = of(&run);
        assert!(
            told[0].contains("Only 10 requests") && told[1].contains("2 of 12 requests failed"),
            "{told:?}"
        );
        assert!(of(&Run::default())[0].contains("Nothing was measured"));
    }
}
