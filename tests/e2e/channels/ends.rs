//! How a channel ends when the gateway ends it, and what its client is told.

use super::{PATIENCE, await_open, device, ended, token, with_tokens};
use crate::harness::channel::{self, Frame, Socket, Stream};
use crate::harness::{Lab, Tls, until};
use std::time::{Duration, Instant};

#[test]
fn a_denied_client_loses_its_channels_at_once() {
    let lab = with_tokens().start();
    let issue = |client: &str| {
        let token = token(lab.dir(), &["issue", "--client", client]);
        format!("Authorization: Bearer {token}\r\n")
    };
    let stream = Stream::open(device(&lab), "");
    let socket = Socket::open(device(&lab), "");
    let mut poll = device(&lab);
    channel::begin_poll(&mut poll, 60);
    let other = Stream::open(Tls::connect(&lab), &issue("pc-2"));
    await_open(&lab, 4);
    let began = Instant::now();
    lab.revise(1, "deny = { clients = [\"cert:lab/device-1\"] }");
    stream.ends("revoked");
    println!("reload to the last byte: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(1));
    socket.ends(4403, "revoked");
    let answer = poll.answer();
    assert_eq!(
        (answer.status, answer.header("Tidegate-Error")),
        (403, Some("revoked"))
    );
    assert_eq!(answer.header("Connection"), Some("close"));
    await_open(&lab, 1);
    assert_eq!(ended(&lab, "revoked"), 3);
    device(&lab)
        .get(channel::PATH)
        .assert_problem(403, "revoked");
    drop(other);
}

#[test]
fn a_certificate_on_a_list_of_serials_loses_its_channel() {
    let lab = Lab::start();
    let stream = Stream::open(device(&lab), "");
    let output = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-serial", "-in"])
        .arg(lab.file("device-1.pem"))
        .output()
        .expect("openssl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let serial = text
        .trim()
        .strip_prefix("serial=")
        .expect("a serial number");
    lab.revise(1, &format!("deny = {{ serials = [\"{serial}\"] }}"));
    stream.ends("revoked");
}

#[test]
fn a_site_that_asks_for_other_proof_ends_channels_that_gave_none_of_it() {
    let lab = with_tokens().start();
    let token = token(lab.dir(), &["issue", "--client", "pc-1"]);
    let stream = Stream::open(device(&lab), "");
    let other = Stream::open(
        Tls::connect(&lab),
        &format!("Authorization: Bearer {token}\r\n"),
    );
    lab.revise(1, "channels = \"token\"");
    stream.ends("forbidden");
    await_open(&lab, 1);
    drop(other);
}

#[test]
fn a_token_that_expires_takes_its_channel_along() {
    let lab = with_tokens().start();
    let token = token(
        lab.dir(),
        &["issue", "--client", "pc-1", "--lifetime", "3s"],
    );
    let began = Instant::now();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let socket = Socket::open(Tls::connect(&lab), &bearer);
    Stream::open(Tls::connect(&lab), &bearer).ends("expired");
    let took = began.elapsed();
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(5)).contains(&took),
        "{took:?}"
    );
    socket.ends(4401, "expired");
    assert_eq!(ended(&lab, "expired"), 2);
}

#[test]
fn a_gateway_that_drains_says_so() {
    let mut lab = Lab::start();
    let stream = Stream::open(device(&lab), "");
    let socket = Socket::open(device(&lab), "");
    await_open(&lab, 2);
    lab.gateway.terminate();
    stream.ends("draining");
    socket.ends(1001, "draining");
    let gateway = &mut lab.gateway;
    until("the gateway ends", Duration::from_secs(25), || {
        gateway.ended()
    });
}

#[test]
fn what_breaks_websocket_is_told_and_ends_it() {
    let lab = Lab::start();
    let cases: [(Vec<u8>, u16); 6] = [
        (channel::frame(0x82, b"binary"), 1008),
        (channel::frame(0x81, b"no receipt"), 1008),
        (channel::frame(0x81, &[b'x'; 1025]), 1009),
        (channel::frame(0xc1, b"compressed"), 1002),
        (channel::frame(0x81, &[0xff]), 1007),
        (vec![0x81, 2, b'n', b'o'], 1002),
    ];
    let count = cases.len() as u32;
    for (bytes, code) in cases {
        let mut socket = Socket::open(device(&lab), "");
        socket.tls.send(&bytes);
        let Frame::Close(said, why) = socket.next() else {
            panic!("not closed");
        };
        assert_eq!(said, code, "{why}");
        assert_eq!(socket.tls.rest().expect("close_notify"), b"");
    }
    await_open(&lab, 0);
    assert_eq!(ended(&lab, "misbehaved"), count);
}

#[test]
fn a_message_that_is_never_finished_ends_the_channel_in_time() {
    let lab = Lab::start();
    let mut socket = Socket::open(device(&lab), "");
    let began = Instant::now();
    socket
        .tls
        .send(&channel::frame(0x81, b"{\"receipt\":")[..9]);
    assert!(matches!(socket.next(), Frame::Close(1008, _)));
    let took = began.elapsed();
    assert!(
        (Duration::from_secs(9)..Duration::from_secs(14)).contains(&took),
        "{took:?}"
    );
}

#[test]
fn a_connector_that_goes_and_comes_back_closes_no_channel() {
    let mut lab = Lab::start();
    let mut stream = Stream::open(device(&lab), "");
    for _ in 0..3 {
        lab.kill_connector();
        lab.spawn_connector();
        lab.wait_connector();
    }
    stream.tls.patience(Duration::from_millis(300));
    assert!(
        stream
            .try_next()
            .is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    );
    assert_eq!(super::open(&lab, ""), 1);
}

#[test]
fn a_client_that_vanishes_is_noticed() {
    let lab = Lab::start();
    Stream::open(device(&lab), "").tls.reset();
    until("the channel is lost", PATIENCE, || {
        (ended(&lab, "lost") == 1).then_some(())
    });
    let stream = Stream::open(device(&lab), "");
    stream.tls.finish_and_keep(Duration::from_secs(5));
    until("the channel is left", PATIENCE, || {
        (ended(&lab, "left") == 1).then_some(())
    });
}
