//! What is lost and comes back: connector, gateway, and orderly ends.

use crate::harness::upstream::What;
use crate::harness::{Curl, Lab, Tls, lab, until};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
/// What is promised for a return.
const PROMISED: Duration = Duration::from_secs(2);

#[test]
fn without_a_connector_requests_are_told_to_come_back() {
    let lab = Lab::plan().without_connector().start();
    let began = Instant::now();
    let answer = Curl::new(&lab, "/t/x").answer();
    answer.assert_problem(503, "no_connector");
    let retry = answer
        .header("Retry-After")
        .and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(retry.is_some_and(|seconds| seconds > 0), "{}", answer.head);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "held for {:?}",
        began.elapsed()
    );
}

/// A request that comes a moment too early waits for the link instead of failing.
#[test]
fn a_request_waits_a_moment_for_its_connector() {
    let mut lab = Lab::plan().alone().without_connector().start();
    let mut early = Tls::connect(&lab);
    early.send("POST /t/verify?seed=6 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000\r\n\r\n");
    early.send(crate::harness::pattern::body(6, 3000));
    lab.spawn_connector();
    let answer = early.answer();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "3000 bytes right")
    );
}

#[test]
fn a_killed_connector_is_named_and_its_return_noticed() {
    let mut lab = Lab::plan().alone().start();
    let mut waiting = Tls::connect(&lab);
    waiting.send("GET /t/hang HTTP/1.1\r\nHost: localhost\r\n\r\n");
    lab.upstream.wait_for(What::Began, "hang", PATIENCE);
    let mut streaming = Tls::connect(&lab);
    streaming.send("GET /t/gated?gate=never HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut begun = streaming.head();
    assert_eq!(begun.status, 200);

    lab.kill_connector();
    let answer = waiting.answer();
    answer.assert_problem(502, "connector_lost");
    let cut = streaming
        .body(&mut begun, &mut |_| {})
        .expect_err("half an answer is no answer");
    assert_eq!(cut.kind(), std::io::ErrorKind::UnexpectedEof, "{cut}");
    let gone = Curl::new(&lab, "/t/x").answer();
    gone.assert_problem(503, "no_connector");
    assert!(gone.header("Retry-After").is_some());

    let began = Instant::now();
    lab.spawn_connector();
    until("requests pass again", PATIENCE, || {
        (waiting.get("/t/back").status == 200).then_some(())
    });
    assert!(
        began.elapsed() < PROMISED,
        "{:?} after the connector's return",
        began.elapsed()
    );
}

#[test]
fn a_killed_gateway_gets_its_connector_back() {
    let mut lab = Lab::plan().alone().shards(2, 2).start();
    for round in 0..3 {
        lab.gateway.kill();
        until("the connector notices", PATIENCE, || {
            (!lab::is_ready(lab.ports.connector_admin)).then_some(())
        });
        lab.spawn_gateway();
        lab.wait_gateway();
        let began = Instant::now();
        lab.wait_connector();
        assert!(
            began.elapsed() < PROMISED,
            "round {round}: {:?} after the gateway's return",
            began.elapsed()
        );
        assert_eq!(Curl::new(&lab, "/t/back").answer().status, 200);
    }
}

/// The settings survive in the connector: a new gateway process knows nothing and is told.
#[test]
fn certificates_are_judged_after_a_gateways_return() {
    let mut lab = Lab::start();
    lab.gateway.kill();
    lab.spawn_gateway();
    lab.wait_gateway();
    let mut client = Tls::connect_as(&lab, "device-1");
    assert_eq!(
        client.get("/cert/x").status,
        200,
        "held until the settings are there"
    );
    Curl::new(&lab, "/cert/x")
        .answer()
        .assert_problem(401, "unauthenticated");
}

#[test]
fn an_orderly_end_lets_requests_finish() {
    for role in ["gateway", "connector"] {
        let mut lab = Lab::start();
        let mut client = Tls::connect(&lab);
        client.send("GET /t/gated?gate=end HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut answer = client.head();
        let process = if role == "gateway" {
            &lab.gateway
        } else {
            lab.connector.as_ref().expect("one")
        };
        process.terminate();
        until("it drains", PATIENCE, || {
            process.log().contains("draining").then_some(())
        });
        lab.upstream.open_gate("end");
        let mut body = Vec::new();
        let whole = client.body(&mut answer, &mut |bytes| body.extend_from_slice(bytes));
        whole.unwrap_or_else(|error| panic!("{role} ended in the middle of an answer: {error}"));
        assert_eq!(body, b"data: first\n\ndata: second\n\n");
        drop(client);
        let process = if role == "gateway" {
            &mut lab.gateway
        } else {
            lab.connector.as_mut().expect("one")
        };
        let status = process.wait_exit(Duration::from_secs(25));
        assert!(status.success(), "{role}: {status}");
    }
}

#[test]
fn an_idle_process_ends_at_once() {
    let mut lab = Lab::start();
    let idle = Tls::connect(&lab);
    for role in ["connector", "gateway"] {
        let process = if role == "gateway" {
            &mut lab.gateway
        } else {
            lab.connector.as_mut().expect("one")
        };
        let began = Instant::now();
        process.terminate();
        let status = process.wait_exit(Duration::from_secs(25));
        assert!(status.success(), "{role}: {status}");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{role} took {:?}",
            began.elapsed()
        );
    }
    drop(idle);
}
