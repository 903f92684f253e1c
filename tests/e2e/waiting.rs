//! Requests that wait for their site's first settings, and clients that keep the gateway waiting.

use crate::harness::{Lab, Tls, wait};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// What came while the request was held is bound by the limit that the settings then bring, and its trailers are not
/// lost.
#[test]
fn a_held_request_begins_with_all_that_came_and_within_its_limit() {
    let mut lab = Lab::plan()
        .shards(1, 1)
        .without_connector()
        .route("/tight/", "auth = \"none\"\nmax_body = \"1 KiB\"")
        .start();
    let (mut large, mut good) = (Tls::connect(&lab), Tls::connect(&lab));
    let post = |path: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n\
             {:x}\r\n{body}\r\n0\r\nX-Sum: 18\r\n\r\n",
            body.len()
        )
    };
    large.send(post("/tight/too-large", &"x".repeat(2000)));
    good.send(post("/t/echo", "some bytes, and so on"));
    wait::until("the requests are held", PATIENCE, || {
        let held = lab.metric(lab.ports.gateway_admin, "tidegate_requests_held", &[]);
        (held == 2.0).then_some(())
    });
    lab.spawn_connector();
    large.answer().assert_problem(413, "body_too_large");
    let answer = good.answer();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "some bytes, and so on")
    );
    assert_eq!(answer.trailer("X-Sum"), Some("18"));
    assert_eq!(lab.upstream.count("too-large"), 0);
}

#[test]
fn who_keeps_the_gateway_waiting_is_counted() {
    let lab = Lab::plan()
        .shards(1, 1)
        .limits("head_seconds = 1\nidle_seconds = 1")
        .start();
    let metric = |name: &str, labels: &[&str]| lab.metric(lab.ports.gateway_admin, name, labels);
    let ended = |reason: &str| {
        let name = "tidegate_connections_ended_total";
        metric(name, &[&format!("reason=\"{reason}\"")])
    };
    let silent = TcpStream::connect((lab.ip(), lab.ports.clients)).unwrap();
    wait::until("a handshake is open", PATIENCE, || {
        (metric("tidegate_handshakes_open", &[]) == 1.0).then_some(())
    });
    let mut slow = Tls::connect(&lab);
    slow.send("GET /t/x HTTP/1.1\r\nHo");
    let mut idle = Tls::connect(&lab);
    assert_eq!(idle.get("/t/x").status, 200);
    wait::until("both are ended", PATIENCE, || {
        (ended("head_timeout") == 1.0 && ended("idle") == 1.0).then_some(())
    });
    wait::until("no handshake is open", PATIENCE, || {
        (metric("tidegate_handshakes_open", &[]) == 0.0).then_some(())
    });
    drop(silent);
}
