//! What only the simulated twin has: faults, and that a seed repeats everything.

use super::*;
use crate::ring::sim::{Death, RingId};

const USER_TIMEOUT: Duration = Duration::from_secs(30); // as in `listen_options`

fn ids(bench: &Bench<Simulated>) -> [RingId; 2] {
    [bench.world.1[0].id(), bench.world.1[1].id()]
}

fn gone(event: &Event) -> Option<()> {
    matches!(event, Event::PeerGone { .. }).then_some(())
}

/// A transfer with everything random in it; what was seen, with times.
fn story(seed: u64) -> String {
    let net = SimNet::new(
        seed,
        SimConfig {
            capacity: 9_000,
            ..SimConfig::default()
        },
    );
    let began = net.now();
    let rings = [
        net.ring([10, 0, 0, 1].into()),
        net.ring([10, 0, 0, 2].into()),
    ];
    let mut bench = Bench {
        world: Simulated(net.clone(), rings),
        seen: Default::default(),
    };
    let addr = "10.0.0.2:443".parse().unwrap();
    bench.ring(1).listen(addr, &listen_options(true)).unwrap();
    let (client, server) = bench.connect_to(addr);
    bench.ring(1).receive(server, Receive::Small);
    bench.ring(0).send(client, pattern(100_000));
    bench.ring(0).shutdown_write(client);
    let mut told = String::new();
    bench.until("FIN", |bench| {
        let at = net.now() - began;
        for event in bench.seen[1].drain(..) {
            told.push_str(&format!("{at:?} {event:?}\n"));
        }
        told.contains("PeerFinished").then_some(())
    });
    told
}

#[test]
fn a_seed_repeats_everything() {
    let first = story(1);
    assert_eq!(first, story(1));
    assert_ne!(first, story(2), "the seed decides something");
    assert!(first.lines().count() > 50, "delivered in pieces");
}

#[test]
fn a_cut_resets_both_ends() {
    let mut bench = Bench::<Simulated>::new();
    let (client, server) = bench.connected(true);
    bench.ring(0).receive(client, Receive::Small);
    bench.ring(1).receive(server, Receive::Paused);
    let [ring, _] = ids(&bench);
    bench.world.0.cut(ring, client);
    assert_eq!(bench.failed(0, client), ErrorKind::ConnectionReset);
    bench.event(1, "PeerGone", gone);
    bench.done(client, server);
    assert_eq!(bench.world.0.connections(), 0);
}

#[test]
fn a_black_hole_is_silent_until_the_user_timeout() {
    let mut bench = Bench::<Simulated>::new();
    let (client, server) = bench.connected(true);
    bench.ring(0).receive(client, Receive::Small);
    bench.ring(1).receive(server, Receive::Small);
    let [_, ring] = ids(&bench);
    bench.world.0.blackhole(ring, server);
    let began = bench.ring(1).now();
    bench.turns(300);
    assert!(
        bench.seen.iter().all(VecDeque::is_empty),
        "{:?}",
        bench.seen
    );
    bench.send(1, server, b"into the void");
    bench.turns(300);
    assert!(bench.seen[0].is_empty(), "{:?}", bench.seen[0]);
    // The bench's own patience is as long as the timeout, so in two steps.
    let half = began + USER_TIMEOUT;
    while bench.world.0.advance(half) {}
    assert_eq!(bench.failed(1, server), ErrorKind::TimedOut);
    assert!(bench.ring(1).now() - began >= USER_TIMEOUT);
    bench.done(client, server);
}

#[test]
fn a_partition_delays_and_loses_nothing() {
    let net = SimNet::new(SIM_SEED, SimConfig::default());
    let (here, there) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let rings = [net.ring(here), net.ring(there)];
    let mut bench = Bench {
        world: Simulated(net.clone(), rings),
        seen: Default::default(),
    };
    let addr = "10.0.0.2:443".parse().unwrap();
    bench.ring(1).listen(addr, &listen_options(true)).unwrap();
    let (client, server) = bench.connect_to(addr);
    bench.ring(1).receive(server, Receive::Small);
    let bytes = pattern(200_000);
    bench.ring(0).send(client, bytes.clone());
    bench.turns(3);
    net.partition(here, there);
    bench.turns(100);
    let before = bench.taken(1, server);
    bench.turns(100);
    assert_eq!(bench.taken(1, server), b"", "through a partition");
    let options = ConnectOptions {
        timeout: Some(Duration::from_secs(1)),
        ..Default::default()
    };
    let other = bench.ring(0).connect(addr, &options).unwrap();
    assert_eq!(bench.failed(0, other), ErrorKind::TimedOut);
    bench.ring(0).close(other);
    net.heal(there, here);
    let rest = bench.read(1, server, bytes.len() - before.len());
    assert!([before, rest].concat() == bytes);
    bench.sent(0, client);
    // the connection request of the one that gave up arrives late, and is taken back
    let stray = bench.event(1, "Accepted", |event| match event {
        Event::Accepted { socket, .. } => Some(*socket),
        _ => None,
    });
    bench.ring(1).receive(stray, Receive::Paused);
    bench.event(1, "PeerGone", gone);
    bench.ring(1).close(stray);
    bench.done(client, server);
    assert_eq!(net.connections(), 0);
}

#[test]
fn a_killed_process_resets_and_a_dead_host_is_silent() {
    for death in [Death::Process, Death::Host] {
        let mut bench = Bench::<Simulated>::new();
        let (listener_addr, pair) = {
            let (_, addr) = bench.listen(true);
            (addr, bench.connect_to(addr))
        };
        bench.ring(0).receive(pair.0, Receive::Paused);
        let [_, ring] = ids(&bench);
        bench.world.0.kill(ring, death);
        bench.turns(100);
        let noticed = bench.seen[0].iter().any(|event| gone(event).is_some());
        assert_eq!(
            noticed,
            death == Death::Process,
            "{death:?}: {:?}",
            bench.seen[0]
        );
        bench.ring(0).close(pair.0);
        // both rings have one address, so the host itself still answers
        let client = bench
            .ring(0)
            .connect(listener_addr, &ConnectOptions::default())
            .unwrap();
        assert_eq!(bench.failed(0, client), ErrorKind::ConnectionRefused);
        assert_eq!(bench.world.0.connections(), 0);
    }
}

#[test]
#[should_panic(expected = "was given up by its owner before")]
fn a_call_after_close_is_caught() {
    let mut bench = Bench::<Simulated>::new();
    let (client, _) = bench.connected(true);
    bench.ring(0).close(client);
    bench.ring(0).receive(client, Receive::Small);
}
