//! Input that can be read in two ways, or that is meant to harm: refused by name, before the upstream sees it, and
//! without harm to anybody else.

use crate::harness::upstream::What;
use crate::harness::{Lab, Tls};
use std::time::{Duration, Instant};

const HOST: &str = "Host: localhost\r\n";

/// Sends raw bytes on a connection of their own; the status of the answer, and whether the connection ended after it.
fn send(lab: &Lab, bytes: &[u8]) -> (u16, bool) {
    let mut client = Tls::connect(lab);
    // The gateway may answer, and close, before it was given all.
    let _ = client.try_send(bytes);
    match client.try_answer() {
        Ok(answer) => {
            let code = answer.header("Tidegate-Error").unwrap_or_default();
            assert!(
                answer.status < 400 || !code.is_empty(),
                "an error without code:\n{}",
                answer.head
            );
            (
                answer.status,
                answer.header("Connection") == Some("close") && client.rest().is_ok(),
            )
        }
        Err(_) => (0, true),
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let lab = Lab::start();
    let post =
        |fields: &str, body: &str| format!("POST /t/smuggled HTTP/1.1\r\n{HOST}{fields}\r\n{body}");
    let inner = "GET /t/smuggled-inner HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let length = inner.len();
    #[rustfmt::skip]
    let cases: Vec<(&str, String, &[u16])> = vec![
        ("length and chunked", post(&format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"), &format!("0\r\n\r\n{inner}")), &[400]),
        ("chunked and length", post(&format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"), &format!("0\r\n\r\n{inner}")), &[400]),
        ("two lengths", post("Content-Length: 0\r\nContent-Length: 5\r\n", "abcde"), &[400]),
        ("one length twice", post("Content-Length: 5\r\nContent-Length: 5\r\n", "abcde"), &[400]),
        ("a list of lengths", post("Content-Length: 5, 5\r\n", "abcde"), &[400]),
        ("length with a sign", post("Content-Length: +5\r\n", "abcde"), &[400]),
        ("negative length", post("Content-Length: -1\r\n", ""), &[400]),
        ("length in hex", post("Content-Length: 0x5\r\n", "abcde"), &[400]),
        ("length beyond 64 bits", post("Content-Length: 18446744073709551616\r\n", ""), &[400, 413]),
        ("empty length", post("Content-Length: \r\n", ""), &[400]),
        ("unknown coding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), &[400, 501]),
        ("chunked not last", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), &[400, 501]),
        ("chunked twice", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), &[400, 501]),
        ("two codings fields", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"), &[400, 501]),
        ("vertical tab in the coding", post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), &[400, 501]),
        ("coding in HTTP/1.0", format!("POST /t/smuggled HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), &[400]),
        ("space before the colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), &[400]),
        ("folded line", post("X-A: 1\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), &[400]),
        ("folded coding", post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), &[400]),
        ("bare LF after the request line", format!("GET /t/smuggled HTTP/1.1\n{HOST}\r\n"), &[400]),
        ("bare LF in the head", post("X-A: 1\nX-B: 2\r\n", ""), &[400]),
        ("bare LF at the head's end", format!("GET /t/smuggled HTTP/1.1\r\n{HOST}\n"), &[400]),
        ("bare CR in a value", post("X-A: 1\rX-B: 2\r\n", ""), &[400]),
        ("NUL in a value", post("X-A: 1\0\r\n", ""), &[400]),
        ("a field without colon", post("X-A\r\n", ""), &[400]),
        ("an empty name", post(": 1\r\n", ""), &[400]),
        ("a name with a blank", post("X A: 1\r\n", ""), &[400]),
        ("no host", "GET /t/smuggled HTTP/1.1\r\n\r\n".into(), &[400]),
        ("two hosts", format!("GET /t/smuggled HTTP/1.1\r\n{HOST}Host: other\r\n\r\n"), &[400]),
        ("one host twice", format!("GET /t/smuggled HTTP/1.1\r\n{HOST}{HOST}\r\n"), &[400]),
        ("a host with a path", "GET /t/smuggled HTTP/1.1\r\nHost: localhost/x\r\n\r\n".into(), &[400]),
        ("two blanks in the request line", format!("GET  /t/smuggled HTTP/1.1\r\n{HOST}\r\n"), &[400]),
        ("a tab in the request line", format!("GET\t/t/smuggled HTTP/1.1\r\n{HOST}\r\n"), &[400]),
        ("a blank in the target", format!("GET /t/smug gled HTTP/1.1\r\n{HOST}\r\n"), &[400]),
        ("a method that is no token", format!("G@T /t/smuggled HTTP/1.1\r\n{HOST}\r\n"), &[400]),
        ("no version", format!("GET /t/smuggled\r\n{HOST}\r\n"), &[400]),
        ("HTTP/2.0", format!("GET /t/smuggled HTTP/2.0\r\n{HOST}\r\n"), &[400, 505]),
        ("HTTP/1.1 in small letters", format!("GET /t/smuggled http/1.1\r\n{HOST}\r\n"), &[400]),
        ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &[400, 505]),
        ("CONNECT", "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n".into(), &[400, 405, 501]),
        ("another expectation", post("Expect: 200-ok\r\nContent-Length: 0\r\n", ""), &[417]),
        ("a TLS hello inside TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03".into(), &[400, 0]),
    ];
    for (name, bytes, expected) in &cases {
        let (status, closed) = send(&lab, bytes.as_bytes());
        assert!(expected.contains(&status), "{name}: status {status}");
        assert!(
            closed,
            "{name}: the connection goes on after what cannot be read"
        );
    }
    let seen = lab.upstream.count("smuggled");
    assert_eq!(seen, 0, "the upstream saw {seen} of them");
    assert_eq!(Tls::connect(&lab).get("/t/after").status, 200);
}

#[test]
fn a_body_that_cannot_be_read_is_refused_and_never_completed() {
    let lab = Lab::start();
    #[rustfmt::skip]
    let cases = [
        ("size in hex notation", "0x5\r\nabcde\r\n0\r\n\r\n"),
        ("size with a sign", "+5\r\nabcde\r\n0\r\n\r\n"),
        ("negative size", "-5\r\nabcde\r\n0\r\n\r\n"),
        ("no size", "\r\nabcde\r\n0\r\n\r\n"),
        ("size that is no number", "five\r\nabcde\r\n0\r\n\r\n"),
        ("size beyond 64 bits", "10000000000000005\r\nabcde\r\n0\r\n\r\n"),
        ("blank before the size", " 5\r\nabcde\r\n0\r\n\r\n"),
        ("bare LF after the size", "5\nabcde\r\n0\r\n\r\n"),
        ("bare LF after the chunk", "5\r\nabcde\n0\r\n\r\n"),
        ("chunk longer than its size", "5\r\nabcdefgh\r\n0\r\n\r\n"),
        ("bare CR in an extension", "5;a\rb\r\nabcde\r\n0\r\n\r\n"),
        ("bare LF in a trailer", "5\r\nabcde\r\n0\r\nX-A: 1\n\r\n"),
        ("trailer without colon", "5\r\nabcde\r\n0\r\nX-A\r\n\r\n"),
        ("endless extension", &format!("5;{}\r\nabcde\r\n0\r\n\r\n", "a".repeat(100_000))),
    ]
    .map(|(name, body)| (name, body.to_owned()));
    for (number, (name, body)) in cases.iter().enumerate() {
        let head = format!(
            "POST /t/bad{number}/verify HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n"
        );
        let (status, closed) = send(&lab, format!("{head}{body}").as_bytes());
        assert!(
            [400, 413, 431].contains(&status) && closed,
            "{name}: status {status}, closed: {closed}"
        );
    }
    let received: Vec<_> = lab
        .upstream
        .seen()
        .into_iter()
        .filter(|s| s.what == What::Received && s.target.contains("bad"))
        .collect();
    assert!(
        received.is_empty(),
        "the upstream took these for whole: {received:?}"
    );
    assert_eq!(Tls::connect(&lab).get("/t/after").status, 200);
}

/// Heads and trailers far larger than a TLS record, in one piece and in several: complete ones are answered, and those
/// over the limit at once, not by a time-out.
#[test]
fn large_heads_and_trailers_are_read_to_their_end() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    let field = |length: usize| format!("X-Long: {}\r\n", "v".repeat(length));
    let began = Instant::now();
    for length in [7_000, 9_000, 17_000, 40_000, 60_000] {
        let request = format!("GET /t/x HTTP/1.1\r\n{HOST}{}\r\n", field(length));
        client.send(&request);
        assert_eq!(client.answer().status, 200, "{length}");
        // Behind another request, so that its begin waits.
        let both = format!("GET /t/y HTTP/1.1\r\n{HOST}\r\n{request}");
        let (first, second) = both.split_at(both.len() - 100);
        client.send(first);
        client.send(second);
        assert_eq!(client.answer().text(), "/t/y", "{length}");
        assert_eq!(client.answer().text(), "/t/x", "{length}");
    }
    for length in [7_000, 9_000, 15_000] {
        let head = format!("POST /t/echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
        let body = format!("2\r\nab\r\n0\r\n{}", field(length));
        client.send(format!("{head}{body}"));
        client.send("X-Last: 1\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ab"));
        assert_eq!(answer.trailer("X-Last"), Some("1"), "{length}");
    }
    for length in [66_000, 200_000] {
        let mut client = Tls::connect(&lab);
        client.send(format!("GET /t/x HTTP/1.1\r\n{HOST}{}\r\n", field(length)));
        client.answer().assert_problem(431, "head_too_large");
    }
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn oversized_heads_are_refused_by_name() {
    let lab = Lab::plan().limits("head_kib = 8\nheaders = 20").start();
    let field = format!("X-Long: {}\r\n", "v".repeat(9000));
    let many: String = (0..21).map(|n| format!("X-{n}: v\r\n")).collect();
    let fields = |fields: &str| format!("GET /t/long HTTP/1.1\r\n{HOST}{fields}\r\n");
    for (name, bytes, status, code) in [
        ("one long field", fields(&field), 431, "head_too_large"),
        ("too many fields", fields(&many), 431, "head_too_large"),
        (
            "a long target",
            format!("GET /t/{} HTTP/1.1\r\n{HOST}\r\n", "a".repeat(9000)),
            414,
            "target_too_long",
        ),
    ] {
        let mut client = Tls::connect(&lab);
        client.send(&bytes);
        let answer = client.answer();
        answer.assert_problem(status, code);
        assert_eq!(answer.header("Connection"), Some("close"), "{name}");
    }
    // Just within the limits.
    let fitting: String = (0..18).map(|n| format!("X-{n}: v\r\n")).collect();
    let mut client = Tls::connect(&lab);
    client.send(fields(&fitting));
    assert_eq!(client.answer().status, 200);
    client.send(fields(&format!("X-Long: {}\r\n", "v".repeat(7500))));
    assert_eq!(client.answer().status, 200);
    assert_eq!(lab.upstream.count("long"), 2);
}

#[test]
fn an_endless_head_is_not_waited_for() {
    let lab = Lab::plan().limits("head_kib = 8").start();
    let mut client = Tls::connect(&lab);
    client.send("GET /t/endless HTTP/1.1\r\n");
    let mut sent = 0;
    while sent < 10_000_000
        && client
            .try_send("X-Filler: filler filler filler filler\r\n")
            .is_ok()
    {
        sent += 39;
    }
    assert!(sent < 10_000_000, "the gateway read 10 MB of head");
}

#[test]
fn a_slow_head_is_given_up() {
    let lab = Lab::plan().limits("head_seconds = 1").start();
    let mut client = Tls::connect(&lab);
    let began = std::time::Instant::now();
    client.send("GET /t/slow HTTP/1.1\r\nHost: local");
    match client.try_answer() {
        Ok(answer) => answer.assert_problem(408, "request_timeout"),
        Err(error) => assert_ne!(
            error.kind(),
            std::io::ErrorKind::WouldBlock,
            "still open after 20 s"
        ),
    }
    let took = began.elapsed();
    let allowed = Duration::from_millis(900)..Duration::from_secs(5);
    assert!(allowed.contains(&took), "given up after {took:?}");
    assert_eq!(Tls::connect(&lab).get("/t/after").status, 200);
}

#[test]
fn a_handshake_that_does_not_go_on_is_given_up() {
    use std::io::Read;
    let lab = Lab::plan().limits("head_seconds = 1").start();
    let mut silent =
        std::net::TcpStream::connect(("127.0.0.1", lab.ports.clients)).expect("a connection");
    silent
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a time-out");
    let ended = silent.read(&mut [0; 64]);
    assert!(
        !matches!(&ended, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock),
        "still open after 10 s"
    );
}

#[test]
fn what_is_not_tls_harms_nobody() {
    use std::io::{Read, Write};
    let lab = Lab::start();
    let mut healthy = Tls::connect(&lab);
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0; 100_000],
        vec![0xff; 100_000],
        [&[0x16, 3, 1, 0x40, 0][..], &[1; 0x4000]].concat(),
        vec![0x17, 3, 3, 0, 1, 0],
    ] {
        let mut stream =
            std::net::TcpStream::connect(("127.0.0.1", lab.ports.clients)).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a time-out");
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_ne!(
                error.kind(),
                std::io::ErrorKind::WouldBlock,
                "still open: {:x?}",
                &bytes[..5]
            );
        }
        assert!(
            answer.len() < 100,
            "an alert at most: {:?}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert_eq!(healthy.get("/t/after").status, 200);
}
