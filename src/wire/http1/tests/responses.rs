//! The table of responses: what the client reads how, and what is the upstream's fault.

use super::*;

pub(super) enum Want {
    /// Body, and whether the connection can be used again.
    Body(&'static [u8], bool),
    /// Refused at once.
    Fault,
    /// Fine so far, and broken when the peer finishes there.
    Cut,
}
use Want::{Body, Cut, Fault};

#[rustfmt::skip]
pub(super) const TABLE: &[(&str, &str, Want, &[u8])] = &[
    ("length", "GET", Body(b"hi", true), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
    ("no reason", "GET", Body(b"", true), b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
    ("no space for a reason", "GET", Body(b"", true), b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
    ("reason over 0x7f", "GET", Body(b"", true), b"HTTP/1.1 200 \xe9\r\nContent-Length: 0\r\n\r\n"),
    ("status 999", "GET", Body(b"", true), b"HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n"),
    ("chunked", "GET", Body(b"abc", true), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
    ("until close", "GET", Body(b"abc", false), b"HTTP/1.1 200 OK\r\n\r\nabc"),
    ("until close, empty", "GET", Body(b"", false), b"HTTP/1.1 200 OK\r\n\r\n"),
    ("close", "GET", Body(b"a", false), b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na"),
    ("HTTP/1.0", "GET", Body(b"a", false), b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na"),
    ("HTTP/1.0 kept alive", "GET", Body(b"a", true), b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na"),
    ("HEAD with length", "HEAD", Body(b"", true), b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    ("HEAD with coding", "HEAD", Body(b"", true), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("HEAD without framing", "HEAD", Body(b"", true), b"HTTP/1.1 200 OK\r\n\r\n"),
    ("204", "GET", Body(b"", true), b"HTTP/1.1 204 No Content\r\n\r\n"),
    ("204 with length 0", "GET", Body(b"", true), b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
    ("204 that announces a body", "GET", Body(b"", false), b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
    ("304 with length", "GET", Body(b"", true), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ("interim, then final", "GET", Body(b"x", true), b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
    ("trailers", "GET", Body(b"", true), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n"),
    ("CONNECT granted", "CONNECT", Body(b"raw", false), b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nraw"),
    ("CONNECT denied", "CONNECT", Body(b"x", true), b"HTTP/1.1 407 No\r\nContent-Length: 1\r\n\r\nx"),

    ("length and coding", "GET", Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("two lengths", "GET", Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    ("two equal lengths", "GET", Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    ("length list", "GET", Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello"),
    ("length with sign", "GET", Fault, b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
    ("unknown coding", "GET", Fault, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
    ("coding in HTTP/1.0", "GET", Fault, b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("switched unasked", "GET", Fault, b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"),
    ("bare LF", "GET", Fault, b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
    ("bare LF as the last line", "GET", Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n"),
    ("bare CR in a value", "GET", Fault, b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n"),
    ("bare CR in the reason", "GET", Fault, b"HTTP/1.1 200 O\rK\r\n\r\n"),
    ("NUL in the reason", "GET", Fault, b"HTTP/1.1 200 O\0K\r\n\r\n"),
    ("folded line", "GET", Fault, b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n"),
    ("space before the colon", "GET", Fault, b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello"),
    ("control character", "GET", Fault, b"HTTP/1.1 200 OK\r\nX: \x01\r\n\r\n"),
    ("empty line before", "GET", Fault, b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("two spaces before the status", "GET", Fault, b"HTTP/1.1  200 OK\r\n\r\n"),
    ("status of two digits", "GET", Fault, b"HTTP/1.1 20 OK\r\n\r\n"),
    ("status of four digits", "GET", Fault, b"HTTP/1.1 2000 OK\r\n\r\n"),
    ("status 099", "GET", Fault, b"HTTP/1.1 099 OK\r\n\r\n"),
    ("status with sign", "GET", Fault, b"HTTP/1.1 +20 OK\r\n\r\n"),
    ("HTTP/2.0", "GET", Fault, b"HTTP/2.0 200 OK\r\n\r\n"),
    ("no HTTP", "GET", Fault, b"SSH-2.0-OpenSSH_9.9\r\n"),
    ("HTTP/0.9 body", "GET", Fault, b"<html></html>\r\n"),
    ("bad chunk", "GET", Fault, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    ("bytes behind the response", "GET", Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n"),
    ("body behind 204", "GET", Fault, b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"),
    ("body behind HEAD's answer", "HEAD", Fault, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),

    ("nothing", "GET", Cut, b""),
    ("half a head", "GET", Cut, b"HTTP/1.1 200 OK\r\nContent-"),
    ("interim only", "GET", Cut, b"HTTP/1.1 100 Continue\r\n\r\n"),
    ("short length", "GET", Cut, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"),
    ("no last chunk", "GET", Cut, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"),
    ("last chunk without end", "GET", Cut, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"),
];

#[test]
fn table_of_responses() {
    for (name, method, want, bytes) in TABLE {
        let (seen, end) = ask(method, false, [*bytes], false);
        let finished = ask(method, false, [*bytes], true).1;
        let last = seen.last();
        match want {
            Body(body, reusable) => {
                assert_eq!(end, Ok(*reusable), "{name}");
                let last = last.unwrap();
                assert_eq!(text(&last.body), text(body), "{name}");
                assert!(last.ended || last.framing == Framing::UntilClose, "{name}");
                assert!(finished.is_ok(), "{name}: {finished:?}");
            }
            Fault => assert_eq!(end.map_err(|refusal| refusal.status), Err(502), "{name}"),
            Cut => {
                assert!(end.is_ok(), "{name}");
                assert_eq!(
                    finished.map_err(|refusal| refusal.status),
                    Err(502),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn every_split_gives_the_same() {
    for (name, method, _, bytes) in TABLE {
        let whole = ask(method, false, [*bytes], true);
        assert_eq!(
            whole,
            ask(method, false, bytes.chunks(1), true),
            "{name}, byte by byte"
        );
        for at in 0..bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(
                whole,
                ask(method, false, [a, b], true),
                "{name}, split at {at}"
            );
        }
    }
}

#[test]
fn interim_heads_come_one_by_one() {
    let (seen, _) = ask(
        "GET",
        false,
        [&b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"[..]],
        false,
    );
    assert_eq!(
        seen.iter()
            .map(|r| (r.status, r.interim))
            .collect::<Vec<_>>(),
        [(103, true), (200, false)]
    );
    assert_eq!(seen[0].fields, [("Link".to_owned(), "a".to_owned())]);
}

#[test]
fn switched_protocol_is_raw_both_ways() {
    let mut client = Client::new(LIMITS);
    let mut out = Vec::new();
    let fields = [
        Field {
            name: b"Host",
            value: b"a",
        },
        Field {
            name: b"Upgrade",
            value: b"x/1",
        },
    ];
    client.send_head(&mut out, b"GET", b"/", fields, Framing::None);
    assert!(client.send_end(&mut out, []));
    assert_eq!(
        text(&out),
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x/1\r\nConnection: Upgrade\r\n\r\n"
    );
    let input = b"HTTP/1.1 101 Switching\r\nUpgrade: x/1\r\nConnection: Upgrade\r\n\r\n\x00raw";
    let mut used = 0;
    let Ok(ClientEvent::Head(head)) = client.next(input, &mut used) else {
        panic!()
    };
    assert_eq!(
        (head.status, head.framing, head.interim),
        (101, Framing::UntilClose, false)
    );
    let Ok(ClientEvent::Data(data)) = client.next(input, &mut used) else {
        panic!()
    };
    assert_eq!(data, b"\x00raw");
    out.clear();
    client.send_data(&mut out, b"\x01");
    assert_eq!(out, b"\x01");
    assert_eq!(client.finish(), Ok(true));
    assert!(!client.is_reusable());
}
