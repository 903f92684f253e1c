//! Several instances of a gateway, all served by one connector.

use crate::harness::fleet::Instance;
use crate::harness::{Lab, Tls, lab, tls, until};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// What is promised for a link to an instance that came.
const PROMISED: Duration = Duration::from_secs(3);

/// One request on a connection of its own.
#[track_caller]
fn ask(port: u16, config: &Arc<rustls::ClientConfig>, path: &str) {
    let mut client = Tls::try_connect_to(port, config).expect("the instance accepts");
    let answer = client.get(path);
    assert_eq!((answer.status, answer.text().as_str()), (200, path));
}

fn links(lab: &Lab, admin: u16) -> f64 {
    lab.metric(admin, "tidegate_relay_links", &[])
}

#[test]
fn two_instances_of_unequal_size_have_one_connector() {
    let mut lab = Lab::plan()
        .instances(2)
        .shards(1, 2)
        .without_connector()
        .start();
    let config = tls::config(&lab, None);
    let first = lab.ports.clients;
    lab.spawn_connector();
    // Instance 1 is down, and instance 0 works.
    until("instance 0 has its link", PATIENCE, || {
        (links(&lab, lab.ports.gateway_admin) == 1.0).then_some(())
    });
    for n in 0..20 {
        ask(first, &config, &format!("/t/alone{n}"));
    }
    assert!(
        !lab::is_ready(lab.ports.connector_admin),
        "a link is missing"
    );

    let mut second = lab.start_instance(1, 3);
    second.member.wait_ready();
    until("the later instance has a link a shard", PROMISED, || {
        (links(&lab, second.member.admin) == 3.0).then_some(())
    });
    lab.wait_connector();
    for n in 0..40 {
        ask(first, &config, &format!("/t/first{n}"));
        ask(second.clients, &config, &format!("/t/second{n}"));
    }
    assert_eq!(links(&lab, lab.ports.connector_admin), 4.0);

    second.member.process.kill();
    for n in 0..20 {
        ask(first, &config, &format!("/t/again{n}"));
    }
    second.member.spawn(&lab);
    second.member.wait_ready();
    until("the instance is linked again", PROMISED, || {
        (links(&lab, second.member.admin) == 3.0).then_some(())
    });
    ask(second.clients, &config, "/t/back");
    assert_eq!(links(&lab, lab.ports.gateway_admin), 1.0, "never disturbed");
    let lost = lab.metric(
        lab.ports.gateway_admin,
        "tidegate_relay_links_total",
        &["event=\"lost\""],
    );
    assert_eq!(lost, 0.0);
}

#[test]
fn sixteen_instances_have_one_connector() {
    const LATE: u16 = 7;
    let mut lab = Lab::plan()
        .alone()
        .instances(16)
        .without_connector()
        .start();
    let config = tls::config(&lab, None);
    let start = |number| lab.start_instance(number, 1);
    let mut others: Vec<Instance> = (1..16).filter(|n| *n != LATE).map(start).collect();
    others
        .iter_mut()
        .for_each(|other| other.member.wait_ready());
    lab.spawn_connector();
    let linked = |lab: &Lab, others: &[Instance]| {
        let own = links(lab, lab.ports.gateway_admin);
        own + others
            .iter()
            .map(|i| links(lab, i.member.admin))
            .sum::<f64>()
    };
    until("fifteen instances are linked", PATIENCE, || {
        (linked(&lab, &others) == 15.0).then_some(())
    });
    for instance in &others {
        ask(instance.clients, &config, "/t/x");
    }
    let mut late = lab.start_instance(LATE, 1);
    late.member.wait_ready();
    others.push(late);
    until("the late one is linked too", PROMISED, || {
        (linked(&lab, &others) == 16.0).then_some(())
    });
    lab.wait_connector();
    ask(lab.ports.clients, &config, "/t/x");
    for instance in &others {
        for n in 0..5 {
            ask(instance.clients, &config, &format!("/t/n{n}"));
        }
    }
    assert_eq!(links(&lab, lab.ports.connector_admin), 16.0);
}
