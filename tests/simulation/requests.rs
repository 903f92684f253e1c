//! Requests through the tunnel, whatever happens to it.

use super::world::*;
use std::sync::Arc;
use std::time::Duration;
use tidegate::control::config::load_gateway;
use tidegate::gateway;
use tidegate::ring::sim::SimConfig;

pub fn seeds() -> u64 {
    std::env::var("TIDEGATE_SIM_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3)
}

#[test]
fn requests_pass_whatever_the_network_cuts() {
    for seed in 0..seeds() {
        let mut world = World::new(seed, SimConfig::default());
        world.run_for(Duration::from_secs(3));
        world.add_clients(4, 1024, 0, 2);
        world.add_clients(2, 300_001, 0, 2);
        world.add_clients(2, 0, 150_000, 2);
        world.run_for(Duration::from_secs(4));
        for measured in world.results() {
            assert!(measured.errors.is_empty(), "{:?}", measured.errors);
            assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&200]);
            assert!(measured.latency.len() > 10, "{}", measured.latency.len());
        }
    }
}

#[test]
fn a_connectors_death_costs_only_what_was_on_its_link() {
    for seed in 100..100 + seeds() {
        let mut world = World::new(seed, SimConfig::default());
        world.run_for(Duration::from_secs(3));
        world.add_clients(8, 1024, 0, 6);
        world.run_for(Duration::from_secs(2));
        world.restart_connector(0);
        world.run_for(Duration::from_secs(6));
        let measured = world.results().remove(0);
        let of = |status| measured.statuses.get(&status).copied().unwrap_or(0);
        // Each of eight connections had at most one request on the link; the others waited for the next link.
        // An answer that had begun cannot become a 502: it breaks off.
        let cut: u64 = measured.errors.values().sum();
        let of_an_answer = |why: &String| why.contains("within the answer");
        assert!(
            measured.errors.keys().all(of_an_answer),
            "{:?}",
            measured.errors
        );
        assert!(of(502) + cut <= 8, "{:?} {cut}", measured.statuses);
        assert_eq!(of(503), 0, "{:?}", measured.statuses);
        assert!(of(200) > 100, "{:?}", measured.statuses);
        assert_eq!(measured.statuses.len(), 1 + usize::from(of(502) > 0));
    }
}

#[test]
fn a_partition_is_noticed_and_healed() {
    let mut world = World::new(7, SimConfig::default());
    world.run_for(Duration::from_secs(3));
    world.net.partition(GATEWAY, connector_address(0));
    world.run_for(Duration::from_secs(40));
    world.net.heal(GATEWAY, connector_address(0));
    world.run_for(Duration::from_secs(5));
    world.add_clients(4, 1024, 0, 2);
    world.run_for(Duration::from_secs(4));
    let measured = world.results().remove(0);
    assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&200]);
    assert!(measured.errors.is_empty(), "{:?}", measured.errors);
}

/// The death of one of two connectors costs no client anything that may be asked twice.
#[test]
fn what_a_dead_connector_had_is_asked_of_the_other() {
    let mut retried = 0;
    for seed in 200..200 + seeds() {
        let mut world = World::with_connectors(2, seed, SimConfig::default());
        world.run_for(Duration::from_secs(3));
        world.add_clients(8, 1024, 0, 5);
        for n in [0, 1] {
            world.run_for(Duration::from_secs(2));
            world.restart_connector(n);
        }
        world.run_for(Duration::from_secs(3));
        let counted = world.counted();
        retried += counted.requests_retried;
        assert_eq!(counted.retries_withheld, 0);
        let measured = world.total();
        assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&200]);
        // An answer that had begun breaks off, and no other.
        let cut: u64 = measured.errors.values().sum();
        assert_eq!(
            cut,
            counted.errors.get("connector_lost"),
            "{:?}",
            measured.errors
        );
        assert!(cut <= 16, "{:?}", measured.errors);
        assert!(measured.latency.len() > 100, "{}", measured.latency.len());
    }
    assert!(retried > 0, "no death met a request");
}

/// What may not be asked twice is answered with the loss, and nothing else is lost.
#[test]
fn a_dead_connectors_uploads_are_lost_and_named() {
    for seed in 300..300 + seeds() {
        let mut world = World::with_connectors(2, seed, SimConfig::default());
        world.run_for(Duration::from_secs(3));
        world.add_clients(8, 0, 2000, 6);
        world.run_for(Duration::from_secs(2));
        world.restart_connector(0);
        world.run_for(Duration::from_secs(6));
        let counted = world.counted();
        assert_eq!(counted.requests_retried, 0, "a POST was asked twice");
        let lost = counted.errors.get("connector_lost");
        let measured = world.total();
        let of = |status| measured.statuses.get(&status).copied().unwrap_or(0);
        assert!(lost <= 8 && of(502) == lost, "{:?}", measured.statuses);
        assert_eq!(measured.statuses.len(), 1 + usize::from(lost > 0));
        assert!(of(200) > 100 && measured.errors.is_empty());
    }
}

/// Connectors that are asked to end take nothing with them, whatever the method.
#[test]
fn connectors_restarted_in_turn_lose_nothing() {
    for seed in 400..400 + seeds() {
        let mut world = World::with_connectors(2, seed, SimConfig::default());
        world.run_for(Duration::from_secs(3));
        world.add_clients(4, 1024, 0, 8);
        world.add_clients(4, 0, 2000, 8);
        world.add_clients(1, 0, 70_000, 8);
        for n in [0, 1, 0, 1] {
            world.run_for(Duration::from_millis(500));
            let took = world.drain_connector(n);
            assert!(took < Duration::from_secs(5), "it took {took:?}");
            world.restart_connector(n);
            world.run_for(Duration::from_millis(700));
        }
        world.run_for(Duration::from_secs(6));
        let counted = world.counted();
        assert_eq!(counted.requests_retried, 0, "nothing had to be asked twice");
        let measured = world.total();
        assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&200]);
        assert!(measured.errors.is_empty(), "{:?}", measured.errors);
        assert!(measured.latency.len() > 500, "{}", measured.latency.len());
    }
}

