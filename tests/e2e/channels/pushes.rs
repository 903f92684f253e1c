//! From the notification API to clients, and their receipts back.

use super::{PATIENCE, await_open, device, token, with_tokens};
use crate::harness::channel::{self, Socket, Stream};
use crate::harness::lab::Plan;
use crate::harness::{Lab, Tls, until};
use serde_json::json;
use std::time::{Duration, Instant};

pub const DEVICE: &str = "cert:lab/device-1";

pub fn plan() -> Plan {
    Lab::plan().notify("")
}

/// `Authorization` of a client with a token of the site.
fn bearer(lab: &Lab, client: &str) -> String {
    let token = token(lab.dir(), &["issue", "--client", client]);
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn a_push_reaches_its_client_on_each_kind_of_channel() {
    let lab = plan().start();
    let api = lab.api();
    let mut stream = Stream::open(device(&lab), "");
    api.await_present(DEVICE, 1);
    let push = api.push_to(DEVICE, json!({"n": 1}), false);
    let envelope = stream.event().push();
    assert_eq!(envelope, json!({"push": push, "payload": {"n": 1}}));
    api.await_count(&push, "sent", 1);
    drop(stream);
    api.await_present(DEVICE, 0);

    let mut socket = Socket::open(device(&lab), "");
    api.await_present(DEVICE, 1);
    let push = api.push_to(DEVICE, json!("text"), false);
    assert_eq!(socket.push(), json!({"push": push, "payload": "text"}));
    drop(socket);
    api.await_present(DEVICE, 0);

    let mut client = device(&lab);
    channel::begin_poll(&mut client, 60);
    api.await_present(DEVICE, 1);
    let push = api.push_to(DEVICE, json!([null]), false);
    let answer = client.answer();
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body, json!({"pushes": [{"push": push, "payload": [null]}]}));
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    // It is expected back: what comes meanwhile waits for it.
    let push = api.push_to(DEVICE, json!(2), false);
    let answer = channel::poll(&mut client, 60, "").expect("an answer");
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body["pushes"][0]["push"], push);
    assert_eq!(client.get("/cert/head").status, 200, "a client again");
}

