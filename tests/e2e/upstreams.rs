//! Upstreams that are away, slow, or several.

use crate::harness::upstream::{Upstream, What};
use crate::harness::{Curl, Lab, Tls, ports};
use std::time::{Duration, Instant};

#[test]
fn an_upstream_that_is_away_is_a_502_by_name() {
    let nobody = format!(
        "upstream = [\"http://127.0.0.1:{}\"]\nauth = \"none\"",
        ports::free()
    );
    let lab = Lab::plan().route("/away/", &nobody).start();
    let answer = Curl::new(&lab, "/away/x").answer();
    answer.assert_problem(502, "upstream_refused");
    assert!(
        answer.text().contains("\"who\":\"upstream\""),
        "{}",
        answer.text()
    );
    let mut client = Tls::connect(&lab);
    client.send("POST /away/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n");
    client.send([b'x'; 100_000]);
    client.answer().assert_problem(502, "upstream_refused");
    assert_eq!(Curl::new(&lab, "/t/x").answer().status, 200);
}

#[test]
fn an_upstream_that_is_slow_is_a_504_by_name() {
    let lab = Lab::plan()
        .route("/slow/", "auth = \"none\"\ntimeout = \"500ms\"")
        .start();
    let began = Instant::now();
    let answer = Curl::new(&lab, "/slow/hang").answer();
    answer.assert_problem(504, "upstream_timeout");
    let took = began.elapsed();
    let allowed = Duration::from_millis(450)..Duration::from_secs(3);
    assert!(allowed.contains(&took), "after {took:?}");
    let patience = Duration::from_secs(5);
    lab.upstream.wait_for(What::Gone, "hang", patience);
}

#[test]
fn the_wait_ends_with_the_first_byte() {
    let lab = Lab::plan()
        .route("/slow/", "auth = \"none\"\ntimeout = \"500ms\"")
        .start();
    let mut client = Tls::connect(&lab);
    client.send("GET /slow/gated?gate=late HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = client.head();
    crate::harness::wait::observe_for(Duration::from_millis(1000));
    lab.upstream.open_gate("late");
    let mut body = Vec::new();
    client
        .body(&mut answer, &mut |bytes| body.extend_from_slice(bytes))
        .expect("a whole body");
    assert!(body.ends_with(b"second\n\n"));
}

#[test]
fn an_answer_that_stands_still_is_cut() {
    let lab = Lab::plan()
        .route("/slow/", "auth = \"none\"\nidle_timeout = \"1s\"")
        .start();
    let mut client = Tls::connect(&lab);
    client.send("GET /slow/gated?gate=never HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = client.head();
    let began = Instant::now();
    client
        .body(&mut answer, &mut |_| {})
        .expect_err("half an answer is no answer");
    let took = began.elapsed();
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(4)).contains(&took),
        "after {took:?}"
    );
}

#[test]
fn several_upstreams_take_turns() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let both = format!(
        "upstream = [\"http://127.0.0.1:{}\", \"http://127.0.0.1:{}\"]\nauth = \"none\"",
        one.port, two.port
    );
    let lab = Lab::plan().route("/both/", &both).start();
    let mut client = Tls::connect(&lab);
    for n in 0..20 {
        assert_eq!(client.get(&format!("/both/n{n}")).status, 200);
    }
    let shares = (one.count("/both/"), two.count("/both/"));
    assert_eq!(shares, (10, 10));
}

/// The upstream's pooled connections die while idle: the next request must not pay for it.
#[test]
fn a_pooled_connection_that_died_costs_no_request() {
    let upstream = Upstream::start();
    let port = upstream.port;
    let route = format!("upstream = [\"http://127.0.0.1:{port}\"]\nauth = \"none\"");
    let lab = Lab::plan().route("/mine/", &route).start();
    let mut client = Tls::connect(&lab);
    assert_eq!(client.get("/mine/a").status, 200);
    // This one closes behind its answer, without saying so.
    assert_eq!(client.get("/mine/quiet-close").status, 200);
    for n in 0..5 {
        assert_eq!(client.get(&format!("/mine/b{n}")).status, 200);
        assert_eq!(client.get("/mine/quiet-close").status, 200);
    }
}
