//! Who may serve a site, and what two shards make of it.

use crate::harness::lab::{self, Folder, pki};
use crate::harness::{Curl, Lab, Tls, until};
use std::collections::HashSet;
use std::fs;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

fn refused(lab: &Lab) -> f64 {
    lab.metric(
        lab.ports.gateway_admin,
        "tidegate_relay_links_total",
        &["event=\"refused\""],
    )
}

#[test]
fn a_connector_with_a_foreign_certificate_is_refused() {
    let mut lab = Lab::plan().without_connector().start();
    let foreign = Folder::new();
    pki(&foreign.0, &["init"]);
    pki(&foreign.0, &["connector", "cp-1"]);
    for file in ["cp-1.pem", "cp-1.key"] {
        fs::copy(foreign.0.join(file), lab.file(file)).expect("a copy");
    }
    lab.spawn_connector();
    until("the gateway refuses the link", PATIENCE, || {
        (refused(&lab) >= 1.0).then_some(())
    });
    assert!(!lab::is_ready(lab.ports.connector_admin));
    assert_eq!(
        lab.metric(lab.ports.gateway_admin, "tidegate_relay_links", &[]),
        0.0
    );
    Curl::new(&lab, "/t/x")
        .answer()
        .assert_problem(503, "no_connector");
}

#[test]
fn a_clients_certificate_makes_no_connector() {
    let lab = Lab::start();
    lab.pki(&["client", "cp-2"]);
    let admin = format!("127.0.0.1:{}", lab.ports.connector_admin);
    let other_admin = format!("127.0.0.1:{}", crate::harness::ports::free());
    let changes = [
        (admin.as_str(), other_admin.as_str()),
        ("id = \"cp-1\"", "id = \"cp-2\""),
        ("cp-1.pem", "cp-2.pem"),
        ("cp-1.key", "cp-2.key"),
    ];
    let config = lab.rewrite("connector.toml", "second.toml", &changes);
    let (fit, said) = lab::check(&config);
    if fit {
        let _second = lab.spawn_with("connector", "second", &config);
        until("the gateway refuses the link", PATIENCE, || {
            (refused(&lab) >= 1.0).then_some(())
        });
    } else {
        assert!(said.contains("second.toml:"), "{said}");
    }
    assert_eq!(
        lab.metric(lab.ports.gateway_admin, "tidegate_relay_links", &[]),
        1.0
    );
}

/// A certificate of the right CA for an id that the site does not name.
#[test]
fn a_connector_outside_its_site_is_refused() {
    let lab = Lab::start();
    lab.pki(&["connector", "cp-9"]);
    let admin = format!("127.0.0.1:{}", lab.ports.connector_admin);
    let other_admin = format!("127.0.0.1:{}", crate::harness::ports::free());
    let changes = [
        ("id = \"cp-1\"", "id = \"cp-9\""),
        ("cp-1.pem", "cp-9.pem"),
        ("cp-1.key", "cp-9.key"),
        (admin.as_str(), other_admin.as_str()),
        ("path = \"/t/\"", "path = \"/stolen/\""),
    ];
    let config = lab.rewrite("connector.toml", "stranger.toml", &changes);
    let stranger = lab.spawn_with("connector", "stranger", &config);
    until("the gateway refuses the link", PATIENCE, || {
        (refused(&lab) >= 1.0).then_some(())
    });
    until("the stranger's log says why", PATIENCE, || {
        stranger.log().contains("cp-9").then_some(())
    });
    until("the gateway's log says so", PATIENCE, || {
        lab.gateway.log().contains("link refused").then_some(())
    });
    let log = lab.gateway.log();
    assert!(
        log.contains("link refused") && log.contains("cp-9"),
        "{log}"
    );
    Curl::new(&lab, "/stolen/x")
        .answer()
        .assert_problem(404, "not_published");
    assert_eq!(
        Curl::new(&lab, "/t/x").answer().status,
        200,
        "the right one serves on"
    );
}

