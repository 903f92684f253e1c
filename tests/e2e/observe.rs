//! What operators see: request ids, the access log, metrics, health.

use crate::harness::{Answer, Curl, Lab, Tls, http};

#[test]
fn one_request_id_from_client_to_upstream_and_log() {
    let lab = Lab::start();
    let answer = Curl::new(&lab, "/t/head?token=secret")
        .args(&["-d", "four"])
        .answer();
    let id = answer
        .header("Tidegate-Request-Id")
        .expect("a request id")
        .to_owned();
    assert!(
        answer
            .text()
            .contains(&format!("Tidegate-Request-Id: {id}\n")),
        "{}",
        answer.text()
    );
    let line = lab.access_line(&id);
    assert_eq!(line["method"], "POST");
    assert_eq!(
        line["path"], "/t/head",
        "without the query, which may hold secrets"
    );
    assert_eq!(line["status"], 200);
    assert_eq!(line["address"], "127.0.0.1");
    assert_eq!(line["site"], "main");
    assert_eq!(line["connector"], "cp-1");
    assert_eq!(line["bytes_in"], 4);
    assert_eq!(line["bytes_out"], answer.body.len());
    assert!(
        line["duration_us"].as_u64().is_some_and(|us| us > 0),
        "{line}"
    );
    let other = Curl::new(&lab, "/t/head").answer();
    assert_ne!(other.header("Tidegate-Request-Id"), Some(id.as_str()));
}

#[test]
fn errors_and_identities_are_in_the_access_log() {
    let lab = Lab::start();
    let id_of = |answer: &Answer| {
        answer
            .header("Tidegate-Request-Id")
            .expect("a request id")
            .to_owned()
    };
    let refused = lab.access_line(&id_of(&Curl::new(&lab, "/cert/x").answer()));
    assert_eq!(
        (&refused["status"], &refused["code"]),
        (&401.into(), &"unauthenticated".into()),
        "{refused}"
    );
    assert_eq!(refused["who"], "gateway");
    let missing = lab.access_line(&id_of(&Curl::new(&lab, "/nowhere").answer()));
    assert_eq!(
        (&missing["status"], &missing["code"]),
        (&404.into(), &"not_published".into()),
        "{missing}"
    );
    let known = lab.access_line(&id_of(
        &Curl::new(&lab, "/cert/x")
            .identity(&lab, "device-1")
            .answer(),
    ));
    assert_eq!(known["client_id"], "cert:lab/device-1", "{known}");
    let broken = lab.access_line(&id_of(&Curl::new(&lab, "/t/cut-head").answer()));
    assert_eq!(
        (&broken["status"], &broken["who"]),
        (&502.into(), &"upstream".into()),
        "{broken}"
    );
}

#[test]
fn the_log_is_json_lines() {
    let lab = Lab::start();
    assert_eq!(Curl::new(&lab, "/t/x").answer().status, 200);
    let connector = lab.connector.as_ref().expect("a connector");
    for (role, log) in [
        ("gateway", lab.gateway.log()),
        ("connector", connector.log()),
    ] {
        assert!(!log.is_empty(), "{role} says nothing");
        for line in log.lines() {
            let read: Result<serde_json::Value, _> = serde_json::from_str(line);
            assert!(read.is_ok_and(|value| value.is_object()), "{role}: {line}");
        }
    }
    assert!(
        lab.gateway.log().contains("\"message\":\"ready\""),
        "{}",
        lab.gateway.log()
    );
}

#[test]
fn metrics_count_what_happened() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    for _ in 0..7 {
        assert_eq!(client.get("/t/x").status, 200);
    }
    client.get("/nowhere");
    let (gateway, connector) = (lab.ports.gateway_admin, lab.ports.connector_admin);
    let counted = |port, name, labels: &[&str]| lab.metric(port, name, labels);
    assert_eq!(counted(gateway, "tidegate_connections", &[]), 1.0);
    assert!(counted(gateway, "tidegate_connections_accepted_total", &[]) >= 1.0);
    assert_eq!(
        counted(gateway, "tidegate_requests_total", &["class=\"2xx\""]),
        7.0
    );
    assert_eq!(
        counted(gateway, "tidegate_requests_total", &["class=\"4xx\""]),
        1.0
    );
    assert_eq!(
        counted(
            gateway,
            "tidegate_errors_total",
            &["code=\"not_published\""]
        ),
        1.0
    );
    assert_eq!(counted(gateway, "tidegate_request_seconds_count", &[]), 8.0);
    assert_eq!(
        counted(gateway, "tidegate_handshakes_total", &["outcome=\"full\""]),
        1.0
    );
    assert!(counted(gateway, "tidegate_relay_links", &[]) >= 1.0);
    assert!(counted(connector, "tidegate_relay_links", &[]) >= 1.0);
    assert_eq!(
        counted(
            connector,
            "tidegate_upstream_total",
            &["event=\"connected\""]
        ),
        1.0
    );
    assert_eq!(
        counted(connector, "tidegate_upstream_total", &["event=\"reused\""]),
        6.0
    );
}

/// The exposition format, as a scraper reads it.
#[test]
fn metrics_are_well_formed() {
    let lab = Lab::start();
    for port in [lab.ports.gateway_admin, lab.ports.connector_admin] {
        let answer = http::get(port, "/metrics").expect("/metrics");
        assert_eq!(answer.status, 200);
        assert!(
            answer
                .header("Content-Type")
                .is_some_and(|t| t.starts_with("text/plain")),
            "{}",
            answer.head
        );
        let text = answer.text();
        assert!(text.contains("# TYPE tidegate_"), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let value = line
                .rsplit_once(' ')
                .and_then(|(_, value)| value.parse::<f64>().ok());
            assert!(line.starts_with("tidegate_") && value.is_some(), "{line}");
        }
    }
}

#[test]
fn health_and_readiness_are_told_apart() {
    let lab = Lab::plan().without_connector().start();
    let port = lab.ports.gateway_admin;
    assert_eq!(http::get(port, "/healthz").expect("/healthz").status, 200);
    assert_eq!(http::get(port, "/nothing").expect("an answer").status, 404);
    let mut lab = lab;
    lab.gateway.kill();
    lab.spawn_connector();
    let port = lab.ports.connector_admin;
    crate::harness::until("the connector lives", crate::harness::lab::START, || {
        http::get(port, "/healthz")
            .ok()
            .filter(|answer| answer.status == 200)
    });
    let answer = http::get(port, "/readyz").expect("/readyz");
    assert_eq!(
        answer.status,
        503,
        "alive, and not ready without its gateway: {}",
        answer.text()
    );
}
