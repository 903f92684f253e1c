//! What is written, and how requests and responses follow each other on one connection.

use super::*;
use crate::wire::Put;

/// A server that has been given `bytes` and has told all it has to tell.
fn server_with(bytes: &[u8]) -> Server {
    let mut server = Server::new(LIMITS);
    drain(&mut server, bytes);
    server
}

/// Gives `bytes`, and says in words what the server told.
fn drain(server: &mut Server, bytes: &[u8]) -> Vec<String> {
    let mut used = 0;
    let mut told = Vec::new();
    loop {
        told.push(match server.next(bytes, &mut used) {
            Ok(ServerEvent::NeedMore) => return told,
            Ok(ServerEvent::Head(head)) => text(head.target),
            Ok(ServerEvent::Data(data)) => text(data),
            Ok(ServerEvent::End { .. }) => "end".to_owned(),
            Err(refusal) => refusal.status.to_string(),
        });
    }
}

fn answer(
    server: &mut Server,
    status: u16,
    fields: &[(&str, &str)],
    framing: Framing,
    body: &[u8],
) -> String {
    let mut out = Vec::new();
    let fields = fields.iter().map(|(name, value)| Field {
        name: name.as_bytes(),
        value: value.as_bytes(),
    });
    server.send_head(&mut out, status, b"R", fields, framing);
    server.send_data(&mut out, body);
    assert!(server.send_end(&mut out, []));
    text(&out)
}

const GET: &[u8] = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &[u8] = b"HEAD /1 HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_10: &[u8] = b"GET /1 HTTP/1.0\r\n\r\n";
const GET_10_KEPT: &[u8] = b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";

#[test]
#[rustfmt::skip]
fn framing_of_responses() {
    use Framing::{Chunked, Length, None as Nothing, UntilClose};
    for (request, status, fields, framing, body, expected, closes) in [
        (GET, 200, &[("A", "b")][..], Length(2), &b"hi"[..], "HTTP/1.1 200 R\r\nA: b\r\nContent-Length: 2\r\n\r\nhi", false),
        (GET, 200, &[], Nothing, b"", "HTTP/1.1 200 R\r\nContent-Length: 0\r\n\r\n", false),
        (GET, 200, &[], Chunked, b"hi", "HTTP/1.1 200 R\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", false),
        (GET, 200, &[], UntilClose, b"hi", "HTTP/1.1 200 R\r\nConnection: close\r\n\r\nhi", true),
        // framing and connection of the other side do not get through
        (GET, 200, &[("content-length", "9"), ("TRANSFER-ENCODING", "chunked"), ("connection", "x"), ("Keep-Alive", "5"), ("Upgrade", "y"), ("TE", "z")],
            Length(2), b"hi", "HTTP/1.1 200 R\r\nContent-Length: 2\r\n\r\nhi", false),
        (GET, 200, &[("Content-Length", "9")], Chunked, b"hi", "HTTP/1.1 200 R\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", false),
        // no body
        (GET, 204, &[("Content-Length", "0"), ("Transfer-Encoding", "chunked")], Nothing, b"", "HTTP/1.1 204 R\r\n\r\n", false),
        (GET, 204, &[], Length(5), b"hello", "HTTP/1.1 204 R\r\n\r\n", false),
        (GET, 304, &[("Content-Length", "5")], Nothing, b"", "HTTP/1.1 304 R\r\nContent-Length: 5\r\n\r\n", false),
        (GET, 304, &[("Content-Length", "5")], Length(6), b"", "HTTP/1.1 304 R\r\nContent-Length: 6\r\n\r\n", false),
        (GET, 304, &[("Content-Length", "5"), ("Content-Length", "6")], Nothing, b"", "HTTP/1.1 304 R\r\nContent-Length: 5\r\n\r\n", false),
        (GET, 304, &[("Content-Length", "x")], Nothing, b"", "HTTP/1.1 304 R\r\n\r\n", false),
        (HEAD, 200, &[("Content-Length", "5")], Nothing, b"", "HTTP/1.1 200 R\r\nContent-Length: 5\r\n\r\n", false),
        (HEAD, 200, &[], Length(5), b"hello", "HTTP/1.1 200 R\r\nContent-Length: 5\r\n\r\n", false),
        (HEAD, 200, &[], Chunked, b"hello", "HTTP/1.1 200 R\r\n\r\n", false),
        (HEAD, 200, &[], UntilClose, b"hello", "HTTP/1.1 200 R\r\n\r\n", false),
        // HTTP/1.0
        (GET_10, 200, &[], Length(2), b"hi", "HTTP/1.1 200 R\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", true),
        (GET_10, 200, &[], Chunked, b"hi", "HTTP/1.1 200 R\r\nConnection: close\r\n\r\nhi", true),
        (GET_10_KEPT, 200, &[], Length(2), b"hi", "HTTP/1.1 200 R\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi", false),
        (GET_10_KEPT, 200, &[], Chunked, b"hi", "HTTP/1.1 200 R\r\nConnection: close\r\n\r\nhi", true),
    ] {
        let mut server = server_with(request);
        assert_eq!(answer(&mut server, status, fields, framing, body), expected);
        assert_eq!(server.should_close(), closes, "{expected}");
        assert_eq!(server.is_idle(), !closes, "{expected}");
    }
}