/// Whenever in a link's beginning the CA of connectors is replaced: it does not become one that carries requests.
#[test]
fn a_link_that_begins_under_the_old_ca_does_not_outlive_it() {
    let mut opened = Vec::new();
    for after in (0..160).map(|n| Duration::from_micros(250 * n)) {
        let mut world = World::new(600, SimConfig::default());
        let file = |name| std::fs::read_to_string(world.lab.0.join(name)).unwrap();
        let other = file("gateway.toml").replace("= \"ca.pem\"", "= \"clients-ca.pem\"");
        std::fs::write(world.lab.0.join("other.toml"), other).unwrap();
        let (config, _) = load_gateway(&world.lab.0.join("other.toml")).unwrap();
        let plan = Arc::new(gateway::server::plan(&config).unwrap());
        world.run_for(after);
        let sent = world.gateway.shards[0].send(gateway::shard::Message::Plan(plan));
        assert!(sent.is_ok());
        world.run_for(Duration::from_secs(2));
        let counted = world.counted();
        assert_eq!(counted.links, 0, "{after:?} after the start");
        opened.push(counted.links_opened);
    }
    // The canary: from before the first dial until after READY.
    assert_eq!((opened.first(), opened.last()), (Some(&0), Some(&1)));
}

/// The control thread has no room for more settings: the link stays up, and they are published again.
#[test]
fn settings_that_find_no_room_come_again() {
    for seed in 800..800 + seeds() {
        let mut world = World::with_connectors(2, seed, SimConfig::default());
        let backlog = world.gateway.backlog.clone();
        let others: Vec<_> = (0..).map_while(|_| backlog.enter(1)).collect();
        world.run_for(Duration::from_secs(3));
        let counted = world.counted();
        assert_eq!((counted.links, counted.links_lost), (2, 0));
        drop(others);
        world.run_for(Duration::from_secs(4));
        world.add_clients(4, 1024, 0, 1);
        world.run_for(Duration::from_secs(2));
        assert_eq!(world.counted().links_opened, 2);
        let measured = world.total();
        assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&200]);
    }
}

/// What is kept of a request counts against the memory cap until its answer comes, and no longer.
#[test]
fn what_is_kept_for_a_retry_is_charged_until_the_answer() {
    let mut world = World::with_connectors(2, 900, SimConfig::default());
    world.run_for(Duration::from_secs(3));
    world.net.partition(connector_address(0), UPSTREAM);
    world.net.partition(connector_address(1), UPSTREAM);
    world.add_clients(8, 1024, 0, 1);
    world.run_for(Duration::from_millis(500));
    let counted = world.counted();
    assert_eq!(counted.requests_open, 8);
    assert!(
        counted.memory_charged > 8 * 100,
        "{}",
        counted.memory_charged
    );
    world.net.heal(connector_address(0), UPSTREAM);
    world.net.heal(connector_address(1), UPSTREAM);
    world.run_for(Duration::from_secs(30));
    let counted = world.counted();
    assert_eq!((counted.requests_open, counted.memory_charged), (0, 0));
}

/// A client that is silent for a second costs no expanded keys, and its next request finds them made anew.
#[test]
fn keys_of_silent_clients_are_given_up_and_made_again() {
    for (think, dropped) in [("900ms..900ms", false), ("1500ms..1500ms", true)] {
        let mut world = World::new(1000, SimConfig::default());
        world.run_for(Duration::from_secs(1));
        world.add_thinking_clients(4, think, 8);
        world.run_for(Duration::from_secs(12));
        let keys = world.counted().keys_dropped;
        let measured = world.total();
        assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&200]);
        assert!(measured.errors.is_empty(), "{:?}", measured.errors);
        let answers = measured.statuses[&200];
        assert!(answers >= 4 * 5, "{answers}");
        // Once each when all is over, in any case.
        let wanted = if dropped { answers } else { 4 };
        assert_eq!(keys, wanted, "in {answers} requests");
    }
}

/// A site without connectors: who gave up waiting leaves no trace among those that wait.
#[test]
fn requests_that_waited_in_vain_are_forgotten() {
    let mut world = World::with_connectors(0, 700, SimConfig::default());
    world.add_clients(8, 1024, 0, 3);
    world.run_for(Duration::from_millis(500));
    assert_eq!(world.counted().requests_held, 8);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.counted().requests_held, 0);
    let measured = world.total();
    assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&503]);
}

/// The only connector of a site drains and comes back: requests wait for it meanwhile.
#[test]
fn requests_wait_while_the_only_connector_is_replaced() {
    for seed in 500..500 + seeds() {
        let mut world = World::new(seed, SimConfig::default());
        world.run_for(Duration::from_secs(3));
        world.add_clients(4, 1024, 0, 6);
        world.add_clients(4, 0, 2000, 6);
        world.run_for(Duration::from_secs(1));
        world.drain_connector(0);
        world.restart_connector(0);
        world.run_for(Duration::from_secs(7));
        let counted = world.counted();
        assert_eq!(counted.streams, 0, "a held request left its stream open");
        let measured = world.total();
        assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&200]);
        assert!(measured.errors.is_empty(), "{:?}", measured.errors);
    }
}
