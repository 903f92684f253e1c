//! Random messages between both cores, and random damage to the tables' messages. Every case has a seed, named when it
//! fails.

use super::*;
use fastrand::Rng;

const SEEDS: u64 = 3_000;

fn token(rng: &mut Rng) -> String {
    const CHARS: &[u8] = b"abcXYZ019!#$%&'*+-.^_`|~";
    (0..rng.usize(1..12))
        .map(|_| char::from(CHARS[rng.usize(..CHARS.len())]))
        .collect()
}

/// Text as fields carry it: no spaces at its ends.
fn value(rng: &mut Rng) -> String {
    let length = if rng.u8(..20) == 0 {
        rng.usize(..600)
    } else {
        rng.usize(..30)
    };
    let inner: Vec<u8> = (0..length)
        .map(|_| match rng.u8(..) {
            b @ (b' '..=b'~' | 0x80..) => b,
            _ => b'\t',
        })
        .collect();
    text(fields::trim(&inner))
}

fn random_fields(rng: &mut Rng, most: usize) -> Pairs {
    (0..rng.usize(..=most))
        .map(|_| (format!("X-{}", token(rng)), value(rng)))
        .collect()
}

fn body(rng: &mut Rng) -> Vec<u8> {
    let length = if rng.u8(..8) == 0 {
        rng.usize(..20_000)
    } else {
        rng.usize(..40)
    };
    (0..length).map(|_| rng.u8(..)).collect()
}

fn framing(rng: &mut Rng, body: &mut Vec<u8>) -> Framing {
    match rng.u8(..3) {
        0 => {
            body.clear();
            Framing::None
        }
        1 => Framing::Length(body.len() as u64),
        _ => Framing::Chunked,
    }
}

