//! One agent's part of a scenario.

use super::super::load::Scenario;

/// As many parts as there are agents: users and count are dealt out, the rate is divided, and each draws from a seed of its
/// own, which follows from the run's.
///
/// # Errors
/// There is too little for so many.
pub fn parts(scenario: &Scenario, agents: usize) -> Result<Vec<Scenario>, String> {
    if scenario.connections < agents {
        return Err(format!(
            "{} connections are too few for {agents} agents: each needs one",
            scenario.connections
        ));
    }
    if let Some(requests) = scenario
        .requests
        .filter(|requests| *requests < agents as u64)
    {
        return Err(format!(
            "{requests} requests are too few for {agents} agents: each needs one"
        ));
    }
    let share = |whole: u64, at: usize| {
        whole / agents as u64 + u64::from((at as u64) < whole % agents as u64)
    };
    let mut seeds = fastrand::Rng::with_seed(scenario.seed.unwrap_or_default());
    let part = |at| Scenario {
        connections: share(scenario.connections as u64, at) as usize,
        requests: scenario.requests.map(|requests| share(requests, at)),
        rate: scenario.rate.map(|rate| rate / agents as f64),
        // 32 bits, as every seed that a run chooses by itself.
        seed: Some(u64::from(seeds.u32(..))),
        ..scenario.clone()
    };
    Ok((0..agents).map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_whole() {
        let whole = Scenario {
            connections: 10,
            requests: Some(1001),
            rate: Some(500.0),
            seed: Some(7),
            ..Scenario::default()
        };
        let all = parts(&whole, 4).unwrap();
        assert_eq!(
            all.iter().map(|part| part.connections).collect::<Vec<_>>(),
            [3, 3, 2, 2]
        );
        assert_eq!(
            all.iter().filter_map(|part| part.requests).sum::<u64>(),
            1001
        );
        assert_eq!(all.iter().filter_map(|part| part.rate).sum::<f64>(), 500.0);
        assert!((1..4).all(|at| all[at].seed != all[0].seed));
        assert_eq!(all, parts(&whole, 4).unwrap());
    }

    #[test]
    fn too_little_for_all_is_refused() {
        let mut whole = Scenario {
            connections: 2,
            requests: Some(2),
            ..Scenario::default()
        };
        assert!(parts(&whole, 2).is_ok());
        assert!(
            parts(&whole, 3)
                .unwrap_err()
                .contains("2 connections are too few for 3")
        );
        (whole.connections, whole.requests) = (3, Some(2));
        assert!(parts(&whole, 3).unwrap_err().contains("2 requests"));
    }
}
