//! Two connectors of a site, restarted in turn under load: what is lost, counted exactly.

use crate::harness::fleet::Member;
use crate::harness::load::{How, Kind, Load, timed};
use crate::harness::upstream::What;
use crate::harness::{Lab, Tls, until};
use std::collections::HashMap;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// Threads of the load, each with one request open.
const THREADS: u64 = 8;
/// Answers between two restarts.
const BETWEEN: u64 = 200;

fn start(shards: u16) -> (Lab, [Member; 2]) {
    let lab = Lab::plan()
        .shards(shards, 1)
        .connectors(2)
        .without_connector()
        .start();
    let mut connectors = [lab.start_member(1, &[]), lab.start_member(2, &[])];
    connectors.iter_mut().for_each(Member::wait_ready);
    (lab, connectors)
}

fn retried(lab: &Lab) -> f64 {
    let name = "tidegate_requests_retried_total";
    lab.metric(lab.ports.gateway_admin, name, &[])
}

/// How often each POST reached the upstream, at the most.
fn most_posts(lab: &Lab) -> usize {
    let mut counts = HashMap::<_, usize>::new();
    for seen in lab.upstream.seen() {
        if seen.what == What::Began && seen.head.starts_with("POST ") {
            *counts.entry(seen.target).or_default() += 1;
        }
    }
    counts.into_values().max().unwrap_or(0)
}

#[test]
fn connectors_asked_to_end_in_turn_lose_nothing() {
    let (lab, mut connectors) = start(2);
    let load = Load::start(&lab, THREADS);
    for round in 0..4 {
        load.pass(BETWEEN);
        let connector = &mut connectors[round % 2];
        connector.process.terminate();
        let ended = timed("to drain", || connector.process.wait_exit(PATIENCE));
        assert!(ended.success(), "{ended}");
        load.pass(BETWEEN);
        connector.spawn(&lab);
        connector.wait_ready();
    }
    load.pass(BETWEEN);
    let tally = load.finish();
    println!("{} sent, {} retried", tally.sent, retried(&lab));
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert_eq!(tally.right, tally.sent);
    assert_eq!(most_posts(&lab), 1);
}

#[test]
fn a_killed_connector_costs_only_what_may_not_be_asked_twice() {
    let (lab, mut connectors) = start(2);
    let load = Load::start(&lab, THREADS);
    for round in 0..4 {
        load.pass(BETWEEN);
        let connector = &mut connectors[round % 2];
        connector.process.kill();
        load.pass(BETWEEN);
        connector.spawn(&lab);
        connector.wait_ready();
    }
    load.pass(BETWEEN);
    let tally = load.finish();
    let (sent, lost) = (tally.sent, tally.failures.len() as u64);
    println!("{sent} sent, {lost} lost, {} retried", retried(&lab));
    assert_eq!(tally.right + lost, sent);
    for failure in &tally.failures {
        let allowed = match &failure.how {
            // Its answer had begun.
            How::Cut => true,
            How::Problem(502, code) => failure.kind == Kind::Post && code == "connector_lost",
            _ => false,
        };
        assert!(allowed, "{failure:?}");
    }
    assert!(lost <= 4 * THREADS, "more than was open: {lost}");
    assert_eq!(most_posts(&lab), 1, "a POST was asked twice");
    assert!(retried(&lab) >= 1.0, "no request was open at four deaths");
}

/// Requests that are open for certain when their connector dies, of each sort.
#[test]
fn what_is_asked_again_and_what_is_not() {
    let (lab, mut connectors) = start(1);
    let open = |n: usize, method: &str, what: &str| {
        let mut client = Tls::connect(&lab);
        let body = if method == "GET" { "" } else { "ab" };
        let length = body.len();
        client.send(format!(
            "{method} /t/{method}{n}/{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let part = format!("{method}{n}");
        lab.upstream.wait_for(What::Began, &part, PATIENCE);
        client
    };
    // One shard gives them out in turn: those with one number go to one connector. `hang` never answers.
    let mut posts = [open(0, "POST", "hang"), open(1, "POST", "hang")];
    let mut gets = [0, 1].map(|n| {
        let mut client = Tls::connect(&lab);
        client.send(format!(
            "GET /t/GET{n}/gated?gate=get HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
        let head = client.head();
        assert_eq!(head.status, 200, "this answer has begun");
        (client, head)
    });
    let _puts = [open(0, "PUT", "hang"), open(1, "PUT", "hang")];
    connectors[0].process.kill();

    let count = |method: &str, n: usize| lab.upstream.count(&format!("{method}{n}/"));
    let lost = until("a PUT is asked again", PATIENCE, || {
        (0..2).find(|n| count("PUT", *n) == 2)
    });
    let kept = 1 - lost;
    posts[lost].answer().assert_problem(502, "connector_lost");
    let (client, head) = &mut gets[lost];
    client
        .body(head, &mut |_| {})
        .expect_err("half an answer is none");
    lab.upstream.open_gate("get");
    let (client, head) = &mut gets[kept];
    client.body(head, &mut |_| {}).expect("the other's answer");
    let asked = ["POST", "GET", "PUT"].map(|method| [count(method, lost), count(method, kept)]);
    assert_eq!(asked, [[1, 1], [1, 1], [2, 1]]);
    assert_eq!(retried(&lab), 1.0);
}

/// The loss of a gateway that said it would go is none, and what it had is finished.
#[test]
fn a_drained_gateway_is_no_fault_to_its_connector() {
    let mut lab = Lab::start();
    let mut client = Tls::connect(&lab);
    client.send("GET /t/gated?gate=end HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = client.head();
    let mut waiting = Tls::connect(&lab);
    waiting
        .send("POST /t/verify?seed=5 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\n");
    let body = crate::harness::pattern::body(5, 4000);
    waiting.send(&body[..1000]);
    lab.upstream.wait_for(What::Began, "verify", PATIENCE);
    lab.gateway.terminate();
    until("it drains", PATIENCE, || {
        lab.gateway.log().contains("draining").then_some(())
    });
    waiting.send(&body[1000..]);
    assert_eq!(waiting.answer().text(), "4000 bytes right");
    lab.upstream.open_gate("end");
    client
        .body(&mut answer, &mut |_| {})
        .expect("the whole answer");
    drop((client, waiting));
    assert!(lab.gateway.wait_exit(PATIENCE).success());
    let connector = lab.connector.as_ref().expect("the lab has a connector");
    until("the connector notices", PATIENCE, || {
        connector.log().contains("link ended").then_some(())
    });
    let admin = lab.ports.connector_admin;
    let lost = lab.metric(admin, "tidegate_relay_links_total", &["event=\"lost\""]);
    assert_eq!(lost, 0.0, "{}", connector.log());
    lab.spawn_gateway();
    lab.wait_gateway();
    lab.wait_connector();
    assert_eq!(Tls::connect(&lab).get("/t/back").status, 200);
}
