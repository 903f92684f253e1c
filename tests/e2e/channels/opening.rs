//! Who gets a channel, in which form, and what is refused.

use super::{await_open, device, ended, open, token, with_tokens};
use crate::harness::channel::{self, Frame, PATH, Said, Socket, Stream, UPGRADE};
use crate::harness::{Lab, Tls, tls, wait};
use std::time::Duration;

#[test]
fn an_event_stream_stays_open_and_shows_life() {
    let lab = Lab::plan()
        .gateway("[channels]\nkeep_alive_seconds = 5\n")
        .start();
    let mut stream = Stream::open(device(&lab), "Accept: text/event-stream\r\n");
    assert_eq!(open(&lab, "kind=\"sse\",auth=\"certificate\""), 1);
    for _ in 0..2 {
        assert_eq!(stream.next(), Said::KeepAlive);
    }
    drop(stream);
    await_open(&lab, 0);
    assert_eq!(ended(&lab, "left"), 1);
}

#[test]
fn a_websocket_stays_open_answers_pings_and_closes() {
    let lab = Lab::plan()
        .gateway("[channels]\nkeep_alive_seconds = 5\n")
        .start();
    let mut socket = Socket::open(device(&lab), "");
    assert_eq!(open(&lab, "kind=\"websocket\""), 1);
    socket.send(0x89, b"hello");
    assert_eq!(socket.next(), Frame::Pong(b"hello".into()));
    assert_eq!(socket.next(), Frame::Ping(vec![]));
    socket.send(0x8a, b"");
    // In pieces, split wherever.
    let bytes = channel::frame(0x89, &[7; 100]);
    for piece in bytes.chunks(3) {
        socket.tls.send(piece);
    }
    assert_eq!(socket.next(), Frame::Pong(vec![7; 100]));
    socket.send(0x88, &[0x03, 0xe8]);
    assert_eq!(socket.next(), Frame::Close(1000, String::new()));
    assert_eq!(socket.tls.rest().expect("close_notify"), b"");
    await_open(&lab, 0);
    assert_eq!(ended(&lab, "left"), 1);
}

#[test]
fn a_long_poll_waits_and_its_connection_goes_on() {
    let lab = Lab::start();
    let mut client = device(&lab);
    for _ in 0..2 {
        let answer = channel::poll(&mut client, 1, "").expect("an answer");
        assert_eq!((answer.status, answer.text()), (204, String::new()));
        assert_eq!(
            client.get("/cert/head").status,
            200,
            "still the same client"
        );
    }
    assert_eq!(ended(&lab, "answered"), 2);
    let answer = channel::poll(&mut client, 1, "Connection: close\r\n").expect("an answer");
    assert_eq!(answer.header("Connection"), Some("close"));
    assert_eq!(client.rest().expect("close_notify"), b"");
    await_open(&lab, 0);
}

#[test]
fn the_other_version_of_tls_and_resumed_sessions_do_too() {
    let lab = Lab::start();
    let config = tls::config(&lab, Some("device-1"));
    let first = Stream::open(Tls::connect_with(&lab, &config), "");
    drop(first);
    let mut again = Tls::connect_with(&lab, &config);
    // Tickets come behind the first answer.
    assert_eq!(again.get("/cert/head").status, 200);
    drop(again);
    let again = Tls::connect_with(&lab, &config);
    assert!(again.is_resumed());
    let stream = Stream::open(again, "");
    let chain = tls::chain(&lab, "device-1");
    let key = lab.file("device-1.key");
    let old = tls::presenting(&lab, chain, &key, &rustls::version::TLS12);
    let mut socket = Socket::open(Tls::connect_with(&lab, &old), "");
    socket.send(0x89, b"1.2");
    assert_eq!(socket.next(), Frame::Pong(b"1.2".into()));
    await_open(&lab, 2);
    drop(stream);
}

#[test]
fn the_site_says_who_may_open_one() {
    let lab = with_tokens().site("channels = \"token\"").start();
    device(&lab)
        .get(PATH)
        .assert_problem(401, "unauthenticated");
    let token = token(lab.dir(), &["issue", "--client", "pc-1"]);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let _stream = Stream::open(Tls::connect(&lab), &bearer);
    let _socket = Socket::open(Tls::connect(&lab), &bearer);
    assert_eq!(open(&lab, "auth=\"token\""), 2);
    Tls::connect(&lab)
        .get(PATH)
        .assert_problem(401, "unauthenticated");
}

#[test]
fn what_is_no_request_for_a_channel_is_refused() {
    let lab = Lab::start();
    let ask = |line: &str, fields: &str| {
        let mut client = device(&lab);
        client.send(format!("{line}\r\nHost: localhost\r\n{fields}\r\n"));
        client.answer()
    };
    let get = format!("GET {PATH} HTTP/1.1");
    ask(&format!("POST {PATH} HTTP/1.1"), "Content-Length: 0\r\n")
        .assert_problem(405, "method_not_allowed");
    ask(&format!("GET {PATH} HTTP/1.0"), "").assert_problem(505, "version_not_supported");
    ask(&get, "Content-Length: 3\r\n").assert_problem(400, "bad_request");
    ask(&format!("GET {PATH}?wait=0 HTTP/1.1"), "").assert_problem(400, "bad_request");
    ask(&format!("GET {PATH}?wait=301 HTTP/1.1"), "").assert_problem(400, "bad_request");
    ask("GET /.tidegate/other HTTP/1.1", "").assert_problem(404, "not_published");
    let old = UPGRADE.replace("Version: 13", "Version: 8");
    ask(&get, &old).assert_problem(400, "bad_request");
    // However the path is spelt, it is the gateway's own, and no route's.
    ask("GET /x/%2e%2e/.tidegate/other HTTP/1.1", "").assert_problem(404, "not_published");
    assert_eq!(open(&lab, ""), 0);
}

#[test]
fn nothing_may_follow_the_request_of_a_stream() {
    let lab = Lab::start();
    let mut client = device(&lab);
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.send(format!("{request}{request}"));
    client.answer().assert_problem(400, "bad_request");
    assert_eq!(client.rest().expect("close_notify"), b"");
    // And later it ends the channel.
    let mut stream = Stream::open(device(&lab), "");
    stream.tls.send("GET / HTTP/1.1\r\n");
    stream.ends("misbehaved");
    await_open(&lab, 0);
}

#[test]
fn more_than_the_limit_are_refused_and_requests_go_on() {
    let lab = Lab::plan().gateway("[channels]\nmost = 3\n").start();
    let channels: Vec<_> = (0..3).map(|_| Stream::open(device(&lab), "")).collect();
    let mut client = device(&lab);
    client.get(PATH).assert_problem(503, "overloaded");
    assert_eq!(client.get("/cert/head").status, 200);
    drop(channels);
    await_open(&lab, 0);
    let _stream = Stream::open(client, "");
}

#[test]
fn parked_channels_cost_no_cpu_and_no_connection_of_the_limit() {
    let lab = Lab::plan().alone().limits("connections = 20\n").start();
    let _channels: Vec<_> = (0..100).map(|_| Stream::open(device(&lab), "")).collect();
    assert_eq!(device(&lab).get("/cert/head").status, 200);
    let before = lab.gateway.cpu_ticks();
    wait::observe_for(Duration::from_secs(3));
    let spent = lab.gateway.cpu_ticks() - before;
    assert!(spent <= 2, "{spent} ticks of 10 ms");
}