/// Cuts into pieces, some of them empty.
fn pieces<'a>(rng: &mut Rng, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let most = [1, 3, 50, 2000, 100_000][rng.usize(..5)];
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(rng.usize(..=most).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

const WIDE: Limits = Limits {
    head_bytes: 16 * 1024,
    header_count: 64,
    trailer_bytes: 8 * 1024,
};

#[test]
fn messages_cross_unchanged() {
    for seed in 0..SEEDS / 3 {
        let mut rng = Rng::with_seed(seed);
        let (mut client, mut server) = (Client::new(WIDE), Server::new(WIDE));
        for _ in 0..3 {
            exchange(&mut rng, &mut client, &mut server, seed);
            assert!(
                client.is_reusable() && !server.should_close(),
                "seed {seed}"
            );
        }
    }
}

fn exchange(rng: &mut Rng, client: &mut Client, server: &mut Server, seed: u64) {
    let method = if rng.u8(..4) == 0 {
        "HEAD".to_owned()
    } else {
        token(rng)
    };
    let (mut sent_body, mut fields) = (body(rng), random_fields(rng, 12));
    let sent_framing = framing(rng, &mut sent_body);
    fields.push(("Host".to_owned(), "h.example".to_owned()));
    let trailers = if sent_framing == Framing::Chunked {
        random_fields(rng, 3)
    } else {
        Vec::new()
    };
    let mut wire = Vec::new();
    client.send_head(
        &mut wire,
        method.as_bytes(),
        b"/p?q",
        as_bytes(&fields).iter().map(field),
        sent_framing,
    );
    for piece in pieces(rng, &sent_body) {
        client.send_data(&mut wire, piece);
    }
    assert!(
        client.send_end(&mut wire, as_bytes(&trailers).iter().map(field)),
        "seed {seed}"
    );

    let (mut seen, mut got_body, mut ended) = (None, Vec::new(), None);
    for piece in pieces(rng, &wire) {
        let mut used = 0;
        loop {
            match server
                .next(piece, &mut used)
                .unwrap_or_else(|refusal| panic!("seed {seed}: {refusal:?}"))
            {
                ServerEvent::NeedMore => break,
                ServerEvent::Head(head) => {
                    seen = Some((text(head.method), forwarded(head.fields), head.framing))
                }
                ServerEvent::Data(data) => got_body.extend_from_slice(data),
                ServerEvent::End { trailers } => ended = Some(pairs(trailers)),
            }
        }
    }
    assert_eq!(
        seen,
        Some((method.clone(), fields, sent_framing)),
        "seed {seed}"
    );
    assert_eq!(
        (got_body == sent_body, ended),
        (true, Some(trailers)),
        "seed {seed}"
    );

    let mut wire = Vec::new();
    let interims = rng.usize(..3);
    for _ in 0..interims {
        let fields = random_fields(rng, 3);
        server.send_interim(&mut wire, 103, as_bytes(&fields).iter().map(field));
    }
    let (mut sent_body, fields) = (body(rng), random_fields(rng, 12));
    let status = [200, 204, 304, 404, 503][rng.usize(..5)];
    let sent_framing = framing(rng, &mut sent_body);
    let bodiless = method == "HEAD" || matches!(status, 204 | 304);
    let trailers = if sent_framing == Framing::Chunked && !bodiless {
        random_fields(rng, 3)
    } else {
        Vec::new()
    };
    server.send_head(
        &mut wire,
        status,
        b"Some Reason",
        as_bytes(&fields).iter().map(field),
        sent_framing,
    );
    for piece in pieces(rng, &sent_body) {
        server.send_data(&mut wire, piece);
    }
    assert!(
        server.send_end(&mut wire, as_bytes(&trailers).iter().map(field)),
        "seed {seed}"
    );

    let (mut seen, mut early, mut got_body, mut ended) = (None, 0, Vec::new(), None);
    for piece in pieces(rng, &wire) {
        let mut used = 0;
        loop {
            match client
                .next(piece, &mut used)
                .unwrap_or_else(|refusal| panic!("seed {seed}: {refusal:?}"))
            {
                ClientEvent::NeedMore => break,
                ClientEvent::Interim(head) => early += usize::from(head.status == 103),
                ClientEvent::Head(head) => {
                    seen = Some((head.status, forwarded(head.fields), head.framing))
                }
                ClientEvent::Data(data) => got_body.extend_from_slice(data),
                ClientEvent::End { trailers } => ended = Some(pairs(trailers)),
            }
        }
    }
    let expected_framing = match sent_framing {
        _ if bodiless => Framing::None,
        Framing::None => Framing::Length(0),
        framing => framing,
    };
    let expected_body = if bodiless { Vec::new() } else { sent_body };
    assert_eq!(
        seen,
        Some((status, fields, expected_framing)),
        "seed {seed}"
    );
    assert_eq!(
        (early, got_body == expected_body, ended),
        (interims, true, Some(trailers)),
        "seed {seed}"
    );
}

fn as_bytes(pairs: &[(String, String)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    pairs
        .iter()
        .map(|(name, value)| (bytes(name), bytes(value)))
        .collect()
}

fn field((name, value): &(Vec<u8>, Vec<u8>)) -> Field<'_> {
    Field { name, value }
}

/// Damages a message in one to three places, with what parsers trip over.
fn mutate(rng: &mut Rng, corpus: &[&[u8]]) -> Vec<u8> {
    const TOKENS: [&[u8]; 24] = [
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b":",
        b";",
        b",",
        b"\0",
        b"\x7f",
        b"\xff",
        b"0",
        b"00",
        b"9999999999",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Host: a\r\n",
        b"chunked",
        b"0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: x\r\n",
    ];
    // mostly from good ones, which stand first in both tables
    let first = if rng.u8(..5) > 0 { 20 } else { corpus.len() };
    let mut bytes = corpus[rng.usize(..first)].to_vec();
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..=bytes.len());
        let to = (at + rng.usize(..8)).min(bytes.len());
        match rng.u8(..6) {
            0 => drop(bytes.drain(at..to)),
            1 => drop(bytes.splice(at..at, TOKENS[rng.usize(..TOKENS.len())].iter().copied())),
            2 => drop(bytes.splice(at..to, TOKENS[rng.usize(..TOKENS.len())].iter().copied())),
            3 => bytes[at..to].iter_mut().for_each(|b| *b = rng.u8(..)),
            4 => {
                let copy = bytes[at..to].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            _ => {
                let other = corpus[rng.usize(..corpus.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[rng.usize(..=other.len())..]);
            }
        }
    }
    bytes
}

#[test]
fn damaged_requests_are_read_in_one_way() {
    let corpus: Vec<_> = requests::TABLE
        .iter()
        .map(|(_, _, _, bytes)| *bytes)
        .collect();
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..SEEDS * 10 {
        let mut rng = Rng::with_seed(seed);
        let input = mutate(&mut rng, &corpus);
        let (seen, refusal) = serve(LIMITS, [&input[..]]);
        let split = pieces(&mut rng, &input);
        let again = serve(LIMITS, split);
        assert_eq!(
            (&seen, refusal),
            (&again.0, again.1),
            "seed {seed}: {}",
            text(&input)
        );
        refused += usize::from(refusal.is_some());
        // an HTTP/1.0 request may come without the Host that ours must have
        let has_host = |request: &&Request| {
            request
                .forwarded
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        };
        for request in seen.iter().filter(|request| request.ended).filter(has_host) {
            accepted += 1;
            let again = rewritten(request);
            let (seen, refusal) = serve(LIMITS, [&again[..]]);
            assert_eq!(
                (seen.len(), refusal),
                (1, None),
                "seed {seed}: {}",
                text(&again)
            );
            let copy = &seen[0];
            assert_eq!(
                (
                    &copy.method,
                    &copy.target,
                    &copy.host,
                    &copy.forwarded,
                    &copy.body,
                    &copy.trailers,
                    copy.ended
                ),
                (
                    &request.method,
                    &request.target,
                    &request.host,
                    &request.forwarded,
                    &request.body,
                    &request.trailers,
                    true
                ),
                "seed {seed}"
            );
        }
    }
    assert!(
        accepted > 1000 && refused > SEEDS as usize,
        "{accepted} accepted, {refused} refused: the damage is neither too small nor too great"
    );
}

fn rewritten(request: &Request) -> Vec<u8> {
    let mut client = Client::new(LIMITS);
    let mut out = Vec::new();
    let fields = as_bytes(&request.forwarded);
    client.send_head(
        &mut out,
        request.method.as_bytes(),
        request.target.as_bytes(),
        fields.iter().map(field),
        request.framing,
    );
    client.send_data(&mut out, &request.body);
    assert!(client.send_end(&mut out, as_bytes(&request.trailers).iter().map(field)));
    out
}

#[test]
fn damaged_responses_are_read_in_one_way() {
    let corpus: Vec<_> = responses::TABLE
        .iter()
        .map(|(_, _, _, bytes)| *bytes)
        .collect();
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..SEEDS * 10 {
        let mut rng = Rng::with_seed(seed);
        let input = mutate(&mut rng, &corpus);
        let method = ["GET", "GET", "GET", "HEAD", "CONNECT"][rng.usize(..5)];
        let upgrade = rng.bool();
        let split = pieces(&mut rng, &input);
        let whole = ask(method, upgrade, [&input[..]], true);
        assert_eq!(
            whole,
            ask(method, upgrade, split, true),
            "seed {seed}: {}",
            text(&input)
        );
        refused += usize::from(whole.1.is_err());
        let bodies = whole
            .0
            .iter()
            .filter(|r| r.ended && !r.interim && method == "GET" && r.status != 101);
        for response in bodies {
            accepted += 1;
            let again = rewritten_response(response);
            let (seen, _) = ask("GET", false, [&again[..]], true);
            let copy = seen.last().unwrap();
            assert_eq!(
                (
                    seen.len(),
                    copy.status,
                    &copy.forwarded,
                    &copy.body,
                    &copy.trailers
                ),
                (
                    1,
                    response.status,
                    &response.forwarded,
                    &response.body,
                    &response.trailers
                ),
                "seed {seed}: {}",
                text(&again)
            );
        }
    }
    assert!(
        accepted > 1000 && refused > SEEDS as usize,
        "{accepted} accepted, {refused} refused: the damage is neither too small nor too great"
    );
}

fn rewritten_response(response: &Response) -> Vec<u8> {
    let mut server = Server::new(LIMITS);
    assert!(matches!(
        server.next(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &mut 0),
        Ok(ServerEvent::Head(_))
    ));
    let mut out = Vec::new();
    let fields = as_bytes(&response.forwarded);
    server.send_head(
        &mut out,
        response.status,
        response.reason.as_bytes(),
        fields.iter().map(field),
        response.framing,
    );
    server.send_data(&mut out, &response.body);
    assert!(server.send_end(&mut out, as_bytes(&response.trailers).iter().map(field)));
    out
}

#[test]
fn noise_does_not_panic() {
    for seed in 0..SEEDS {
        let mut rng = Rng::with_seed(seed);
        let noise: Vec<u8> = (0..rng.usize(..300))
            .map(|_| b"GET / \r\n:HTP1.0;ax\0\xff"[rng.usize(..20)])
            .collect();
        serve(LIMITS, pieces(&mut rng, &noise));
        let _ = ask("GET", rng.bool(), pieces(&mut rng, &noise), true);
    }
}