/// An id that is not the certificate's is told before anything starts.
#[test]
fn a_stolen_id_does_not_start() {
    let lab = Lab::plan().without_connector().start();
    lab.pki(&["connector", "cp-9"]);
    let config = lab.rewrite(
        "connector.toml",
        "thief.toml",
        &[("cp-1.pem", "cp-9.pem"), ("cp-1.key", "cp-9.key")],
    );
    let (fit, said) = lab::check(&config);
    assert!(
        !fit && said.contains("cp-9") && said.contains("cp-1"),
        "{said}"
    );
    let mut thief = lab.spawn_with("connector", "thief", &config);
    assert!(!thief.wait_exit(PATIENCE).success());
}

#[test]
fn links_reach_every_shard() {
    let mut lab = Lab::plan().shards(2, 2).start();
    let (gateway, connector) = (lab.ports.gateway_admin, lab.ports.connector_admin);
    let links = lab.metric(gateway, "tidegate_relay_links", &[]);
    assert_eq!(
        links,
        lab.metric(connector, "tidegate_relay_links", &[]),
        "both ends count alike"
    );
    assert!(links >= 2.0, "{links} links for two shards");
    for shard in ["shard=\"0\"", "shard=\"1\""] {
        assert!(
            lab.metric(gateway, "tidegate_relay_links", &[shard]) >= 1.0,
            "{shard} has no link"
        );
    }
    // The kernel spreads connections by address and port: forty reach both shards.
    for n in 0..40 {
        let mut client = Tls::connect(&lab);
        assert_eq!(client.get(&format!("/t/n{n}")).text(), format!("/t/n{n}"));
    }
    let served: HashSet<_> = ["shard=\"0\"", "shard=\"1\""]
        .into_iter()
        .filter(|shard| {
            lab.metric(
                gateway,
                "tidegate_requests_total",
                &[shard, "class=\"2xx\""],
            ) > 0.0
        })
        .collect();
    assert_eq!(served.len(), 2, "one shard served all of forty connections");
    // Which shard accepts a link is the kernel's choice too: after some restarts one had to move.
    for _ in 0..12 {
        if lab.metric(gateway, "tidegate_relay_links_total", &["event=\"moved\""]) > 0.0 {
            return;
        }
        lab.kill_connector();
        lab.spawn_connector();
        lab.wait_connector();
        for n in 0..8 {
            assert_eq!(Tls::connect(&lab).get(&format!("/t/again{n}")).status, 200);
        }
    }
    panic!("no link was handed over in 13 starts");
}

/// A second connector of the site: requests go to both, and the death of one leaves the other.
#[test]
fn two_connectors_share_a_site() {
    let mut lab = Lab::plan().without_connector().start();
    lab.pki(&["connector", "cp-2"]);
    lab.rewrite(
        "gateway.toml",
        "gateway.toml",
        &[(
            "connectors = [\"cp-1\"]",
            "connectors = [\"cp-1\", \"cp-2\"]",
        )],
    );
    lab.gateway.kill();
    lab.spawn_gateway();
    lab.wait_gateway();
    lab.spawn_connector();
    lab.wait_connector();
    let admin = format!("127.0.0.1:{}", lab.ports.connector_admin);
    let second_admin = crate::harness::ports::free();
    let other_admin = format!("127.0.0.1:{second_admin}");
    let changes = [
        ("id = \"cp-1\"", "id = \"cp-2\""),
        ("cp-1.pem", "cp-2.pem"),
        ("cp-1.key", "cp-2.key"),
        (admin.as_str(), other_admin.as_str()),
    ];
    let config = lab.rewrite("connector.toml", "second.toml", &changes);
    let mut second = lab.spawn_with("connector", "second", &config);
    until("the second connector is ready", lab::START, || {
        lab::is_ready(second_admin).then_some(())
    });
    let mut client = Tls::connect(&lab);
    for n in 0..20 {
        assert_eq!(client.get(&format!("/t/n{n}")).status, 200);
    }
    let by = |connector: &str| {
        lab.gateway
            .log()
            .matches(&format!("\"connector\":\"{connector}\""))
            .count()
    };
    until("both connectors served", PATIENCE, || {
        (by("cp-1") > 5 && by("cp-2") > 5).then_some(())
    });
    second.kill();
    for n in 0..20 {
        let answer = client.get(&format!("/t/m{n}"));
        assert!([200, 502].contains(&answer.status), "{}", answer.head);
    }
    assert_eq!(client.get("/t/last").status, 200);
}