#[test]
fn receipts_come_by_websocket_by_post_and_with_the_last_event_id() {
    let lab = plan().start();
    let api = lab.api();
    let mut socket = Socket::open(device(&lab), "");
    api.await_present(DEVICE, 1);
    let push = api.push_to(DEVICE, json!(1), false);
    let id = socket.push()["push"].as_str().expect("an id").to_owned();
    socket.text(&format!("{{\"receipt\":\"{id}\"}}"));
    api.await_count(&push, "acknowledged", 1);

    let push = api.push_to(DEVICE, json!(2), true);
    socket.push();
    let mut other = device(&lab);
    let body = format!("{{\"receipt\":[\"{push}\"]}}");
    other.send(format!(
        "POST /.tidegate/receipt HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(other.answer().status, 204);
    api.await_count(&push, "acknowledged", 1);

    let push = api.push_to(DEVICE, json!(3), true);
    socket.push();
    drop(socket);
    api.await_present(DEVICE, 0);
    let _stream = Stream::open(device(&lab), &format!("Last-Event-ID: {push}\r\n"));
    api.await_count(&push, "acknowledged", 1);
    // In somebody else's name nothing is acknowledged.
    let push = api.push_to("cert:lab/device-2", json!(4), true);
    let body = format!("{{\"receipt\":\"{push}\"}}");
    other.send(format!(
        "POST /.tidegate/receipt HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(other.answer().status, 204);
    let state = api.get(&format!("/v1/push/{push}"));
    assert_eq!(state["counts"]["acknowledged"], 0, "{state}");
}

#[test]
fn what_is_queued_waits_for_its_client_and_repeats_are_marked() {
    let lab = plan().start();
    let api = lab.api();
    let first = api.push_to(DEVICE, json!("first"), true);
    let mut stream = Stream::open(device(&lab), "");
    assert_eq!(
        stream.event().push(),
        json!({"push": first, "payload": "first"})
    );
    drop(stream);
    api.await_present(DEVICE, 0);
    let second = api.push_to(DEVICE, json!("second"), true);
    // Not acknowledged: both come, and the one that came before says so.
    let mut socket = Socket::open(device(&lab), "");
    let mut seen = [socket.push(), socket.push()];
    seen.sort_by_key(|envelope| envelope["payload"].to_string());
    assert_eq!(
        seen[0],
        json!({"push": first, "repeat": true, "payload": "first"})
    );
    assert_eq!(seen[1], json!({"push": second, "payload": "second"}));
    socket.text(&format!("{{\"receipt\":[\"{first}\",\"{second}\"]}}"));
    api.await_count(&first, "acknowledged", 1);
    api.await_count(&second, "acknowledged", 1);
    drop(socket);
    api.await_present(DEVICE, 0);
    let mut stream = Stream::open(device(&lab), "");
    api.await_present(DEVICE, 1);
    let third = api.push_to(DEVICE, json!("third"), false);
    assert_eq!(stream.event().push()["push"], third, "nothing before it");
}

#[test]
fn a_queued_push_outlives_every_process() {
    let mut lab = plan().start();
    let push = lab.api().push_to(DEVICE, json!("kept"), true);
    lab.kill_connector();
    lab.spawn_connector();
    lab.wait_connector();
    let mut stream = Stream::open(device(&lab), "");
    let envelope = stream.event().push();
    assert_eq!(
        (&envelope["push"], &envelope["payload"]),
        (&json!(push), &json!("kept"))
    );
    lab.gateway.kill();
    lab.spawn_gateway();
    lab.wait_gateway();
    lab.wait_connector();
    let mut socket = Socket::open(device(&lab), "");
    let again = socket.push();
    assert_eq!(
        (&again["push"], &again["repeat"]),
        (&json!(push), &json!(true))
    );
    socket.text(&format!("{{\"receipt\":\"{push}\"}}"));
    lab.api().await_count(&push, "acknowledged", 1);
    lab.kill_connector();
    lab.spawn_connector();
    lab.wait_connector();
    lab.api().await_present(DEVICE, 1);
    let other = lab.api().push_to(DEVICE, json!("other"), false);
    // A receipt that was not on disk yet when the connector died lets its push come once more, as a repeat.
    let mut next = socket.push();
    if next["push"] == push.as_str() {
        assert_eq!(next["repeat"], true);
        next = socket.push();
    }
    assert_eq!(next["push"], other);
}

#[test]
fn a_push_to_all_reaches_everybody_and_its_totals_say_so() {
    let lab = with_tokens().notify("").shards(2, 2).start();
    let api = lab.api();
    let clients: Vec<String> = (0..20).map(|n| bearer(&lab, &format!("pc-{n}"))).collect();
    let mut streams: Vec<_> = clients[..10]
        .iter()
        .map(|b| Stream::open(Tls::connect(&lab), b))
        .collect();
    let mut sockets: Vec<_> = clients[10..]
        .iter()
        .map(|b| Socket::open(Tls::connect(&lab), b))
        .collect();
    for n in 0..20 {
        api.await_present(&format!("site:main/pc-{n}"), 1);
    }
    let push = api.push(&json!({"to": {"all": true}, "payload": {"to": "all"}}));
    for stream in &mut streams {
        assert_eq!(stream.event().push()["push"], push);
    }
    for socket in &mut sockets {
        assert_eq!(socket.push()["payload"], json!({"to": "all"}));
    }
    api.await_count(&push, "sent", 20);
}

#[test]
fn a_newer_channel_takes_the_older_ones_place() {
    let lab = plan().shards(2, 2).start();
    let api = lab.api();
    let first = Stream::open(device(&lab), "");
    api.await_present(DEVICE, 1);
    let second = Socket::open(device(&lab), "");
    first.ends("replaced");
    let third = Stream::open(device(&lab), "");
    second.ends(4409, "replaced");
    await_open(&lab, 1);
    api.await_present(DEVICE, 1);
    let answer = api.ask("DELETE", &format!("/v1/clients/{DEVICE}"), "");
    assert!((200..300).contains(&answer.status), "{}", answer.text());
    third.ends("requested");
}

#[test]
fn who_is_not_there_is_told_at_once() {
    let lab = plan().start();
    let api = lab.api();
    let push = api.push_to("cert:lab/nobody", json!(1), false);
    until("it is settled", PATIENCE, || {
        let state = api.get(&format!("/v1/push/{push}"));
        (state["counts"]["gone"] == 1).then_some(())
    });
    assert_eq!(
        api.ask("GET", "/v1/clients/cert:lab/nobody", "").status,
        404
    );
}

#[test]
fn a_client_that_does_not_read_loses_pushes_and_others_none() {
    let lab = with_tokens()
        .notify("")
        .gateway("[channels]\nbacklog = 4\n")
        .start();
    let api = lab.api();
    let mut slow = Socket::open(device(&lab), "");
    let mut quick = Stream::open(Tls::connect(&lab), &bearer(&lab, "quick"));
    api.await_present(DEVICE, 1);
    api.await_present("site:main/quick", 1);
    let payload = "x".repeat(4000);
    let mut pushes = Vec::new();
    let port = lab.ports.gateway_admin;
    let dropped = || lab.metric(port, "tidegate_channel_pushes_total", &["fate=\"dropped\""]);
    while dropped() == 0.0 {
        for _ in 0..50 {
            pushes.push(api.push_to(DEVICE, json!(payload), false));
        }
        assert!(pushes.len() < 20_000, "the socket is never full");
        let push = api.push_to("site:main/quick", json!(1), false);
        assert_eq!(quick.event().push()["push"], push);
    }
    // What was not dropped comes, in order, and the channel goes on.
    let last = api.push_to(DEVICE, json!("last"), false);
    let mut seen = Vec::new();
    loop {
        let envelope = slow.push();
        let id = envelope["push"].as_str().expect("an id").to_owned();
        let is_last = id == last;
        seen.push(id);
        if is_last {
            break;
        }
    }
    let mut sorted = seen.clone();
    sorted.sort();
    assert_eq!(seen, sorted, "ids of one connector sort by time");
    assert!(seen.len() < pushes.len() + 1);
}

#[test]
fn the_way_from_a_call_to_a_receipt_is_short() {
    let lab = plan().alone().start();
    let api = lab.api();
    let mut socket = Socket::open(device(&lab), "");
    api.await_present(DEVICE, 1);
    let mut times: Vec<Duration> = (0..200)
        .map(|n| {
            let began = Instant::now();
            let push = api.push_to(DEVICE, json!(n), false);
            assert_eq!(socket.push()["push"], push);
            began.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "call to client: median {:?}, p99 {:?}",
        times[100], times[197]
    );
    assert!(times[100] < Duration::from_millis(50), "{:?}", times[100]);
}
