//! Two connectors of a site, restarted in turn under load: what is lost, counted exactly.

use crate::harness::fleet::Member;
use crate::harness::load::{How, Kind, Load, timed};
use crate::harness::upstream::What;
use crate::harness::{Lab, Tls, pattern, until};
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

/// Requests that are open for certain when their connector dies, two of each sort: one shard gives them out in turn, so
/// those with one number are at one connector.
#[test]
fn what_is_asked_again_and_what_is_not() {
    let (lab, mut connectors) = start(1);
    let open = |line: String, fields: &str, body: &[u8]| {
        let mut client = Tls::connect(&lab);
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        client.send([head.as_bytes(), body].concat());
        let part = line.split(' ').nth(1).expect("a target");
        lab.upstream.wait_for(What::Began, part, PATIENCE);
        client
    };
    let body = pattern::body(7, 3000);
    // `hang` never answers.
    let mut posts = [0, 1].map(|n| {
        open(
            format!("POST /t/post{n}/hang"),
            "Content-Length: 2\r\n",
            b"ab",
        )
    });
    let puts = [0, 1].map(|n| {
        open(
            format!("PUT /t/put{n}/hang"),
            "Content-Length: 2\r\n",
            b"ab",
        )
    });
    // More than is kept.
    let large = "Content-Length: 20000\r\n";
    let mut larges = [0, 1].map(|n| open(format!("PUT /t/large{n}/hang"), large, &[b'x'; 20_000]));
    // Half of it came.
    let verified = "Content-Length: 3000\r\n";
    let mut halves = [0, 1].map(|n| {
        open(
            format!("PUT /t/half{n}/verify?seed=7"),
            verified,
            &body[..1500],
        )
    });
    // Something of an answer was sent: 100, or a head.
    let expect = "Expect: 100-continue\r\nContent-Length: 3000\r\n";
    let mut begun = [0, 1].map(|n| open(format!("PUT /t/begun{n}/verify?seed=7"), expect, b""));
    let mut gets = [0, 1].map(|n| open(format!("GET /t/get{n}/gated?gate=get"), "", b""));
    begun
        .iter_mut()
        .for_each(|c| assert_eq!(c.head().status, 100));
    let heads = gets.each_mut().map(|client| client.head());
    connectors[0].process.kill();

    let count = |what: &str, n: usize| lab.upstream.count(&format!("/{what}{n}/"));
    let lost = until("a PUT is asked again", PATIENCE, || {
        (0..2).find(|n| count("put", *n) == 2)
    });
    let kept = 1 - lost;
    for client in [&mut posts[lost], &mut larges[lost], &mut begun[lost]] {
        client.answer().assert_problem(502, "connector_lost");
    }
    for client in &mut halves {
        client.send(&body[1500..]);
        assert_eq!(client.answer().text(), "3000 bytes right");
    }
    let [mut cut, mut whole] = [lost, kept].map(|n| heads[n].clone());
    gets[lost]
        .body(&mut cut, &mut |_| {})
        .expect_err("half an answer is none");
    lab.upstream.open_gate("get");
    gets[kept]
        .body(&mut whole, &mut |_| {})
        .expect("the other's answer");
    for (what, times) in [
        ("post", 1),
        ("put", 2),
        ("large", 1),
        ("half", 2),
        ("begun", 1),
        ("get", 1),
    ] {
        assert_eq!([count(what, lost), count(what, kept)], [times, 1], "{what}");
    }
    assert_eq!(retried(&lab), 2.0);
    let name = "tidegate_memory_charged_bytes";
    let charged = || lab.metric(lab.ports.gateway_admin, name, &[]);
    // A POST and a PUT of two bytes hang where they were, and may still be asked again: their heads and bodies are kept.
    let kept = charged();
    assert!(kept > 4.0 && kept < 1024.0, "{kept} bytes");
    drop((posts, puts));
    until("what was kept is given back", PATIENCE, || {
        (charged() == 0.0).then_some(())
    });
}

/// The links of the process that ends finish what they carry beside those of the one that begins.
#[test]
fn a_successor_may_start_while_the_old_process_drains() {
    let (lab, [mut old, _other]) = start(1);
    // One of the two has each of these.
    let mut open = [0, 1].map(|n| {
        let mut client = Tls::connect(&lab);
        client.send(format!(
            "GET /t/{n}/gated?gate=end HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
        let head = client.head();
        (client, head)
    });
    old.process.terminate();
    until("the gateway hears of it", PATIENCE, || {
        lab.gateway.log().contains("drains").then_some(())
    });
    let mut successor = lab.start_member(1, &[]);
    successor.wait_ready();
    for n in 0..10 {
        assert_eq!(Tls::connect(&lab).get(&format!("/t/n{n}")).status, 200);
    }
    assert!(old.process.ended().is_none(), "it still carries one");
    lab.upstream.open_gate("end");
    for (client, head) in &mut open {
        client.body(head, &mut |_| {}).expect("a whole answer");
    }
    assert!(old.process.wait_exit(PATIENCE).success());
    let links = |event: &str| {
        let labels = [&*format!("event=\"{event}\"")];
        lab.metric(
            lab.ports.gateway_admin,
            "tidegate_relay_links_total",
            &labels,
        )
    };
    assert_eq!((links("opened"), links("lost")), (3.0, 0.0));
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
    let body = pattern::body(5, 4000);
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
