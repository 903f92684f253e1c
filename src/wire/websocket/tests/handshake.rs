//! The opening handshake, through the HTTP/1.1 cores.

use super::*;
use crate::wire::http1::{self, Client, ClientEvent, Framing, Server, ServerEvent};

const HTTP: http1::Limits = http1::Limits {
    head_bytes: 4096,
    header_count: 32,
    trailer_bytes: 256,
};
const GOOD: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The answer that a request gets: 101 with its fields, or what it is refused with.
fn answer(request: &str, protocol: Option<&str>) -> Result<String, Refused> {
    let (mut server, mut used, mut out) = (Server::new(HTTP), 0, Vec::new());
    let Ok(ServerEvent::Head(head)) = server.next(request.as_bytes(), &mut used) else {
        panic!("a request that HTTP accepts: {request}");
    };
    let accept = Accept::of(&head, protocol)?;
    server.send_head(
        &mut out,
        101,
        b"Switching Protocols",
        accept.fields(),
        Framing::None,
    );
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn rfc_example() {
    let plain = answer(GOOD, None).unwrap();
    assert!(plain.starts_with("HTTP/1.1 101 "));
    assert!(
        plain.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{plain}"
    );
    assert!(plain.contains("Upgrade: websocket\r\n") && plain.contains("Connection: Upgrade\r\n"));
    assert!(!plain.contains("Protocol:"));
    assert!(
        answer(GOOD, Some("superchat"))
            .unwrap()
            .contains("Sec-WebSocket-Protocol: superchat\r\n")
    );
    assert!(
        !answer(GOOD, Some("other")).unwrap().contains("Protocol:"),
        "not offered, not named"
    );
    let extension = GOOD.replace(
        "\r\n\r\n",
        "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    );
    assert!(!answer(&extension, None).unwrap().contains("Extensions"));
}

#[test]
fn requests_refused() {
    #[rustfmt::skip]
    let table = [
        ("Upgrade: websocket", "Upgrade: h2c, WebSocket", 0),
        ("Connection: Upgrade", "Connection: keep-alive, upgrade", 0),
        ("GET ", "POST ", 405),
        ("Upgrade: websocket", "Upgrade: h2c", 426),
        ("Upgrade: websocket", "X: y", 426),
        ("Connection: Upgrade", "Connection: close", 426),
        ("HTTP/1.1", "HTTP/1.0", 426),
        ("Version: 13", "Version: 8", 426),
        ("Version: 13", "Version: 13, 8", 426),
        ("Sec-WebSocket-Version: 13", "X: y", 426),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "X: y", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZSE=", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZR==", 400),
        ("\r\n\r\n", "\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 400),
        ("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc", 400),
    ];
    for (from, to, status) in table {
        let request = GOOD.replace(from, to);
        let found = answer(&request, None).map_or_else(|refused| refused.status, |_| 0);
        assert_eq!(found, status, "{from} -> {to}");
    }
    let old = Refused {
        status: 426,
        why: "",
    };
    assert_eq!(old.fields().count(), 2);
    assert_eq!(
        Refused {
            status: 400,
            why: ""
        }
        .fields()
        .count(),
        0
    );
}

#[test]
fn both_sides_agree_and_the_client_checks() {
    let offer = Offer::new(*b"the sample nonce", Some("tidegate"));
    let check = |response: &str| -> Result<(), &'static str> {
        let (mut client, mut request, mut used) = (Client::new(HTTP), Vec::new(), 0);
        let host = http1::Field {
            name: b"Host",
            value: b"h",
        };
        client.send_head(
            &mut request,
            b"GET",
            b"/",
            std::iter::once(host).chain(offer.fields()),
            Framing::None,
        );
        client.send_end(&mut request, []);
        let response = match response {
            "" => answer(std::str::from_utf8(&request).unwrap(), Some("tidegate")).unwrap(),
            given => given.to_owned(),
        };
        match client.next(response.as_bytes(), &mut used) {
            Ok(ClientEvent::Head(head)) => offer.check(&head),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(check(""), Ok(()));
    let good = "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(check(good), Ok(()), "no subprotocol is fine");
    for (from, to) in [
        ("101", "200"),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Connection: Upgrade", "Connection: close"),
        ("s3pP", "s4pP"),
        ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n"),
        ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: other\r\n\r\n"),
    ] {
        assert!(check(&good.replace(from, to)).is_err(), "{from} -> {to}");
    }
}
