//! HTTP/1.1 as it is on the wire: pipelining, chunks and trailers, interim answers, answers without body.

use crate::harness::upstream::What;
use crate::harness::{Lab, Tls};
use std::time::Duration;

#[test]
fn pipelined_requests_are_answered_in_order() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    let mut all = String::new();
    for n in 0..20 {
        // Bodies between them, so that the borders must be right.
        let body = "b".repeat(n);
        all.push_str(&format!(
            "POST /t/n{n} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {n}\r\n\r\n{body}"
        ));
    }
    client.send(&all);
    for n in 0..20 {
        assert_eq!(client.answer().text(), format!("/t/n{n}"));
    }
    assert!(client.is_drained());
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    for byte in b"POST /t/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" {
        client.send([*byte]);
    }
    assert_eq!(client.answer().text(), "abc");
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    client.send(
        "POST /t/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: X-Sum\r\n\r\n\
         4;name=value\r\nWiki\r\n00A\r\npedia in \r\r\n4\r\nmore\r\n0\r\nX-Sum: 18\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!(answer.text(), "Wikipedia in \rmore");
    assert_eq!(answer.trailer("X-Sum"), Some("18"));
    let answer = client.get("/t/trailers");
    assert_eq!(
        (answer.text().as_str(), answer.trailer("X-Sum")),
        ("firstsecond", Some("11"))
    );
    assert_eq!(
        client.get("/t/next").text(),
        "/t/next",
        "the connection goes on"
    );
}

#[test]
fn interim_answers_are_passed_on() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    client.send("GET /t/interim HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let hint = client.head();
    assert_eq!(
        (hint.status, hint.header("Link")),
        (103, Some("</a.css>; rel=preload"))
    );
    assert_eq!(client.answer().text(), "after hints");
}

#[test]
fn the_body_waits_for_100_continue() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    let head = "POST /t/verify?seed=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    client.send(head);
    assert_eq!(client.head().status, 100);
    client.send(crate::harness::pattern::body(1, 5));
    assert_eq!(client.answer().text(), "5 bytes right");
}

#[test]
fn a_refusal_instead_of_100_continue_spares_the_body() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    client.send(
        "POST /t/refuse-continue HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.answer().status, 403);
}

#[test]
fn answers_without_body_keep_the_connection_in_step() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    for _ in 0..3 {
        client.send("HEAD /t/pattern?seed=1&size=5000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = client.answer_to_head();
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        let answer = client.get("/t/status/204");
        assert_eq!(
            (answer.status, answer.header("X-Kind")),
            (204, Some("empty")),
            "{}",
            answer.text()
        );
        assert_eq!(answer.header("Content-Length"), None);
        assert_eq!(answer.header("Transfer-Encoding"), None);
        let answer = client.get("/t/status/304");
        assert_eq!(
            (answer.status, answer.header("ETag"), answer.body.len()),
            (304, Some("\"a\""), 0)
        );
        assert_eq!(client.get("/t/after").text(), "/t/after");
    }
    client.send("HEAD /t/whole HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.answer_to_head().header("Content-Length"), Some("8"));
    client.send("HEAD /unpublished HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.answer_to_head().status, 404);
    assert_eq!(client.get("/t/after").text(), "/t/after");
}

#[test]
fn events_are_not_held_back() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    client.send("GET /t/gated?gate=one HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = client.head();
    let (mut body, mut opened) = (Vec::new(), false);
    client
        .body(&mut answer, &mut |bytes| {
            body.extend_from_slice(bytes);
            if !opened {
                assert_eq!(
                    body, b"data: first\n\n",
                    "the first event comes while the second is not there yet"
                );
                lab.upstream.open_gate("one");
                opened = true;
            }
        })
        .expect("a whole body");
    assert_eq!(body, b"data: first\n\ndata: second\n\n");
}

#[test]
fn http_1_0_gets_an_answer_and_a_close() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    client.send("GET /t/old HTTP/1.0\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "/t/old"));
    assert_eq!(client.rest().expect("close_notify"), b"");
}

#[test]
fn close_is_honoured_and_orderly() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    client.send("GET /t/last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.header("Connection"), Some("close"));
    assert_eq!(client.rest().expect("close_notify"), b"");
}

#[test]
fn absolute_targets_are_understood() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    client.send("GET https://localhost/t/absolute?q HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.answer().text(), "/t/absolute");
    assert_eq!(
        lab.upstream.seen()[0].target,
        "/t/absolute?q",
        "the upstream gets origin form"
    );
}

#[test]
fn fields_of_one_hop_stay_there() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    client.send(
        "GET /t/head HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nX-Kept: 2\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\r\n",
    );
    let text = client.answer().text().to_ascii_lowercase();
    assert!(text.contains("x-kept: 2"), "{text}");
    for gone in ["x-mine", "keep-alive:", "proxy-connection"] {
        assert!(!text.contains(gone), "{gone} in\n{text}");
    }
}

#[test]
fn upstream_connections_are_used_again() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    for n in 0..50 {
        client.get(&format!("/t/n{n}"));
    }
    lab.upstream
        .wait_for(What::Received, "n49", Duration::from_secs(5));
    let connections: std::collections::HashSet<_> = lab
        .upstream
        .seen()
        .iter()
        .map(|seen| seen.connection)
        .collect();
    assert!(
        connections.len() <= 2,
        "{} connections for 50 requests in a row",
        connections.len()
    );
}