#[test]
fn fields_that_would_begin_another_line_are_not_written() {
    let mut server = server_with(GET);
    let fields = [
        ("A", "b\r\nX: y"),
        ("B\r\nX", "y"),
        ("C", "\0"),
        ("", "d"),
        ("E f", "g"),
        ("H", "\n"),
        ("I", "\t\u{e9} "),
    ];
    assert_eq!(
        answer(&mut server, 200, &fields, Framing::None, b""),
        "HTTP/1.1 200 R\r\nI: \t\u{c3}\u{a9} \r\nContent-Length: 0\r\n\r\n"
    );
    let mut server = server_with(GET);
    let mut out = Vec::new();
    server.send_head(&mut out, 200, b"OK\r\nX: y", [], Framing::None);
    assert_eq!(text(&out), "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn long_heads_are_written_whole() {
    let value = "v".repeat(1500);
    let fields: Vec<_> = (0..40)
        .map(|i| (format!("Name-{i}"), value[..i * 37].to_owned()))
        .collect();
    let mut server = server_with(GET);
    let mut out = Vec::new();
    server.send_head(&mut out, 200, b"OK", as_fields(&fields), Framing::None);
    let expected: String = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    assert_eq!(
        text(&out),
        format!("HTTP/1.1 200 OK\r\n{expected}Content-Length: 0\r\n\r\n")
    );
}

#[test]
fn interim_heads() {
    let mut server = server_with(
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
    );
    let mut out = Vec::new();
    let fields = [
        Field {
            name: b"Link",
            value: b"x",
        },
        Field {
            name: b"Content-Length",
            value: b"3",
        },
    ];
    server.send_interim(&mut out, 103, fields);
    server.send_interim(&mut out, 100, []);
    assert_eq!(
        text(&out),
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    );
    assert!(!server.response_started());
    assert_eq!(drain(&mut server, b"x"), ["x", "end"]);
    answer(&mut server, 200, &[], Framing::None, b"");
    assert!(server.is_idle());

    let mut server = server_with(GET_10);
    out.clear();
    server.send_interim(&mut out, 103, []);
    assert_eq!(out, b"");
}

#[test]
fn pipelined_requests_wait_for_their_turn() {
    let mut server = Server::new(LIMITS);
    let bytes = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcdGET /3 HTTP/1.1\r\n\
        Host: a\r\n\r\nGET /4 HT";
    let later = bytes.len() - GET.len();
    assert_eq!(drain(&mut server, bytes), ["/1", "end"]);
    assert_eq!(server.held(), later);
    assert!(server.awaits_response() && !server.in_head() && !server.is_idle());
    answer(&mut server, 200, &[], Framing::None, b"");
    assert_eq!(drain(&mut server, b""), ["/2", "abcd", "end"]);
    answer(&mut server, 200, &[], Framing::None, b"");
    assert_eq!(drain(&mut server, b""), ["/3", "end"]);
    // more comes before the answer, then the head that was cut
    assert_eq!(drain(&mut server, b"TP/1.1\r\nHost:"), [""; 0]);
    answer(&mut server, 200, &[], Framing::None, b"");
    assert_eq!(drain(&mut server, b""), [""; 0]);
    assert!(server.in_head() && !server.is_idle() && !server.awaits_response());
    assert_eq!(drain(&mut server, b" a\r\n\r\n"), ["/4", "end"]);
    answer(&mut server, 200, &[], Framing::None, b"");
    assert_eq!(drain(&mut server, b""), [""; 0]);
    assert!(server.is_idle());
    assert_eq!(server.held(), 0);
}

#[test]
fn requests_sent_ahead_are_bounded() {
    let mut server = server_with(GET);
    let block = [b'x'; 64 * 1024];
    let mut refused = None;
    for _ in 0..8 {
        if let Err(refusal) = server.next(&block, &mut 0) {
            refused = Some(refusal.status);
            break;
        }
    }
    assert_eq!(refused, Some(400));
    assert!(server.held() <= 256 * 1024);
}

#[test]
fn early_response() {
    for request in [
        &b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"[..],
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    ] {
        let mut server = server_with(request);
        assert!(server.in_body());
        assert_eq!(
            answer(&mut server, 413, &[], Framing::Length(2), b"no"),
            "HTTP/1.1 413 R\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
        );
        assert!(server.should_close() && !server.in_body() && !server.awaits_response());
        // what still comes is dropped, even if it looks like a request
        assert_eq!(
            drain(
                &mut server,
                b"def\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
            ),
            [""; 0]
        );
        assert_eq!(server.held(), 0);
    }
}

#[test]
fn body_goes_on_while_an_early_response_is_sent() {
    let mut server = server_with(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    let mut out = Vec::new();
    server.send_head(&mut out, 200, b"OK", [], Framing::Chunked);
    assert_eq!(drain(&mut server, b"def"), ["def", "end"]);
    server.send_data(&mut out, b"x");
    assert!(server.send_end(&mut out, []));
    // the body ended first, so the connection goes on
    assert!(!text(&out).contains("Connection: close\r\n") && !server.should_close());
}

#[test]
fn an_error_before_the_bodys_end_announces_the_close() {
    let mut server = server_with(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    let mut out = Vec::new();
    server.send_head(&mut out, 413, b"No", [], Framing::None);
    assert!(server.send_end(&mut out, []));
    assert!(text(&out).contains("Connection: close\r\n") && server.should_close());
}

#[test]
fn an_answer_that_ends_before_the_body_ends_the_connection() {
    let mut server = server_with(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    let mut out = Vec::new();
    server.send_head(&mut out, 200, b"OK", [], Framing::None);
    assert!(server.send_end(&mut out, []));
    assert!(server.should_close());
}

#[test]
fn answered_before_the_end_was_told() {
    // nothing of the request is to come, so its connection goes on, and its end is not told under the next request
    for request in [
        GET,
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut server = Server::new(LIMITS);
        let mut used = 0;
        assert!(matches!(
            server.next(request, &mut used),
            Ok(ServerEvent::Head(_))
        ));
        answer(&mut server, 404, &[], Framing::None, b"");
        assert!(!server.should_close());
        assert_eq!(drain(&mut server, GET), ["/1", "end"]);
    }
}

#[test]
fn refusal_is_answered_once_and_ends_the_connection() {
    let mut server = Server::new(LIMITS);
    assert_eq!(
        drain(
            &mut server,
            b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
        ),
        ["400"]
    );
    assert!(server.awaits_response() && !server.response_started() && !server.in_body());
    assert!(
        answer(&mut server, 400, &[], Framing::Length(1), b"x").contains("Connection: close\r\n")
    );
    assert!(server.should_close());
    assert_eq!(drain(&mut server, GET), [""; 0]);

    // within a body, before and after the response has begun
    let mut server =
        server_with(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(drain(&mut server, b"x\r\n"), ["400"]);
    assert!(!server.response_started());
    let mut server =
        server_with(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    server.send_head(&mut Vec::new(), 200, b"OK", [], Framing::Length(1));
    assert_eq!(drain(&mut server, b"x\r\n"), ["400"]);
    assert!(server.response_started());

    // a refused second request is answered as itself: the first was HEAD and HTTP/1.0
    let mut server = server_with(b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    answer(&mut server, 200, &[], Framing::None, b"");
    assert_eq!(drain(&mut server, b"G@T"), [""; 0]);
    assert_eq!(drain(&mut server, b" / HTTP/1.1\r\n"), ["400"]);
    assert!(answer(&mut server, 400, &[], Framing::Chunked, b"x").ends_with("1\r\nx\r\n0\r\n\r\n"));
}

#[test]
fn owner_ends_the_connection() {
    let mut server = server_with(GET);
    server.close_after_response();
    assert!(!server.should_close());
    assert!(answer(&mut server, 200, &[], Framing::None, b"").contains("Connection: close\r\n"));
    assert!(server.should_close());

    let mut server = Server::new(LIMITS);
    server.close_after_response();
    assert!(server.should_close(), "idle");
    drain(&mut server, &GET[..5]);
    assert!(!server.should_close(), "a request has begun");
}

#[test]
fn short_response_is_told() {
    let mut server = server_with(GET);
    let mut out = Vec::new();
    server.send_head(&mut out, 200, b"OK", [], Framing::Length(3));
    assert_eq!(server.room(), 3);
    server.send_data(&mut out, b"ab");
    assert_eq!(server.room(), 1);
    assert!(!server.send_end(&mut out, []));
    assert!(server.should_close());
}

#[test]
fn body_over_its_length_is_cut_and_told() {
    let mut server = server_with(GET);
    let mut out = Vec::new();
    server.send_head(&mut out, 200, b"OK", [], Framing::Length(3));
    out.clear();
    server.send_data(&mut out, b"ab");
    server.send_data(&mut out, b"cd");
    server.send_data(&mut out, b"HTTP/1.1 200 OK");
    assert_eq!((text(&out), server.room()), ("abc".to_owned(), 0));
    assert!(!server.send_end(&mut out, []));
    assert!(server.should_close());

    let mut client = Client::new(LIMITS);
    out.clear();
    client.send_head(&mut out, b"PUT", b"/", [], Framing::Length(1));
    out.clear();
    client.send_data(&mut out, b"xGET / HTTP/1.1");
    assert_eq!((text(&out), client.room()), ("x".to_owned(), 0));
    assert!(!client.send_end(&mut out, []));
    assert!(!client.is_reusable());
}

#[test]
#[should_panic(expected = "one final head")]
fn second_head_is_a_bug() {
    let mut server = server_with(GET);
    server.send_head(&mut Vec::new(), 200, b"OK", [], Framing::Length(3));
    server.send_head(&mut Vec::new(), 200, b"OK", [], Framing::Length(3));
}

#[test]
fn empty_data_does_not_end_a_chunked_body() {
    let mut server = server_with(GET);
    let mut out = Vec::new();
    server.send_head(&mut out, 200, b"OK", [], Framing::Chunked);
    out.clear();
    server.send_data(&mut out, b"");
    server.send_data(&mut out, &[b'x'; 0x1a0]);
    let trailers = [
        Field {
            name: b"X-Sum",
            value: b"1",
        },
        Field {
            name: b"Content-Length",
            value: b"1",
        },
        Field {
            name: b"Set-Cookie",
            value: b"1",
        },
        Field {
            name: b"X-Bad",
            value: b"1\r\n",
        },
    ];
    assert!(server.send_end(&mut out, trailers));
    assert_eq!(
        text(&out),
        format!("1a0\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n", "x".repeat(0x1a0))
    );
}

#[test]
fn server_switches_protocols() {
    let mut server = Server::new(LIMITS);
    let request = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    assert_eq!(drain(&mut server, request), ["/1", "end"]);
    assert_eq!(drain(&mut server, b"early"), [""; 0]);
    let mut out = Vec::new();
    server.send_head(
        &mut out,
        101,
        b"S",
        [Field {
            name: b"Upgrade",
            value: b"x",
        }],
        Framing::None,
    );
    server.send_data(&mut out, b"\x00raw");
    assert_eq!(
        text(&out),
        "HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n\x00raw"
    );
    assert_eq!(drain(&mut server, b"GET"), ["early", "GET"]);
    assert!(server.send_end(&mut out, []));
    assert!(server.should_close());
}

#[test]
fn switch_that_nobody_asked_for_is_a_bad_gateway() {
    let mut server = server_with(GET);
    let mut out = Vec::new();
    let upgrade = [Field {
        name: b"Upgrade",
        value: b"x",
    }];
    server.send_head(&mut out, 101, b"S", upgrade, Framing::None);
    server.send_data(&mut out, b"raw");
    assert_eq!(
        text(&out),
        "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
    );
    assert!(!server.send_end(&mut out, []));
    assert!(server.should_close());
}

#[test]
fn requests_are_written() {
    let mut out = Vec::new();
    let mut client = Client::new(LIMITS);
    let fields = [
        Field {
            name: b"Host",
            value: b"a",
        },
        Field {
            name: b"Connection",
            value: b"x",
        },
        Field {
            name: b"Content-Length",
            value: b"7",
        },
        Field {
            name: b"TE",
            value: b"trailers",
        },
    ];
    client.send_head(&mut out, b"GET", b"/?a", fields, Framing::None);
    assert!(client.send_end(&mut out, []));
    assert_eq!(text(&out), "GET /?a HTTP/1.1\r\nHost: a\r\n\r\n");
    for (method, framing, expected) in [
        (
            "POST",
            Framing::None,
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "POST",
            Framing::Length(3),
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        ),
        (
            "PUT",
            Framing::Chunked,
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        ("DELETE", Framing::None, "DELETE / HTTP/1.1\r\n\r\n"),
    ] {
        let mut client = Client::new(LIMITS);
        out.clear();
        client.send_head(&mut out, method.as_bytes(), b"/", [], framing);
        if framing != Framing::None {
            client.send_data(&mut out, b"abc");
        }
        assert!(client.send_end(&mut out, []));
        assert_eq!(text(&out), expected);
    }
}

#[test]
fn client_is_reusable_only_when_both_sides_ended() {
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let mut client = Client::new(LIMITS);
    let mut out = Vec::new();
    for _ in 0..3 {
        assert!(client.is_reusable());
        client.send_head(&mut out, b"POST", b"/", [], Framing::Length(1));
        assert!(!client.is_reusable());
        let mut used = 0;
        assert!(matches!(
            client.next(ok, &mut used),
            Ok(ClientEvent::Head(_))
        ));
        assert!(matches!(
            client.next(ok, &mut used),
            Ok(ClientEvent::End { .. })
        ));
        assert!(!client.is_reusable(), "the request's body is not sent");
        assert_eq!(client.room(), 1);
        client.send_data(&mut out, b"x");
        assert!(client.send_end(&mut out, []));
    }
    client.send_head(&mut out, b"POST", b"/", [], Framing::Length(1));
    assert!(!client.send_end(&mut out, []), "short");
    let mut used = 0;
    while !matches!(client.next(ok, &mut used), Ok(ClientEvent::NeedMore)) {}
    assert!(!client.is_reusable());
}

#[test]
fn bytes_on_an_idle_upstream_connection_are_a_fault() {
    let mut client = Client::new(LIMITS);
    assert!(matches!(
        client.next(b"", &mut 0),
        Ok(ClientEvent::NeedMore)
    ));
    assert!(client.is_reusable());
    let mut used = 0;
    assert!(
        client
            .next(b"HTTP/1.1 408 Timeout\r\n\r\n", &mut used)
            .is_err()
    );
    assert!(used > 0 && !client.is_reusable());
    // and stays of no use, without saying so again and again
    assert!(matches!(
        client.next(b"x", &mut 0),
        Ok(ClientEvent::NeedMore)
    ));

    let mut client = Client::new(LIMITS);
    assert_eq!(client.finish(), Ok(false));
    assert!(!client.is_reusable());
}

#[test]
fn request_lines_that_would_split_are_not_written() {
    for (method, target) in [
        ("GET", "/ HTTP/1.1\r\nX: y"),
        ("GET", "/a b"),
        ("GET", ""),
        ("", "/"),
        ("G T", "/"),
        ("GET", "/#"),
    ] {
        assert!(!is_request_line(method.as_bytes(), target.as_bytes()));
    }
    assert!(is_request_line(b"CCM_POST", b"/a?{b}"));
    let mut client = Client::new(LIMITS);
    let mut out = Vec::new();
    client.send_head(
        &mut out,
        b"GET",
        b"/ HTTP/1.1\r\nX: y",
        [],
        Framing::Chunked,
    );
    client.send_data(&mut out, b"x");
    assert!(!client.send_end(&mut out, []));
    assert_eq!(text(&out), "");
    assert!(!client.is_reusable());
}

/// Counts what an output is asked for.
#[derive(Default)]
struct Counted {
    bytes: usize,
    puts: usize,
}

impl Put for Counted {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.puts += 1;
    }
    fn staged(&self) -> usize {
        self.bytes
    }
}

#[test]
fn output_is_asked_seldom() {
    let fields: Vec<_> = (0..10)
        .map(|i| (format!("Name-{i}"), "some value".to_owned()))
        .collect();
    let mut server = server_with(GET);
    let mut out = Counted::default();
    server.send_head(&mut out, 200, b"OK", as_fields(&fields), Framing::Chunked);
    assert_eq!(out.puts, 1, "a head under 512 bytes");
    server.send_data(&mut out, &[b'x'; 10_000]);
    assert_eq!(out.puts, 4, "size, data, end");
}

#[test]
fn connection_at_rest_is_small_and_holds_nothing() {
    let mut server = Server::new(LIMITS);
    for split in 1..GET.len() {
        drain(&mut server, &GET[..split]);
        assert_eq!(drain(&mut server, &GET[split..]), ["/1", "end"]);
        answer(&mut server, 200, &[], Framing::None, b"");
        drain(&mut server, b"");
        assert!(server.is_idle());
        assert_eq!(server.buffer_capacity(), 0);
    }
    // and a head that comes whole is not kept at all
    let mut server = Server::new(LIMITS);
    let mut used = 0;
    for _ in 0..2 {
        let _ = server.next(GET, &mut used);
        assert_eq!(server.buffer_capacity(), 0);
    }
    assert!(size_of::<Server>() <= 176, "{}", size_of::<Server>());
    assert!(size_of::<Client>() <= 176, "{}", size_of::<Client>());
}
