//! Who does nothing costs nothing.

use crate::harness::{Lab, Tls, tls, wait};
use std::time::Duration;

const STRETCH: Duration = Duration::from_secs(4);

/// Ticks of 10 ms that a process spent during the stretch.
fn spent(lab: &Lab) -> (u64, u64) {
    let connector = lab.connector.as_ref().expect("a connector");
    let before = (lab.gateway.cpu_ticks(), connector.cpu_ticks());
    wait::observe_for(STRETCH);
    (
        lab.gateway.cpu_ticks() - before.0,
        connector.cpu_ticks() - before.1,
    )
}

#[test]
fn idle_processes_use_no_cpu() {
    let lab = Lab::plan().alone().shards(2, 2).start();
    let config = tls::config(&lab, None);
    // Not only fresh ones: connections are open, pools are filled, timers are armed.
    let mut clients: Vec<_> = (0..50).map(|_| Tls::connect_with(&lab, &config)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/t/x").status, 200);
    }
    let (gateway, connector) = spent(&lab);
    assert!(
        gateway <= 2 && connector <= 2,
        "{gateway} and {connector} ticks of 10 ms in {STRETCH:?}"
    );
    assert_eq!(clients[0].get("/t/x").status, 200, "and they wake up");
}

/// The canary: the same measure sees work.
#[test]
fn the_measure_sees_work() {
    let lab = Lab::plan().alone().start();
    let before = lab.gateway.cpu_ticks();
    let mut client = Tls::connect(&lab);
    let mut requests = 0;
    while lab.gateway.cpu_ticks() < before + 5 {
        client.get("/t/x");
        requests += 1;
        assert!(requests < 100_000, "100,000 requests without a tick");
    }
}
