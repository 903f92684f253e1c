//! Ends that are not orderly: each must reach the other side, soon, and as what it is.

use crate::harness::upstream::What;
use crate::harness::{Curl, Lab, Tls};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// What is promised for an abort, either way.
const PROMISED: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);

fn asking(lab: &Lab, name: &str) -> Tls {
    let mut client = Tls::connect(lab);
    client.send(format!(
        "GET /t/{name}/hang HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ));
    lab.upstream.wait_for(What::Began, name, PATIENCE);
    client
}

#[test]
fn a_clients_abort_reaches_the_upstream() {
    let lab = Lab::plan().alone().start();
    for name in ["reset", "closed", "fin-only"] {
        let client = asking(&lab, name);
        let began = Instant::now();
        let seen = std::thread::scope(|scope| {
            scope.spawn(move || match name {
                "reset" => client.reset(),
                "closed" => drop(client),
                _ => client.finish_and_keep(PATIENCE),
            });
            lab.upstream.wait_for(What::Gone, name, PATIENCE)
        });
        let took = seen.at.saturating_duration_since(began);
        assert!(
            took < PROMISED,
            "{name}: the upstream learned of it after {took:?}"
        );
    }
}

#[test]
fn an_abort_during_an_upload_reaches_the_upstream() {
    let lab = Lab::plan().alone().start();
    let mut client = Tls::connect(&lab);
    client.send(
        "POST /t/verify?seed=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf",
    );
    lab.upstream.wait_for(What::Began, "verify", PATIENCE);
    let began = Instant::now();
    client.reset();
    let seen = lab.upstream.wait_for(What::Gone, "verify", PATIENCE);
    let took = seen.at.saturating_duration_since(began);
    assert!(took < PROMISED, "the upstream learned of it after {took:?}");
}

#[test]
fn an_abort_while_the_answer_flows_reaches_the_upstream() {
    let lab = Lab::plan().alone().start();
    let mut client = Tls::connect(&lab);
    client.send("GET /t/pattern?seed=1&size=10000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.head().status, 200);
    let began = Instant::now();
    client.reset();
    let seen = lab.upstream.wait_for(What::Gone, "pattern", PATIENCE);
    let took = seen.at.saturating_duration_since(began);
    assert!(took < PROMISED, "the upstream learned of it after {took:?}");
}

#[test]
fn an_upstreams_abort_reaches_the_client_as_an_error() {
    let lab = Lab::plan().alone().start();
    for chunked in [0, 1] {
        let mut client = Tls::connect(&lab);
        let path = format!("/t/cut?seed=1&size=100000&after=5000&chunked={chunked}");
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let mut answer = client.head();
        assert_eq!(answer.status, 200);
        let (mut got, mut cut_at) = (0, None);
        let error = client
            .body(&mut answer, &mut |bytes| {
                got += bytes.len();
                if got == 5000 {
                    cut_at = Some(Instant::now());
                    lab.upstream.open_gate("cut");
                }
            })
            .expect_err("a body cut short is no whole body");
        let took = cut_at.expect("5,000 bytes came").elapsed();
        assert_eq!(
            error.kind(),
            ErrorKind::UnexpectedEof,
            "no close_notify for what is not complete: {error}"
        );
        assert!(
            took < PROMISED,
            "chunked={chunked}: the client learned of it after {took:?}"
        );
    }
}

#[test]
fn curl_notices_an_answer_that_is_cut_short() {
    let lab = Lab::start();
    lab.upstream.open_gate("cut");
    for chunked in [0, 1] {
        let done = Curl::new(
            &lab,
            &format!("/t/cut?size=100000&after=5000&chunked={chunked}"),
        )
        .run();
        // 18: fewer bytes than promised; 56: the connection broke.
        assert!(
            [18, 56].contains(&done.code),
            "curl was content (code {}): {}",
            done.code,
            done.log
        );
    }
    assert_eq!(
        Curl::new(&lab, "/t/after").answer().status,
        200,
        "and it harmed nobody else"
    );
}

#[test]
fn an_upstream_that_closes_or_raves_is_a_502() {
    let lab = Lab::start();
    for path in ["/t/cut-head", "/t/garbage"] {
        let answer = Curl::new(&lab, path).answer();
        answer.assert_problem(502, "upstream_broken");
    }
    let mut client = Tls::connect(&lab);
    client
        .get("/t/cut-head")
        .assert_problem(502, "upstream_broken");
    assert_eq!(
        client.get("/t/after").status,
        200,
        "the client's connection goes on"
    );
}

#[test]
fn aborts_leave_nothing_behind() {
    let lab = Lab::start();
    for n in 0..200 {
        let mut client = Tls::connect(&lab);
        client.send(format!(
            "GET /t/pattern?seed={n}&size=1000000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
        if n % 2 == 0 {
            client.head();
        }
        if n % 3 == 0 {
            client.reset()
        } else {
            drop(client)
        }
    }
    let (gateway, connector) = (lab.ports.gateway_admin, lab.ports.connector_admin);
    for (what, port, name) in [
        ("connections", gateway, "tidegate_connections"),
        ("streams", gateway, "tidegate_streams"),
        ("streams", connector, "tidegate_streams"),
    ] {
        crate::harness::until(&format!("{what} fall back to 0"), PATIENCE, || {
            (lab.metric(port, name, &[]) == 0.0).then_some(())
        });
    }
}
