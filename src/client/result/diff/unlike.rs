//! What two runs differ in besides their figures: how they were asked for, and on what machine they ran.

use super::super::{Run, words};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Something that one run has otherwise than another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `machine`, `program` or `scenario`.
    pub group: &'static str,
    pub what: String,
    /// Of each run, `–` where it has none.
    pub values: Vec<String>,
}

/// All differences between the runs, the machine's first.
pub fn differences(runs: &[&Run]) -> Vec<Difference> {
    let facts: Vec<_> = runs.iter().map(|run| facts(run)).collect();
    let keys: BTreeSet<_> = facts.iter().flat_map(BTreeMap::keys).collect();
    let each = keys.into_iter().filter_map(|key| {
        let of = |facts: &BTreeMap<Key, String>| {
            facts.get(key).cloned().unwrap_or_else(|| "–".to_owned())
        };
        let values: Vec<_> = facts.iter().map(of).collect();
        let same = values.windows(2).all(|pair| pair[0] == pair[1]);
        (!same).then(|| Difference {
            group: GROUPS[key.0],
            what: key.1.clone(),
            values,
        })
    });
    each.collect()
}

/// The group's place and the name within it.
type Key = (usize, String);

const GROUPS: [&str; 3] = ["machine", "program", "scenario"];

fn facts(run: &Run) -> BTreeMap<Key, String> {
    let mut facts = BTreeMap::new();
    machine(run, &mut facts);
    let mut program = |name: &str, version: &str| {
        facts.insert((1, name.to_owned()), version.to_owned());
    };
    program("load", &format!("tidegate {}", run.version));
    for (name, version) in run
        .environment
        .versions
        .iter()
        .filter(|(name, _)| *name != "load")
    {
        program(name, version);
    }
    let mut scenario = |name: &str, value: String| {
        facts.insert((2, name.to_owned()), value);
    };
    scenario("url", run.url.clone());
    scenario("connections", run.connections.to_string());
    scenario("shards", run.shards.to_string());
    scenario(
        "rate",
        words::rate(run).map_or_else(|| "closed loop".to_owned(), words::figure),
    );
    scenario("hosts", run.agents.len().max(1).to_string());
    flatten("", &run.scenario, &mut facts);
    facts
}

fn machine(run: &Run, facts: &mut BTreeMap<Key, String>) {
    let environment = &run.environment;
    let mut machine = |name: &str, value: String| {
        facts.insert((0, name.to_owned()), value);
    };
    machine("processor", environment.cpu.clone());
    machine("cores", environment.cores.to_string());
    // Two boots of one machine differ by some pages.
    machine(
        "memory",
        words::kibibytes(environment.memory_kib.next_multiple_of(64 * 1024)),
    );
    machine("kernel", environment.kernel.clone());
    for (name, state) in &environment.mitigations {
        machine(&format!("mitigation {name}"), state.clone());
    }
    for (at, agent) in run.agents.iter().enumerate() {
        machine(
            &format!("host {} of the load", at + 1),
            format!(
                "{} × {}, kernel {}",
                agent.environment.cores, agent.environment.cpu, agent.environment.kernel
            ),
        );
    }
}

/// Keys of a scenario that a repeated run has otherwise by nature, or that are told already.
const PASSED: [&str; 5] = ["seed", "connections", "shards", "rate", "url"];

/// `a.b.0 = value` of each value inside; the machine and programs are not in there.
fn flatten(path: &str, value: &Value, facts: &mut BTreeMap<Key, String>) {
    let inner = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .filter(|(name, _)| !path.is_empty() || !PASSED.contains(&name.as_str()));
            fields.for_each(|(name, value)| flatten(&inner(name), value, facts));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(at, value)| flatten(&inner(&at.to_string()), value, facts));
        }
        Value::Null => {}
        Value::String(text) => _ = facts.insert((2, path.to_owned()), text.clone()),
        other => _ = facts.insert((2, path.to_owned()), other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing;
    use super::*;

    #[test]
    fn a_run_does_not_differ_from_itself() {
        let run = testing::run();
        let again = Run {
            seed: 9,
            ..run.clone()
        };
        assert_eq!(differences(&[&run, &again, &run]), []);
    }

    #[test]
    fn machine_programs_and_scenario_are_compared() {
        let (a, mut b) = (testing::run(), testing::run());
        b.environment.kernel = "6.1.0".into();
        b.environment
            .versions
            .insert("gateway".into(), "tidegate 0.2.0".into());
        b.environment.mitigations.clear();
        b.scenario["tls"]["ca"] = "other.pem".into();
        b.scenario["members"] = serde_json::json!([{"weight": 2}]);
        b.connections = 128;
        let found = differences(&[&a, &b]);
        let told: Vec<_> = found
            .iter()
            .map(|d| format!("{} {}: {}", d.group, d.what, d.values.join(" | ")))
            .collect();
        assert_eq!(
            told,
            [
                "machine kernel: 6.12.0 | 6.1.0",
                "machine mitigation retbleed: Not affected | –",
                "program gateway: tidegate 0.1.0 | tidegate 0.2.0",
                "scenario connections: 64 | 128",
                "scenario members.0.weight: – | 2",
                "scenario tls.ca: ca.pem | other.pem",
            ]
        );
    }
}
